"""`experiments/your_own` as a user meets it: a folder that is no part of the package, named on the command line."""

import json
import re
import shutil
from pathlib import Path

import pytest
from commands import finished
from run_cases import SMALL, metrics_of, only_run

from grpo_aflow.run.files import read_jsonl
from grpo_aflow.tasks import grade, load_tasks

ROOT = Path(__file__).parents[2]
COUNTDOWN = "mine.dataset:COUNTDOWN"
WORKFLOW = """
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)
        self.majority_vote = operator.MajorityVote(self.llm)

    async def __call__(self, problem):
        solutions = []
        for _ in range(3):
            solutions.append((await self.custom(input=problem, instruction="Solve it."))["response"])
        return (await self.majority_vote(solutions=solutions))["response"]
"""


@pytest.fixture
def home(tmp_path):
    """The working folder of a user whose own package is called `mine`."""
    mine = tmp_path / "mine"
    shutil.copytree(ROOT / "experiments" / "your_own", mine, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*mine.rglob("*.yaml"), *mine.rglob("*.py")]:
        path.write_text(path.read_text().replace("experiments.your_own", "mine"))
    (tmp_path / "workflow.py").write_text(WORKFLOW)
    return tmp_path


def run(command, home, *arguments):
    done = finished(command, ["--config-dir", "mine/conf", *arguments], home)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rollouts_of(folder):
    return [line for line in read_jsonl(folder / "rollouts.jsonl") if line["kind"] == "rollout"]


def brief(graded):
    """The reward of `conf/reward/brief.yaml`, as its comment says."""
    length = len(graded["read"])
    return graded["tier"] * (1 - 0.2 * length / (length + 200))


@pytest.mark.slow
def test_the_command_composes_them(home):
    shown = run("train", home, "data_mix=countdown", "eval=countdown", "reward=brief", "--cfg", "job")
    assert f"{COUNTDOWN}: 1.0" in shown
    assert "_target_: mine.reward.Brief" in shown


@pytest.mark.slow
def test_an_evaluation_grades_and_rewards_by_them(home):
    """The simulated executor plays the solver for puzzles that it was never told of."""
    policy = ("policy=fixed", "policy.path=workflow.py")
    size = ("eval.max_tasks_per_dataset=8", "eval.samples=2", "sandbox.num_servers=1")
    run("eval", home, "eval=countdown", "reward=brief", *policy, *size, "baselines=[mine.baseline.ByLength]")
    folder = only_run(home)
    own = json.loads((folder / "results.json").read_text())["systems"]["mine.baseline.ByLength"]
    assert own["note"] == "votes where a problem has more than 200 characters"
    assert own["all"]["per_task"]["calls"] == 1.0  # all puzzles are short
    rollouts = rollouts_of(folder)
    assert {rollout["dataset"] for rollout in rollouts} == {COUNTDOWN}
    graded = [rollout["grade"] for rollout in rollouts]
    assert {one["rule"] for one in graded} == {"made_it", "other_numbers"}
    assert all(one["exact"] == (one["rule"] == "made_it") for one in graded)
    assert [rollout["reward"] for rollout in rollouts] == pytest.approx(list(map(brief, graded)))


@pytest.mark.slow
def test_a_run_trains_on_them(home, model_cache):
    """The tiny policy's warm start is shown the puzzles' prompt, so that it writes workflows for them."""
    size = ("schedule.num_steps=1", "schedule.prompts_per_step=4", "eval.datasets=[]")
    warm_start = ("warmstart.num_steps=120", "warmstart.batch_size=8")
    run("train", home, *SMALL, "data_mix=countdown", "reward=brief", *size, *warm_start)
    folder = only_run(home)
    [step] = metrics_of(folder)
    assert (step["update/made"], step["workflow/valid_rate"] > 0.3) == (1.0, True)
    answered = [rollout for rollout in rollouts_of(folder) if rollout["grade"]]
    assert {rollout["dataset"] for rollout in answered} == {COUNTDOWN}
    assert any(rollout["grade"]["exact"] for rollout in answered)
    for rollout in answered:
        most = 0.7 if rollout["repairs"] else 1.0  # repaired_cap
        assert rollout["reward"] == pytest.approx(min(most, brief(rollout["grade"])))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert list(manifest["tasks"]) == [f"train/{COUNTDOWN}", "evaluated"]


def test_the_puzzles_have_many_right_answers():
    tasks = load_tasks("experiments.your_own.dataset:COUNTDOWN", split="train")
    assert len(tasks) == 200
    assert {task.id for task in tasks}.isdisjoint(
        task.id for task in load_tasks("experiments.your_own.dataset:COUNTDOWN", split="test")
    )
    for task in tasks:
        gold, target = task.answers[0], task.metadata["target"]
        assert grade(task, gold).exact
        assert grade(task, f"So $${gold} = {target}$$.").exact
        assert grade(task, rf"\boxed{{{gold} + 0}}").rule == "other_numbers"
        assert not grade(task, target).exact
    task = next(task for task in tasks if "+" in task.answers[0])
    turned = re.sub(r"(\d+) \+ (\d+)", r"\2 + \1", task.answers[0])
    assert grade(task, f"The answer is {turned}.").exact
    assert grade(task, task.answers[0].replace("+", "/")).rule == "other_value"
