"""The CPU kernels of LoRA against the sums they stand for, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from installed import NEEDS_VLLM

if TYPE_CHECKING:
    from grpo_aflow.sampler.cpu_lora import GroupedLora

pytestmark = NEEDS_VLLM


def kernels(indices: list[int]) -> GroupedLora:
    from grpo_aflow.sampler.cpu_lora import GroupedLora, grouped

    lora = GroupedLora(64, 64, "cpu")
    lora._token_lora_indices[: len(indices)] = torch.tensor(indices)
    lora.indices_len[0] = len(indices)
    lora._groups, lora._num_tokens = grouped(lora.token_lora_indices), len(indices)
    return lora


@pytest.mark.parametrize("indices", [[0] * 5, [2] * 5, [-1] * 5, [0, 2, -1, 2, 1], [-1, -1, 1, 1, 1]])
def test_each_row_gets_its_own_adapter_and_no_other(indices: list[int]) -> None:
    draw = torch.Generator().manual_seed(0)
    inputs, rank, outputs, slots = 6, 3, (4, 2), 3
    a = tuple(torch.randn(slots, 1, rank, inputs, generator=draw) for _ in outputs)
    b = tuple(torch.randn(slots, 1, size, rank, generator=draw) for size in outputs)
    x, y = torch.randn(5, inputs, generator=draw), torch.randn(5, sum(outputs), generator=draw)
    expected = y.clone()
    for row, slot in enumerate(indices):
        if slot >= 0:
            expected[row, :4] += 0.5 * b[0][slot, 0] @ (a[0][slot, 0] @ x[row])
            expected[row, 4:] += 0.5 * b[1][slot, 0] @ (a[1][slot, 0] @ x[row])
    kernels(indices).add_lora_linear(y, x, a, b, 0.5, outputs)
    torch.testing.assert_close(y, expected)


def test_groups() -> None:
    from grpo_aflow.sampler.cpu_lora import grouped

    assert [(slot, rows.tolist()) for slot, rows in grouped(torch.tensor([1, 1, -1, 0])) if rows is not None] == [
        (0, [3]),
        (1, [0, 1]),
    ]
    assert grouped(torch.tensor([2, 2])) == [(2, None)]
    assert grouped(torch.tensor([-1])) == []
