"""From a step's gradient sums to new adapter weights: normalised once, clipped, AdamW; or refused, if not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from grpo_aflow.learner.settings import LearnerSettings
from grpo_aflow.learner.update.loss_scale import LossScale


@dataclass(frozen=True, kw_only=True, slots=True)
class Applied:
    """What became of a step."""

    made: bool  # the weights have moved
    grad_norm: float  # after the normalisation, before clipping


class AdapterOptimizer:
    """AdamW on an adapter's parameters, in fp32.

    scaled: whether losses carry a loss scale, for an fp16 base. `num_refused`: refused steps in a row that are the
    model's fault; overflows by which the loss scale finds its value are not counted.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: LearnerSettings, *, scaled: bool) -> None:
        beta1, beta2 = settings.betas
        self._parameters = list(parameters.values())
        self._adamw = torch.optim.AdamW(
            self._parameters, lr=0.0, betas=(beta1, beta2), weight_decay=settings.weight_decay
        )
        self._max_grad_norm = settings.max_grad_norm
        self.scale = LossScale(enabled=scaled)
        self.num_refused = 0

    def zeros(self) -> list[Tensor]:
        """Gradients of a step that no token contributed to."""
        return [torch.zeros_like(parameter) for parameter in self._parameters]

    def apply(self, gradients: list[Tensor], *, denominator: float, loss: float, lr: float) -> Applied:
        """Divide the sums by `denominator`, in place, clip, and step; no change when loss or norm is not finite."""
        torch._foreach_div_(gradients, denominator * self.scale.value)
        norm = float(torch.nn.utils.get_total_norm(gradients))
        finite = math.isfinite(norm) and math.isfinite(loss)
        counts = self.scale.update(finite=finite)
        if not finite:
            self.num_refused += counts
            return Applied(made=False, grad_norm=norm)
        self.num_refused = 0
        limit = self._max_grad_norm
        if 0 < limit < norm:
            torch._foreach_mul_(gradients, limit / norm)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        for options in self._adamw.param_groups:
            options["lr"] = lr
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        return Applied(made=True, grad_norm=norm)

    def state(self) -> dict[str, Any]:
        """AdamW's own state, in torch's format. Its tensors are live."""
        return self._adamw.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state()`; betas and weight decay are the settings', which a resumed run may have changed."""
        self._adamw.load_state_dict(state)  # whose own would take their place
        for options in self._adamw.param_groups:
            options.update({name: self._adamw.defaults[name] for name in ("betas", "weight_decay")})
