"""The memory plan: known parameter counts, monotone in what it depends on, refused with numbers and the fix."""

from dataclasses import replace

import pytest
import torch
from learner_cases import group, learner, settings, spec
from live_bytes import LiveBytes
from transformers import Qwen2Config, Qwen2ForCausalLM

from grpo_aflow.learner.memory.activations import activation_bytes, kept_per_token, scoring_bytes
from grpo_aflow.learner.memory.plan import ENOUGH_TOKENS, GIB, KEPT_TOKENS, Load, device_memory, memory_plan
from grpo_aflow.learner.memory.shapes import QWEN25_7B, ModelShape, model_shape
from grpo_aflow.learner.policy.adapter import attach
from grpo_aflow.learner.settings import Packing
from grpo_aflow.types import UserError

LOAD = Load(prompt_tokens=2048, completion_tokens=2048, group_size=8)
WIDE = Load(prompt_tokens=2048, completion_tokens=2048, group_size=64)


def test_what_is_left_open_is_chosen_by_what_there_is_room_for():
    small = Load(prompt_tokens=200, completion_tokens=100, group_size=8)
    roomy = plan(load=small)
    assert roomy.settings.gradient_checkpointing is False
    assert roomy.settings.max_tokens_per_micro_batch == 400  # four rows, whole
    wide = [plan(load=WIDE, micro_batch=64, device=size * GIB).settings for size in (24, 80, 300)]
    assert [one.gradient_checkpointing for one in wide] == [True, False, False]
    assert KEPT_TOKENS <= wide[1].max_tokens_per_micro_batch < wide[2].max_tokens_per_micro_batch == ENOUGH_TOKENS
    tokens = [plan(device=size * GIB, micro_batch=8).settings.max_tokens_per_micro_batch for size in (20, 24, 28, 32)]
    assert tokens == sorted(tokens)
    assert tokens[0] < tokens[-1]
    for size in (24, 28, 32):
        plan(device=size * GIB, micro_batch=8).check()
    given = plan(max_tokens_per_micro_batch=4096, gradient_checkpointing=False)
    assert (given.settings.max_tokens_per_micro_batch, given.settings.gradient_checkpointing) == (4096, False)


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory):
    """Folders of a Qwen2 wide enough for its activations to be most of what lives; by number of layers."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=1024,
        hidden_size=256,
        intermediate_size=1280,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
    )
    path = tmp_path_factory.mktemp("wide_base")
    with torch.random.fork_rng():
        Qwen2ForCausalLM(config).save_pretrained(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("packing", list(Packing))
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.05])
@pytest.mark.parametrize("targets", [["all-linear"], ["q_proj", "k_proj", "v_proj", "o_proj"]])
def test_activations_are_those_that_live_in_a_real_step(wide_base, packing, checkpointing, dropout, targets):
    """The estimate is above the peak of live bytes, by a fifth at most."""
    lora = spec(rank=16, dropout=dropout, target_modules=targets)
    made_settings = settings(packing=packing, gradient_checkpointing=checkpointing, logits_chunk=16)
    made = learner(wide_base, lora=lora, settings_=made_settings, dtype="bfloat16", warm=False)
    with LiveBytes() as counted:
        made.backward(group((256, 256), (1.0, -1.0), num_prompt=128))
    gradients = 4 * sum(p.numel() for p in made.policy.parameters.values())
    num_tokens = 2 * (256 + (128 if packing == Packing.padded else 0))
    estimate = activation_bytes(
        model_shape(wide_base), lora, made_settings, num_tokens=num_tokens, num_prompt=128, element_size=2
    )
    logits = 16 * 1024 * 12
    assert 1.0 <= (estimate + logits) / (counted.peak - gradients) <= 1.2


@pytest.mark.parametrize("packing", list(Packing))
@pytest.mark.parametrize("targets", [["all-linear"], ["q_proj", "k_proj", "v_proj", "o_proj"]])
def test_scoring_takes_what_lives_in_a_real_forward(wide_base, packing, targets):
    lora = spec(rank=16, target_modules=targets)
    made_settings = settings(packing=packing, logits_chunk=16)
    made = learner(wide_base, lora=lora, settings_=made_settings, dtype="bfloat16", warm=False)
    scored = group((256, 256), (1.0, -1.0), num_prompt=128)
    with LiveBytes() as counted:
        made.policy.evaluate(scored.prompt_ids, [c.token_ids for c in scored.completions], temperature=1.0)
    num_tokens = 2 * (256 + (128 if packing == Packing.padded else 0))
    shape = model_shape(wide_base)
    estimate = scoring_bytes(shape, lora, made_settings, num_tokens=num_tokens, num_prompt=128, element_size=2)
    assert 1.0 <= (estimate + 16 * 1024 * 12) / counted.peak <= 1.3


def plan(
    *, lora=None, load=LOAD, dtype="bfloat16", device=80 * GIB, sampler=0, shares=1, most_groups=1, free=None, **changes
):
    made = settings(**{"micro_batch": 4, "logits_chunk": 1024, "gradient_checkpointing": None} | changes)
    return memory_plan(
        QWEN25_7B,
        lora or spec(rank=16),
        made,
        load,
        dtype=dtype,
        device_bytes=device,
        sampler_bytes=sampler,
        base_shares=shares,
        most_groups=most_groups,
        free_bytes=free,
    )


def test_as_many_groups_at_once_as_fit_when_each_is_cut_as_if_alone():
    alone = plan(device=400 * GIB)
    assert alone.settings.parallel_groups == 1
    one = alone.parts["activations"] + alone.parts["logits chunk"] + 4 * QWEN25_7B.num_adapter_weights(spec(rank=16))
    held = alone.total - alone.parts["reserve"]
    for free, number in ((400 * GIB, 4), (held + 3 * one, 4), (held + 3 * one - 1, 3), (held + one, 2), (held, 1)):
        chosen = plan(device=400 * GIB, most_groups=4, free=free)
        assert chosen.settings == replace(alone.settings, parallel_groups=number)
        assert chosen.total == alone.total + (number - 1) * one
    assert "4 groups at once" in plan(device=400 * GIB, most_groups=4).render()


def test_a_given_number_of_groups_at_once_is_planned_for_and_may_be_too_large():
    assert plan(device=400 * GIB, most_groups=4, parallel_groups=2).settings.parallel_groups == 2
    with pytest.raises(UserError, match=r"lower learner\.parallel_groups, or set it to null"):
        plan(parallel_groups=16).check()


def test_of_a_base_in_parts_a_share_of_the_layers_counts_and_what_is_gathered():
    outside = 2 * 2 * QWEN25_7B.vocab_size * QWEN25_7B.hidden_size
    layer = 2 * QWEN25_7B.num_layer_weights
    held = [plan(shares=shares).parts["base weights"] for shares in (1, 2, 4)]
    assert held == [outside + 28 * layer, outside + (14 + 3) * layer, outside + (7 + 3) * layer]


def test_weights_are_those_of_the_model_card():
    assert QWEN25_7B.num_weights == pytest.approx(7.616e9, rel=1e-3)  # Qwen2.5-7B: 7,615,616,512
    # PEFT prints 40,370,176 trainable parameters for rank 16 on all linear layers
    assert QWEN25_7B.num_adapter_weights(spec(rank=16)) == 40_370_176
    attention = spec(rank=128, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    assert QWEN25_7B.num_adapter_weights(attention) == 28 * 128 * 2 * (7168 + 4096)


@pytest.mark.parametrize(
    ("config", "billions", "used"),
    [  # as published, and what their model cards say: Qwen3-30B-A3B, Mixtral-8x7B, Qwen1.5-MoE-A2.7B
        (
            {"num_hidden_layers": 48, "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
             "num_experts": 128, "num_experts_per_tok": 8, "num_attention_heads": 32, "num_key_value_heads": 4,
             "head_dim": 128, "vocab_size": 151936}, 30.5, 3.3,
        ),
        (
            {"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336, "num_local_experts": 8,
             "num_experts_per_tok": 2, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000},
            46.7, 12.9,
        ),
        (
            {"num_hidden_layers": 24, "hidden_size": 2048, "intermediate_size": 5632, "moe_intermediate_size": 1408,
             "shared_expert_intermediate_size": 5632, "num_experts": 60, "num_experts_per_tok": 4,
             "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 151936}, 14.3, 2.7,
        ),
    ],
    ids=["Qwen3", "Mixtral", "Qwen1.5"],
)  # fmt: skip
def test_of_a_mixture_of_experts_all_are_held_and_few_are_used(config, billions, used):
    shape = ModelShape.from_config(config)
    assert shape.num_weights / 1e9 == pytest.approx(billions, abs=0.05)
    assert shape.num_used_weights / 1e9 == pytest.approx(used, abs=0.05)


@pytest.mark.parametrize(("act", "targets"), [("gelu", ["all-linear"]), ("gelu", ["q_proj"]), ("silu", ["all-linear"])])
def test_what_a_real_feed_forward_keeps(act, targets):
    """Gate, up, and of one whose gate is not silu what transformers keep besides: 32 tokens of 4 bytes a number."""
    config = Qwen2Config(
        hidden_size=64, intermediate_size=512, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=512, max_position_embeddings=64, hidden_act=act,
    )  # fmt: skip
    lora = spec(rank=8, target_modules=targets)
    model, _ = attach(Qwen2ForCausalLM(config), lora, seed=0)
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t):
        model(torch.randint(2, 512, (1, 32)))
    inner = sum(tensor.shape == (1, 32, 512) for tensor in kept.values())
    shape = ModelShape.from_config(config.to_dict())
    wide, narrow = (
        kept_per_token(replace(shape, intermediate_size=size), lora, 4, 4, is_shared=False) for size in (512, 0)
    )
    assert (wide - narrow) / (512 * 4) == inner == {"silu": 2, "gelu": 4 if "all-linear" in targets else 3}[act]


def test_counts_equal_a_real_model(random_base):
    shape = model_shape(random_base)
    made = learner(random_base)
    adapter = sum(p.numel() for p in made.policy.parameters.values())
    assert shape.num_adapter_weights(made.lora) == adapter
    total = sum(p.numel() for p in made.policy.model.parameters()) - adapter
    biases = 2 * (64 + 32 + 32)  # Qwen2's query, key and value biases are not counted
    assert shape.num_weights == pytest.approx(total - biases, abs=2 * 2 * 64 + 64)


def test_a_plan_that_fits_is_printed_and_passes():
    fits = plan()
    fits.check()
    assert fits.parts["base weights"] == pytest.approx(14.2 * GIB, rel=0.01)
    *table, cut = fits.render().splitlines()
    assert [line.split("  ")[0] for line in table] == [*fits.parts, "together", "device"]
    assert cut == "micro-batches of at most 4 rows and 8192 tokens, activations kept"
    assert "GiB with micro-batches of 4 rows and 8192 tokens" in fits.summary


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"device": 12 * GIB, "gradient_checkpointing": True},
            r"largest part is base weights with 14\.2 GiB: choose a smaller model",
        ),
        (
            {"packing": Packing.padded, "gradient_checkpointing": False, "device": 32 * GIB},
            "largest part is activations with .* set learner.gradient_checkpointing=true, or lower sampler.max_tokens",
        ),
        (
            {"packing": Packing.padded, "micro_batch": 64, "max_tokens_per_micro_batch": 131072, "load": WIDE}
            | {"gradient_checkpointing": True},
            "largest part is activations with .* lower learner.max_tokens_per_micro_batch or sampler.max_tokens",
        ),
        (
            {"sampler": 70 * GIB, "gradient_checkpointing": True},
            "largest part is sampler with 70.0 GiB: lower sampler.gpu_memory_utilization",
        ),
        ({"logits_chunk": 100_000, "gradient_checkpointing": True}, "logits chunk with .*: lower learner.logits_chunk"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_numbers_and_the_fix(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        plan(**changes).check()
    assert "the run needs" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sharing_the_prompt_and_checkpointing_need_less():
    kept = {"gradient_checkpointing": False, "max_tokens_per_micro_batch": 8192}
    activations = plan(**kept).parts["activations"]
    padded = plan(**kept | {"packing": Packing.padded, "max_tokens_per_micro_batch": 16384})
    assert activations < padded.parts["activations"]
    assert plan(**kept | {"gradient_checkpointing": True}).parts["activations"] < activations
    assert plan(**kept, micro_batch=1).parts["activations"] < activations
    assert plan(lm_head_fp32=True).parts["base weights"] > plan().parts["base weights"]


def test_the_machine_and_its_folders_are_read(tmp_path):
    assert device_memory() > GIB // 4
    (tmp_path / "config.json").write_text('{"hidden_size": 64}')
    with pytest.raises(UserError, match="memory plan cannot read .*check model.path"):
        model_shape(tmp_path)
    (tmp_path / "config.json").write_text('{"text_config": {"hidden_size": 64}, "vision_config": {}}')
    with pytest.raises(UserError, match="is a multimodal model; choose one of text alone"):
        model_shape(tmp_path)
