"""Every situation of `operations_*.py`, played to the real commands; the page of them is generated here.

Bad input is one line on stderr, an exit code, no traceback, and a folder that is as it was.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import test_processes
from operations_config import CONFIG, REWARDS
from operations_folders import MODELS, RESUME
from operations_moves import MOVES
from run_cases import file_size_limit

from grpo_aflow import cli

SITUATIONS = [*CONFIG, *REWARDS, *RESUME, *MODELS, *MOVES]
IN_OWN_PROCESS = [CONFIG[0], REWARDS[0], RESUME[0], MODELS[0]]
PAGE = Path(__file__).parents[1] / "experiments/reliability/operations.md"
HEAD = """# What operators of long runs meet, and what comes of it

**Question.** What becomes of a run whose command line, folders, model or checkpoints are not as they should be: does it
end in one line that names the fix, with the right exit code, and is nothing lost?

**Command.** `UPDATE_TABLES=1 python -m pytest tests/test_operations.py` plays every row to the real commands and writes
this page; without the variable the test fails where page and commands differ.

**Result.** {count} situations; none ends in a traceback, and after each that is refused all folders are as they were.
"""
SCRIPTS = {"train": cli.train, "eval": cli.evaluate}
played = set()
NOBODY = 65534  # the user without rights


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
        if any("RUN" in text for text in (*situation.arguments, *situation.environment.values())):
            shutil.copytree(request.getfixturevalue("trained_run"), self.run)
        if any("MODEL" in text for text in (*situation.arguments, *situation.first)):
            shutil.copytree(request.getfixturevalue("model_folder"), self.model)
        (folder / "here").mkdir()
        os.chdir(folder / "here")

    def prepare(self):
        """Do the damage."""
        of = {"resuming": self.run, "model folders": self.model}
        self.situation.prepare(of.get(self.situation.kind, self.folder))
        self.before = contents(self.folder)

    def filled_in(self, text):
        newest = max(self.folder.glob("runs/*/*"), default=self.run)
        places = {"NEWEST": newest, "RUN/..": self.run.parents[1], "RUN": self.run, "MODEL": self.model}
        for name, place in {**places, "FOLDER": self.folder}.items():
            text = text.replace(name, str(place))
        return text

    def check(self, code, out, err):
        """The one line of an end that is as it should be."""
        assert "Traceback" not in err + out
        lines = [line for line in err.splitlines() if line.startswith("error:")]
        assert code == self.situation.code, err
        assert len(lines) == (code != 0), err
        told = lines[0] if lines else out
        for name, place in {"RUN": self.run, "MODEL": self.model, ".": self.folder}.items():
            told = told.replace(str(place), name)
        assert self.situation.says in told
        assert not list(self.folder.rglob("~"))
        if not self.situation.changes:
            assert contents(self.folder) == self.before


def name_of(situation):
    return f"{situation.script}: {situation.kind}: {situation.name}"


def run_command(script, arguments, monkeypatch):
    """The exit code of a command within this process."""
    monkeypatch.setattr(sys, "argv", [f"grpo-aflow-{script}", *arguments])
    with pytest.raises(SystemExit) as ended:
        SCRIPTS[script]()
    return ended.value.code


@contextmanager
def another_user(folder):
    """Folders that are not ours stay closed to us; where nobody is above that, we are somebody else meanwhile."""
    if os.geteuid():
        yield
        return
    for parent in (folder, *folder.parents):
        if str(parent).startswith(tempfile.gettempdir()):
            parent.chmod(parent.stat().st_mode | 0o055)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.slow
@pytest.mark.parametrize("situation", SITUATIONS, ids=name_of)
def test_situation(situation, request, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)  # and back at the end
    monkeypatch.setattr(logging, "raiseExceptions", False)  # a library's handler may hold the stream of another test
    case = Played(situation, tmp_path, request)
    if situation.first:
        assert run_command("train", list(map(case.filled_in, situation.first)), monkeypatch) == 0
    case.prepare()
    for name, value in situation.environment.items():
        monkeypatch.setenv(name, case.filled_in(value))
    arguments = list(map(case.filled_in, situation.arguments))
    capfd.readouterr()
    with ExitStack() as stack:
        if situation.max_file_bytes:
            stack.enter_context(file_size_limit(situation.max_file_bytes))
        if not situation.owner:
            stack.enter_context(another_user(tmp_path))
        code = run_command(situation.script, arguments, monkeypatch)
    case.check(code, *capfd.readouterr())
    played.add(situation)


@pytest.mark.slow
@pytest.mark.parametrize("situation", IN_OWN_PROCESS, ids=name_of)
def test_situation_in_a_process_of_its_own(situation, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = Played(situation, tmp_path, request)
    case.prepare()
    command = [str(Path(sys.executable).parent / f"grpo-aflow-{situation.script}")]
    command += map(case.filled_in, situation.arguments)
    environment = {**os.environ, **situation.environment}
    if situation.kind == "rewards":
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
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
    parts += ["\n## Signals, pipes and sweeps (`tests/test_processes.py`)\n", "| situation | outcome |", "|---|---|"]
    for name, test in vars(test_processes).items():
        if name.startswith("test_"):
            parts.append(f"| {' | '.join(map(shown, test.__doc__.rstrip('.').split(': ', 1)))} |")
    return "\n".join(parts) + "\n"


def shown(text):
    return text.strip().replace("|", "\\|")


def test_the_page_is_what_was_played():
    assert len(SITUATIONS) >= 120
    if os.environ.get("UPDATE_TABLES"):
        assert len(played) == len(SITUATIONS), "not every row was played to its end"
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()
