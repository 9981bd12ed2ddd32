"""Do this device's attention kernels compute what they should? Values and gradients against the softmax written out.

A policy on a card asks before it trains, with its own heads and type: a kernel that returns NaN for our layout of the
tensors, or wrong numbers, is named before a step is lost to it. It takes milliseconds, at a size at which every kernel
has more than one tile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from grpo_aflow.learner.policy.attention import causal
from grpo_aflow.learner.policy.continued import in_two_parts, joined
from grpo_aflow.learner.policy.kernels import kernel_for
from grpo_aflow.types import SelfTestFailed

ROWS, PROMPT, LENGTH = 2, 150, 140
# Of the largest absolute value of the exact result.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}

Attention = Callable[..., Tensor]


def check_kernels(
    device: torch.device, dtype: torch.dtype, *, num_heads: int, num_kv_heads: int, head_size: int
) -> dict[str, float]:
    """Largest relative error of each way of attending, by its name. Raises SelfTestFailed naming a way that is off."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:  # laid out as a model's projections are: [B, tokens, heads, D], seen transposed
        rows, heads, tokens, size = shape
        made = torch.randn(rows, tokens, heads, size, generator=generator).to(device, dtype)
        return made.transpose(1, 2).detach().requires_grad_()

    query = drawn(ROWS, num_heads, LENGTH, head_size)
    keys, values = (drawn(1, num_kv_heads, PROMPT, head_size) for _ in range(2))
    key, value = (drawn(ROWS, num_kv_heads, LENGTH, head_size) for _ in range(2))
    return {
        name: _error(name, way, [query, *given], dtype)
        for name, way, given in _ways(query, keys, values, key, value, num_heads // num_kv_heads)
    }


def _ways(
    query: Tensor, keys: Tensor, values: Tensor, key: Tensor, value: Tensor, num_groups: int
) -> list[tuple[str, Attention, list[Tensor]]]:
    """(name, attention, what it takes besides the query) of all that the learner may use on the query's device."""
    layer, own, prompt_and_own = _Layer(num_groups), [key, value], [keys, values, key, value]
    ways: list[tuple[str, Attention, list[Tensor]]] = [
        ("causal attention", lambda q, k, v: causal(layer, q, k, v).transpose(1, 2), own),
        ("continued attention, joined", partial(joined, scale=None), prompt_and_own),
    ]
    kernel = kernel_for(query, value)
    if kernel is not None:
        name = f"continued attention, {type(kernel).__name__}"
        ways.append((name, partial(in_two_parts, kernel, scale=None), prompt_and_own))
    return ways


class _Layer(nn.Module):
    """What transformers' attention asks of the module that it stands in."""

    is_causal = True

    def __init__(self, num_groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = num_groups


def _error(name: str, way: Attention, given: list[Tensor], dtype: torch.dtype) -> float:
    exact_given = [tensor.detach().double().requires_grad_() for tensor in given]
    ours, exact = way(*given), _written_out(*exact_given)
    results = [ours.detach(), *torch.autograd.grad(ours.sum() + (ours * ours).sum(), given)]
    expected = [exact.detach(), *torch.autograd.grad(exact.sum() + (exact * exact).sum(), exact_given)]
    if not all(bool(result.isfinite().all()) for result in results):
        raise SelfTestFailed(f"{name} returns NaN or infinity ({_described(given[0])}): {_FIX}")
    errors = [
        float((result.double() - right).abs().max() / right.abs().max())
        for result, right in zip(results, expected, strict=True)
    ]
    if not max(errors) <= TOLERANCE[dtype]:
        raise SelfTestFailed(f"{name} is off by {max(errors):.1e} of its result ({_described(given[0])}): {_FIX}")
    return max(errors)


def _written_out(query: Tensor, *given: Tensor) -> Tensor:
    """The formula, with a mask: over the prompt's keys where there are some, and one's own row up to oneself."""
    *prompt, key, value = given
    rows, heads, length, size = query.shape
    if prompt:
        keys, values = (tensor.expand(rows, -1, -1, -1) for tensor in prompt)
        key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
    key, value = (own.repeat_interleave(heads // own.shape[1], dim=1) for own in (key, value))
    visible = torch.ones(length, key.shape[2], dtype=torch.bool, device=query.device).tril(key.shape[2] - length)
    scores = (query @ key.transpose(2, 3)) / size**0.5
    return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1) @ value


def _described(query: Tensor) -> str:
    return f"{query.dtype} on {query.device}, {query.shape[1]} heads of {query.shape[3]}"


_FIX = "update torch and the driver, or set model.dtype=float32"
