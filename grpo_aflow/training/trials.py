"""The loads that a card is tried with and estimated for: `gpu_steps` runs them, `estimate_table` reckons them."""

from __future__ import annotations

from dataclasses import replace

from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.memory.plan import Load, MemoryPlan, memory_plan
from grpo_aflow.learner.memory.shapes import ModelShape
from grpo_aflow.learner.settings import AdapterProducts, LearnerSettings, Packing

SHORT = Load(prompt_tokens=1024, completion_tokens=1024, group_size=8)
LONG = Load(prompt_tokens=1024, completion_tokens=8192, group_size=4)
LORA_128 = LoraSpec(rank=128, alpha=256, dropout=0.0, target_modules=["all-linear"])
SETTINGS = LearnerSettings(
    micro_batch=1,  # of a group's size, in a trial
    max_tokens_per_micro_batch=None,
    accumulation=1,
    parallel_groups=None,
    packing=Packing.shared_prefix,
    max_grad_norm=1.0,
    weight_decay=0.01,
    betas=[0.9, 0.999],
    gradient_checkpointing=None,
    logits_chunk=1024,
    lm_head_fp32=False,
    adapter_products=AdapterProducts.float32,
    tf32=False,
    device=None,
    max_nonfinite_steps=1,
)


def trial_plan(
    shape: ModelShape,
    lora: LoraSpec,
    load: Load,
    *,
    device_bytes: int,
    sampler_bytes: int = 0,
    tf32: bool = False,
    adapter_products: AdapterProducts = AdapterProducts.float32,
    dtype: str = "bfloat16",
) -> MemoryPlan:
    """The plan of a learner beside a sampler of so many bytes (0: it has its device for itself)."""
    settings = replace(SETTINGS, micro_batch=load.group_size, tf32=tf32, adapter_products=adapter_products)
    return memory_plan(shape, lora, settings, load, dtype=dtype, device_bytes=device_bytes, sampler_bytes=sampler_bytes)
