"""From graded rollouts to rewards: the rubric of config group `reward`.

A rubric maps a grade to a base reward; everything else is common to all: a rollout without an answer gets 0, one
without a valid workflow `invalid`, a repaired workflow's reward is capped, a masked one gets NaN (out of mean and std),
and the optional `cost` term subtracts what a rollout cost beyond its group's mean. `Grade.exact` is never touched.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, SupportsFloat, runtime_checkable

from grpo_aflow.protocols import Rubric
from grpo_aflow.run.faults import raised_at
from grpo_aflow.tasks.graders.tiers import Tiers
from grpo_aflow.types import TIERS, Execution, Grade, Rollout, RolloutStatus, UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class GradeRubric(ABC):
    """What the rubrics here and most of a user's own share: the fields of `protocols.Rubric`, checked."""

    repaired_cap: float
    invalid: float
    cost_weight: float
    permuted: bool  # the control: what the learner gets is a permutation of the step's rewards

    def __post_init__(self) -> None:
        if not 0 <= self.repaired_cap <= 1:
            raise ValueError(f"repaired_cap must be in [0, 1]; got {self.repaired_cap}")
        if not -1 <= self.invalid <= 0:
            raise ValueError(f"invalid must be in [-1, 0]; got {self.invalid}")
        if not (math.isfinite(self.cost_weight) and self.cost_weight >= 0):
            raise ValueError(f"cost_weight must be a finite number >= 0; got {self.cost_weight}")

    @abstractmethod
    def base(self, grade: Grade) -> float:
        """The reward before cap and cost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FiveTier(GradeRubric):
    """The tier of the grade: 0.0, 0.2, 0.4, 0.7 or 1.0."""

    tiers: Tiers  # the grader's thresholds for Grade.tier

    def base(self, grade: Grade) -> float:
        return grade.tier


class Binary(GradeRubric):
    """1 for an exact answer, else 0."""

    def base(self, grade: Grade) -> float:
        return float(grade.exact)


class Continuous(GradeRubric):
    """The official metric: F1 for qa, the pass rate for code, exactness for maths."""

    def base(self, grade: Grade) -> float:
        return grade.score


@runtime_checkable
class SetsTiers(Protocol):
    """A rubric with the grader's thresholds for `Grade.tier`, such as `FiveTier`."""

    @property
    def tiers(self) -> Tiers: ...


def tiers_of(rubric: Rubric) -> Tiers | None:
    """The thresholds that the grader is to use; None leaves it its own."""
    return rubric.tiers if isinstance(rubric, SetsTiers) else None


def score(rubric: Rubric, rollouts: Sequence[Rollout]) -> tuple[Rollout, ...]:
    """The rollouts of one group with `reward` and `reward_terms` filled in.

    cost term of rollout i: (c_i - mean c) / max c over the group's unmasked rollouts that were run, c in USD (in tokens
    where the executor is free), so it lies in [-1, 1] and sums to about 0. It is 0 for a rollout without a valid
    workflow, which cost nothing because it did nothing: to save what others spend on a hard task must not pay.
    """
    counted = [_cost(r.execution) for r in rollouts if r.execution is not None and r.status != RolloutStatus.MASKED]
    mean = math.fsum(counted) / len(counted) if counted else 0.0
    highest = max(counted, default=0.0)
    scored = []
    for rollout in rollouts:
        if rollout.status == RolloutStatus.MASKED:
            scored.append(dataclasses.replace(rollout, reward=math.nan, reward_terms={}))
            continue
        base = base_reward(rubric, rollout.grade) if rollout.grade is not None else _ungraded(rubric, rollout)
        if rollout.repairs:
            base = min(base, rubric.repaired_cap)
        spent = mean if rollout.execution is None else _cost(rollout.execution)
        relative = (spent - mean) / highest if highest > 0 else 0.0
        terms = {"base": base, "cost": relative}
        scored.append(dataclasses.replace(rollout, reward=base - rubric.cost_weight * relative, reward_terms=terms))
    return tuple(scored)


def _ungraded(rubric: Rubric, rollout: Rollout) -> float:
    no_workflow = rollout.status in (RolloutStatus.INVALID, RolloutStatus.TRUNCATED)
    return rubric.invalid if no_workflow else 0.0


def base_reward(rubric: Rubric, grade: Grade) -> float:
    """The rubric's own reward for a grade. Raises UserError when it is no finite number, or the rubric fails.

    NaN is ours alone: it says that a rollout is masked, and a rubric that gave it would train on nothing, unnoticed.
    """
    name = f"reward: {type(rubric).__name__}.base"
    try:
        value = rubric.base(grade)
    except Exception as error:  # whatever a rubric of a user's own may raise
        raise UserError(f"{name} fails on {grade}: {type(error).__name__}: {error} ({raised_at(error)})") from error
    if not isinstance(value, SupportsFloat) or isinstance(value, str) or not math.isfinite(float(value)):
        raise UserError(f"{name} gives {value!r} for {grade}: it must give a finite number")
    return float(value)


def check_rubric(rubric: Rubric) -> None:
    """Ask a rubric for the reward of each tier before anything is paid. Raises UserError; see `base_reward`."""
    for tier in TIERS:
        base_reward(rubric, Grade(exact=tier == 1.0, score=tier, tier=tier, rule="check"))


def _cost(execution: Execution) -> float:
    return execution.cost_usd or execution.num_tokens * 1e-9
