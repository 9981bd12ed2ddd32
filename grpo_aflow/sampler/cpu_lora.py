"""LoRA on vLLM's CPU backend, by adapter instead of by token.

vLLM's own CPU path copies both adapter matrices once for every token of a batch, which costs more than the model. A
batch holds few adapters: here its rows are grouped by adapter and each group is two matrix products. Rows without an
adapter are left alone (vLLM's path adds the last slot's adapter to them when a batch mixes both).

Legend: T tokens of a batch, L adapter slots, r rank, I inputs, O outputs of one slice (q, k and v are three slices).
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU


class GroupedLora(PunicaWrapperCPU):
    """The kernels of linear layers; embeddings and the LM head, which no run of ours adapts, stay vLLM's."""

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        super().update_metadata(*args, **kwargs)
        self._groups = grouped(self.token_lora_indices)
        self._num_tokens = len(self.token_lora_indices)

    def add_lora_linear(
        self,
        y: torch.Tensor,  # [T, sum of O], changed in place
        x: torch.Tensor,  # [T, I]
        lora_a_stacked: tuple[torch.Tensor, ...],  # one [L, 1, r, I] per slice
        lora_b_stacked: tuple[torch.Tensor, ...],  # one [L, 1, O, r] per slice
        scale: float,
        output_slices: tuple[int, ...],  # O per slice
        **kwargs: Any,
    ) -> None:
        x, y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        if len(x) != self._num_tokens:  # a batch that the scheduler padded
            super().add_lora_linear(y, x, lora_a_stacked, lora_b_stacked, scale, output_slices, **kwargs)
            return
        for slot, rows in self._groups:
            part = x if rows is None else x.index_select(0, rows)
            start = 0
            for a, b, size in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                low, out = part @ a[slot, 0].T, y[:, start : start + size]
                if rows is None:
                    out.addmm_(low, b[slot, 0].T, alpha=scale)
                else:
                    out.index_add_(0, rows, low @ b[slot, 0].T, alpha=scale)
                start += size


def grouped(indices: torch.Tensor) -> list[tuple[int, torch.Tensor | None]]:
    """Slots of a batch with the rows that each one serves; None stands for all rows. Slot -1 is no adapter.

    Example: indices [1, 1, -1, 0] -> [(0, [3]), (1, [0, 1])]
    """
    slots = indices.unique().tolist()
    if len(slots) == 1:
        return [(slot, None) for slot in slots if slot >= 0]
    return [(slot, (indices == slot).nonzero().flatten()) for slot in slots if slot >= 0]
