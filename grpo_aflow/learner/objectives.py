"""The config group `objective`: what an optimizer step minimises. Each option is a small object with its formula.

Letters: r = exp(logp - old) per token, s = exp(mean over the row's tokens of (logp - old)) per sequence, A the row's
advantage, m the token mask, T_i a row's tokens, N all tokens and B all rows of the optimizer step, sg[.] a stop of
gradient. Torch-free at import: the formulas themselves are in `surrogates`, where each one has its lines.

Masked rows contribute nothing, KL included, and are neither in N nor in B; so do groups whose rewards are all equal,
unless `zero_variance` says otherwise. A row that has an advantage but no token is in B (as in TRL; verl leaves it out).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from grpo_aflow.types import AdvantageKind

if TYPE_CHECKING:
    from grpo_aflow.learner.update.surrogates import Surrogate, TokenBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """What an optimizer step is divided by: counted over all its micro-batches, groups and ranks."""

    num_tokens: int = 0  # N
    num_sequences: int = 0  # B
    num_groups: int = 0  # groups that contributed

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            num_tokens=self.num_tokens + other.num_tokens,
            num_sequences=self.num_sequences + other.num_sequences,
            num_groups=self.num_groups + other.num_groups,
        )


class Aggregation(StrEnum):
    """How per-token losses become one number: sum_i weight_i sum_t m l, divided once by the step's denominator."""

    token_mean = "token_mean"  # sum m l / N (DAPO)
    group_token_mean = "group_token_mean"  # mean over groups of (sum m l / N_group) (BNPO's local batch = our group)
    sequence_mean = "sequence_mean"  # (1/B) sum_i (sum_t m l) / max(T_i, 1) (GRPO)
    sequence_sum = "sequence_sum"  # (1/B) sum_i sum_t m l (LUSPO)
    constant_length = "constant_length"  # sum m l / (B max_length) (Dr. GRPO)

    def weight(self, num_tokens: int, num_group_tokens: int) -> float:
        """The factor of one row's summed loss: T_i tokens, in a group of `num_group_tokens`."""
        match self:
            case Aggregation.sequence_mean:
                return 1.0 / max(num_tokens, 1)
            case Aggregation.group_token_mean:
                return 1.0 / max(num_group_tokens, 1)
            case _:
                return 1.0

    def denominator(self, totals: Totals, *, max_length: int) -> float:
        """What the sum over the whole optimizer step is divided by."""
        match self:
            case Aggregation.token_mean:
                return float(max(totals.num_tokens, 1))
            case Aggregation.group_token_mean:
                return float(max(totals.num_groups, 1))
            case Aggregation.constant_length:
                return float(max(totals.num_sequences, 1) * max_length)
            case _:
                return float(max(totals.num_sequences, 1))


class KL(StrEnum):
    """Per-token penalty against the reference, with d = logp - ref (Schulman's estimators).

    The reference is the warm start's adapter, frozen; the base without any adapter where there is none.
    """

    none = "none"
    k1 = "k1"  # d: unbiased value, gradient zero in expectation
    k2 = "k2"  # d^2 / 2: unbiased gradient of the reverse KL
    k3 = "k3"  # exp(-d) + d - 1: unbiased value, low variance
    k3_plus = "k3_plus"  # the value of k3 with the gradient of k2
    k3_corrected = "k3_corrected"  # r k3: unbiased in gradient too (DeepSeek-V3.2, arXiv 2512.02556)


class OldLogprobs(StrEnum):
    """Where `old` in r = exp(logp - old) comes from."""

    learner = "learner"  # the learner's own, detached: r = 1 on the one epoch that we make; no second forward
    sampler = "sampler"  # what the sampler recorded: r spans staleness and the sampler/learner mismatch


class Correction(StrEnum):
    """Importance weight rho = exp(learner - sampler) on the policy term, against the sampler/learner mismatch."""

    none = "none"
    token_truncate = "token_truncate"  # rho per token, clamped to [correction_min, correction_max]
    token_mask = "token_mask"  # rho per token, 0 outside; the token stays in N
    sequence_truncate = "sequence_truncate"  # product over the row
    sequence_mask = "sequence_mask"
    geometric_truncate = "geometric_truncate"  # geometric mean over the row
    geometric_mask = "geometric_mask"

    @property
    def level(self) -> str:
        return self.value.partition("_")[0]

    @property
    def masks(self) -> bool:
        return self.value.endswith("_mask")


