"""Advantages: from the rewards of a group to the numbers that weigh its log-probabilities. Pure, torch-free.

Stands between the rubric and the learner. `NaN` is a masked reward: it is out of the mean and the standard deviation
and stays `NaN`. A group in which all remaining rewards are equal (or fewer than two remain) teaches nothing: its
advantages are exactly 0.0, so that the learner can skip it.

Example: group_advantages([1.0, 0.0, 0.5, 0.5], AdvantageKind.none) == [0.5, -0.5, 0.0, 0.0]
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from grpo_aflow.types import AdvantageKind, RolloutGroup

# Rewards closer than this are equal: sums of weighted terms differ by rounding, and dividing by such a spread would
# turn rounding into advantages of order one.
EQUAL_WITHIN = 1e-9

# Added to a standard deviation before dividing by it. verl adds 1e-6, TRL 1e-4; ours follows verl.
EPSILON = 1e-6


def group_advantages(rewards: Sequence[float], kind: AdvantageKind, *, epsilon: float = EPSILON) -> list[float]:
    """Advantages of one group, as soon as its last reward is in.

    Raises ValueError for `batch_std`, which needs the whole step: see `advantages`.
    """
    if kind == AdvantageKind.batch_std:
        raise ValueError("batch_std needs the rewards of the whole step: call advantages(...) once all groups are in")
    return _centred(rewards, kind, epsilon=epsilon, batch_deviation=math.nan)


def advantages(
    rewards: Sequence[Sequence[float]], kind: AdvantageKind, *, epsilon: float = EPSILON
) -> list[list[float]]:
    """Advantages of all groups of one step, in their order."""
    finite = [r for group in rewards for r in group if not math.isnan(r)]
    deviation = _deviation(finite) if len(finite) > 1 else math.nan
    return [_centred(group, kind, epsilon=epsilon, batch_deviation=deviation) for group in rewards]


def is_zero_variance(rewards: Sequence[float]) -> bool:
    """Whether a group teaches nothing: fewer than two unmasked rewards, or all of them equal."""
    finite = [r for r in rewards if not math.isnan(r)]
    return len(finite) < 2 or max(finite) - min(finite) <= EQUAL_WITHIN


def informative(group: RolloutGroup) -> bool:
    """Whether a group carries a signal: at least two unmasked rewards that are not all equal."""
    return not is_zero_variance([rollout.reward for rollout in group.rollouts])


def _centred(rewards: Sequence[float], kind: AdvantageKind, *, epsilon: float, batch_deviation: float) -> list[float]:
    if any(math.isinf(r) for r in rewards):
        raise ValueError(f"a reward must be finite, or NaN when it is masked; got {list(rewards)}")
    if is_zero_variance(rewards):
        return [math.nan if math.isnan(r) else 0.0 for r in rewards]
    finite = [r for r in rewards if not math.isnan(r)]
    mean = math.fsum(finite) / len(finite)
    scale = _scale(kind, finite, mean, epsilon=epsilon, batch_deviation=batch_deviation)
    return [(r - mean) * scale for r in rewards]  # NaN stays NaN


def _scale(
    kind: AdvantageKind, finite: Sequence[float], mean: float, *, epsilon: float, batch_deviation: float
) -> float:
    num = len(finite)
    match AdvantageKind(kind):
        case AdvantageKind.none:
            return 1.0
        case AdvantageKind.group_std:
            return 1.0 / (_deviation(finite) + epsilon)
        case AdvantageKind.batch_std:
            return 1.0 / (batch_deviation + epsilon)
        case AdvantageKind.leave_one_out:
            return num / (num - 1)
        case AdvantageKind.maxrl:
            return 1.0 / mean if mean > 0 else 0.0


def _deviation(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
