"""A learner's step in the shape of a published model, traced in shapes alone: what waits, what is large, what lives."""

from dataclasses import replace

import pytest
from learner_cases import objective, settings, spec
from shapes_only import Watched, learner_of

from grpo_aflow.learner.memory.plan import GIB, Load, memory_plan
from grpo_aflow.learner.memory.shapes import QWEN25_05B, QWEN25_7B
from grpo_aflow.learner.settings import AdapterProducts
from grpo_aflow.training.gpu_steps import random_group

pytestmark = pytest.mark.slow
SHAPE = replace(QWEN25_7B, num_layers=4)  # all layers are alike
LOAD = Load(prompt_tokens=1000, completion_tokens=2048, group_size=4)
LORA = spec(rank=128)


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("products", AdapterProducts)
def test_a_step_waits_for_nothing_holds_no_square_and_lives_within_the_plan(monkeypatch, products, checkpointing):
    plan = memory_plan(
        SHAPE,
        LORA,
        settings(micro_batch=4, logits_chunk=128, gradient_checkpointing=checkpointing, adapter_products=products),
        LOAD,
        dtype="bfloat16",
        device_bytes=80 * GIB,
        sampler_bytes=0,
    )
    group = random_group(LOAD, SHAPE.vocab_size)
    with Watched() as watched:
        made = learner_of(monkeypatch, SHAPE, LORA, objective(max_length=4096), plan.settings)
        held = watched.live
        watched.peak, watched.largest = held, 0
        made.backward(group)
        gradients = watched.live - held
    tokens = LOAD.group_size * LOAD.completion_tokens
    assert watched.largest <= 4 * SHAPE.intermediate_size * tokens  # no square of tokens
    assert "_scaled_dot_product_flash_attention_backward" in watched.operations
    adapter = 4 * SHAPE.num_adapter_weights(LORA)
    assert gradients == pytest.approx(adapter, rel=0.01)
    assert held == pytest.approx(plan.parts["base weights"] + adapter, rel=0.01)
    # What the plan counts besides: the optimizer's two moments, the step's sums before this group, the KL reference.
    expected = plan.total - plan.parts["reserve"] - 4 * adapter
    print(f"{products}, checkpointing {checkpointing}: peak {watched.peak / GIB:.2f} GiB, plan {expected / GIB:.2f}")
    assert 0.9 <= watched.peak / expected <= 1.0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_on_the_cpu_in_fp32_a_step_lives_within_the_plan(monkeypatch, checkpointing):
    """Qwen2.5-0.5B with all its layers, as `experiment=small_real model.dtype=float32` trains it on two cores."""
    lora, load = spec(rank=16), Load(prompt_tokens=600, completion_tokens=200, group_size=6)
    made_settings = settings(micro_batch=6, logits_chunk=128, gradient_checkpointing=checkpointing)
    plan = memory_plan(QWEN25_05B, lora, made_settings, load, dtype="float32", device_bytes=24 * GIB, sampler_bytes=0)
    with Watched() as watched:
        made = learner_of(
            monkeypatch, QWEN25_05B, lora, objective(max_length=4096), plan.settings, dtype="float32", on_card=False
        )
        watched.peak = watched.live
        made.backward(random_group(load, QWEN25_05B.vocab_size))
    assert "_scaled_dot_product_flash_attention_for_cpu_backward" in watched.operations
    expected = plan.total - plan.parts["reserve"] - 4 * 4 * QWEN25_05B.num_adapter_weights(lora)
    print(f"checkpointing {checkpointing}: peak {watched.peak / GIB:.2f} GiB, plan {expected / GIB:.2f}")
    assert 0.9 <= watched.peak / expected <= 1.0
