"""The config group `learner`: how an optimizer step is computed (never what it computes: that is the objective)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Packing(StrEnum):
    """How a group's tokens are laid out for the forward; log-probabilities and gradients do not depend on it."""

    shared_prefix = "shared_prefix"  # the prompt once, its completions continue from it
    padded = "padded"  # every row carries its own copy of the prompt: the reference, and the slowest


class AdapterProducts(StrEnum):
    """In which type the adapter's products are computed; its weights, gradient sums and optimizer are fp32 always."""

    float32 = "float32"  # exact
    base = "base"  # the base's own type, of weights that are rounded to it, as vLLM serves them


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerSettings:
    """Settings of the optimizer step."""

    micro_batch: int  # sequences per forward and backward, at most
    max_tokens_per_micro_batch: int | None  # padding included; None: what the memory plan has room for
    accumulation: int  # micro-batches per optimizer step, at least
    # Groups computed at once, on the CPU, each with model.cpu_threads threads. None: as cores and memory plan allow.
    parallel_groups: int | None
    packing: Packing
    max_grad_norm: float  # 0 = no clipping
    weight_decay: float
    betas: list[float]  # AdamW
    # Recompute activations in the backward: less memory, about a third more time. None: where the memory plan needs it.
    gradient_checkpointing: bool | None
    logits_chunk: int  # tokens whose full-vocabulary logits exist at once
    lm_head_fp32: bool  # compute logits in fp32 also where the base is bf16 or fp16
    adapter_products: AdapterProducts
    tf32: bool  # on a card fp32 products with 10 bits of mantissa
    device: str | None  # "cpu", "cuda", "cuda:1"; None: the model's
    max_nonfinite_steps: int  # this many refused steps in a row stop the run

    def __post_init__(self) -> None:
        for name in ("micro_batch", "accumulation", "logits_chunk", "max_nonfinite_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in ("max_tokens_per_micro_batch", "parallel_groups"):
            given = getattr(self, name)
            if given is not None and given < 1:
                raise ValueError(f"{name} must be at least 1, or null; got {given}")
        for name in ("max_grad_norm", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite; got {getattr(self, name)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), for example [0.9, 0.999]; got {list(self.betas)}")

    def adapter_size(self, element_size: int) -> int:
        """Bytes of a number in the adapter's products. element_size: of one of the base."""
        return element_size if self.adapter_products == AdapterProducts.base else 4

    def num_rows(self, num_sequences: int) -> int:
        """Rows of a micro-batch in a step of `num_sequences` sequences."""
        return max(1, min(self.micro_batch, math.ceil(num_sequences / self.accumulation)))
