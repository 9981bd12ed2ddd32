# ruff: noqa: TID253
"""The formulas of the objectives on one micro-batch of log-probabilities; no model, no normalisation over the step.

Letters: B rows, T tokens (of the longest completion; shorter ones are padded on the right and masked).
Every function returns per-token values [B, T]; `weighted_sum` turns them into the sum whose gradient accumulates, and
the step divides that once by `Aggregation.denominator`. Formulas and papers: `objectives`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from grpo_aflow.learner.objectives import KL, Correction, Objective


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenBatch:
    """One micro-batch. Values at masked positions are finite and mean nothing."""

    logprobs: Tensor  # [B, T] of the policy, at the sampling temperature; carries the gradient
    old: Tensor  # [B, T] detached
    log_mismatch: Tensor  # [B, T] learner - sampler over the sampler's support, eval mode, detached; -inf outside it
    reference: Tensor | None  # [B, T] of the base, detached
    entropy: Tensor  # [B, T] nats; carries a gradient only where the objective asks for it
    mask: Tensor  # [B, T] 1.0 = a sampled token
    advantages: Tensor  # [B]

    def log_ratio(self) -> Tensor:
        """logp - old, 0 where masked: [B, T]."""
        return (self.logprobs - self.old) * self.mask

    def ratio(self) -> Tensor:
        """r: [B, T]."""
        return torch.exp(self.log_ratio())

    def sequence_ratio(self) -> Tensor:
        """s, on every token of its row: [B, T]; the gradient flows through the mean."""
        return torch.exp(_row_mean(self.log_ratio(), self.mask)).expand_as(self.mask)

    def row_advantages(self) -> Tensor:
        """A on every token of its row: [B, T]."""
        return self.advantages.unsqueeze(1).expand_as(self.mask)


class Surrogate(NamedTuple):
    """Per-token policy loss, and the tokens whose gradient the objective cut."""

    loss: Tensor  # [B, T]
    clipped_low: Tensor  # [B, T] bool: pushed down already far enough
    clipped_high: Tensor  # [B, T] bool: pushed up already far enough


class TokenLosses(NamedTuple):
    """What one micro-batch contributes, per token: [B, T] each."""

    total: Tensor
    policy: Tensor
    kl: Tensor
    surrogate: Surrogate
    weight: Tensor  # of the mismatch correction, after truncation or masking


def token_losses(objective: Objective, batch: TokenBatch) -> TokenLosses:
    """policy term, times off-policy mask and mismatch weight, then plus KL, minus the entropy bonus."""
    surrogate = objective.surrogate(batch)
    weight = correction_weight(batch, objective.correction, objective.correction_min, objective.correction_max)
    policy = surrogate.loss * weight
    if objective.off_policy_threshold is not None:
        policy = policy * off_policy_mask(batch, objective.off_policy_threshold)
    total = policy
    kl = torch.zeros_like(policy)
    if objective.needs_reference:
        kl = kl_penalty(batch, objective.kl)
        total = total + objective.kl_coef * kl
    if objective.entropy_coef > 0:
        total = total - objective.entropy_coef * batch.entropy
    return TokenLosses(total, policy, kl, surrogate, weight)


def weighted_sum(values: Tensor, mask: Tensor, row_weights: Tensor) -> Tensor:
    """sum_i weight_i sum_t m v: a scalar, from values and mask [B, T] and row weights [B]."""
    return ((values * mask).sum(dim=1) * row_weights).sum()


# --- surrogates -------------------------------------------------------------------------------------------------------


def clipped(batch: TokenBatch, ratio: Tensor, low: float, high: float, dual_clip: float | None) -> Surrogate:
    """-min(r A, clip(r, 1 - low, 1 + high) A), r at most `dual_clip` where given; r is per token or per sequence."""
    advantages = batch.row_advantages()
    bounded = ratio if dual_clip is None else ratio.clamp(max=dual_clip)
    loss = -torch.minimum(bounded * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
    return Surrogate(loss, (ratio < 1 - low) & (advantages < 0), (ratio > 1 + high) & (advantages > 0))


def clipped_weight(batch: TokenBatch, low: float, high: float) -> Surrogate:
    """-sg[clamp(r, 1 - low, 1 + high)] A logp."""
    ratio = batch.ratio().detach()
    loss = -ratio.clamp(1 - low, 1 + high) * batch.row_advantages() * batch.logprobs
    return Surrogate(loss, ratio < 1 - low, ratio > 1 + high)


def soft_gate(batch: TokenBatch, tau_positive: float, tau_negative: float) -> Surrogate:
    """-A (4 / tau) sigmoid(tau (r - 1)); nothing is cut hard."""
    advantages = batch.row_advantages()
    tau = torch.where(advantages > 0, tau_positive, tau_negative).to(advantages.dtype)
    loss = -advantages * (4 / tau) * torch.sigmoid(tau * (batch.ratio() - 1))
    nothing = torch.zeros_like(batch.mask, dtype=torch.bool)
    return Surrogate(loss, nothing, nothing)


def divergence_masked(batch: TokenBatch, low: float, high: float, ratio_max: float) -> Surrogate:
    """-keep A sg[min(r, ratio_max)] logp."""
    advantages = batch.row_advantages()
    moved = torch.exp(batch.logprobs.detach()) - torch.exp(batch.old)
    too_high = (advantages > 0) & (moved > high)
    too_low = (advantages < 0) & (moved < -low)
    keep = (~(too_high | too_low)).to(batch.mask.dtype)
    loss = -keep * advantages * batch.ratio().detach().clamp(max=ratio_max) * batch.logprobs
    return Surrogate(loss, too_low, too_high)


# --- penalties, corrections, masks ------------------------------------------------------------------------------------


def kl_penalty(batch: TokenBatch, kind: KL) -> Tensor:
    """The KL estimator `kind` per token: [B, T]."""
    assert batch.reference is not None
    distance = (batch.logprobs - batch.reference) * batch.mask
    match KL(kind):
        case KL.none:
            return torch.zeros_like(distance)
        case KL.k1:
            return distance
        case KL.k2:
            return 0.5 * distance.square()
        case KL.k3:
            return _k3(distance)
        case KL.k3_plus:
            k2 = 0.5 * distance.square()
            return k2 + (_k3(distance) - k2).detach()
        case KL.k3_corrected:
            return batch.ratio() * _k3(distance)


def correction_weight(batch: TokenBatch, kind: Correction, low: float, high: float) -> Tensor:
    """The mismatch weight on every token: [B, T], detached; 1 where nothing is corrected."""
    kind = Correction(kind)
    if kind == Correction.none:
        return torch.ones_like(batch.mask)
    log_rho = torch.where(batch.mask > 0, batch.log_mismatch, 0.0)
    if kind.level == "sequence":
        log_rho = log_rho.sum(dim=1, keepdim=True)
    elif kind.level == "geometric":
        log_rho = _row_mean(log_rho, batch.mask)
    rho = torch.exp(log_rho)
    weight = torch.where((rho >= low) & (rho <= high), rho, 0.0) if kind.masks else rho.clamp(low, high)
    return weight.expand_as(batch.mask)


def off_policy_mask(batch: TokenBatch, threshold: float) -> Tensor:
    """0 on rows with A < 0 that the sampler found likelier than the learner by more than `threshold` per token.

    DeepSeek-V3.2 (arXiv 2512.02556), as in TRL: the mean runs over sampler - learner log-probabilities. [B, 1].
    """
    drift = _row_mean(torch.where(batch.mask > 0, -batch.log_mismatch, 0.0), batch.mask)
    dropped = (batch.advantages.unsqueeze(1) < 0) & (drift > threshold)
    return (~dropped).to(batch.mask.dtype)


def _k3(distance: Tensor) -> Tensor:
    return torch.exp(-distance) + distance - 1


def _row_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over a row's tokens, 0 for an empty row: [B, 1]."""
    return (values * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
