"""The log-prob check behind every publish: does the sampler serve the policy that the learner has?

A pure decision on log-probabilities of one fixed text, the probe, as sampler and learner score it: under the new
version, under the base, and under an earlier version. Its figures are the metrics `gate/*`. It asks two questions.

Do they agree? The yardstick is what they differ by under the base, where nothing but the arithmetic does. In fp32 every
token must stay within four times the largest difference there (1e-4 at least: a small model's are near 1e-6, those of
one with 0.5 B parameters near 1e-4). In lower precision single tokens differ by up to a nat, so the mean must stay
within four times the mean there.

Has the sampler moved with the learner? Its changes, from the base and from an earlier version, are regressed on the
learner's: the slope is near 1 where the adapter is served and 0 where it was dropped, or is still the old one. As it is
averaged over the probe, this shows even where the noise of single tokens is as large as the adapter's effect. In lower
precision the learner rounds, too: what it moves by its noise alone is taken out (errors in variables: Fuller,
Measurement Error Models, 1987, section 1.2), and a step that is lost in it is left for later versions to tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from grpo_aflow.types import SelfTestFailed

LogProbs = Sequence[float]  # of the probe's tokens

# No tolerance is below this: in low precision the spacing of numbers next to 1.
FLOOR = {"float32": 1e-4, "float16": 2.0**-10, "bfloat16": 2.0**-7}
NOISE_FLOOR = {"float32": 1e-5, "float16": 2.0**-12, "bfloat16": 2.0**-9}
FACTOR = 4.0  # times the difference under the base: the largest in fp32, the mean in lower precision
FP32_LIMIT = 1e-2  # nats: a tolerance above this is no rounding; the two do not serve the same base
MAX_SLOPE_ERROR = 1 / 8  # a slope known less well than this says nothing
LEAST_SLOPE = 0.5  # halfway between served and not served: four standard errors from either, or more


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """The probe's log-probabilities under one set of weights."""

    sampler: LogProbs
    learner: LogProbs

    def __getitem__(self, part: slice) -> Scored:
        return Scored(sampler=self.sampler[part], learner=self.learner[part])

    @property
    def differences(self) -> list[float]:
        return [a - b for a, b in zip(self.sampler, self.learner, strict=True)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """How the sampler's log-probabilities moved with the learner's, from other weights to the new version's."""

    slope: float  # least squares through the origin; NaN when the learner did not move
    error: float  # its standard error, from the noise under the base; infinite where the move is lost in it
    learner_effect: float  # largest absolute change in the learner

    @property
    def is_known(self) -> bool:
        return self.error <= MAX_SLOPE_ERROR

    @property
    def is_missing(self) -> bool:
        return self.is_known and not self.slope >= LEAST_SLOPE


@dataclass(frozen=True, kw_only=True, slots=True)
class LogProbReport:
    """What a passed check measured."""

    disagreement: float  # nats: the largest difference in fp32, the mean in lower precision
    under_base: float  # the same under the base, now: tells weights that are not the same from a wrong adapter
    tolerance: float
    from_base: Move
    from_earlier: Move | None  # None: there was no earlier version


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What was measured at version 0 and holds for the whole run, its resumptions included."""

    tolerance: float  # of `LogProbReport.disagreement`
    noise: float  # nats: root mean square of the differences under the base


class LogProbCheck:
    """Decides with one calibration, which is measured at the first check or handed in by the run that is resumed."""

    def __init__(self, *, dtype: str, calibration: Calibration | None = None) -> None:
        self.dtype = dtype
        self.in_full_precision = dtype == "float32"
        self.calibration = calibration

    def calibrate(self, base: Scored) -> Calibration:
        """Measure, under the base alone, what the arithmetic of the two models differs by.

        Raises SelfTestFailed when they differ in fp32 by more than arithmetic can, or when a value is not finite.
        """
        differences = base.differences
        noise = math.sqrt(math.fsum(d * d for d in differences) / len(differences))
        tolerance = max(FLOOR[self.dtype], FACTOR * self.disagreement(base))
        if math.isinf(tolerance) or (self.in_full_precision and tolerance > FP32_LIMIT):
            raise SelfTestFailed(
                f"sampler and learner differ under the base model itself: {distance(base):.2e} nats at most over "
                f"{len(differences)} tokens in {self.dtype}; they do not hold the same weights"
            )
        self.calibration = Calibration(tolerance=tolerance, noise=max(NOISE_FLOOR[self.dtype], noise))
        return self.calibration

    def disagreement(self, scored: Scored) -> float:
        """What is held against the tolerance: the largest difference in fp32, the mean in lower precision."""
        return distance(scored) if self.in_full_precision else mean_distance(scored)

    def check(self, new: Scored, base: Scored, earlier: Scored | None = None) -> LogProbReport:
        """Decide on a version; raises SelfTestFailed, with the numbers, when the sampler does not serve it."""
        calibration = self.calibration or self.calibrate(base)
        report = LogProbReport(
            disagreement=self.disagreement(new),
            under_base=self.disagreement(base),
            tolerance=calibration.tolerance,
            from_base=moved(new, base, calibration.noise),
            from_earlier=None if earlier is None else moved(new, earlier, calibration.noise),
        )
        if report.from_base.is_missing:
            raise SelfTestFailed(
                f"the sampler answers alike with and without the adapter ({_figures(report, report.from_base)})"
            )
        if report.from_earlier is not None and report.from_earlier.is_missing:
            raise SelfTestFailed(
                f"the sampler still serves an earlier version ({_figures(report, report.from_earlier)})"
            )
        if not report.disagreement <= report.tolerance:
            raise SelfTestFailed(
                f"the sampler does not serve the learner's policy ({_figures(report, report.from_base)})"
            )
        return report


def moved(new: Scored, old: Scored, noise: float) -> Move:
    """Regress the sampler's change from `old` to `new` on the learner's, less what the learner's noise adds to that.

    noise: root mean square of the two sides' difference under one set of weights. Each side has a half of its square,
    and in a change twice: so `noise`**2 of a token's squared change is expected without any movement. Rounding that
    both sets of weights share makes it less, which errs on the side of calling a move unknown.

    Example: noise 0.01, the learner moves by (0.3, -0.4), the sampler by (0.31, -0.39): 0.249 / 0.2498 = 0.997.
    """
    ours = [a - b for a, b in zip(new.learner, old.learner, strict=True)]
    theirs = [a - b for a, b in zip(new.sampler, old.sampler, strict=True)]
    square, effect = math.fsum(d * d for d in ours), max(map(abs, ours), default=0.0)
    moved_by = square - len(ours) * noise**2
    if not 0 < moved_by < math.inf:
        return Move(slope=math.nan, error=math.inf, learner_effect=effect)
    slope = math.fsum(a * b for a, b in zip(theirs, ours, strict=True)) / moved_by
    # Both of the sampler's rows carry the noise.
    return Move(slope=slope, error=noise * math.sqrt(2 * square) / moved_by, learner_effect=effect)


def distance(scored: Scored) -> float:
    """Largest absolute difference; infinite when a value is not finite."""
    differences = [abs(d) for d in scored.differences]
    return max(differences) if all(map(math.isfinite, differences)) else math.inf


def mean_distance(scored: Scored) -> float:
    """Mean absolute difference; infinite when a value is not finite."""
    differences = [abs(d) for d in scored.differences]
    return math.fsum(differences) / len(differences) if all(map(math.isfinite, differences)) else math.inf


def _figures(report: LogProbReport, move: Move) -> str:
    return (
        f"sampler against learner {report.disagreement:.2e} nats, {report.under_base:.2e} under the base, "
        f"tolerance {report.tolerance:.2e}; the sampler moves {move.slope:.2f} ± {move.error:.2f} times as the "
        f"learner, whose largest change is {move.learner_effect:.2e}"
    )
