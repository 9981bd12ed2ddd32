"""A linear layer and its adapter as one product, y = W x + b + s B A x, forward and backward (arXiv 2106.09685).

PEFT computes it as three layers, a multiplication and an addition, so that it passes over its output several times
and, where the adapter's products are in another type than the base's, keeps a copy of the input for the backward. Here
the adapter's part is added by the product that makes it, and the backward needs the base's own input alone.

Letters: N tokens, I and O features of the layer's input and output, R rank.
"""

from __future__ import annotations

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
        base, dropped = cast(nn.Linear, self.base_layer), self.lora_dropout[name](x)
        output: Tensor = _Product.apply(
            x,
            None if dropped is x else dropped,
            base.weight,
            base.bias,
            self.lora_A[name].weight,
            self.lora_B[name].weight,
            self.scaling[name],
            x.dtype if self.in_base_type else self.lora_A[name].weight.dtype,
        )
        return output

    def _single(self) -> str | None:
        """The active adapter, where it is one and neither merged nor switched off."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return None
        [name] = self.active_adapters
        return name if name in self.lora_A else None


class _Product(torch.autograd.Function):
    # `ctx` is Any: torch lets a Function keep on it what it likes, and says nothing of its type.
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,  # [..., I]
        dropped: Tensor | None,  # [..., I] what A reads in place of x
        weight: Tensor,  # [O, I]
        bias: Tensor | None,  # [O]
        a: Tensor,  # [R, I]
        b: Tensor,  # [O, R]
        scale: float,
        dtype: torch.dtype,
    ) -> Tensor:
        rows = x.flatten(0, -2)
        inner = (rows if dropped is None else dropped.flatten(0, -2)).to(dtype) @ a.to(dtype).T  # [N, R]
        output = nn.functional.linear(rows, weight, bias)  # [N, O]
        _add_product(output, inner, b.to(dtype).T, scale)
        ctx.save_for_backward(x, dropped, weight, a, b, inner)
        ctx.scale = scale
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, dropped, weight, a, b, inner = ctx.saved_tensors
        dtype, gradient = inner.dtype, gradients[0].flatten(0, -2)  # [N, O]
        exact = gradient.to(dtype)
        d_inner = (exact @ b.to(dtype)).mul_(ctx.scale)  # [N, R]
        read = (x if dropped is None else dropped).flatten(0, -2)
        d_a = (d_inner.T @ read.to(dtype)).to(a.dtype)
        d_b = (exact.T @ inner).mul_(ctx.scale).to(b.dtype)
        d_x = d_dropped = None
        if ctx.needs_input_grad[0]:
            d_x = gradient @ weight
            if dropped is None:
                _add_product(d_x, d_inner, a.to(dtype))
            d_x = d_x.view_as(x)
        if ctx.needs_input_grad[1]:
            d_dropped = (d_inner @ a.to(dtype)).to(x.dtype).view_as(x)
        return d_x, d_dropped, None, None, d_a, d_b, None, None


def _add_product(to: Tensor, left: Tensor, right: Tensor, scale: float = 1.0) -> None:
    """to += scale * left @ right; where that product is exact and `to` is not, their sum is rounded once."""
    if to.dtype == left.dtype:
        to.addmm_(left, right, alpha=scale)
    else:
        to.add_(left @ right, alpha=scale)
