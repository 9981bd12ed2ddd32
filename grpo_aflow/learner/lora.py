"""The config group `lora`: the only weights that learn. `policy.adapter` puts them on the frozen base.

Only what vLLM serves is offered: plain LoRA on linear layers, no bias, no embeddings, no LM head, rank at most 512.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grpo_aflow.types import UserError

MAX_RANK = 512  # the largest that vLLM serves
ALL_LINEAR = "all-linear"
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

    def check_layers(self, linear_layers: Sequence[str]) -> None:
        """Raise UserError for a target that is none of the model's linear layers (paths, without the LM head).

        PEFT itself adapts what it finds and says nothing of the rest.
        """
        if self.targets == ALL_LINEAR:
            return
        for name in self.target_modules:
            if not any(path == name or path.endswith(f".{name}") for path in linear_layers):
                there = ", ".join(dict.fromkeys(path.rpartition(".")[2] for path in linear_layers))
                raise UserError(f"lora.target_modules: the model has no linear layer {name}; it has {there}")

    @property
    def layers(self) -> tuple[str, ...]:
        """The plain names of the adapted layers, by which a sampler can leave out all others; empty: any layer."""
        return plain_layers(self.target_modules)

    @property
    def targets(self) -> str | list[str]:
        """As PEFT takes them."""
        return ALL_LINEAR if list(self.target_modules) == [ALL_LINEAR] else list(self.target_modules)


def plain_layers(target_modules: Sequence[str] | str) -> tuple[str, ...]:
    """The layers' own names, also of paths, as PEFT writes "all-linear" down; (), any layer, of its text for several.

    Example: ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj", "q_proj"] -> ("up_proj", "q_proj")
    """
    if isinstance(target_modules, str) or ALL_LINEAR in target_modules:
        return ()
    return tuple(dict.fromkeys(name.rpartition(".")[2] for name in target_modules))