class ZeroVariance(StrEnum):
    """What becomes of a group whose rewards are all equal, so that no advantage comes of it."""

    skip = "skip"  # it costs no forward and is in neither N nor B
    regularise = "regularise"  # KL and entropy bonus apply to it, and it is in N and B (as in TRL and verl)


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective(ABC):
    """What all objectives share: loss = agg(w * policy + kl_coef * KL - entropy_coef * entropy)."""

    aggregation: Aggregation
    max_length: int  # L_max of aggregation=constant_length: usually sampler.max_tokens
    advantage: AdvantageKind
    old_logprobs: OldLogprobs
    correction: Correction
    correction_max: float
    correction_min: float
    kl: KL
    kl_coef: float
    entropy_coef: float  # entropy is always measured; a coefficient above 0 adds it as a bonus
    mask_truncated: bool  # completions cut off at max_tokens contribute nothing (DAPO's overlong masking)
    zero_variance: ZeroVariance  # regularise: where a whole kind of task fails, KL still holds the policy near
    off_policy_threshold: float | None  # rows with A < 0 and mean(sampler - learner) above it are masked

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"max_length must be at least 1; got {self.max_length}")
        if not 0 <= self.correction_min < self.correction_max:
            raise ValueError(
                f"correction_min must be at least 0 and below correction_max; got {self.correction_min} and "
                f"{self.correction_max}"
            )
        if not (0 <= self.kl_coef < math.inf and 0 <= self.entropy_coef < math.inf):
            raise ValueError(f"kl_coef and entropy_coef must be at least 0; got {self.kl_coef}, {self.entropy_coef}")
        if (self.kl == KL.none) != (self.kl_coef == 0):
            raise ValueError(
                f"kl={self.kl} and kl_coef={self.kl_coef} contradict each other: set kl=none with kl_coef=0, or both"
            )
        if self.regularises_all and self.kl_coef == self.entropy_coef == 0:
            raise ValueError(
                "zero_variance=regularise has nothing to apply: set kl and kl_coef, or entropy_coef, or "
                "zero_variance=skip"
            )
        if self.correction != Correction.none and self.old_logprobs == OldLogprobs.sampler:
            raise ValueError(
                f"correction={self.correction} and old_logprobs=sampler count the same mismatch twice: "
                "set correction=none or old_logprobs=learner"
            )

    @property
    def needs_reference(self) -> bool:
        """Whether a forward of the reference is needed."""
        return self.kl_coef > 0

    @property
    def regularises_all(self) -> bool:
        """Whether groups without an advantage take part."""
        return self.zero_variance == ZeroVariance.regularise

    def check_sampling(self, *, top_p: float, top_k: int, max_staleness: int) -> None:
        """Refuse what is inconsistent with how completions are drawn. Raises ValueError naming the fix.

        Correction weights and mismatch metrics are scored over the sampler's truncated support, without gradient; a
        ratio that carries gradient is not, so it may not be taken against a truncated sampler's log-probabilities.
        """
        if self.old_logprobs == OldLogprobs.sampler and (top_p < 1 or top_k > 0):
            raise ValueError(
                f"old_logprobs=sampler needs the full distribution, but sampler.top_p={top_p} and "
                f"sampler.top_k={top_k} truncate it: set objective.old_logprobs=learner, or top_p=1 and top_k=0"
            )
        uncorrected = self.old_logprobs == OldLogprobs.learner and self.correction == Correction.none
        if max_staleness > 0 and uncorrected:
            raise ValueError(
                f"schedule.max_staleness={max_staleness} trains on completions of older versions and nothing corrects "
                "for it: set objective.correction=token_truncate or objective.old_logprobs=sampler"
            )

    @abstractmethod
    def surrogate(self, batch: TokenBatch) -> Surrogate:
        """The per-token policy loss and where it clips, before correction, KL and entropy."""


