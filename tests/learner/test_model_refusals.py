"""Folders, hub models and settings that cannot work are one line that names the fix."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from learner_cases import spec
from model_cases import PRETRAINED, TINY, cut, prepare

from grpo_aflow.learner.model_folder import check_config
from grpo_aflow.learner.policy.adapter import attach
from grpo_aflow.learner.policy.base import load_base
from grpo_aflow.learner.settings import Packing
from grpo_aflow.learner.warmstart import NoWarmStart
from grpo_aflow.types import Task, UserError


def _pointer(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def _index(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def _type(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "quantum"}))


DAMAGE = {
    r"model\.safetensors has \d+ bytes of \d+: it was cut": cut,
    "is a Git LFS pointer, not the weights": _pointer,
    r"has no model-00002-of-00002\.safetensors: its weights are not whole": _index,
    "transformers cannot build the model": _type,
    r"holds no weights \(model\.safetensors\)": lambda folder: (folder / "model.safetensors").unlink(),
    r"model\.safetensors is no whole safetensors file \(0 bytes\)": lambda f: (f / "model.safetensors").write_text(""),
    "its header cannot be read": lambda f: (f / "model.safetensors").write_bytes(
        (9).to_bytes(8, "little") + b"not json!"
    ),
    r"config\.json cannot be read": lambda folder: (folder / "config.json").write_text("{"),
    "holds no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "the tokenizer in .* cannot be read": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "has no chat template": lambda folder: (folder / "chat_template.jinja").unlink(),
    "chat template of .* fails: no, thank you": lambda folder: (folder / "chat_template.jinja").write_text(
        "{{ raise_exception('no, thank you') }}"
    ),
    r"generation_config\.json cannot be read": lambda folder: (folder / "generation_config.json").write_text("["),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_folder_that_is_not_whole_is_one_clear_line(tmp_path, pretrained, message):
    folder = tmp_path / "model"
    shutil.copytree(pretrained.path, folder)
    DAMAGE[message](folder)
    with pytest.raises(UserError, match=message) as refused:
        prepare(replace(pretrained, path=str(folder)), tmp_path / "cache", NoWarmStart())
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_context_that_the_model_has_not_is_refused_with_the_excess(tmp_path, pretrained):
    with pytest.raises(UserError, match=r"max_model_len=300 is 44 tokens more than the context .*: set .*=256"):
        prepare(replace(pretrained, max_model_len=300), tmp_path)


def test_a_warm_start_beyond_the_context_says_by_how_much(tmp_path, pretrained):
    with pytest.raises(UserError, match=r"the warm start needs \d+ tokens .* is \d+ too few: raise it"):
        prepare(replace(pretrained, max_model_len=10), tmp_path, max_tokens=1)


def test_answers_beyond_the_context_are_refused_before_the_warm_start(tmp_path, pretrained):
    task = Task(id="1", dataset="gsm8k", domain="math", problem="", answers=("",))
    refusal = r"of \d+ tokens and sampler.max_tokens=256 are \d+ tokens more than model.max_model_len=256: raise"
    for model in (pretrained, TINY):
        with pytest.raises(UserError, match=refusal):
            prepare(model, tmp_path, tasks=[task], max_tokens=256)
    assert not list(tmp_path.glob("warm-start*"))


@pytest.mark.parametrize("path", ["/no/such/folder", "./missing", "~/missing", "just-a-name", "too/many/parts"])
def test_a_missing_folder_is_one_clear_line(tmp_path, path):
    with pytest.raises(UserError, match=r"model\.path: no folder .* here; give a model folder or a hub id"):
        prepare(replace(PRETRAINED, path=path), tmp_path, NoWarmStart())


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json; give a folder in Hugging Face format"):
        prepare(replace(PRETRAINED, path=str(tmp_path)), tmp_path / "cache", NoWarmStart())


def published_in(folder, dtype):
    """The same model, as if trained in `dtype`."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": dtype}))


REFUSED_FP16 = r"model\.dtype=float16: .* was published in bfloat16 .* 65,504.*: set model\.dtype=bfloat16, or "


def test_fp16_is_refused_of_a_model_that_was_published_in_bf16(tmp_path, pretrained):
    folder = tmp_path / "model"
    shutil.copytree(pretrained.path, folder)
    half = replace(pretrained, path=str(folder), dtype="float16")
    half.check()  # published in fp32
    published_in(folder, "bfloat16")
    for refuse in (half.check, lambda: half.here(tmp_path, None), lambda: prepare(half, tmp_path, NoWarmStart())):
        with pytest.raises(UserError, match=REFUSED_FP16) as refused:
            refuse()
        assert "\n" not in str(refused.value)
    replace(half, dtype="bfloat16").check()


