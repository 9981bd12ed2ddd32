"""The attention kernels that the learner may use: of torch, by device and type.

q, k, v and output are [B, heads, tokens, D]; a log sum exp is [B, heads, Q], in fp32 or more.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

CARD_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]  # cuDNN's may return NaN under a mask
MAX_FLASH_HEAD = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Attended:
    """What an attention without a mask is asked: every query over all keys, or over those up to its own place."""

    query: Tensor
    key: Tensor  # of as many heads as the queries
    value: Tensor
    is_causal: bool
    scale: float | None  # of the scores; None: 1 / sqrt(D)


class Kernel(Protocol):
    """An attention that hands out its log sum exp, and whose backward takes one."""

    def forward(self, asked: Attended) -> tuple[Tensor, Tensor]:
        """Output and log sum exp."""
        ...

    def backward(
        self, asked: Attended, output: Tensor, log_sum: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of query, key and value under the output's `gradient`."""
        ...


class CpuKernel:
    """torch's attention on the CPU."""

    def forward(self, asked: Attended) -> tuple[Tensor, Tensor]:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, log_sum = kernel(asked.query, asked.key, asked.value, is_causal=asked.is_causal, scale=asked.scale)
        return output, log_sum

    def backward(
        self, asked: Attended, output: Tensor, log_sum: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        given = (gradient, asked.query, asked.key, asked.value, output, log_sum)
        d_query, d_key, d_value = kernel(*given, 0.0, asked.is_causal, scale=asked.scale)
        return d_query, d_key, d_value


class FlashKernel:
    """FlashAttention on a card: 16 bit, heads of up to 256."""

    def forward(self, asked: Attended) -> tuple[Tensor, Tensor]:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention
        given = (asked.query, asked.key, asked.value)
        output, log_sum, *_ = kernel(*given, 0.0, asked.is_causal, False, scale=asked.scale)
        return output, log_sum

    def backward(
        self, asked: Attended, output: Tensor, log_sum: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_backward
        # The log sum's pointer is handed on as if it were contiguous.
        given = (gradient.contiguous(), asked.query, asked.key, asked.value, output, log_sum.contiguous())
        lengths = (asked.query.shape[2], asked.key.shape[2])
        generator_state = torch.zeros(2, dtype=torch.uint64, device=gradient.device)  # read where there is dropout
        d_query, d_key, d_value = kernel(
            *given, None, None, *lengths, 0.0, asked.is_causal, generator_state, generator_state, scale=asked.scale
        )
        return d_query, d_key, d_value


def kernel_for(query: Tensor, value: Tensor) -> Kernel | None:
    """The kernel that hands out its log sum exp on the tensors' device and in their type; None: there is none."""
    if query.device.type == "cpu":
        return CpuKernel() if query.shape[-1] == value.shape[-1] else None
    return FlashKernel() if query.device.type == "cuda" and has_flash(query, value) else None


def has_flash(query: Tensor, value: Tensor) -> bool:
    """Whether FlashAttention takes these shapes and types, given that they are on a card."""
    size = query.shape[-1]
    in_16_bit = query.dtype in (torch.bfloat16, torch.float16)
    return in_16_bit and size == value.shape[-1] <= MAX_FLASH_HEAD and size % 8 == 0


def card_kernels(device: torch.device) -> AbstractContextManager[None]:
    """Within the block attention on a card is by `CARD_KERNELS`; on the CPU nothing changes."""
    return sdpa_kernel(CARD_KERNELS) if device.type == "cuda" else nullcontext()
