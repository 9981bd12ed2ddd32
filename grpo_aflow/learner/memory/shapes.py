"""Shapes of models: all that memory and arithmetic are worked out from, before any weight is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_aflow.learner.lora import ALL_LINEAR, LoraSpec
from grpo_aflow.types import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """A decoder-only transformer with gated feed-forward layers, as Qwen2, Qwen3, Llama and Mistral are.

    intermediate_size: what one token passes through. Of a mixture of experts that is less than what is held,
    `held_size`, all experts together.
    """

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    vocab_size: int
    tied_embeddings: bool
    gates_by_silu: bool = True  # what else there is keeps more for its backward, see `policy.feed_forward`
    held_size: int | None = None  # None: intermediate_size

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """Read a model folder's config.json."""
        heads = config["num_attention_heads"]
        used, held = _feed_forward_sizes(config)
        return cls(
            num_layers=config["num_hidden_layers"],
            hidden_size=config["hidden_size"],
            intermediate_size=used,
            held_size=held,
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads", heads),
            head_size=config.get("head_dim") or config["hidden_size"] // heads,
            vocab_size=config["vocab_size"],
            tied_embeddings=config.get("tie_word_embeddings", False),
            gates_by_silu=(config.get("hidden_act") or config.get("hidden_activation", "silu")) == "silu",
        )

    @property
    def is_mixture(self) -> bool:
        return self.held_size is not None

    @property
    def q_width(self) -> int:
        return self.num_heads * self.head_size

    @property
    def kv_width(self) -> int:
        return self.num_kv_heads * self.head_size

    def linears(self) -> dict[str, tuple[int, int]]:
        """(in, out) of a layer's linear maps, by name."""
        hidden, inner = self.hidden_size, self.intermediate_size
        return {
            "q_proj": (hidden, self.q_width),
            "k_proj": (hidden, self.kv_width),
            "v_proj": (hidden, self.kv_width),
            "o_proj": (self.q_width, hidden),
            "gate_proj": (hidden, inner),
            "up_proj": (hidden, inner),
            "down_proj": (inner, hidden),
        }

    @property
    def num_weights(self) -> int:
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        return self.num_layers * self.num_layer_weights + embeddings

    @property
    def num_used_weights(self) -> int:
        """Of those that one token passes through."""
        return self.num_weights - self.num_layers * self._num_resting

    @property
    def num_layer_weights(self) -> int:
        """Of one decoder layer."""
        used = sum(rows * columns for rows, columns in self.linears().values())
        return used + self._num_resting + 4 * self.hidden_size

    @property
    def _num_resting(self) -> int:
        """Weights of a layer's experts that a token is not sent to."""
        resting = 0 if self.held_size is None else self.held_size - self.intermediate_size
        return 3 * self.hidden_size * resting

    def num_adapter_weights(self, lora: LoraSpec) -> int:
        return self.num_layers * sum(lora.rank * sum(self.linears()[name]) for name in self.adapted(lora))

    def adapted(self, lora: LoraSpec) -> list[str]:
        """The linear maps of a layer that have an adapter; experts are none, as they are stacked in one tensor."""
        every = list(lora.target_modules) == [ALL_LINEAR]
        maps = list(self.linears())[: 4 if self.is_mixture else None]
        return [name for name in maps if every or name in lora.target_modules]


def num_experts(config: Mapping[str, Any]) -> int:
    """Of a mixture's layers; 1 where there is none. Qwen's models, Mixtral and gpt-oss, and DeepSeek's each name it."""
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    return next((int(config[name]) for name in names if config.get(name)), 1)


def _feed_forward_sizes(config: Mapping[str, Any]) -> tuple[int, int | None]:
    """What of a layer's feed-forward a token passes through, and all of it; None: the same.

    Where only some layers have experts, all count as if they had.
    """
    experts = num_experts(config)
    if experts == 1:
        return config["intermediate_size"], None
    each = config.get("moe_intermediate_size") or config["intermediate_size"]
    shared = config.get("shared_expert_intermediate_size") or each * (config.get("n_shared_experts") or 0)
    return config["num_experts_per_tok"] * each + shared, experts * each + shared


def model_shape(folder: Path) -> ModelShape:
    """The shape of the model in a local folder. Raises UserError when its config.json is not of a kind known here."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if "text_config" in config:
            raise UserError(f"model.path: {folder} is a multimodal model; choose one of text alone")
        return ModelShape.from_config(config)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the memory plan cannot read {folder}/config.json ({error!r}): check model.path") from error


QWEN25_05B = ModelShape(
    num_layers=24,
    hidden_size=896,
    intermediate_size=4864,
    num_heads=14,
    num_kv_heads=2,
    head_size=64,
    vocab_size=151936,
    tied_embeddings=True,
)
QWEN25_7B = ModelShape(
    num_layers=28,
    hidden_size=3584,
    intermediate_size=18944,
    num_heads=28,
    num_kv_heads=4,
    head_size=128,
    vocab_size=152064,
    tied_embeddings=False,
)
QWEN3_8B = ModelShape(
    num_layers=36,
    hidden_size=4096,
    intermediate_size=12288,
    num_heads=32,
    num_kv_heads=8,
    head_size=128,
    vocab_size=151936,
    tied_embeddings=False,
)
