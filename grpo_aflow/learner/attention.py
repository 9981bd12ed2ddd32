# ruff: noqa: TID253
"""Attention of completions that continue from one prompt: its keys and values are read, never copied per completion.

Letters: B rows, Q query tokens, P prompt tokens, D head size, K key/value heads, G query heads per key/value head.

Each query sees the whole prompt and its own row up to itself. These are two attentions, neither with a mask: over the
prompt the queries of all rows and of the G heads that share keys stand one behind the other, as G B Q queries of one
row; over the own row it is plain causal attention. With l = log sum exp of a part's scores and l' that of both parts
together,

    output = exp(l1 - l') output1 + exp(l2 - l') output2,

and each part's gradient is what its own kernel gives when it is handed the joint output and l' in place of its own: it
recomputes the softmax from them (FlashAttention, arXiv 2205.14135, appendix B). That takes a kernel that hands out its
log sum exp: the CPU's, and on a card FlashAttention in 16 bit; else keys are joined and masked.
Registered through transformers' attention interface; without a prefix this is transformers' own `sdpa`, on a card by
the kernels named in `CARD_KERNELS` alone: cuDNN's may return NaN under a mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

NAME = "continued_sdpa"
CARD_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
MAX_FLASH_HEAD = 256


class Prefix:
    """A prompt's keys and values, [1, K, P, D] per layer: recorded in one forward (`record=`), read in another
    (`prefix=`). Knows whether every layer took part: a model may drop arguments that it does not know."""

    def __init__(self, num_layers: int, *, ends_forward: bool = True) -> None:
        """ends_forward: whether the last layer's keys and values end the forward that is recorded."""
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._num_layers = num_layers
        self._ends_forward = ends_forward
        self._num_reads = 0

    @classmethod
    def of(cls, states: Sequence[Tensor]) -> Prefix:
        """For one forward: the keys of all layers, then the values."""
        prefix = cls(len(states) // 2)
        prefix.keys, prefix.values = list(states[: prefix._num_layers]), list(states[prefix._num_layers :])
        return prefix

    @property
    def is_whole(self) -> bool:
        return len(self.keys) == self._num_layers

    @property
    def was_read(self) -> bool:
        """Once by every layer."""
        return self._num_reads == self._num_layers

    @contextmanager
    def to_the_last_layer(self) -> Iterator[None]:
        """A forward in here ends as soon as the last layer's keys and values are recorded: what would follow in that
        layer is the attention and the feed-forward of positions whose states nobody asks for."""
        with suppress(_Recorded):
            yield

    def record(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keep a layer's, in the order of the layers; what a recomputation brings again is passed over."""
        if layer < len(self.keys):
            return
        self.keys.append(key)
        self.values.append(value)
        if self.is_whole and self._ends_forward:
            raise _Recorded

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer."""
        self._num_reads += 1
        return self.keys[layer], self.values[layer]


class _Recorded(Exception):
    """All that a forward was made for is there."""


def register() -> str:
    """Make the attention known to transformers (again, if it is) and return its name."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    prefix: Prefix | None = None,
    record: Prefix | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """query [B, K G, Q, D], key and value [B, K, Q, D] -> [B, Q, K G, D]. A prefix comes without a mask."""
    if record is not None:
        record.record(module.layer_idx, key, value)
    if prefix is None:
        return causal(module, query, key, value, attention_mask, options), None
    keys, values = prefix.read(module.layer_idx)
    kernel = kernel_for(query, value)
    scale = options.get("scaling")
    if kernel is None:
        output = continued_joined(query, keys, values, key, value, scale)
    else:
        output = continued(kernel, query, keys, values, key, value, scale)
    return output.transpose(1, 2).contiguous(), None


def causal(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]
) -> Tensor:
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    num_groups = query.shape[1] // key.shape[1]
    if query.device.type == "cuda" and num_groups > 1 and not _has_flash(query, value):
        # Only FlashAttention takes fewer key/value heads than queries; a module without groups repeats none itself.
        key, value, module = repeat_kv(key, num_groups), repeat_kv(value, num_groups), _NoGroups
    with card_kernels(query.device):
        output: Tensor = sdpa_attention_forward(module, query, key, value, mask, **options)[0]
    return output


class _NoGroups:
    is_causal = True


def card_kernels(device: torch.device) -> AbstractContextManager[None]:
    """Within the block attention on a card is by `CARD_KERNELS`; on the CPU nothing changes."""
    return sdpa_kernel(CARD_KERNELS) if device.type == "cuda" else nullcontext()


def _has_flash(query: Tensor, value: Tensor) -> bool:
    size = query.shape[-1]
    in_16_bit = query.dtype in (torch.bfloat16, torch.float16)
    return in_16_bit and size == value.shape[-1] <= MAX_FLASH_HEAD and size % 8 == 0


def continued_joined(
    query: Tensor, keys: Tensor, values: Tensor, key: Tensor, value: Tensor, scale: float | None
) -> Tensor:
    """By joining: query [B, K G, Q, D], the prompt's keys [1, K, P, D], the rows' own [B, K, Q, D] -> like query."""
    rows, heads, length, size = query.shape
    num_groups, num_prompt = heads // key.shape[1], keys.shape[2]
    mask = torch.ones(length, num_prompt + length, dtype=torch.bool, device=query.device).tril(num_prompt)
    with card_kernels(query.device):
        attended = torch.nn.functional.scaled_dot_product_attention(
            query.reshape(rows, key.shape[1], num_groups * length, size),
            torch.cat([keys.expand(rows, -1, -1, -1), key], dim=2),
            torch.cat([values.expand(rows, -1, -1, -1), value], dim=2),
            attn_mask=mask.repeat(num_groups, 1),
            scale=scale,
        )
    return attended.reshape(rows, heads, length, -1)  # kernels on a card return [B, Q, K G, D] seen transposed


class Kernel(Protocol):
    """An attention that hands out its log sum exp and takes one in its backward; no mask, as many keys' heads as
    queries'. q, k, v, output [B, heads, tokens, D]; log sum exp [B, heads, Q] in fp32 or more."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool, scale: float | None
    ) -> tuple[Tensor, Tensor]: ...

    def backward(
        self,
        gradient: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        output: Tensor,
        log_sum: Tensor,
        *,
        is_causal: bool,
        scale: float | None,
    ) -> tuple[Tensor, Tensor, Tensor]: ...


class CpuKernel:
    """torch's attention on the CPU."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool, scale: float | None
    ) -> tuple[Tensor, Tensor]:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, log_sum = kernel(query, key, value, is_causal=is_causal, scale=scale)
        return output, log_sum

    def backward(
        self,
        gradient: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        output: Tensor,
        log_sum: Tensor,
        *,
        is_causal: bool,
        scale: float | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        d_query, d_key, d_value = kernel(gradient, query, key, value, output, log_sum, 0.0, is_causal, scale=scale)
        return d_query, d_key, d_value


class FlashKernel:
    """FlashAttention on a card: 16 bit, heads of up to 256."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool, scale: float | None
    ) -> tuple[Tensor, Tensor]:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention
        output, log_sum, *_ = kernel(query, key, value, 0.0, is_causal, False, scale=scale)
        return output, log_sum

    def backward(
        self,
        gradient: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        output: Tensor,
        log_sum: Tensor,
        *,
        is_causal: bool,
        scale: float | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_backward
        generator_state = torch.zeros(2, dtype=torch.uint64, device=query.device)  # read where there is dropout
        d_query, d_key, d_value = kernel(
            gradient.contiguous(),
            query,
            key,
            value,
            output,
            log_sum.contiguous(),  # its pointer is handed on as if it were
            None,
            None,
            query.shape[2],
            key.shape[2],
            0.0,
            is_causal,
            generator_state,
            generator_state,
            scale=scale,
        )
        return d_query, d_key, d_value


def kernel_for(query: Tensor, value: Tensor) -> Kernel | None:
    """The kernel that can attend in two parts on the tensors' device and in their type; None: there is none."""
    if query.device.type == "cpu":
        return CpuKernel() if query.shape[-1] == value.shape[-1] else None
    return FlashKernel() if query.device.type == "cuda" and _has_flash(query, value) else None


def continued(
    kernel: Kernel, query: Tensor, keys: Tensor, values: Tensor, key: Tensor, value: Tensor, scale: float | None
) -> Tensor:
    """The same as `continued_joined` in two parts, prompt and own row."""
    num_groups = query.shape[1] // key.shape[1]
    if num_groups > 1:
        key, value = (own.repeat_interleave(num_groups, dim=1) for own in (key, value))
    output: Tensor = _Continued.apply(kernel, query, keys, values, key, value, scale)
    return output


class _Continued(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernel: Kernel,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
    ) -> Tensor:
        over_prompt, log_prompt = kernel.forward(_stacked(query, keys), keys, values, is_causal=False, scale=scale)
        over_own, log_own = kernel.forward(query, key, value, is_causal=True, scale=scale)
        log_prompt = _unstacked(log_prompt.unsqueeze(-1), log_own.unsqueeze(-1))  # [B, K G, Q, 1]
        log_own = log_own.unsqueeze(-1)
        log_sum = torch.logaddexp(log_prompt, log_own)
        output = (log_prompt - log_sum).exp() * _unstacked(over_prompt, query) + (log_own - log_sum).exp() * over_own
        output = output.to(query.dtype)
        ctx.save_for_backward(query, keys, values, key, value, output, log_sum.squeeze(-1))
        ctx.kernel, ctx.scale = kernel, scale
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, keys, values, key, value, output, log_sum = ctx.saved_tensors
        [gradient] = gradients
        d_query, d_keys, d_values = ctx.kernel.backward(
            _stacked(gradient, keys),
            _stacked(query, keys),
            keys,
            values,
            _stacked(output, keys),
            _stacked(log_sum.unsqueeze(-1), keys).squeeze(-1),
            is_causal=False,
            scale=ctx.scale,
        )
        d_own, d_key, d_value = ctx.kernel.backward(
            gradient, query, key, value, output, log_sum, is_causal=True, scale=ctx.scale
        )
        return None, _unstacked(d_query, query) + d_own, d_keys, d_values, d_key, d_value, None


def _stacked(rows: Tensor, keys: Tensor) -> Tensor:
    """[B, K G, Q, D] -> [1, K, G B Q, D]: all that reads one key/value head, one behind the other."""
    return rows.transpose(0, 1).reshape(1, keys.shape[1], -1, rows.shape[-1])


def _unstacked(stacked: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_stacked`, in the shape of `like` [B, K G, Q, D]."""
    num, heads, length, _ = like.shape
    return stacked.reshape(heads, num, length, -1).transpose(0, 1)
