"""LoRA dropout that is a pure function of (seed, step, group, micro-batch, layer): no global generator, exact resume.

A layer draws its mask from its key each time it is called, so that a recomputation under gradient checkpointing draws
the same mask again, and a worker thread never disturbs anybody else's random numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class DropoutKey:
    """Shared by all dropout layers of a model: off (None), or the identity of the forward that is under way."""

    def __init__(self) -> None:
        self.identity: tuple[int | str, ...] | None = None

    @contextmanager
    def active(self, *identity: int | str) -> Iterator[None]:
        """Switch dropout on within the block, drawing from `identity`."""
        before, self.identity = self.identity, identity
        try:
            yield
        finally:
            self.identity = before


class SeededDropout(nn.Module):
    """Inverted dropout; the identity while its key is off."""

    def __init__(self, p: float, *, index: int, key: DropoutKey) -> None:
        super().__init__()
        self.p = p
        self.index = index
        self._key = key

    def forward(self, x: Tensor) -> Tensor:
        if self._key.identity is None:
            return x
        digest = hashlib.blake2b(repr((*self._key.identity, self.index)).encode(), digest_size=7).digest()
        generator = torch.Generator(device=x.device).manual_seed(int.from_bytes(digest))
        kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.p
        return x * kept.to(x.dtype) / (1 - self.p)
