"""The gate behind every publish: does the sampler serve the policy that the learner has?

A pure decision on four rows of log-probabilities of one fixed probe text: sampler and learner, adapter on and off. It
catches an adapter that was dropped, one that is stale, and one that also acts on the base model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from grpo_aflow.types import SelfTestFailed

FP32_TOLERANCE = 1e-4
# Below this no difference means anything: in low precision the spacing of numbers next to 1.
FLOOR = {"float32": FP32_TOLERANCE, "float16": 2.0**-10, "bfloat16": 2.0**-7}
LOW_PRECISION_FACTOR = 4.0  # times the disagreement measured at the first check
EFFECT_FACTOR = 5.0  # from this many tolerances on, the adapter's effect must be seen in the sampler
EFFECT_SLACK = 2.0  # tolerances by which the effects of two agreeing models may differ


@dataclass(frozen=True, kw_only=True, slots=True)
class GateReport:
    """What a passed check measured, in nats; each figure is the largest absolute difference over the probe."""

    disagreement: float  # sampler against learner, adapter on
    learner_effect: float  # adapter on against off, in the learner
    sampler_effect: float  # the same in the sampler
    tolerance: float


class Gate:
    """Holds the tolerance of a run: 1e-4 in fp32, else four times the disagreement at the first check (version 0),
    and never less than `floor`.

    A tolerance that was measured before (by the run that is being resumed) can be handed in.
    """

    def __init__(self, *, dtype: str, tolerance: float | None = None) -> None:
        self.floor = FLOOR[dtype]
        self.measured = dtype != "float32"  # the tolerance is this machine's own, not a constant
        self.tolerance = tolerance if tolerance is not None or self.measured else FP32_TOLERANCE

    def check(
        self,
        *,
        sampler_on: Sequence[float],
        sampler_off: Sequence[float],
        learner_on: Sequence[float],
        learner_off: Sequence[float],
    ) -> GateReport:
        """Compare log-probabilities of the same tokens; raises SelfTestFailed, with the numbers, when they disagree."""
        if self.tolerance is None:
            # Version 0 has no effect yet, so what differs here is the arithmetic of the two models.
            measured = max(distance(sampler_on, learner_on), distance(sampler_off, learner_off))
            self.tolerance = max(self.floor, LOW_PRECISION_FACTOR * measured)
        return check(sampler_on, sampler_off, learner_on, learner_off, self.tolerance)


def check(
    sampler_on: Sequence[float],
    sampler_off: Sequence[float],
    learner_on: Sequence[float],
    learner_off: Sequence[float],
    tolerance: float,
) -> GateReport:
    """The decision itself.

    Example: at tolerance 1e-4, sampler [-1.0] and learner [-1.2] with the adapter on disagree by 0.2: SelfTestFailed.
    """
    report = GateReport(
        disagreement=distance(sampler_on, learner_on),
        learner_effect=distance(learner_on, learner_off),
        sampler_effect=distance(sampler_on, sampler_off),
        tolerance=tolerance,
    )
    numbers = (
        f"sampler against learner {report.disagreement:.2e}, adapter on against off: learner "
        f"{report.learner_effect:.2e}, sampler {report.sampler_effect:.2e}; tolerance {tolerance:.2e}"
    )
    if not report.disagreement <= tolerance:
        raise SelfTestFailed(f"the sampler does not serve the learner's policy (max |difference of log p|: {numbers})")
    unseen = report.sampler_effect <= (EFFECT_FACTOR - EFFECT_SLACK) * tolerance
    if report.learner_effect > EFFECT_FACTOR * tolerance and unseen:
        raise SelfTestFailed(f"the sampler answers alike with and without the adapter ({numbers})")
    return report


def distance(left: Sequence[float], right: Sequence[float]) -> float:
    """Largest absolute difference; infinite when a value is not finite."""
    differences = [abs(a - b) for a, b in zip(left, right, strict=True)]
    return max(differences) if all(map(math.isfinite, differences)) else math.inf
