"""The exact normaliser over several ranks: sums are added, never means averaged, so a second rank changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from grpo_aflow.learner.objectives import Totals
from grpo_aflow.learner.update.step_stats import StepSums
from grpo_aflow.types import RankDied

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def reduce_sums(
    totals: Totals, loss: float, gradients: list[Tensor], process_group: ProcessGroup | None
) -> tuple[Totals, float]:
    """Sum counts, loss and gradients (in place) over the ranks of `process_group`; None = one rank.

    All ranks must call it once per optimizer step, also those without a single group. Raises RankDied where one is
    gone.
    """
    if process_group is None:
        return totals, loss
    counts = [totals.num_tokens, totals.num_sequences, totals.num_groups, loss]
    device = gradients[0].device
    summed = torch.tensor(counts, dtype=torch.float64, device=device)
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    with _lost_peers():
        torch.distributed.all_reduce(summed, group=process_group)
        torch.distributed.all_reduce(flat, group=process_group)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
    num_tokens, num_sequences, num_groups, loss = summed.tolist()
    return Totals(num_tokens=int(num_tokens), num_sequences=int(num_sequences), num_groups=int(num_groups)), loss


def merged_sums(sums: StepSums, process_group: ProcessGroup | None) -> StepSums:
    """What a step reports, over all ranks, in their order. All ranks must call it."""
    if process_group is None:
        return sums
    parts: list[StepSums] = [StepSums() for _ in range(torch.distributed.get_world_size(process_group))]
    with _lost_peers():
        torch.distributed.all_gather_object(parts, sums.on_cpu(), group=process_group)
    merged = StepSums()
    for part in parts:
        merged.merge(part)
    return merged


def join(address: str, rank: int, num_ranks: int, *, device: str, timeout_s: float) -> ProcessGroup | None:
    """Meet the other ranks at host:port, after leaving those of an earlier meeting; None where there are no others.

    Raises RankDied where they do not all come within `timeout_s`.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if num_ranks == 1:
        return None
    with _lost_peers():
        torch.distributed.init_process_group(
            "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl",
            init_method=f"tcp://{address}",
            rank=rank,
            world_size=num_ranks,
            timeout=timedelta(seconds=timeout_s),
        )
    return torch.distributed.group.WORLD


@contextmanager
def lost_within_a_pass() -> Iterator[None]:
    """As RankDied what FSDP meets where a peer is gone; the block also computes, so other errors stay what they are."""
    try:
        yield
    except RuntimeError as error:
        # gloo has no type of its own: it names its source file.
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            raise _broken(error) from error
        raise


@contextmanager
def _lost_peers() -> Iterator[None]:
    """torch reports a peer that is gone, or that does not come, as a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        raise _broken(error) from error


def _broken(error: RuntimeError) -> RankDied:
    return RankDied(f"the connection between learner ranks broke ({str(error).splitlines()[0]})")
