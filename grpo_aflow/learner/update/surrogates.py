"""The surrogates of the objectives on one micro-batch of log-probabilities: per-token losses before all else.

Letters: B rows, T tokens (of the longest completion; shorter ones are padded on the right and masked). Formulas and
papers: `objectives`, whose records call these functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


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
        return torch.exp(row_mean(self.log_ratio(), self.mask)).expand_as(self.mask)

    def row_advantages(self) -> Tensor:
        """A on every token of its row: [B, T]."""
        return self.advantages.unsqueeze(1).expand_as(self.mask)


class Surrogate(NamedTuple):
    """Per-token policy loss, and the tokens whose gradient the objective cut."""

    loss: Tensor  # [B, T]
    clipped_low: Tensor  # [B, T] bool: pushed down already far enough
    clipped_high: Tensor  # [B, T] bool: pushed up already far enough


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


def row_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over a row's tokens, 0 for an empty row: [B, 1]."""
    return (values * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
