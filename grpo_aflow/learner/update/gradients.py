"""Forward and backward of one group: its unnormalised gradient sums gather in the adapter's parameters.

A prompt is opened once and its rows go through in micro-batches, each with its own loss and backward. Letters: B rows
of a micro-batch, T tokens of its longest completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grpo_aflow.learner.objectives import Objective, OldLogprobs
from grpo_aflow.learner.policy.head import Scores, Truncation
from grpo_aflow.learner.policy.model import PolicyModel
from grpo_aflow.learner.policy.rows import TokenRow, on_device, padded, spread, token_mask
from grpo_aflow.learner.update.groups import row_weights, totals_of
from grpo_aflow.learner.update.losses import token_losses, weighted_sum
from grpo_aflow.learner.update.step_stats import StepSums
from grpo_aflow.learner.update.surrogates import TokenBatch
from grpo_aflow.types import TrainingGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class Reused:
    """Log-probabilities of a group's completions that all its micro-batches compare with: by member, [T_i]."""

    reference: dict[int, Tensor] | None  # under the reference; None where the objective needs none
    evaluated: dict[int, Tensor] | None  # the policy's, without dropout; None where the forward itself has none


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupGradients:
    """Adds a group's gradients to those of the policy's parameters."""

    policy: PolicyModel
    objective: Objective
    has_dropout: bool

    def add(
        self,
        group: TrainingGroup,
        rows: Sequence[TokenRow],
        *,
        reference: Sequence[Sequence[float]] | None,
        identity: tuple[int, ...],
        scale: float,
    ) -> StepSums:
        """The sums that the step reports; the gradients are in the parameters.

        reference: log-probabilities of every member under the reference, where the objective needs them. identity: from
        which dropout draws. scale: a factor on the loss that the optimizer takes out again.
        """
        policy, sums = self.policy, StepSums()
        truncation = _truncation(group)
        reused = Reused(
            reference=None if reference is None else self._on_device(reference, rows),
            evaluated=self._without_dropout(group, rows, truncation) if self.has_dropout else None,
        )
        num_group_tokens = totals_of(rows).num_tokens
        with torch.enable_grad():
            with policy.dropout.active(*identity, "prompt"):
                layout = policy.layout(group.prompt_ids)
            for number, part in enumerate(policy.micro_batches(rows, group.prompt_ids)):
                with policy.dropout.active(*identity, number):
                    mask = token_mask(part, policy.device)
                    scores = policy.scores(
                        layout,
                        part,
                        temperature=group.temperature,
                        truncation=truncation,
                        entropy_gradient=self.objective.entropy_coef > 0,
                    )
                    batch = self._token_batch(part, mask, scores, reused)
                    losses = token_losses(self.objective, batch)
                    weights = row_weights(part, self.objective.aggregation, num_group_tokens, batch.mask)
                    total = weighted_sum(losses.total, batch.mask, weights)
                    sums.add(batch, losses, weights)
                    (total * scale).backward()
            with policy.dropout.active(*identity, "prompt"):  # a recomputed prompt draws the same masks
                layout.close()
        return sums

    def _token_batch(self, rows: Sequence[TokenRow], mask: Tensor, scores: Scores, reused: Reused) -> TokenBatch:
        dtype, device = scores.logprobs.dtype, self.policy.device
        sampled = padded([row.logprobs for row in rows], dtype, device)
        learner = scores.sampler_logprobs if reused.evaluated is None else _of(rows, reused.evaluated)
        on_policy = self.objective.old_logprobs == OldLogprobs.learner
        return TokenBatch(
            logprobs=scores.logprobs,
            old=scores.logprobs.detach() if on_policy else sampled,
            log_mismatch=learner - sampled,
            reference=None if reused.reference is None else _of(rows, reused.reference),
            entropy=scores.entropy,
            mask=mask.to(dtype),
            advantages=on_device([row.advantage for row in rows], dtype, device),
        )

    def _on_device(self, values: Sequence[Sequence[float]], rows: Sequence[TokenRow]) -> dict[int, Tensor]:
        return {row.member: on_device(values[row.member], torch.float32, self.policy.device) for row in rows}

    def _without_dropout(
        self, group: TrainingGroup, rows: Sequence[TokenRow], truncation: Truncation | None
    ) -> dict[int, Tensor]:
        """The policy's log-probabilities by member, over the sampler's support."""
        token_ids = [row.token_ids for row in rows]
        scores = self.policy.evaluate(group.prompt_ids, token_ids, temperature=group.temperature, truncation=truncation)
        return {row.member: score.sampler_logprobs for row, score in zip(rows, scores, strict=True)}


def _truncation(group: TrainingGroup) -> Truncation | None:
    if group.top_p >= 1 and group.top_k <= 0:
        return None
    return Truncation(top_p=group.top_p, top_k=group.top_k)


def _of(rows: Sequence[TokenRow], values: dict[int, Tensor]) -> Tensor:
    """The rows' values [T_i], by member, as [B, T]."""
    return spread(torch.cat([values[row.member] for row in rows]), rows)
