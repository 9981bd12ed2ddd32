"""`grpo-aflow-eval` from end to end: a fixed workflow on bundled tasks, both grader profiles side by side."""

import json
from dataclasses import replace

import pytest
from rollouts import group, rollout

from grpo_aflow.config.composing import compose
from grpo_aflow.evaluation.command import run_evaluation
from grpo_aflow.evaluation.evaluate import aflow_grades
from grpo_aflow.evaluation.figures import aflow_scores
from grpo_aflow.run.files import read_jsonl
from grpo_aflow.tasks import grade
from grpo_aflow.types import RolloutStatus, Task

pytestmark = pytest.mark.slow

DATASETS = ("gsm8k", "hotpotqa", "math", "mbpp", "squad2")
WORKFLOW = """
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.answer = operator.AnswerGenerate(self.llm)

    async def __call__(self, problem, entry_point=None):
        reply = await self.answer(input=problem)
        return reply["answer"]
"""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluated")
    (root / "flow.py").write_text(WORKFLOW)
    return root, compose(
        "policy=fixed",
        f"policy.path={root / 'flow.py'}",
        f"eval.datasets=[{','.join(DATASETS)}]",
        "eval.max_tasks_per_dataset=3",
        "eval.samples=2",
        f"paths.runs={root}",
        config_name="evaluate",
    )


def test_the_aflow_profile_stands_beside_the_official_one(evaluated, capsys):
    root, config = evaluated
    accuracy = run_evaluation(config)
    [file] = root.rglob("evaluation.json")
    summary = json.loads(file.read_text())
    assert summary["accuracy"] == accuracy
    tasks = {task.id: task for task in config.eval.load()}
    expected = {name: [] for name in DATASETS}
    for line in read_jsonl(file.with_name("rollouts.jsonl")):
        if line["kind"] != "rollout":
            continue
        task = tasks[line["task"]]
        if task.domain == "code":
            expected[task.dataset].append(float(line["grade"]["exact"]))
            continue
        graded = grade(task, line["answer"], profile="aflow")
        expected[task.dataset].append(graded.score if task.domain == "qa" else float(graded.exact))
    for name, scores in expected.items():
        assert len(scores) == 6
        assert summary["datasets"][name]["aflow"] == pytest.approx(sum(scores) / 6), name
    assert summary["aflow"] == pytest.approx(sum(map(sum, expected.values())) / 30)
    assert summary["aflow_low"] < summary["aflow"] < summary["aflow_high"]
    shown = capsys.readouterr().out
    [headings] = [
        line.split() for line in shown.splitlines() if line.split()[:2] == ["system", "dataset"] and "aflow" in line
    ]
    assert headings[2:6] == ["exact", "score", "aflow", "valid"]
    readings = summary["readings"]
    assert sum(count["num_answers"] for count in readings) == 30 - summary["num_masked"]
    assert sum(count["num_exact"] for count in readings) == round(summary["accuracy"] * 30)
    assert f"differ on {len(summary['disagreements'])} answers" in shown


async def test_the_profiles_disagree_where_the_scorers_do():
    """AFlow takes the last number of a text and gives F1 for a sentence; a masked rollout counts in neither."""
    number = Task(id="n", dataset="gsm8k", domain="math", problem="", answers=("2",))
    span = Task(id="s", dataset="hotpotqa", domain="qa", problem="", answers=("Jane Austen",))
    groups = [
        group(
            _answered(number, "18 (step 2 of 2)"),
            rollout(status=RolloutStatus.MASKED, task=number, member=1),
            task=number,
        ),
        group(
            _answered(span, "it was Jane Austen"), rollout(status=RolloutStatus.INVALID, task=span, member=1), task=span
        ),
    ]
    grades = await aflow_grades(groups, runner=None)
    scores = aflow_scores(groups, grades)
    assert scores["n"] == [1.0]
    assert scores["s"] == [pytest.approx(2 * 2 / 4 / (1 + 2 / 4)), 0.0]
    assert not grade(number, "18 (step 2 of 2)").exact


def _answered(task, answer):
    made = rollout(0.0, task=task)
    return replace(made, execution=replace(made.execution, answer=answer))
