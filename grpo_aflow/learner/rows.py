# ruff: noqa: TID253
"""From a `TrainingGroup` to micro-batches of tensors: which rows contribute, in which order, padded to what.

Letters: B rows of a micro-batch, T tokens of its longest completion, N its tokens in all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from grpo_aflow.learner.objectives import Aggregation, Totals
from grpo_aflow.types import TrainingGroup, UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One completion that takes part in the loss."""

    member: int  # its index in the group
    token_ids: tuple[int, ...]  # [T_i]
    logprobs: tuple[float, ...]  # [T_i] as the sampler recorded them
    advantage: float


def contributing_rows(group: TrainingGroup, *, mask_truncated: bool, max_length: int) -> list[Row]:
    """The rows of a group that count: not masked (NaN), not cut off where the objective masks that.

    Raises UserError for a sequence that is longer than the model's context, or whose parts do not fit together.
    """
    _check(group, max_length)
    return [
        Row(member=member, token_ids=completion.token_ids, logprobs=completion.logprobs, advantage=advantage)
        for member, (completion, advantage) in enumerate(zip(group.completions, group.advantages, strict=True))
        if not math.isnan(advantage) and not (mask_truncated and completion.finish_reason == "length")
    ]


def _check(group: TrainingGroup, max_length: int) -> None:
    if not group.prompt_ids:
        raise UserError(
            "a training group has an empty prompt: the first sampled token has nothing to be predicted from"
        )
    if len(group.completions) != len(group.advantages):
        raise UserError(f"{len(group.completions)} completions but {len(group.advantages)} advantages in a group")
    if not group.temperature > 0:
        raise UserError(f"log-probabilities need a sampling temperature above 0; got {group.temperature}")
    for member, (completion, advantage) in enumerate(zip(group.completions, group.advantages, strict=True)):
        length = len(group.prompt_ids) + len(completion.token_ids)
        if length > max_length:
            raise UserError(
                f"completion {member} with its prompt has {length} tokens, the model's context holds {max_length}: "
                "lower sampler.max_tokens or shorten the prompt"
            )
        if len(completion.logprobs) != len(completion.token_ids):
            raise UserError(
                f"completion {member} has {len(completion.token_ids)} tokens but {len(completion.logprobs)} log-probs"
            )
        if math.isinf(advantage):
            raise UserError(f"completion {member} has an infinite advantage")


def totals_of(rows: Sequence[Row]) -> Totals:
    """What these rows of one group add to the step's normaliser; a row without tokens counts as a sequence."""
    return Totals(num_tokens=sum(len(row.token_ids) for row in rows), num_sequences=len(rows), num_groups=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much one forward and backward may take; a single row is always taken, however long."""

    rows: int
    tokens: int | None = None  # padding included; None: any number

    def halved(self, rows: Sequence[Row], num_carried: int) -> Limits:
        """Half of what the largest micro-batch of these rows takes."""
        largest = max(micro_batches(rows, self, num_carried), key=lambda part: _size(part, num_carried))
        return Limits(rows=max(1, len(largest) // 2), tokens=max(1, _size(largest, num_carried) // 2))


def micro_batches(rows: Sequence[Row], limits: Limits, num_carried: int = 0) -> list[list[Row]]:
    """Rows with tokens, longest first (so that neighbours need little padding), cut by `limits`.

    num_carried: tokens that stand in every row besides its own. Example: lengths 9, 7, 2 under tokens=18: [9, 7], [2].
    """
    ordered = sorted((row for row in rows if row.token_ids), key=lambda row: -len(row.token_ids))
    batches, start = [], 0
    while start < len(ordered):
        size = limits.rows
        if limits.tokens is not None:
            size = max(1, min(size, limits.tokens // (len(ordered[start].token_ids) + num_carried)))
        batches.append(ordered[start : start + size])
        start += size
    return batches


def _size(part: Sequence[Row], num_carried: int) -> int:
    """Tokens of a micro-batch, padding included."""
    return len(part) * (len(part[0].token_ids) + num_carried)


def padded(values: Sequence[Sequence[float]], dtype: torch.dtype, device: torch.device) -> Tensor:
    """[B, T] with zeros behind each row's end."""
    width = max(map(len, values))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in values], dtype=dtype, device=device)


def token_mask(rows: Sequence[Row], device: torch.device) -> Tensor:
    """[B, T] bool, True = a sampled token."""
    lengths = torch.tensor([len(row.token_ids) for row in rows], device=device)
    return torch.arange(int(lengths.max()), device=device) < lengths[:, None]


def row_weights(rows: Sequence[Row], aggregation: Aggregation, num_group_tokens: int, like: Tensor) -> Tensor:
    """The aggregation's factor of each row's summed loss: [B]."""
    weights = [Aggregation(aggregation).weight(len(row.token_ids), num_group_tokens) for row in rows]
    return torch.tensor(weights, dtype=like.dtype, device=like.device)