def _check_clip(clip_low: float, clip_high: float, *, low_max: float) -> None:
    if not 0 <= clip_low <= low_max:
        raise ValueError(f"clip_low must be from 0 to {low_max}; got {clip_low}")
    if not 0 <= clip_high < math.inf:
        raise ValueError(f"clip_high must be at least 0 and finite; got {clip_high}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenClip(Objective):
    """l = -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), PPO's clip per token (arXiv 1707.06347).

    Options grpo, dapo, bnpo and dr_grpo: they differ in aggregation. `dual_clip` = c bounds r from above where A < 0,
    l <= -c A (arXiv 1912.09729); it is the same as the two-sided clip's delta (arXiv 2505.07291).
    Assumes log-probabilities at the sampling temperature.
    """

    clip_low: float
    clip_high: float
    dual_clip: float | None

    def __post_init__(self) -> None:
        super(TokenClip, self).__post_init__()
        _check_clip(self.clip_low, self.clip_high, low_max=1.0)
        _check_dual_clip(self.dual_clip, self.clip_high)

    def surrogate(self, batch: TokenBatch) -> Surrogate:
        from grpo_aflow.learner.update import surrogates

        return surrogates.clipped(batch, batch.ratio(), self.clip_low, self.clip_high, self.dual_clip)


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceClip(Objective):
    """l = -min(s A, clip(s, 1 - clip_low, 1 + clip_high) A) on every token of the row, gradient through s.

    Options gspo (arXiv 2507.18071) and luspo: they differ in aggregation. Assumes clip bounds of the order of 1e-4:
    the mean of log-ratios over a row moves far less than one token's.
    """

    clip_low: float
    clip_high: float
    dual_clip: float | None

    def __post_init__(self) -> None:
        super(SequenceClip, self).__post_init__()
        _check_clip(self.clip_low, self.clip_high, low_max=1.0)
        _check_dual_clip(self.dual_clip, self.clip_high)

    def surrogate(self, batch: TokenBatch) -> Surrogate:
        from grpo_aflow.learner.update import surrogates

        return surrogates.clipped(batch, batch.sequence_ratio(), self.clip_low, self.clip_high, self.dual_clip)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cispo(Objective):
    """l = -sg[clamp(r, 1 - clip_low, 1 + clip_high)] A logp: clips the weight, never the gradient (arXiv 2506.13585).

    clip_low = 1 leaves the weight unbounded from below, as the paper and TRL do; TRL's absolute bound is 1 + clip_high.
    """

    clip_low: float
    clip_high: float

    def __post_init__(self) -> None:
        super(Cispo, self).__post_init__()
        _check_clip(self.clip_low, self.clip_high, low_max=1.0)

    def surrogate(self, batch: TokenBatch) -> Surrogate:
        from grpo_aflow.learner.update import surrogates

        return surrogates.clipped_weight(batch, self.clip_low, self.clip_high)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sapo(Objective):
    """l = -A (4 / tau) sigmoid(tau (r - 1)), tau = tau_positive where A > 0 else tau_negative: a soft gate.

    arXiv 2511.20347. Assumes tau_negative >= tau_positive, so that the gate closes sooner on what is pushed down.
    """

    tau_positive: float
    tau_negative: float

    def __post_init__(self) -> None:
        super(Sapo, self).__post_init__()
        if self.tau_positive <= 0 or self.tau_negative <= 0:
            raise ValueError(
                f"tau_positive and tau_negative must be above 0; got {self.tau_positive} and {self.tau_negative}"
            )

    def surrogate(self, batch: TokenBatch) -> Surrogate:
        from grpo_aflow.learner.update import surrogates

        return surrogates.soft_gate(batch, self.tau_positive, self.tau_negative)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dppo(Objective):
    """l = -keep A sg[min(r, ratio_max)] logp, keep = not (A > 0, dp > clip_high, or A < 0, dp < -clip_low).

    dp = exp(logp) - exp(old): a bound on total variation in place of the ratio's (arXiv 2602.04879; verl's value form).
    """

    clip_low: float
    clip_high: float
    ratio_max: float

    def __post_init__(self) -> None:
        super(Dppo, self).__post_init__()
        _check_clip(self.clip_low, self.clip_high, low_max=1.0)
        if self.ratio_max <= 1:
            raise ValueError(f"ratio_max must be above 1; got {self.ratio_max}")

    def surrogate(self, batch: TokenBatch) -> Surrogate:
        from grpo_aflow.learner.update import surrogates

        return surrogates.divergence_masked(batch, self.clip_low, self.clip_high, self.ratio_max)


def _check_dual_clip(dual_clip: float | None, clip_high: float) -> None:
    if dual_clip is not None and dual_clip <= 1 + clip_high:
        raise ValueError(f"dual_clip must be above 1 + clip_high = {1 + clip_high:g}, or null; got {dual_clip}")