def test_a_model_of_the_hub_is_refused_by_its_configuration_before_its_weights_are_fetched(
    tmp_path, pretrained, monkeypatch
):
    asked = []

    def download(hub_id, *, revision, allow_patterns):
        asked.append(allow_patterns)
        folder = tmp_path / "hub"
        folder.mkdir(exist_ok=True)
        names = (
            ["config.json"] if allow_patterns == ["config.json"] else [p.name for p in Path(pretrained.path).iterdir()]
        )
        for name in names:
            shutil.copy(Path(pretrained.path) / name, folder / name)
        published_in(folder, "bfloat16")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    from_hub = replace(pretrained, path="somebody/model")
    with pytest.raises(UserError, match=REFUSED_FP16):
        prepare(replace(from_hub, dtype="float16"), tmp_path / "cache", NoWarmStart())
    assert asked == [["config.json"]]
    assert prepare(replace(from_hub, dtype="bfloat16"), tmp_path / "cache", NoWarmStart())[0].path == tmp_path / "hub"


def test_a_hub_that_cannot_be_reached_is_one_clear_line(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"model\.path: nobody/nothing is no folder here and cannot be had from the hub"
    ):
        prepare(replace(PRETRAINED, path="nobody/nothing"), tmp_path, NoWarmStart())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 256}, "vocab_size must be at least 300"),
        ({"num_layers": 0}, "num_layers must be at least 1; got 0"),
        ({"num_heads": 3}, "hidden_size must be a multiple of num_heads"),
        ({"dtype": "int8"}, "dtype must be one of float32, bfloat16, float16; got int8"),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)


@pytest.mark.parametrize(
    "config",
    [
        # As Phi-4-mini's folder has it, and as transformers 5 writes it.
        {"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 64},
        {"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 64}},
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 64},
    ],
)
def test_a_context_in_which_rotary_factors_change_is_refused(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 128} | config))
    check_config(tmp_path, 64, "float32")
    with pytest.raises(UserError, match=r"max_model_len=65: beyond 64 tokens .* set model.max_model_len=64$"):
        check_config(tmp_path, 65, "float32")


TINY_SHAPE = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
}


def _made(name, **options):
    """A model of an architecture, tiny and with random weights."""
    import transformers

    config = getattr(transformers, f"{name}Config")(**TINY_SHAPE, **options)
    return getattr(transformers, f"{name}ForCausalLM")(config)


def _saved(folder, name, **options):
    _made(name, **options).save_pretrained(folder)
    return folder


def test_a_window_over_all_layers_takes_padded_rows(tmp_path):
    """Mistral's and Phi-3's configurations name it once, and no type of any layer."""
    load = partial(load_base, device="cpu", dtype="float32")
    windowed = _saved(tmp_path / "windowed", "Mistral", sliding_window=4)
    with pytest.raises(UserError, match="has sliding_attention layers: set learner.packing=padded"):
        load(windowed, packing=Packing.shared_prefix)
    load(windowed, packing=Packing.padded)
    load(_saved(tmp_path / "whole", "Mistral", sliding_window=None), packing=Packing.shared_prefix)


def test_an_attention_that_is_no_plain_softmax_is_one_clear_line(tmp_path):
    folder = _saved(tmp_path, "GptOss", num_local_experts=1, num_experts_per_tok=1)
    with pytest.raises(UserError, match=r"cannot load .*: GptOssForCausalLM does not .*; choose another") as refused:
        load_base(folder, device="cpu", dtype="float32", packing=Packing.padded)
    assert "\n" not in str(refused.value)


def test_layers_that_peft_leaves_alone_are_one_clear_line():
    with pytest.raises(UserError, match=r"^lora.target_modules: .*'out_proj' is incompatible .*; name other.*$"):
        attach(_made("FalconH1"), spec(target_modules=["q_proj", "out_proj"]), seed=0)


ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


@pytest.mark.filterwarnings("ignore:The following:RuntimeWarning")  # PEFT's, of what is refused
def test_of_a_mixture_of_experts_linear_layers_are_adapted_and_experts_are_not():
    """PEFT itself takes all-linear to mean experts and router, too, of which vLLM is told nothing."""

    def adapted(model, **changes):
        made, _ = attach(model, spec(**changes), seed=0)
        return {name.split(".")[-4] for name, p in made.named_parameters() if p.requires_grad}

    options = {"num_experts_per_tok": 2, "moe_intermediate_size": 8}
    assert adapted(_made("Qwen3Moe", **options, num_experts=4)) == set(ATTENTION)
    shared = partial(_made, "Glm4Moe", **options, n_routed_experts=4, n_shared_experts=1, first_k_dense_replace=0)
    refused = r"experts is not offered; set lora.target_modules=\[q_proj,k_proj,v_proj,o_proj\]$"
    with pytest.raises(UserError, match=refused):  # names that experts once had
        adapted(shared())
    assert adapted(shared(), target_modules=ATTENTION) == set(ATTENTION)
