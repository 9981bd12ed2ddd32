# ruff: noqa: TID253
"""Attention of completions that continue from one prompt: its keys and values are read, never copied per completion.

Letters: B rows, Q query tokens, P prompt tokens, D head size, K key/value heads, G query heads per key/value head.

Each query sees the whole prompt and its own row up to itself. On the CPU these are two attentions: over the prompt the
queries of all rows and of the G heads that share keys stand one behind the other, as G B Q queries of one row; over the
own row it is plain causal attention. With l = log sum exp of a part's scores and l' that of both parts together,

    output = exp(l1 - l') output1 + exp(l2 - l') output2,

and each part's gradient is what its own kernel gives when it is handed the joint output and l' in place of its own: it
recomputes the softmax from them (FlashAttention, arXiv 2205.14135, appendix B). Elsewhere both are joined and masked.
Registered through transformers' attention interface; without a prefix this is transformers' own `sdpa`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

NAME = "continued_sdpa"


class Prefix:
    """A prompt's keys and values, [1, K, P, D] per layer: recorded in one forward (`record=`), read in another
    (`prefix=`). Knows whether every layer took part: a model may drop arguments that it does not know."""

    def __init__(self, num_layers: int) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._num_layers = num_layers
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

    def record(self, key: Tensor, value: Tensor) -> None:
        """Keep a layer's, in the order of the layers."""
        self.keys.append(key)
        self.values.append(value)
        if self.is_whole:
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
        record.record(key, value)
    if prefix is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output
    keys, values = prefix.read(module.layer_idx)
    kernel = continued_cpu if query.device.type == "cpu" and query.shape[-1] == value.shape[-1] else continued_joined
    return kernel(query, keys, values, key, value, options.get("scaling")).transpose(1, 2).contiguous(), None


def continued_joined(
    query: Tensor, keys: Tensor, values: Tensor, key: Tensor, value: Tensor, scale: float | None
) -> Tensor:
    """By joining: query [B, K G, Q, D], the prompt's keys [1, K, P, D], the rows' own [B, K, Q, D] -> like query."""
    rows, heads, length, size = query.shape
    num_groups, num_prompt = heads // key.shape[1], keys.shape[2]
    mask = torch.ones(length, num_prompt + length, dtype=torch.bool, device=query.device).tril(num_prompt)
    attended = torch.nn.functional.scaled_dot_product_attention(
        query.reshape(rows, key.shape[1], num_groups * length, size),
        torch.cat([keys.expand(rows, -1, -1, -1), key], dim=2),
        torch.cat([values.expand(rows, -1, -1, -1), value], dim=2),
        attn_mask=mask.repeat(num_groups, 1),
        scale=scale,
    )
    return attended.view(rows, heads, length, -1)


def continued_cpu(
    query: Tensor, keys: Tensor, values: Tensor, key: Tensor, value: Tensor, scale: float | None
) -> Tensor:
    """The same in two parts, prompt and own row, by the CPU's kernel."""
    num_groups = query.shape[1] // key.shape[1]
    if num_groups > 1:
        key, value = (own.repeat_interleave(num_groups, dim=1) for own in (key, value))
    output: Tensor = _Continued.apply(query, keys, values, key, value, scale)
    return output


class _Continued(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, keys: Tensor, values: Tensor, key: Tensor, value: Tensor, scale: float | None
    ) -> Tensor:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        over_prompt, log_prompt = kernel(_stacked(query, keys), keys, values, scale=scale)
        over_own, log_own = kernel(query, key, value, is_causal=True, scale=scale)
        log_prompt = _unstacked(log_prompt.unsqueeze(-1), log_own.unsqueeze(-1))  # [B, K G, Q, 1]
        log_own = log_own.unsqueeze(-1)
        log_sum = torch.logaddexp(log_prompt, log_own)
        output = (log_prompt - log_sum).exp() * _unstacked(over_prompt, query) + (log_own - log_sum).exp() * over_own
        output = output.to(query.dtype)
        ctx.save_for_backward(query, keys, values, key, value, output, log_sum.squeeze(-1))
        ctx.scale = scale
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, keys, values, key, value, output, log_sum = ctx.saved_tensors
        [gradient] = gradients
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        d_query, d_keys, d_values = kernel(
            _stacked(gradient, keys),
            _stacked(query, keys),
            keys,
            values,
            _stacked(output, keys),
            _stacked(log_sum.unsqueeze(-1), keys).squeeze(-1),
            0.0,
            False,
            scale=ctx.scale,
        )
        d_own, d_key, d_value = kernel(gradient, query, key, value, output, log_sum, 0.0, True, scale=ctx.scale)
        return _unstacked(d_query, query) + d_own, d_keys, d_values, d_key, d_value, None


def _stacked(rows: Tensor, keys: Tensor) -> Tensor:
    """[B, K G, Q, D] -> [1, K, G B Q, D]: all that reads one key/value head, one behind the other."""
    return rows.transpose(0, 1).reshape(1, keys.shape[1], -1, rows.shape[-1])


def _unstacked(stacked: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_stacked`, in the shape of `like` [B, K G, Q, D]."""
    num, heads, length, _ = like.shape
    return stacked.reshape(heads, num, length, -1).transpose(0, 1)
