"""Gated feed-forwards, W_d (silu(W_g x) * W_u x), whose backward needs the outputs of W_g and W_u alone.

transformers' also keep silu's output and the product, which is half of what a decoder layer keeps of its feed-forward.
"""

from __future__ import annotations

from types import MethodType
from typing import cast

import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaMLP

from grpo_aflow.learner.policy.adapted_linear import AdaptedLinear


def keep_less(model: nn.Module) -> None:
    """Have the gated feed-forwards whose last layer has an adapter compute it from the outputs of the other two."""
    for module in model.modules():
        if _is_gated(module) and isinstance(module.down_proj, AdaptedLinear):
            module.forward = MethodType(_forward, module)


def _forward(module: nn.Module, x: Tensor) -> Tensor:
    gate, up = (cast(Tensor, cast(nn.Module, getattr(module, name))(x)) for name in ("gate_proj", "up_proj"))
    down = cast(AdaptedLinear, module.down_proj)
    if not torch.is_grad_enabled():  # nobody reads the two again
        return cast(Tensor, down(nn.functional.silu(gate, inplace=True).mul_(up)))
    return down.of_gated(gate, up)


def _is_gated(module: nn.Module) -> bool:
    """Whether it does what Llama's does, instruction for instruction (as most in transformers do), and with silu."""
    code, own = LlamaMLP.forward.__code__, getattr(type(module).forward, "__code__", None)
    return (
        own is not None
        and (own.co_code, own.co_names, own.co_consts) == (code.co_code, code.co_names, code.co_consts)
        and isinstance(module.act_fn, nn.SiLU | SiLUActivation)
    )
