"""From a surrogate to the loss of a micro-batch: mismatch correction, off-policy mask, KL, entropy.

No model, no normalisation over the step: every function returns per-token values [B, T]; `weighted_sum` turns them
into the sum whose gradient accumulates, and the step divides that once by `Aggregation.denominator`. Letters and
records: `surrogates`, `objectives`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from grpo_aflow.learner.objectives import KL, Correction, Objective
from grpo_aflow.learner.update.surrogates import Surrogate, TokenBatch, row_mean


class TokenLosses(NamedTuple):
    """What one micro-batch contributes, per token: [B, T] each."""

    total: Tensor
    policy: Tensor
    kl: Tensor
    surrogate: Surrogate
    weight: Tensor  # of the mismatch correction, after truncation or masking
    raw_weight: Tensor  # the same before them


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
    return TokenLosses(total, policy, kl, surrogate, weight, raw_weight(batch, objective.correction))


def weighted_sum(values: Tensor, mask: Tensor, row_weights: Tensor) -> Tensor:
    """sum_i weight_i sum_t m v: a scalar, from values and mask [B, T] and row weights [B]."""
    return ((values * mask).sum(dim=1) * row_weights).sum()


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
    kind, rho = Correction(kind), raw_weight(batch, kind)
    if kind == Correction.none:
        return rho
    return torch.where((rho >= low) & (rho <= high), rho, 0.0) if kind.masks else rho.clamp(low, high)


def raw_weight(batch: TokenBatch, kind: Correction) -> Tensor:
    """learner / sampler at the correction's level, before truncation or masking: [B, T]; 1 for no correction."""
    kind = Correction(kind)
    if kind == Correction.none:
        return torch.ones_like(batch.mask)
    log_rho = torch.where(batch.mask > 0, batch.log_mismatch, 0.0)
    if kind.level == "sequence":
        log_rho = log_rho.sum(dim=1, keepdim=True)
    elif kind.level == "geometric":
        log_rho = row_mean(log_rho, batch.mask)
    return torch.exp(log_rho).expand_as(batch.mask)


def off_policy_mask(batch: TokenBatch, threshold: float) -> Tensor:
    """0 on rows with A < 0 that the sampler found likelier than the learner by more than `threshold` per token.

    DeepSeek-V3.2 (arXiv 2512.02556), as in TRL: the mean runs over sampler - learner log-probabilities. [B, 1].
    """
    drift = row_mean(torch.where(batch.mask > 0, -batch.log_mismatch, 0.0), batch.mask)
    dropped = (batch.advantages.unsqueeze(1) < 0) & (drift > threshold)
    return (~dropped).to(batch.mask.dtype)


def _k3(distance: Tensor) -> Tensor:
    return torch.exp(-distance) + distance - 1
