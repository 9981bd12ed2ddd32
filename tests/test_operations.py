"""Every situation of `operations.py`, played to the real commands; the page of them is generated here.

Bad input is one line on stderr, an exit code, no traceback, and a folder that is as it was.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from operations import IN_OWN_PROCESS, SITUATIONS

from grpo_aflow import cli

PAGE = Path(__file__).parents[1] / "experiments/reliability/operations.md"
HEAD = """# What operators of long runs meet, and what comes of it

**Question.** What becomes of a run whose command line, folders, model or checkpoints are not as they should be: does it
end in one line that names the fix, with the right exit code, and is nothing lost?

**Command.** `UPDATE_TABLES=1 python -m pytest tests/test_operations.py` plays every row to the real commands and writes
this page; without the variable the test fails where page and commands differ. Signals, pipes, sweeps and moved folders,
which need processes of their own, are in `tests/test_processes.py`.

**Result.** {count} situations; none ends in a traceback, and after each the run folder is as it was before
(not checked for the damaged evaluations).
"""
SCRIPTS = {"train": cli.train, "eval": cli.evaluate}
played = {}


@pytest.fixture(scope="module")
def model_folder(model_cache, trained_run):
    """The tiny model's folder, which stands for one that a user has."""
    [folder] = [path for path in model_cache.glob("tiny-*") if (path / "model.safetensors").is_file()][:1]
    return folder


def contents(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Played:
    """A situation in a folder of its own, with what it needs; `arguments` are the command's."""

    def __init__(self, situation, folder, request):
        self.situation, self.folder = situation, folder
        self.run, self.model = folder / "runs/2026-01-31/12-00-00-first_run", folder / "model"
        if situation.kind == "resuming":
            shutil.copytree(request.getfixturevalue("trained_run"), self.run)
            situation.prepare(self.run)
        elif situation.kind == "model folders":
            shutil.copytree(request.getfixturevalue("model_folder"), self.model)
            situation.prepare(self.model)
        self.before = contents(folder)
        self.arguments = [
            argument.replace("RUN/..", str(self.run.parents[1])).replace("RUN", str(self.run))
            .replace("MODEL", str(self.model))
            for argument in situation.arguments
        ]  # fmt: skip

    def check(self, code, out, err):
        """The one line of an end that is as it should be."""
        assert "Traceback" not in err + out
        lines = [line for line in err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1, err
        told = lines[0].replace(str(self.run), "RUN").replace(str(self.model), "MODEL").replace(str(self.folder), ".")
        assert self.situation.says in told
        assert code == self.situation.code
        if not self.situation.changes:
            assert contents(self.folder) == self.before
        return told.removeprefix("error: ")


def name_of(situation):
    return f"{situation.script}: {situation.kind}: {situation.name}"


@pytest.mark.slow
@pytest.mark.parametrize("situation", SITUATIONS, ids=name_of)
def test_situation(situation, request, tmp_path, monkeypatch, capfd):
    case = Played(situation, tmp_path, request)
    monkeypatch.chdir(tmp_path)
    for name, value in situation.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [f"grpo-aflow-{situation.script}", *case.arguments])
    with pytest.raises(SystemExit) as ended:
        SCRIPTS[situation.script]()
    out, err = capfd.readouterr()
    played[situation] = case.check(ended.value.code, out, err)


@pytest.mark.slow
@pytest.mark.parametrize("situation", IN_OWN_PROCESS, ids=name_of)
def test_situation_in_a_process_of_its_own(situation, request, tmp_path):
    case = Played(situation, tmp_path, request)
    command = [str(Path(sys.executable).parent / f"grpo-aflow-{situation.script}"), *case.arguments]
    environment = {**os.environ, **situation.environment}
    if situation.kind == "rewards":
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    case.check(done.returncode, done.stdout, done.stderr)


def page():
    parts = [HEAD.format(count=len(SITUATIONS))]
    for kind in dict.fromkeys(situation.kind for situation in SITUATIONS):
        parts += [
            f"\n## {kind.capitalize()}\n",
            "| situation | command | exit code | what it says |",
            "|---|---|--:|---|",
        ]
        for situation in SITUATIONS:
            if situation.kind == kind:
                cells = (
                    f"`{situation.name}`" if kind == "config" else situation.name,
                    situation.script,
                    str(situation.code),
                    shown(situation.says),
                )
                parts.append("| " + " | ".join(cells) + " |")
    return "\n".join(parts) + "\n"


def shown(text):
    return text.strip().replace("|", "\\|")


def test_the_page_is_what_was_played():
    assert len(SITUATIONS) >= 120
    if os.environ.get("UPDATE_TABLES"):
        assert len(played) == len(SITUATIONS), "not every row was played to its end"
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()
