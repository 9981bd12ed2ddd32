"""Qwen3 with lora.target_modules=[all-linear]: seven maps of each layer learn, and the LM head, tied or not, stays."""

import json

import pytest
import torch
from learner_cases import CONTEXT, VOCAB, group, learner, spec
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from grpo_aflow.learner.lora import plain_layers
from grpo_aflow.learner.memory.shapes import model_shape
from grpo_aflow.learner.model_folder import adapted_layers
from grpo_aflow.learner.storage.export import export

MAPS = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
OUTSIDE = ("lm_head", "embed_tokens", "norm")


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def qwen3(request, tmp_path_factory):
    """A folder with a random two-layer Qwen3; its heads are wider than hidden size / heads, as published ones are."""
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=request.param,
    )
    path = tmp_path_factory.mktemp("qwen3")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen3ForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def trained(qwen3):
    """A learner on it after one step."""
    made = learner(qwen3)
    made.backward(group())
    assert made.step(1e-2)["update/made"] == 1.0
    return made


def test_the_learner_adapts_the_layers_maps_alone(qwen3, trained):
    names = {name.partition(".lora_")[0].rpartition(".")[2] for name in trained.policy.parameters}
    assert names == MAPS == set(adapted_layers(spec(), qwen3))
    assert len(trained.policy.parameters) == 2 * 2 * len(MAPS)
    adapted = [name for name, _ in trained.policy.model.named_modules() if name.endswith(".lora_A")]
    assert not [name for name in adapted if any(part in name for part in OUTSIDE)]
    assert model_shape(qwen3).num_adapter_weights(spec()) == sum(p.numel() for p in trained.policy.parameters.values())
    head = trained.policy.model.get_output_embeddings()
    assert torch.equal(head.weight, AutoModelForCausalLM.from_pretrained(qwen3).get_output_embeddings().weight)


def test_what_is_published_names_them_to_peft_and_vllm(trained, tmp_path):
    trained.publish_adapter(tmp_path / "adapter")
    described = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert set(plain_layers(described["target_modules"])) == MAPS  # what an evaluation names to its engine
    assert not described["modules_to_save"]
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {name.partition(".lora_")[0].rpartition(".")[2] for name in weights} == MAPS
    assert not [name for name in weights if any(part in name for part in OUTSIDE)]


@pytest.mark.slow
def test_vllm_takes_what_is_published(trained, tmp_path):
    """By vLLM's own reader of adapters, with the modules that its Qwen3 expects."""
    from vllm.config.lora import LoRAConfig
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper
    from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM as Served

    trained.publish_adapter(tmp_path / "adapter")
    helper = PEFTHelper.from_local_dir(str(tmp_path / "adapter"), max_position_embeddings=CONTEXT)
    helper.validate_legal(LoRAConfig(max_lora_rank=8))
    packed = {name for parts in Served.packed_modules_mapping.values() for name in parts}
    read = LoRAModel.from_local_checkpoint(
        str(tmp_path / "adapter"), packed | {"o_proj", "down_proj"}, helper, device="cpu"
    )
    assert {name.rpartition(".")[2] for name in read.loras} == MAPS
    assert len(read.loras) == 2 * len(MAPS)


def test_exported_both_ways_it_is_the_learners_policy(qwen3, trained, tmp_path):
    trained.save_adapter(tmp_path / "adapter")
    export(tmp_path / "adapter", tmp_path / "plain", merged=False)
    export(tmp_path / "adapter", tmp_path / "merged", merged=True)
    base = AutoModelForCausalLM.from_pretrained(qwen3)
    head = base.get_output_embeddings().weight.clone()
    tokens = list(range(1, 30))
    expected = trained.score(tokens)
    assert expected != pytest.approx(trained.score(tokens, adapter=False), abs=1e-3)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    for model in (PeftModel.from_pretrained(base, str(tmp_path / "plain")), merged):
        assert scores(model, tokens) == pytest.approx(expected, abs=1e-4)
    assert torch.equal(merged.get_output_embeddings().weight, head)


def scores(model, tokens):
    """Log-probabilities of tokens[1:]."""
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor([tokens])).logits[0, :-1].log_softmax(-1)
    return logits.gather(1, torch.tensor(tokens[1:]).unsqueeze(1)).squeeze(1).tolist()
