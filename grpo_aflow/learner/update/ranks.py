"""The exact normaliser over several ranks: sums are added, never means averaged, so a second rank changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from grpo_aflow.learner.objectives import Totals

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def reduce_sums(
    totals: Totals, loss: float, gradients: list[Tensor], process_group: ProcessGroup | None
) -> tuple[Totals, float]:
    """Sum counts, loss and gradients (in place) over the ranks of `process_group`; None = one rank.

    All ranks must call it once per optimizer step, also those without a single group.
    """
    if process_group is None:
        return totals, loss
    counts = [totals.num_tokens, totals.num_sequences, totals.num_groups, loss]
    device = gradients[0].device
    summed = torch.tensor(counts, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(summed, group=process_group)
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    torch.distributed.all_reduce(flat, group=process_group)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
    num_tokens, num_sequences, num_groups, loss = summed.tolist()
    return Totals(num_tokens=int(num_tokens), num_sequences=int(num_sequences), num_groups=int(num_groups)), loss
