"""Gated feed-forwards, W_d (silu(W_g x) * W_u x), whose backward needs the outputs of W_g and W_u alone.

transformers' also keep silu's output and the product, which is half of what a decoder layer keeps of its feed-forward.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaMLP

from grpo_aflow.learner.policy.adapted_linear import AdaptedLinear

NAMES = ("gate_proj", "up_proj", "down_proj")


def keep_less(model: nn.Module) -> None:
    """Have the gated feed-forwards of `model` keep these two, whichever of their layers have an adapter."""
    for module in model.modules():
        if _is_gated(module):
            module.forward = MethodType(_forward, module)


def _forward(module: nn.Module, x: Tensor) -> Tensor:
    gate_proj, up_proj, down_proj = (cast(nn.Module, getattr(module, name)) for name in NAMES)
    gate, up = gate_proj(x), up_proj(x)
    if not torch.is_grad_enabled():  # nobody reads the two again
        return cast(Tensor, down_proj(nn.functional.silu(gate, inplace=True).mul_(up)))
    if isinstance(down_proj, AdaptedLinear) and down_proj.takes_gated:
        return down_proj.of_gated(gate, up)
    return cast(Tensor, down_proj(_Gated.apply(gate, up)))


class _Gated(torch.autograd.Function):
    # `ctx` is Any: torch lets a Function keep on it what it likes, and says nothing of its type.
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        [gradient] = gradients
        d_gate = torch.ops.aten.silu_backward(gradient * up, gate)
        return d_gate, nn.functional.silu(gate).mul_(gradient)


def _is_gated(module: nn.Module) -> bool:
    """Whether it does what Llama's does, instruction for instruction (as most in transformers do), and with silu."""
    code, own = LlamaMLP.forward.__code__, getattr(type(module).forward, "__code__", None)
    return (
        own is not None
        and (own.co_code, own.co_names, own.co_consts) == (code.co_code, code.co_names, code.co_consts)
        and isinstance(module.act_fn, nn.SiLU | SiLUActivation)
    )
