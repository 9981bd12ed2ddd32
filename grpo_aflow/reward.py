"""From graded rollouts to rewards: the rubric of config group `reward`.

A rubric maps a grade to a base reward; everything else is common to all: a rollout without an answer gets 0, a repaired
workflow's reward is capped, a masked one gets NaN (out of mean and std), and the optional `cost` term subtracts what a
rollout cost beyond its group's mean. `Grade.exact` is never touched.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grpo_aflow.types import Grade, Rollout, RolloutStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Rubric(ABC):
    """What all rubrics share."""

    repaired_cap: float
    cost_weight: float
    permuted: bool  # the control: what the learner gets is a permutation of the step's rewards

    def __post_init__(self) -> None:
        if not 0 <= self.repaired_cap <= 1:
            raise ValueError(f"repaired_cap must be in [0, 1]; got {self.repaired_cap}")
        if not (math.isfinite(self.cost_weight) and self.cost_weight >= 0):
            raise ValueError(f"cost_weight must be a finite number >= 0; got {self.cost_weight}")

    @property
    def tiers(self) -> Any:
        """The grader's thresholds for Grade.tier; None leaves it its own, of five_tier.yaml."""
        return None

    @abstractmethod
    def base(self, grade: Grade) -> float:
        """The reward before cap and cost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FiveTier(Rubric):
    """The tier of the grade: 0.0, 0.2, 0.4, 0.7 or 1.0."""

    tiers: Any

    def base(self, grade: Grade) -> float:
        return grade.tier


class Binary(Rubric):
    """1 for an exact answer, else 0."""

    def base(self, grade: Grade) -> float:
        return float(grade.exact)


class Continuous(Rubric):
    """The official metric: F1 for qa, the pass rate for code, exactness for maths."""

    def base(self, grade: Grade) -> float:
        return grade.score


def score(rubric: Rubric, rollouts: Sequence[Rollout]) -> tuple[Rollout, ...]:
    """The rollouts of one group with `reward` and `reward_terms` filled in.

    cost term of rollout i: (c_i - mean c) / max c over the group's unmasked rollouts, c in USD (in tokens where the
    executor is free), so it lies in [-1, 1] and sums to about 0.
    """
    costs = [_cost(rollout) for rollout in rollouts]
    counted = [c for c, rollout in zip(costs, rollouts, strict=True) if rollout.status != RolloutStatus.MASKED]
    mean = math.fsum(counted) / len(counted) if counted else 0.0
    highest = max(counted, default=0.0)
    scored = []
    for rollout, cost in zip(rollouts, costs, strict=True):
        if rollout.status == RolloutStatus.MASKED:
            scored.append(dataclasses.replace(rollout, reward=math.nan, reward_terms={}))
            continue
        base = rubric.base(rollout.grade) if rollout.grade is not None else 0.0
        if rollout.repairs:
            base = min(base, rubric.repaired_cap)
        relative = (cost - mean) / highest if highest > 0 else 0.0
        terms = {"base": base, "cost": relative}
        scored.append(dataclasses.replace(rollout, reward=base - rubric.cost_weight * relative, reward_terms=terms))
    return tuple(scored)


def _cost(rollout: Rollout) -> float:
    if rollout.execution is None:
        return 0.0
    return rollout.execution.cost_usd or rollout.execution.num_tokens * 1e-9
