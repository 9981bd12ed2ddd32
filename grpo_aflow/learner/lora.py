"""The config group `lora`: the only weights that learn. Attached to the frozen base here, with a seeded start.

Only what vLLM serves is offered: plain LoRA on linear layers, no bias, no embeddings, no LM head, rank at most 512.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_aflow.types import UserError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

    from grpo_aflow.learner.dropout import DropoutKey

MAX_RANK = 512  # the largest that vLLM serves
ALL_LINEAR = "all-linear"
_RANK_FACTOR = re.compile(r"(lora_[AB])\.weight$")  # PEFT leaves the adapter's name out of a saved file
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
        if ALL_LINEAR in self.target_modules and len(self.target_modules) > 1:
            others = ", ".join(name for name in self.target_modules if name != ALL_LINEAR)
            raise ValueError(
                f"target_modules holds {ALL_LINEAR} together with {others}: set [{ALL_LINEAR}], or name every layer"
            )
        for name in NOT_SERVED:
            if name in self.target_modules:
                raise ValueError(f"target_modules cannot hold {name}: vLLM does not serve an adapter on it; drop it")

    def attach(self, model: PreTrainedModel, *, seed: int) -> tuple[PeftModel, DropoutKey]:
        """Put a fresh adapter on `model`: A uniform and drawn from `seed` alone, B zero, both in fp32.

        Returns the PEFT model, in eval mode for good, and the key that switches and seeds LoRA dropout.
        """
        import torch
        from peft import LoraConfig, get_peft_model

        from grpo_aflow.learner.model_folder import linear_layers

        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self._targets(),
            bias="none",
            task_type="CAUSAL_LM",
        )
        self.check_layers(linear_layers(model))
        # PEFT draws a start from the process's generator, which others may be using: kept as it was.
        with torch.random.fork_rng(devices=[]):
            peft_model = get_peft_model(model, config)
        _draw_start(peft_model, seed)
        key = _replace_dropout(peft_model)
        peft_model.eval()
        return peft_model, key

    def check_layers(self, linear_layers: Sequence[str]) -> None:
        """Raise UserError for a target that is none of the model's linear layers (paths, without the LM head).

        PEFT itself adapts what it finds and says nothing of the rest.
        """
        if self._targets() == ALL_LINEAR:
            return
        for name in self.target_modules:
            if not any(path == name or path.endswith(f".{name}") for path in linear_layers):
                there = ", ".join(dict.fromkeys(path.rpartition(".")[2] for path in linear_layers))
                raise UserError(f"lora.target_modules: the model has no linear layer {name}; it has {there}")

    @property
    def layers(self) -> tuple[str, ...]:
        """The plain names of the adapted layers, by which a sampler can leave out all others; empty: any layer."""
        return plain_layers(self.target_modules)

    def _targets(self) -> str | list[str]:
        return ALL_LINEAR if list(self.target_modules) == [ALL_LINEAR] else list(self.target_modules)


def plain_layers(target_modules: Sequence[str] | str) -> tuple[str, ...]:
    """The names, when each is a layer's own; (), any layer, when one is a path or PEFT's text for several."""
    if isinstance(target_modules, str) or ALL_LINEAR in target_modules or any("." in n for n in target_modules):
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


def adapter_id(folder: Path) -> str:
    """SHA-256 of a saved adapter's weights."""
    with (folder / "adapter_model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_adapter(folder: Path, parameters: dict[str, torch.nn.Parameter]) -> None:
    """Copy a saved adapter's weights into `parameters`. Raises UserError when it cannot be read or does not fit."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        saved = load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise UserError(f"the adapter {folder} cannot be read ({error}); give a whole one") from error
    state = {_RANK_FACTOR.sub(r"\1.default.weight", name): value for name, value in saved.items()}
    check_shapes(state, parameters)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


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
