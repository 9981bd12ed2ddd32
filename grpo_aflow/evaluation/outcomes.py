"""What became of an evaluation's rollouts: one outcome for each, so that the shares of a system add up to one. Pure.

Stands between rollouts and `results.json`: says by which kind of failure a system loses, where `figures.failures`
has the single reasons of those that came to no answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from grpo_aflow.types import ExecutionStatus, Grade, Rollout, RolloutGroup, RolloutStatus, Task


class Outcome(StrEnum):
    EXACT = "exact"
    PARTLY = "partly right"  # F1 above 0, or some assertions pass
    WRONG = "wrong answer"  # read, and nothing of it is right
    UNREADABLE = "no answer read"  # nothing in the reply states a value, or there is no code in it
    REFUSED = "refused"  # said that there is no answer where there is one
    INVENTED = "invented"  # answered a question that has no answer
    ERROR = "workflow error"  # the workflow raised
    BUDGET = "budget"  # it broke a limit on calls, tokens, cost or loops
    TIMEOUT = "timed out"
    INVALID = "invalid workflow"
    TRUNCATED = "cut off"  # the completion was too long before a workflow was there
    MASKED = "masked"  # lost to the endpoint or the sandbox; in no accuracy


UNREADABLE_RULES = frozenset({"none", "no_number", "no_code", "grader_error"})
_ENDED = {
    RolloutStatus.MASKED: Outcome.MASKED,
    RolloutStatus.INVALID: Outcome.INVALID,
    RolloutStatus.TRUNCATED: Outcome.TRUNCATED,
}
_STOPPED = {ExecutionStatus.BUDGET: Outcome.BUDGET, ExecutionStatus.TIMEOUT: Outcome.TIMEOUT}


def outcome(rollout: Rollout) -> Outcome:
    """The one word for a rollout."""
    if rollout.status in _ENDED:
        return _ENDED[rollout.status]
    if rollout.grade is None or rollout.status == RolloutStatus.FAILED:
        stopped = rollout.execution.status if rollout.execution else ExecutionStatus.FAILED
        return _STOPPED.get(stopped, Outcome.ERROR)
    return _graded(rollout.task, rollout.grade)


def outcomes(groups: Sequence[RolloutGroup]) -> dict[str, float]:
    """Outcome -> its share of all rollouts, those that occur, in the order of `Outcome`."""
    counts = Counter(outcome(rollout) for group in groups for rollout in group.rollouts)
    return {kind.value: counts[kind] / counts.total() for kind in Outcome if counts[kind]}


def _graded(task: Task, grade: Grade) -> Outcome:
    if grade.exact:
        return Outcome.EXACT
    if task.domain == "qa" and task.answers == ("",):
        return Outcome.INVENTED
    if task.domain == "qa" and grade.rule == "no_answer":
        return Outcome.REFUSED
    if grade.rule in UNREADABLE_RULES or grade.rule == "no_answer":
        return Outcome.UNREADABLE
    return Outcome.PARTLY if grade.score > 0 else Outcome.WRONG
