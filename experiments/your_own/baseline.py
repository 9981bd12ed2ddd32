"""A baseline from outside the package: a direct call where the problem is short, the vote of five where it is long.

grpo-aflow-eval policy=checkpoint policy.path=RUN baselines=[io,experiments.your_own.baseline.ByLength]
"""

from __future__ import annotations

from dataclasses import dataclass

from grpo_aflow.evaluation.baseline_workflows import IO, self_consistency
from grpo_aflow.evaluation.baselines import OpenEvaluation, System
from grpo_aflow.types import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class ByLength:
    """One row of the table; `needs` names baselines that must be measured before it."""

    most: int = 200  # characters of a short problem
    needs: tuple[str, ...] = ()

    def system(self, evaluation: OpenEvaluation) -> System:
        short, long = IO, self_consistency(5)
        rollouters = {True: evaluation.workflow_rollouter(short), False: evaluation.workflow_rollouter(long)}
        calls = {True: evaluation.max_calls(short), False: evaluation.max_calls(long)}

        def is_short(task: Task) -> bool:
            return len(task.problem) <= self.most

        return System(
            rollouter_of=lambda task: rollouters[is_short(task)],
            note=f"votes where a problem has more than {self.most} characters",
            max_calls_of=lambda task: calls[is_short(task)][task.domain],
        )
