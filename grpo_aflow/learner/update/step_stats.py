"""What an optimizer step reports: sums over its micro-batches, kept on the device until the step asks for them."""

from __future__ import annotations

import torch
from torch import Tensor

from grpo_aflow.learner.objectives import Objective, Totals
from grpo_aflow.learner.update.losses import TokenLosses, weighted_sum
from grpo_aflow.learner.update.surrogates import TokenBatch

# Flat metrics of one optimizer step, by the names of metrics.jsonl.
StepStats = dict[str, float]


class StepSums:
    """Running sums over the micro-batches of one optimizer step, in fp64, in the order of the calls."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._max_abs_logp: Tensor | None = None

    def add(self, batch: TokenBatch, losses: TokenLosses, row_weights: Tensor) -> None:
        """Add one micro-batch: masks and values [B, T], weights [B]."""
        mask = batch.mask
        sums = {
            "total": weighted_sum(losses.total, mask, row_weights),
            "policy": weighted_sum(losses.policy, mask, row_weights),
            "kl": weighted_sum(losses.kl, mask, row_weights),
            "entropy": (batch.entropy * mask).sum(),
            "clip_low": (losses.surrogate.clipped_low * mask).sum(),
            "clip_high": (losses.surrogate.clipped_high * mask).sum(),
        } | self._mismatch(batch, losses)
        for name, value in sums.items():
            value = value.detach().double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def _mismatch(self, batch: TokenBatch, losses: TokenLosses) -> dict[str, Tensor]:
        """Over trained tokens inside the sampler's support: learner - sampler log-probabilities."""
        inside = (batch.mask > 0) & torch.isfinite(batch.log_mismatch)
        delta = torch.where(inside, batch.log_mismatch, 0.0).double()
        rho = torch.where(inside, delta.exp(), 0.0)
        largest = delta.abs().max()
        self._max_abs_logp = largest if self._max_abs_logp is None else torch.maximum(self._max_abs_logp, largest)
        corrected = (batch.mask > 0) & (losses.weight != losses.raw_weight)
        return {
            "inside": inside.sum(),
            "outside": ((batch.mask > 0) & ~inside).sum(),
            "abs_logp": delta.abs().sum(),
            "k3": (torch.where(inside, delta.exp() - delta - 1, 0.0)).sum(),
            "rho": rho.sum(),
            "rho_squared": rho.square().sum(),
            "corrected": corrected.sum(),
        }

    def merge(self, later: StepSums) -> None:
        """Add the sums of what comes after."""
        for name, value in later._sums.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        if later._max_abs_logp is not None:
            known = self._max_abs_logp
            self._max_abs_logp = later._max_abs_logp if known is None else torch.maximum(known, later._max_abs_logp)

    def on_cpu(self) -> StepSums:
        """The same, to be sent to another process."""
        copy = StepSums()
        copy._sums = {name: value.cpu() for name, value in self._sums.items()}
        copy._max_abs_logp = None if self._max_abs_logp is None else self._max_abs_logp.cpu()
        return copy

    def total_loss(self) -> float:
        """The unnormalised loss of the step so far."""
        return float(self._sums["total"]) if self._sums else 0.0

    def metrics(self, objective: Objective, totals: Totals) -> StepStats:
        """Loss terms under the step's normalisation, shares and means over its trained tokens. {} without tokens."""
        if not self._sums or self._max_abs_logp is None:
            return {}
        sums = {name: float(value) for name, value in self._sums.items()}
        denominator = objective.aggregation.denominator(totals, max_length=objective.max_length)
        num_tokens = sums["inside"] + sums["outside"]
        inside = max(sums["inside"], 1.0)
        return {
            "loss/total": sums["total"] / denominator,
            "loss/policy": sums["policy"] / denominator,
            "loss/kl": sums["kl"] / denominator,
            "policy/entropy": sums["entropy"] / num_tokens,
            "policy/clipped_low": sums["clip_low"] / num_tokens,
            "policy/clipped_high": sums["clip_high"] / num_tokens,
            "mismatch/max_abs_logp": float(self._max_abs_logp),
            "mismatch/mean_abs_logp": sums["abs_logp"] / inside,
            "mismatch/kl_k3": sums["k3"] / inside,
            "mismatch/ess": sums["rho"] ** 2 / (inside * sums["rho_squared"]) if sums["rho_squared"] else 0.0,
            "mismatch/corrected": sums["corrected"] / num_tokens,
            "mismatch/out_of_support": sums["outside"] / num_tokens,
        }
