"""Every rollout has one outcome, and the shares add up to one."""

from dataclasses import replace

import pytest
from rollouts import completion, group, rollout

from grpo_aflow.evaluation.outcomes import Outcome, outcome, outcomes
from grpo_aflow.types import Execution, ExecutionStatus, Grade, Rollout, RolloutStatus, Task

ASKED = Task(id="q", dataset="squad2", domain="qa", problem="", answers=("Paris",))
UNANSWERABLE = Task(id="u", dataset="squad2", domain="qa", problem="", answers=("",))
SUM = Task(id="s", dataset="gsm8k", domain="math", problem="", answers=("2",))
PROGRAM = Task(id="p", dataset="mbpp", domain="code", problem="", answers=("",), entry_point="f")


def graded(task, rule, *, score=0.0, exact=False):
    made = rollout(task=task)
    return replace(made, grade=Grade(exact=exact, score=score, tier=0.0, rule=rule))


def stopped(status):
    return Rollout(
        task=SUM,
        member=0,
        completion=completion(),
        status=RolloutStatus.FAILED,
        execution=Execution(status=status, answer=""),
    )


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (graded(SUM, "boxed", score=1.0, exact=True), Outcome.EXACT),
        (graded(UNANSWERABLE, "no_answer", score=1.0, exact=True), Outcome.EXACT),
        (graded(SUM, "boxed"), Outcome.WRONG),
        (graded(SUM, "no_number"), Outcome.UNREADABLE),
        (graded(SUM, "no_answer"), Outcome.UNREADABLE),
        (graded(ASKED, "f1>=0.5", score=0.5), Outcome.PARTLY),
        (graded(ASKED, "f1<0.3"), Outcome.WRONG),
        (graded(ASKED, "no_answer"), Outcome.REFUSED),
        (graded(UNANSWERABLE, "f1<0.3"), Outcome.INVENTED),
        (graded(PROGRAM, "no_code"), Outcome.UNREADABLE),
        (graded(PROGRAM, "fence:some", score=0.3), Outcome.PARTLY),
        (stopped(ExecutionStatus.FAILED), Outcome.ERROR),
        (stopped(ExecutionStatus.BUDGET), Outcome.BUDGET),
        (stopped(ExecutionStatus.TIMEOUT), Outcome.TIMEOUT),
        (rollout(status=RolloutStatus.INVALID), Outcome.INVALID),
        (rollout(status=RolloutStatus.TRUNCATED), Outcome.TRUNCATED),
        (rollout(status=RolloutStatus.MASKED), Outcome.MASKED),
    ],
)
def test_one_word_for_a_rollout(made, expected):
    assert outcome(made) is expected


def test_shares_of_all_rollouts_in_a_fixed_order():
    groups = [
        group(rollout(status=RolloutStatus.MASKED), graded(SUM, "boxed", score=1.0, exact=True), task=SUM),
        group(graded(SUM, "boxed"), graded(SUM, "boxed"), task=SUM),
    ]
    assert outcomes(groups) == {"exact": 0.25, "wrong answer": 0.5, "masked": 0.25}
    assert list(outcomes(groups)) == ["exact", "wrong answer", "masked"]
    assert outcomes([]) == {}
