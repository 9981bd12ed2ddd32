"""A model is prepared once, found again, and made anew where it is not whole."""

import errno
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import yaml
from learner_cases import spec
from model_cases import PRETRAINED, TINY, WARM, cut, prepare
from safetensors.torch import load_file

from grpo_aflow.learner.models import Pretrained, TinyPolicy
from grpo_aflow.learner.policy.model import PolicyModel
from grpo_aflow.learner.preparation.cache import cached_folder, default_cache
from grpo_aflow.learner.warmstart import NoWarmStart
from grpo_aflow.sampler.tokenizer import ChatTokenizer
from grpo_aflow.types import InfrastructureError, UserError

CONF = Path(__file__).parents[2] / "conf" / "model"


def test_the_tiny_policy_is_built_once_and_found_again(tmp_path):
    first, steps = prepare(TINY, tmp_path)
    assert steps == [1, 2, 3]
    assert (first.path / "model.safetensors").is_file()
    again, steps = prepare(TINY, tmp_path)
    assert (again, steps) == (first, [])
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_whatever_decides_the_weights_is_part_of_the_key(tmp_path):
    paths = {
        prepare(TINY, tmp_path)[0].path,
        prepare(replace(TINY, seed=1), tmp_path)[0].path,
        prepare(TINY, tmp_path, NoWarmStart())[0].path,
        prepare(TINY, tmp_path, replace(WARM, preference=0.3))[0].path,
        prepare(TINY, tmp_path, prompts=lambda task: [{"role": "user", "content": f"write: {task.domain}"}])[0].path,
    }
    assert len(paths) == 5


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        cached_folder(tmp_path, "tiny", {"a": 1}, fail)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_names_the_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the model cache .*; set GRPO_AFLOW_CACHE"):
        prepare(TINY, tmp_path / "file" / "below")


def test_the_cache_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("GRPO_AFLOW_CACHE", str(tmp_path))
    assert default_cache() == tmp_path


def test_a_pretrained_folder_is_used_as_it_is(tmp_path):
    folder = prepare(TINY, tmp_path)[0].path
    prepared, steps = prepare(replace(PRETRAINED, path=str(folder)), tmp_path, NoWarmStart())
    assert (prepared.path, prepared.max_model_len, steps) == (folder, 256, [])


def test_the_warm_start_of_a_pretrained_model_is_an_adapter_and_the_base_stays(tmp_path, pretrained):
    before = {file.name: file.read_bytes() for file in Path(pretrained.path).iterdir()}
    prepared, steps = prepare(pretrained, tmp_path)
    assert steps == [0, 1, 2, 3]
    assert prepared.path == Path(pretrained.path)
    assert {file.name: file.read_bytes() for file in prepared.path.iterdir()} == before
    again, steps = prepare(pretrained, tmp_path)
    assert (again, steps) == (prepared, [])
    described = json.loads((prepared.adapter / "adapter_config.json").read_text())
    assert (described["r"], described["lora_alpha"]) == (spec().rank, spec().alpha)
    assert described["base_model_name_or_path"] == pretrained.path
    weights = load_file(prepared.adapter / "adapter_model.safetensors")
    assert all(value.abs().max() > 0 for name, value in weights.items() if "lora_B" in name)
    assert prepare(pretrained, tmp_path, NoWarmStart())[0].adapter is None
    assert prepare(pretrained, tmp_path, adapter=False)[0].adapter is None


def test_whatever_decides_the_adapter_is_part_of_its_key(tmp_path, pretrained):
    copied = tmp_path / "elsewhere"
    shutil.copytree(pretrained.path, copied)
    first = prepare(pretrained, tmp_path)[0].adapter
    assert prepare(replace(pretrained, path=str(copied)), tmp_path)[0].adapter == first  # content decides, not the path
    others = {
        prepare(pretrained, tmp_path, lora=spec(rank=2))[0].adapter,
        prepare(pretrained, tmp_path, lora=spec(target_modules=["q_proj"]))[0].adapter,
        prepare(pretrained, tmp_path, replace(WARM, num_steps=2))[0].adapter,
    }
    assert len({first, *others}) == 4


def test_a_warm_start_that_was_interrupted_goes_on_to_the_same_adapter(tmp_path, pretrained):
    whole = prepare(pretrained, tmp_path / "whole")[0].adapter

    def stop(what, done, total):
        if done == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError) as stopped:
        prepare(pretrained, tmp_path / "parts", progress=stop)
    assert stopped.value.__notes__ == ["warm start: 2 of 3 steps are kept; the next run goes on there"]
    prepared, steps = prepare(pretrained, tmp_path / "parts")
    assert steps == [2, 3]
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (whole, prepared.adapter))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [prepared.adapter.name]


