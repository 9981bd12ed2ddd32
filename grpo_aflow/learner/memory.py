"""The memory plan: what a run will hold on its device, worked out from shapes before any model is loaded.

Letters: B rows of a micro-batch, T longest completion, P longest prompt, H hidden size, F feed-forward size, L layers,
K key and value width, V vocabulary, R rank.

An upper estimate, in bytes: it counts what autograd keeps for the backward of a decoder layer with LoRA on every linear
layer, and what exists twice for a moment. Allocator fragmentation and the driver's own share go into `RESERVE`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.settings import LearnerSettings, Packing
from grpo_aflow.types import UserError

GIB = 1 << 30
NUM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
RESERVE = 0.06  # of the device: driver, allocator fragmentation, kernels' workspaces


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """A decoder-only transformer with gated feed-forward layers, as Qwen2, Qwen3, Llama and Mistral are."""

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    vocab_size: int
    tied_embeddings: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """Read a model folder's config.json."""
        heads = config["num_attention_heads"]
        return cls(
            num_layers=config["num_hidden_layers"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads", heads),
            head_size=config.get("head_dim") or config["hidden_size"] // heads,
            vocab_size=config["vocab_size"],
            tied_embeddings=config.get("tie_word_embeddings", False),
        )

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
        layer = sum(rows * columns for rows, columns in self.linears().values()) + 4 * self.hidden_size
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        return self.num_layers * layer + embeddings

    def num_adapter_weights(self, lora: LoraSpec) -> int:
        every = list(lora.target_modules) == ["all-linear"]
        targets = [shape for name, shape in self.linears().items() if every or name in lora.target_modules]
        return self.num_layers * sum(lora.rank * (rows + columns) for rows, columns in targets)


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """The longest that a step may bring."""

    prompt_tokens: int  # P
    completion_tokens: int  # T
    group_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """Bytes by purpose, and what the device has."""

    parts: Mapping[str, int]
    device_bytes: int

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def render(self) -> str:
        """A table to print."""
        rows = [*self.parts.items(), ("together", self.total), ("device", self.device_bytes)]
        return "\n".join(f"{name:<24}{size / GIB:>10.2f} GiB" for name, size in rows)

    def check(self) -> None:
        """Raise UserError, with the numbers and the mend, when the plan does not fit."""
        if self.total <= self.device_bytes:
            return
        name, size = max(self.parts.items(), key=lambda part: part[1])
        raise UserError(
            f"the run needs {self.total / GIB:.1f} GiB but the device has {self.device_bytes / GIB:.1f} GiB; the "
            f"largest part is {name} with {size / GIB:.1f} GiB: {_MENDS[name]}"
        )


_MENDS = {
    "base weights": "choose a smaller model, or model.dtype=bfloat16",
    "adapter and optimizer": "lower lora.rank",
    "activations": "lower learner.micro_batch or sampler.max_tokens, or set learner.gradient_checkpointing=true",
    "logits chunk": "lower learner.logits_chunk",
    "sampler": "lower sampler.gpu_memory_utilization",
    "reserve": "use a larger device",
}


def memory_plan(
    shape: ModelShape,
    lora: LoraSpec,
    settings: LearnerSettings,
    load: Load,
    *,
    dtype: str,
    device_bytes: int,
    sampler_bytes: int,
) -> MemoryPlan:
    """Plan a run whose sampler holds `sampler_bytes` (its own weights and cache) of the same device's memory."""
    size = NUM_BYTES[dtype]
    head_size = 4 if settings.lm_head_fp32 else size
    head_copy = shape.vocab_size * shape.hidden_size * 4 if settings.lm_head_fp32 and size < 4 else 0
    # Adapter, its gradient and AdamW's two moments, all fp32.
    adapter = 4 * 4 * shape.num_adapter_weights(lora)
    # Logits in the head's type and in fp32, probabilities in fp32 and in the head's type.
    logits = settings.logits_chunk * shape.vocab_size * (8 + (2 * head_size if head_size < 4 else 0))
    parts = {
        "base weights": shape.num_weights * size + head_copy,
        "adapter and optimizer": adapter,
        "activations": _activations(shape, lora, settings, load, size),
        "logits chunk": logits,
        "sampler": sampler_bytes,
        "reserve": int(RESERVE * device_bytes),
    }
    return MemoryPlan(parts=parts, device_bytes=device_bytes)


def device_memory(device: str) -> int:
    """Bytes of memory that `device` has in all: a card's, or the machine's for "cpu"."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[1])
    import psutil

    return int(psutil.virtual_memory().total)


def model_shape(folder: Path) -> ModelShape:
    """The shape of the model in a local folder. Raises UserError when its config.json is not of a kind known here."""
    try:
        return ModelShape.from_config(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the memory plan cannot read {folder}/config.json ({error!r}): check model.path") from error


def _activations(shape: ModelShape, lora: LoraSpec, settings: LearnerSettings, load: Load, size: int) -> int:
    rows = min(settings.micro_batch, load.group_size)
    prompt, completion = load.prompt_tokens, load.completion_tokens
    padded = settings.packing == Packing.padded
    tokens = rows * (prompt + completion) if padded else prompt + rows * completion
    layer = _layer_bytes(shape, lora, size)
    if settings.gradient_checkpointing:
        # One input per layer is kept; one layer at a time is recomputed.
        kept = tokens * (shape.num_layers * shape.hidden_size * size + layer)
    else:
        kept = tokens * shape.num_layers * layer
    if not padded and not settings.gradient_checkpointing:
        # Each row's keys and values stand behind a copy of the prompt's, repeated up to the number of heads.
        kept += shape.num_layers * rows * prompt * 2 * shape.q_width * size
    mask = (prompt + rows * completion) ** 2 if not padded and settings.gradient_checkpointing else 0
    scores = rows * completion * shape.hidden_size * size * 3  # final states, their gradient, the head's own
    return kept + mask + scores


def _layer_bytes(shape: ModelShape, lora: LoraSpec, size: int) -> int:
    """Bytes per token that the backward of one decoder layer needs."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    # Two norms (input and normalised, in fp32 inside), queries, keys and values before and after rotation, attention's
    # output, gate, up, their product and the gate's activation.
    own = (2 * hidden + 2 * shape.q_width + 4 * shape.kv_width + shape.q_width + 4 * inner) * size + 2 * 2 * hidden * 4
    # The adapter's inputs in fp32 where the base is not (shared by maps of the same input), and A's outputs.
    inputs = (2 * hidden + shape.q_width + inner) * 4 if size < 4 else 0
    return own + inputs + len(shape.linears()) * lora.rank * 4
