"""The config group `lora`: the only weights that learn. Attached to the frozen base here, with a seeded start.

Only what vLLM serves is offered: plain LoRA on linear layers, no bias, no embeddings, no LM head, rank at most 512.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpo_aflow.types import UserError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    from grpo_aflow.learner.dropout import DropoutKey

MAX_RANK = 512  # the largest that vLLM serves
NOT_SERVED = ("lm_head", "embed_tokens")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSpec:
    """Low-rank adapters: W + (alpha / rank) B A, with A [rank, in] and B [out, rank] (arXiv 2106.09685)."""

    rank: int
    alpha: int
    dropout: float  # on the adapter's input, in the policy-gradient forward alone
    target_modules: list[str]  # names of linear layers, or ["all-linear"]

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MAX_RANK:
            raise ValueError(f"rank must be from 1 to {MAX_RANK}, the largest that vLLM serves; got {self.rank}")
        if self.alpha < 1:
            raise ValueError(f"alpha must be at least 1; got {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1; got {self.dropout}")
        if not self.target_modules:
            raise ValueError('target_modules must name at least one linear layer, or be ["all-linear"]')
        for name in NOT_SERVED:
            if name in self.target_modules:
                raise ValueError(f"target_modules cannot hold {name}: vLLM does not serve an adapter on it; drop it")

    def attach(self, model: PreTrainedModel, *, seed: int) -> tuple[PeftModel, DropoutKey]:
        """Put a fresh adapter on `model`: A uniform and drawn from `seed` alone, B zero, both in fp32.

        Returns the PEFT model, in eval mode for good, and the key that switches and seeds LoRA dropout.
        """
        import torch
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self._targets(),
            bias="none",
            task_type="CAUSAL_LM",
        )
        # PEFT draws a start from the process's generator, which others may be using: kept as it was.
        with torch.random.fork_rng(devices=[]):
            try:
                peft_model = get_peft_model(model, config)
            except ValueError as error:
                raise UserError(
                    f"lora.target_modules={list(self.target_modules)} does not fit the model: {error}"
                ) from error
        _draw_start(peft_model, seed)
        key = _replace_dropout(peft_model)
        peft_model.eval()
        return peft_model, key

    @property
    def layers(self) -> tuple[str, ...]:
        """The plain names of the adapted layers, by which a sampler can leave out all others; empty: any layer."""
        return plain_layers(self.target_modules)

    def _targets(self) -> str | list[str]:
        return "all-linear" if list(self.target_modules) == ["all-linear"] else list(self.target_modules)


def plain_layers(target_modules: Sequence[str] | str) -> tuple[str, ...]:
    """The names, when each is a layer's own; (), any layer, when one is a path or PEFT's text for several."""
    if isinstance(target_modules, str) or "all-linear" in target_modules or any("." in n for n in target_modules):
        return ()
    return tuple(target_modules)


def _draw_start(model: PeftModel, seed: int) -> None:
    """Kaiming-uniform A (PEFT's own distribution), from a generator of its own, in the model's order; B stays zero."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_A" not in name:
            continue
        bound = math.sqrt(1 / parameter.shape[1])  # kaiming_uniform_ with a = sqrt(5)
        drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float32) * (2 * bound) - bound
        with torch.no_grad():
            parameter.copy_(drawn)


def _replace_dropout(model: PeftModel) -> DropoutKey:
    """Swap PEFT's dropout layers, which draw from the process's generator, for seeded ones."""
    from torch import nn

    from grpo_aflow.learner.dropout import DropoutKey, SeededDropout

    key = DropoutKey()
    index = 0
    for module in model.modules():
        layers = getattr(module, "lora_dropout", None)
        if not isinstance(layers, nn.ModuleDict):
            continue
        for name, layer in layers.items():
            if isinstance(layer, nn.Dropout):
                layers[name] = SeededDropout(layer.p, index=index, key=key)
                index += 1
    return key


def adapter_parameters(model: PeftModel) -> dict[str, torch.nn.Parameter]:
    """The trainable parameters by name, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def check_shapes(state: dict[str, torch.Tensor], parameters: dict[str, torch.nn.Parameter]) -> None:
    """Raise UserError when a saved adapter's tensors are not those of `parameters`, name by name."""
    theirs = {name: tuple(value.shape) for name, value in state.items()}
    ours = {name: tuple(value.shape) for name, value in parameters.items()}
    if theirs == ours:
        return
    name = next(n for n in sorted({*theirs, *ours}) if theirs.get(n) != ours.get(n))
    raise UserError(
        f"the saved adapter does not fit: {name} is {theirs.get(name, 'absent')} there and {ours.get(name, 'absent')} "
        "here; use the run's own lora.rank, lora.target_modules and model"
    )
