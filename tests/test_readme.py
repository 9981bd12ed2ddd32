"""Every command of README.md: run at its smallest size, or composed where it wants a card, a key or a hub.

A command that no row of `ROWS` covers fails: a new one in the README wants a decision here.
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from run_cases import SMALL

from grpo_aflow import CONF_DIR, cli
from grpo_aflow.config.composing import compose
from grpo_aflow.config.parsing import options
from grpo_aflow.workflow import command as workflow_command

README = Path(__file__).parent.parent / "README.md"
SCRIPTS = {
    "train": cli.train, "eval": cli.evaluate, "solve": cli.solve, "export": cli.export, "compare": cli.compare,
    "report": cli.report, "watch": cli.watch, "doctor": cli.doctor,
}  # fmt: skip
PLACEHOLDER = re.compile(r"((runs|sweeps)/)?<(date|run)>(/<[a-z]+>(-<[a-z]+>)?)?")
STEP = (*SMALL, "schedule.num_steps=1", "eval.datasets=[]", "paths.runs=runs")
ANSWERS = (
    "eval=smoke",
    "eval.samples=1",
    "eval.max_tasks_per_dataset=1",
    "eval.datasets=[gsm8k,mbpp]",
    "paths.runs=runs",
)


@dataclass(frozen=True)
class Row:
    """What is done with the commands that match."""

    pattern: str
    extra: tuple[str, ...] = ()  # makes it small
    run: bool = True  # False: composed and checked only
    why: str = ""


ROWS = (
    Row(r"^make run$|^make test$", run=False, why="this is a part of one of them"),
    Row(r"^export ", run=False, why="sets a variable"),
    Row(r"-train .*(small_real|qwen25_7b|executor=local)", run=False, why="wants the hub, a card or an endpoint"),
    Row(r"-train .*logger=wandb", (*STEP, "objective=grpo")),
    Row(r"-train -m hydra/sweeper=tpe", (*STEP, "sampler.max_tokens=64", "hydra.sweeper.n_trials=2")),
    Row(r"-train -m ", (*STEP, "sampler.max_tokens=64")),
    Row(r"-train .*resume=", run=False, why="tests/training resumes runs"),
    Row(r"-train ", STEP),
    Row(r"-eval .*resume=", run=False, why="tests/evaluation resumes evaluations"),
    Row(r"-eval .*baselines=", (*ANSWERS, "name=first")),
    Row(r"-eval .*policy=fixed", (*ANSWERS, "sampler=hf", "warmstart=none")),
    Row(r"-eval ", ANSWERS),
    Row(r"-compare "),
    Row(r"-report '?sweeps/"),
    Row(r"-report "),
    Row(r"-watch ", ("--once",)),
    Row(r"-doctor .*(model=|experiment=)", run=False, why="wants what it names; tests/training/test_doctor.py"),
    Row(r"-doctor", ("sampler=hf",)),
    Row(r"-pipeline ", run=False, why="tests/test_automation.py runs it"),
    Row(r"-solve "),
    Row(r"-export "),
    Row(r"-check "),
    Row(r"-data$", run=False, why="wants the hub"),
)


def commands():
    """The commands of the README's shell blocks, comments gone, continued lines joined."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.join(words) for line in lines if (words := shlex.split(line, comments=True))]


def row_of(command):
    found = next((row for row in ROWS if re.search(row.pattern, command)), None)
    assert found is not None, f"README: no row says how to test: {command}"
    return found


def overrides_of(command):
    return [word for word in shlex.split(command)[1:] if "=" in word]


def small_arguments(command, row, *, trained, evaluations=(), sweeps=()):
    """The words behind the script's name, its placeholders filled in, with what makes it small."""
    filled = {"<one>": evaluations[:1], "<other>": evaluations[1:2], "<sweep>": sweeps[:1]}
    words = []
    for word in shlex.split(command)[1:]:
        folder = next((str(found[0]) for name, found in filled.items() if name in word and found), str(trained))
        if word != "...":
            words.append(PLACEHOLDER.sub(lambda _, folder=folder: folder, word))
    return [*words, *row.extra]


def call(script, arguments, monkeypatch, folder):
    """A console script in this process; returns its exit code."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [f"grpo-aflow-{script}", *arguments])
    with pytest.raises(SystemExit) as ended:
        SCRIPTS[script]()
    return ended.value.code or 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a user's commands run: a workflow of theirs lies there."""
    made = tmp_path_factory.mktemp("user")
    (made / "my_workflow.py").write_text(
        "class Workflow:\n"
        "    def __init__(self, name, llm_config, dataset):\n"
        "        self.llm = create_llm_instance(llm_config)\n"
        "        self.custom = operator.Custom(self.llm)\n\n"
        "    async def __call__(self, problem):\n"
        '        return (await self.custom(input=problem, instruction="Solve it."))["response"]\n'
    )
    return made


@pytest.mark.parametrize("command", [c for c in commands() if not row_of(c).run and "train" in c])
def test_commands_for_cards_keys_and_hubs_compose(command, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    compose(*overrides_of(command))


def test_the_table_of_groups_has_every_option():
    table = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|", README.read_text(encoding="utf-8"), flags=re.M)
    said = {group: names.split(", ") for group, names in table}
    assert said == {
        folder.name: options(folder.name) for folder in CONF_DIR.iterdir() if folder.is_dir() and folder.name != "hydra"
    }


def test_all_make_targets_exist():
    for command in (c for c in commands() if c.startswith("make ")):
        done = subprocess.run([*shlex.split(command), "-n"], cwd=README.parent, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands() if row_of(c).run])
def test_a_command_runs(command, folder, trained_run, monkeypatch, capsys):
    script = re.search(r"grpo-aflow-(\w+)", command)[1]
    if script == "check":
        monkeypatch.chdir(folder)
        assert workflow_command.main(shlex.split(command)[1:]) == 0
        return
    evaluations = [file.parent for file in sorted((folder / "runs").glob("*/*/results.json"))]
    sweeps = [table.parent for table in sorted((folder / "sweeps").glob("*/*/sweep.md"))]
    arguments = small_arguments(command, row_of(command), trained=trained_run, evaluations=evaluations, sweeps=sweeps)
    code = call(script, arguments, monkeypatch, folder)
    assert code == 0, capsys.readouterr().err
