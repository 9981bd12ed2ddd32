"""Attention of completions that continue from one prompt: a query sees the whole prompt, and its own row up to itself.

Letters: B rows, Q query tokens, P prompt tokens, D head size, K key/value heads, G query heads per key/value head.

`in_two_parts` are two attentions, neither with a mask. Over the prompt the queries of all rows and of the G heads that
share keys stand one behind the other, as G B Q queries of one row, so that its keys and values are read where they are
and never copied; over the own row it is plain causal attention, with keys repeated for each head. With l = log sum exp
of a part's scores and l' that of both parts together,

    output = exp(l1 - l') output1 + exp(l2 - l') output2,

and each part's gradient is what its own kernel gives when it is handed the joint output and l' in place of its own: it
recomputes the softmax from them (FlashAttention, arXiv 2205.14135, appendix B). That takes a kernel that hands out its
log sum exp: the CPU's, and on a card FlashAttention in 16 bit. Elsewhere attention is `joined`: prompt and row in one
tensor, which copies the prompt's keys and values for every row, under a mask.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from grpo_aflow.learner.policy.kernels import Attended, Kernel, card_kernels


def joined(query: Tensor, keys: Tensor, values: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    """query [B, K G, Q, D], the prompt's keys and values [1, K, P, D], the rows' own [B, K, Q, D] -> like query."""
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


def in_two_parts(
    kernel: Kernel, query: Tensor, keys: Tensor, values: Tensor, key: Tensor, value: Tensor, scale: float | None
) -> Tensor:
    """The same as `joined`, by prompt and own row."""
    num_groups = query.shape[1] // key.shape[1]
    if num_groups > 1:
        key, value = (own.repeat_interleave(num_groups, dim=1) for own in (key, value))
    output: Tensor = _TwoParts.apply(kernel, query, keys, values, key, value, scale)
    return output


class _TwoParts(torch.autograd.Function):
    # `ctx` is Any: torch lets a Function keep on it what it likes, and says nothing of its type.
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
        over_prompt, log_prompt = kernel.forward(_of_prompt(query, keys, values, scale))
        over_own, log_own = kernel.forward(_of_own(query, key, value, scale))
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
            _of_prompt(query, keys, values, ctx.scale),
            _stacked(output, keys),
            _stacked(log_sum.unsqueeze(-1), keys).squeeze(-1),
            _stacked(gradient, keys),
        )
        d_own, d_key, d_value = ctx.kernel.backward(_of_own(query, key, value, ctx.scale), output, log_sum, gradient)
        return None, _unstacked(d_query, query) + d_own, d_keys, d_values, d_key, d_value, None


def _of_prompt(query: Tensor, keys: Tensor, values: Tensor, scale: float | None) -> Attended:
    return Attended(query=_stacked(query, keys), key=keys, value=values, is_causal=False, scale=scale)


def _of_own(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Attended:
    return Attended(query=query, key=key, value=value, is_causal=True, scale=scale)


def _stacked(rows: Tensor, keys: Tensor) -> Tensor:
    """[B, K G, Q, D] -> [1, K, G B Q, D]: all that reads one key/value head, one behind the other."""
    return rows.transpose(0, 1).reshape(1, keys.shape[1], -1, rows.shape[-1])


def _unstacked(stacked: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_stacked`, in the shape of `like` [B, K G, Q, D]."""
    num, heads, length, _ = like.shape
    return stacked.reshape(heads, num, length, -1).transpose(0, 1)