def test_a_disk_that_is_too_full_for_the_adapter_costs_no_step(tmp_path, pretrained, monkeypatch):
    def full(policy, folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as changed:
        changed.setattr(PolicyModel, "save", full)
        with pytest.raises(InfrastructureError, match=r"cannot write the model cache .*; make room on its disk"):
            prepare(pretrained, tmp_path)
    prepared, steps = prepare(pretrained, tmp_path)
    assert steps == [3]
    assert [path.name for path in tmp_path.iterdir()] == [prepared.adapter.name]


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_cached_model_that_lacks_a_file_is_made_anew(tmp_path, name):
    folder = prepare(TINY, tmp_path)[0].path
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    assert prepare(TINY, tmp_path)[1] == [1, 2, 3]
    assert (folder / name).read_bytes() == whole


def test_a_cached_model_of_an_earlier_version_is_taken_by_its_weights(tmp_path):
    folder = prepare(TINY, tmp_path)[0].path
    (folder / ".sizes").unlink()
    assert prepare(TINY, tmp_path)[1] == []
    cut(folder)
    assert prepare(TINY, tmp_path)[1] == [1, 2, 3]


def test_a_base_that_a_run_has_kept_needs_no_cache(tmp_path):
    kept = prepare(TINY, tmp_path / "cache")[0].path
    prepared, steps = prepare(TINY, tmp_path / "none", kept=kept)
    assert (prepared.path, steps, (tmp_path / "none").exists()) == (kept, [], False)
    cut(kept)
    with pytest.raises(UserError, match="it was cut; copy or download it again"):
        prepare(TINY, tmp_path / "none", kept=kept)


@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_a_cached_warm_start_without_whole_weights_is_made_anew(tmp_path, pretrained, damage):
    weights = prepare(pretrained, tmp_path)[0].adapter / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.unlink() if damage == "removed" else weights.write_bytes(whole[:-100])
    assert prepare(pretrained, tmp_path)[1] == [0, 1, 2, 3]
    assert weights.read_bytes() == whole


def test_targets_that_the_model_has_not_are_named(tmp_path, pretrained):
    there = "it has q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
    with pytest.raises(UserError, match=rf"lora\.target_modules: the model has no linear layer nope_proj; {there}"):
        prepare(pretrained, tmp_path, lora=spec(target_modules=["q_proj", "nope_proj"]))
    for name in ("mlp", "norm", "_proj"):
        with pytest.raises(UserError, match=f"no linear layer {name}; "):
            prepare(pretrained, tmp_path, lora=spec(target_modules=[name]))
    prepare(pretrained, tmp_path, NoWarmStart(), lora=spec(target_modules=["self_attn.q_proj", "v_proj"]))
    with pytest.raises(UserError, match=rf"the model has no linear layer nope_proj; {there}"):
        prepare(TINY, tmp_path, lora=spec(target_modules=["nope_proj"]))


@pytest.mark.parametrize(("option", "of"), [("tiny", TinyPolicy), ("qwen25_7b", Pretrained), ("qwen3_8b", Pretrained)])
def test_the_yaml_gives_every_field_of_its_class(option, of):
    values = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    if "defaults" in values:
        values = yaml.safe_load((CONF / f"{values.pop('defaults')[0]}.yaml").read_text()) | values
    values.pop("_target_")
    assert set(values) == {field.name for field in fields(of)}
    of(**values)


def test_the_sampler_reads_the_tokenizer_that_the_warm_start_used(tmp_path):
    """Loaded from its folder, the tokenizer must cut prompts and workflows as it did when the model learnt them."""
    from grpo_aflow.learner.preparation import tiny
    from grpo_aflow.learner.preparation.reference_workflows import corpus

    messages = [{"role": "user", "content": "math gsm8k\n"}]
    texts = [workflow.source for workflow in corpus()] + ["math gsm8k\n"]
    built = tiny.build_tokenizer(texts, vocab_size=1024, max_model_len=256)
    tiny.build_model(
        built,
        hidden_size=32,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        intermediate_size=64,
        max_model_len=256,
        seed=0,
    ).save_pretrained(tmp_path)
    built.save_pretrained(tmp_path)
    loaded = ChatTokenizer(tmp_path)
    template = {"add_generation_prompt": True, "return_dict": False}
    assert loaded.encode_chat(messages) == tuple(built.apply_chat_template(messages, **template))
    assert len(loaded.encode_chat(messages)) <= 5
    for workflow in corpus():
        assert loaded.decode(built.encode(workflow.source)) == workflow.source
