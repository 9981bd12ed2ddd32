"""Folders, hub models and settings that cannot work are one line that names the fix."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from model_cases import PRETRAINED, TINY, cut, prepare

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
