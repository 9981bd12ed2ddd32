"""The figures of an evaluation, counted by hand on a few rollouts."""

import math
from dataclasses import replace

import pytest
from rollouts import TASK, completion, group, rollout

from grpo_aflow.evaluation.figures import (
    aflow_scores,
    constant_floor,
    distinct_graphs,
    exact_scores,
    failures,
    figures,
    pareto,
    per_task,
)
from grpo_aflow.types import (
    Execution,
    ExecutionStatus,
    Finding,
    Grade,
    OperatorCall,
    Rollout,
    RolloutStatus,
    Task,
)
from grpo_aflow.workflow.rules import default_rules

MASKED, INVALID, TRUNCATED, FAILED = (
    RolloutStatus.MASKED,
    RolloutStatus.INVALID,
    RolloutStatus.TRUNCATED,
    RolloutStatus.FAILED,
)


def task(id, *answers, domain="qa"):
    return Task(id=id, dataset="squad2", domain=domain, problem="", answers=answers or ("x",))


def call(**changes):
    return OperatorCall(slot="custom", arguments={}, result={}, **changes)


def ended(status, reason="", *, rollout_status=FAILED, trace=(), member=0):
    """A rollout that came to no grade, with the execution that it had."""
    return Rollout(
        task=TASK,
        member=member,
        completion=completion(),
        status=rollout_status,
        execution=Execution(status=status, answer="", reason=reason, trace=trace),
    )


def test_accuracy_score_and_counts():
    groups = [
        group(rollout(1.0), rollout(0.4, member=1), rollout(member=2, status=MASKED)),
        group(
            rollout(member=0, status=INVALID, task=task("u")),
            rollout(member=1, status=TRUNCATED, task=task("u")),
            task=task("u"),
        ),
        group(ended(ExecutionStatus.TIMEOUT), ended(ExecutionStatus.FAILED, member=1), task=task("v")),
    ]
    found = figures(groups, None)
    # by task: 1/2, 0, 0; of six unmasked rollouts two are graded, with 1.0 and 0.4, and two are no workflow
    assert found["accuracy"] == pytest.approx(1 / 6)
    assert found["accuracy_low"] == 0.0
    assert found["accuracy_high"] == pytest.approx(1 / 6 + 4.302653 * math.sqrt(1 / 12) / math.sqrt(3), abs=1e-5)
    assert found["score"] == pytest.approx(1.4 / 6)
    assert found["valid_rate"] == pytest.approx(4 / 6)
    counts = {name: value for name, value in found.items() if name.startswith("num_")}
    assert counts == {"num_tasks": 3, "num_rollouts": 7, "num_masked": 1, "num_timed_out": 1}
    assert "aflow" not in found
    assert "accuracy_no_answer" not in found


def test_where_all_is_masked_there_is_no_rate():
    found = figures([group(rollout(status=MASKED))], None)
    assert math.isnan(found["score"])
    assert math.isnan(found["valid_rate"])
    assert (found["num_masked"], found["num_tasks"]) == (1, 0)


def test_one_rollout_a_task_has_rates():
    found = figures([group(rollout(0.4))], None)
    assert (found["score"], found["valid_rate"]) == (0.4, 1.0)


def test_questions_with_and_without_an_answer_are_told_apart():
    def asked(id, answer, tier):
        return group(rollout(tier, task=task(id, answer)), task=task(id, answer))

    groups = [asked("a", "Oslo", 1.0), asked("b", "Rome", 0.4), asked("c", "", 1.0)]
    found = figures(groups, None)
    assert (found["accuracy_has_answer"], found["accuracy_no_answer"]) == (0.5, 1.0)
    assert constant_floor(groups) == pytest.approx(1 / 3)
    assert constant_floor(groups[:2]) == 0.0
    assert math.isnan(constant_floor([]))
    assert "accuracy_has_answer" not in figures(groups[2:], None)


def test_aflow_counts_f1_for_questions_and_solved_otherwise():
    qa, code = task("q"), task("c", domain="code")
    groups = [
        group(rollout(task=qa), rollout(member=1, task=qa), task=qa),
        group(rollout(task=code), rollout(member=1, status=MASKED, task=code), task=code),
    ]
    grades = {
        ("q", 0): Grade(exact=False, score=0.5, tier=0.0, rule="f1"),
        ("c", 0): Grade(exact=True, score=0.25, tier=0.0, rule="passed"),
        ("c", 1): Grade(exact=False, score=0.75, tier=0.0, rule="passed"),
    }
    assert aflow_scores(groups, grades) == {"q": [0.5], "c": [1.0, 0.0]}
    found = figures(groups[:1], grades)
    assert found["aflow"] == 0.5
    assert found["accuracy"] == 1.0
    assert (found["aflow_low"], found["aflow_high"]) == (0.0, 1.0)
    assert found["aflow_num_masked"] == 1  # two were graded officially, one by AFlow


