"""Rows of tokens: what one forward and backward takes of a prompt's completions, cut into micro-batches of tensors.

Letters: B rows of a micro-batch, T tokens of its longest completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRow:
    """One completion that takes part in the loss."""

    member: int  # its index in the group
    token_ids: tuple[int, ...]  # [T_i]
    logprobs: tuple[float, ...]  # [T_i] as the sampler recorded them
    advantage: float


def unweighted(completions: Sequence[tuple[int, ...]]) -> list[TokenRow]:
    """Rows of completions that are only scored, or fine-tuned on."""
    return [TokenRow(member=i, token_ids=ids, logprobs=(), advantage=0.0) for i, ids in enumerate(completions)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much one forward and backward may take; a single row is always taken, however long."""

    rows: int
    tokens: int | None = None  # padding included; None: any number

    def halved(self, rows: Sequence[TokenRow], num_carried: int) -> Limits:
        """Half of what the largest micro-batch of these rows takes; the same where each is one row, which is never cut.

        Example: rows of 9, 3 and 3 tokens under rows=4: [9, 3, 3] took 27 with padding; rows=1, tokens=13.
        """
        parts = micro_batches(rows, self, num_carried)
        if all(len(part) == 1 for part in parts):
            return self
        largest = max(parts, key=lambda part: _size(part, num_carried))
        return Limits(rows=max(1, len(largest) // 2), tokens=max(1, _size(largest, num_carried) // 2))


def micro_batches(rows: Sequence[TokenRow], limits: Limits, num_carried: int = 0) -> list[list[TokenRow]]:
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


def _size(part: Sequence[TokenRow], num_carried: int) -> int:
    """Tokens of a micro-batch, padding included."""
    return len(part) * (len(part[0].token_ids) + num_carried)


def padded(values: Sequence[Sequence[float]], dtype: torch.dtype, device: torch.device) -> Tensor:
    """[B, T] with zeros behind each row's end."""
    width = max(map(len, values))
    return on_device([[*row, *[0] * (width - len(row))] for row in values], dtype, device)


def token_mask(rows: Sequence[TokenRow], device: torch.device) -> Tensor:
    """[B, T] bool, True = a sampled token."""
    return padded([[1] * len(row.token_ids) for row in rows], torch.bool, device)


def token_places(rows: Sequence[TokenRow], device: torch.device) -> Tensor:
    """Where the N tokens of all rows stand in [B T]: [N], row by row. Worked out here: a mask as an index would make
    the host wait for the device."""
    width = max(len(row.token_ids) for row in rows)
    places = [i * width + t for i, row in enumerate(rows) for t in range(len(row.token_ids))]
    return on_device(places, torch.long, device)


def spread(values: Tensor, rows: Sequence[TokenRow]) -> Tensor:
    """Values [N] of the rows' tokens, row by row, as [B, T] with zeros elsewhere."""
    width = max(len(row.token_ids) for row in rows)
    flat = torch.zeros(len(rows) * width, dtype=values.dtype, device=values.device)
    return flat.index_copy(0, token_places(rows, values.device), values).view(len(rows), width)


def on_device(values: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A list of numbers, nested or not, as a tensor; a card takes it from pinned memory, and the host does not wait."""
    pinned = device.type == "cuda" and torch.cuda.is_available()
    return torch.tensor(values, dtype=dtype, pin_memory=pinned).to(device, non_blocking=True)
