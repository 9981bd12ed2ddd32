"""A linear layer and its adapter as one product, y = W x + b + s B A x, forward and backward (arXiv 2106.09685).

PEFT computes it as three layers, a multiplication and an addition, so that it passes over its output several times
and, where the adapter's products are in another type than the base's, keeps a copy of the input for the backward. Here
the adapter's part is added by the product that makes it, and the backward needs the base's own input alone; of a gated
feed-forward's last layer, x = silu(g) u, it needs g and u, which its other two keep anyhow.

Letters: N tokens, I and O features of the layer's input and output, R rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn


class AdaptedLinear(Linear):
    """PEFT's layer with the one product, where a single plain adapter is active; else it is PEFT's own."""

    in_base_type = False  # whether the adapter's products are in the type of the input, or exact: in that of A and B

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """x [..., I] -> [..., O]."""
        name = self._single()
        if name is None or args or kwargs:
            return super().forward(x, *args, **kwargs)
        dropped = self.lora_dropout[name](x)
        output: Tensor = _Product.apply(self._settings(name, x), x, None if dropped is x else dropped, *self._of(name))
        return output

    @property
    def takes_gated(self) -> bool:
        """Whether `of_gated` can be called: with the one product, and no dropout before the adapter."""
        name = self._single()
        return name is not None and isinstance(self.lora_dropout[name], nn.Identity)

    def of_gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """The layer of silu(gate) * up, [..., I] each -> [..., O]."""
        [name] = self.active_adapters
        output: Tensor = _GatedProduct.apply(self._settings(name, gate), gate, up, *self._of(name))
        return output

    def _single(self) -> str | None:
        """The active adapter, where it is one and neither merged nor switched off."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return None
        [name] = self.active_adapters
        return name if name in self.lora_A else None

    def _settings(self, name: str, x: Tensor) -> _Settings:
        dtype = x.dtype if self.in_base_type else self._of(name)[2].dtype
        return _Settings(scale=self.scaling[name], dtype=dtype)

    def _of(self, name: str) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """W [O, I], b [O], A [R, I], B [O, R]."""
        base, a, b = (cast(nn.Linear, layer) for layer in (self.base_layer, self.lora_A[name], self.lora_B[name]))
        return base.weight, base.bias, a.weight, b.weight


@dataclass(frozen=True, kw_only=True, slots=True)
class _Settings:
    scale: float
    dtype: torch.dtype  # of the adapter's products


# `ctx` is Any: torch lets a Function keep on it what it likes, and says nothing of its type.
class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        settings: _Settings,
        x: Tensor,  # [..., I]
        dropped: Tensor | None,  # [..., I] what A reads in place of x
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
    ) -> Tensor:
        output, inner = _forward(settings, x, x if dropped is None else dropped, weight, bias, a, b)
        ctx.save_for_backward(x if dropped is None else dropped, weight, a, b, inner)
        ctx.settings, ctx.is_dropped = settings, dropped is not None
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        read, weight, a, b, inner = ctx.saved_tensors
        settings: _Settings = ctx.settings
        gradient = gradients[0].flatten(0, -2)  # [N, O]
        d_inner, d_a, d_b = _of_adapter(settings, gradient, read, inner, a, b)
        d_x = d_dropped = None
        if ctx.needs_input_grad[1]:
            d_x = gradient @ weight
            if not ctx.is_dropped:
                _add_product(d_x, d_inner, a.to(settings.dtype))
            d_x = d_x.view_as(read)
        if ctx.needs_input_grad[2]:
            d_dropped = (d_inner @ a.to(settings.dtype)).to(read.dtype).view_as(read)
        return None, d_x, d_dropped, None, None, d_a, d_b


class _GatedProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        settings: _Settings,
        gate: Tensor,  # [..., I]
        up: Tensor,  # [..., I]
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
    ) -> Tensor:
        x = nn.functional.silu(gate).mul_(up)
        output, inner = _forward(settings, x, x, weight, bias, a, b)
        ctx.save_for_backward(gate, up, weight, a, b, inner)
        ctx.settings = settings
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, weight, a, b, inner = ctx.saved_tensors
        settings: _Settings = ctx.settings
        gradient = gradients[0].flatten(0, -2)  # [N, O]
        active = nn.functional.silu(gate)
        d_inner, d_a, d_b = _of_adapter(settings, gradient, active * up, inner, a, b)
        d_x = gradient @ weight
        _add_product(d_x, d_inner, a.to(settings.dtype))
        d_x = d_x.view_as(gate)
        d_up = active.mul_(d_x)
        d_gate = torch.ops.aten.silu_backward(d_x.mul_(up), gate)
        return None, d_gate, d_up, None, None, d_a, d_b


def _forward(
    settings: _Settings, x: Tensor, read: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """The output [..., O] and A's [N, R], which reads `read` in place of x."""
    inner = read.flatten(0, -2).to(settings.dtype) @ a.to(settings.dtype).T
    output = nn.functional.linear(x.flatten(0, -2), weight, bias)  # [N, O]
    _add_product(output, inner, b.to(settings.dtype).T, settings.scale)
    return output.view(*x.shape[:-1], -1), inner


def _of_adapter(
    settings: _Settings, gradient: Tensor, read: Tensor, inner: Tensor, a: Tensor, b: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of A's output [N, R], of A and of B."""
    exact = gradient.to(settings.dtype)
    d_inner = (exact @ b.to(settings.dtype)).mul_(settings.scale)
    d_a = (d_inner.T @ read.flatten(0, -2).to(settings.dtype)).to(a.dtype)
    return d_inner, d_a, (exact.T @ inner).mul_(settings.scale).to(b.dtype)


def _add_product(to: Tensor, left: Tensor, right: Tensor, scale: float = 1.0) -> None:
    """to += scale * left @ right; where that product is exact and `to` is not, their sum is rounded once."""
    if to.dtype == left.dtype:
        to.addmm_(left, right, alpha=scale)
    else:
        to.add_(left @ right, alpha=scale)