def test_masked_rollouts_have_no_exactness():
    groups = [
        group(
            rollout(1.0),
            rollout(0.4, member=1),
            rollout(member=2, status=MASKED),
            ended(ExecutionStatus.FAILED, member=3),
        )
    ]
    assert exact_scores(groups) == {"t/0": [1.0, 0.0, 0.0]}


def test_costs_per_task():
    many = call(num_calls=3, prompt_tokens=10, completion_tokens=4, cost_usd=0.5, latency_s=2.0)
    few = call(num_calls=1, prompt_tokens=1, completion_tokens=2, cost_usd=0.25, latency_s=1.0)
    groups = [
        group(
            ended(ExecutionStatus.OK, trace=(many, few)),
            ended(ExecutionStatus.FAILED, trace=(few,), member=1),
            ended(ExecutionStatus.MASKED, rollout_status=MASKED, trace=(many,), member=2),
            rollout(member=3, status=INVALID),
        )
    ]
    assert per_task(groups) == pytest.approx(
        {"operator_calls": 3 / 3, "calls": 5 / 3, "tokens": 20 / 3, "usd": 1 / 3, "seconds": 4 / 3}
    )
    assert set(per_task([]).values()) == {0.0}
    assert per_task([group(ended(ExecutionStatus.OK, trace=(many,)))])["calls"] == 3


def test_failures_are_named_and_ordered():
    def refused(*codes, status=INVALID, member=0):
        findings = tuple(Finding(code=code, line=1, message="") for code in codes)
        return replace(rollout(member=member, status=status), findings=findings)

    groups = [
        group(
            refused("E502", "E101"),
            refused("E101", member=1),
            refused(status=TRUNCATED, member=2),
            ended(ExecutionStatus.BUDGET, "budget:calls", member=3),
            ended(ExecutionStatus.BUDGET, "budget:calls", member=4),
            ended(ExecutionStatus.BUDGET, "budget:calls", member=5),
            ended(ExecutionStatus.MASKED, "masked:timeout", rollout_status=MASKED, member=6),
            rollout(member=7, status=MASKED),
            rollout(member=8),
        )
    ]
    found = failures(groups)
    assert found == {
        "budget:calls": 3,
        "invalid:E101": 2,
        "truncated:no workflow": 1,
        "masked:timeout": 1,
        "masked": 1,
    }
    assert list(found)[:2] == ["budget:calls", "invalid:E101"]


WORKFLOW = """
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.answer = operator.AnswerGenerate(self.llm)
        self.test = operator.Test(self.llm)

    async def __call__(self, problem, entry_point=None):
        reply = await self.answer(input=problem)
        {more}
        return reply["answer"]
"""


def test_graphs_are_counted_once_and_checked_for_their_domain():
    once = WORKFLOW.format(more="pass")
    again = WORKFLOW.format(more="x = 1")
    twice = WORKFLOW.format(more='reply = await self.answer(input=reply["answer"])')
    tested = WORKFLOW.format(
        more='t = await self.test(problem=problem, solution=reply["answer"], entry_point="f")\n'
        '        return t["solution"]'
    )
    members = [
        replace(rollout(member=member), source=source)
        for member, source in enumerate([once, once, again, twice, tested, "no workflow", ""])
    ]
    assert distinct_graphs([group(*members)], default_rules()) == 2  # test is for code
    code = task("c", domain="code")
    coded = [replace(member, task=code) for member in members]
    assert distinct_graphs([group(*coded, task=code)], default_rules()) == 3


def test_pareto_by_hand():
    points = {
        "cheap": (0.5, 1.0),
        "good": (0.9, 5.0),
        "dear": (0.9, 6.0),  # as good as "good", and dearer
        "bad": (0.4, 1.0),  # as cheap as "cheap", and worse
        "equal": (0.5, 1.0),  # neither beats the other
    }
    assert pareto(points) == {"cheap", "good", "equal"}
