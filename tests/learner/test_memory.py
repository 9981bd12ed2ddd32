"""The memory plan: known parameter counts, monotone in what it depends on, refused with numbers and the mend."""

import pytest
from learner_cases import settings, spec

from grpo_aflow.learner.memory import GIB, Load, ModelShape, device_memory, memory_plan, model_shape
from grpo_aflow.learner.settings import Packing
from grpo_aflow.types import UserError

QWEN_7B = ModelShape(
    num_layers=28,
    hidden_size=3584,
    intermediate_size=18944,
    num_heads=28,
    num_kv_heads=4,
    head_size=128,
    vocab_size=152064,
    tied_embeddings=False,
)
LOAD = Load(prompt_tokens=2048, completion_tokens=2048, group_size=8)


def plan(*, lora=None, load=LOAD, dtype="bfloat16", device=80 * GIB, sampler=0, **changes):
    made = settings(**{"micro_batch": 4, "logits_chunk": 1024} | changes)
    return memory_plan(
        QWEN_7B, lora or spec(rank=16), made, load, dtype=dtype, device_bytes=device, sampler_bytes=sampler
    )


def test_weights_are_those_of_the_model_card():
    assert QWEN_7B.num_weights == pytest.approx(7.616e9, rel=1e-3)  # Qwen2.5-7B: 7,615,616,512
    # PEFT prints 40,370,176 trainable parameters for rank 16 on all linear layers
    assert QWEN_7B.num_adapter_weights(spec(rank=16)) == 40_370_176
    attention = spec(rank=128, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    assert QWEN_7B.num_adapter_weights(attention) == 28 * 128 * 2 * (7168 + 4096)


def test_counts_equal_a_real_model(random_base):
    from learner_cases import learner

    shape = model_shape(random_base)
    made = learner(random_base)
    adapter = sum(p.numel() for p in made._parameters.values())
    assert shape.num_adapter_weights(made.lora) == adapter
    total = sum(p.numel() for p in made.model.parameters()) - adapter
    biases = 2 * (64 + 32 + 32)  # Qwen2's query, key and value biases are not counted
    assert shape.num_weights == pytest.approx(total - biases, abs=2 * 2 * 64 + 64)


def test_a_plan_that_fits_is_printed_and_passes():
    fits = plan(gradient_checkpointing=True)
    fits.check()
    assert fits.parts["base weights"] == pytest.approx(14.2 * GIB, rel=0.01)
    assert [line.split("  ")[0] for line in fits.render().splitlines()] == [*fits.parts, "together", "device"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": 12 * GIB, "gradient_checkpointing": True}, r"largest part is base weights with 14\.2 GiB: choose"),
        (
            {"packing": Packing.padded, "micro_batch": 8},
            "largest part is activations with .* lower learner.micro_batch or sampler",
        ),
        (
            {"sampler": 70 * GIB, "gradient_checkpointing": True},
            "largest part is sampler with 70.0 GiB: lower sampler.gpu_memory_utilization",
        ),
        ({"logits_chunk": 100_000, "gradient_checkpointing": True}, "logits chunk with .*: lower learner.logits_chunk"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_numbers_and_the_mend(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        plan(**changes).check()
    assert "the run needs" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sharing_the_prompt_and_checkpointing_need_less():
    activations = plan().parts["activations"]
    assert activations < plan(packing=Packing.padded).parts["activations"]
    assert plan(gradient_checkpointing=True).parts["activations"] < activations
    assert plan(micro_batch=1).parts["activations"] < activations
    assert plan(lm_head_fp32=True).parts["base weights"] > plan().parts["base weights"]


def test_the_machine_and_its_folders_are_read(tmp_path):
    assert device_memory("cpu") > GIB // 4
    (tmp_path / "config.json").write_text('{"hidden_size": 64}')
    with pytest.raises(UserError, match="memory plan cannot read .*check model.path"):
        model_shape(tmp_path)
