"""Checkpoints are whole or absent, damage is reported, and what does not fit is refused with both sides named."""

import json
import resource

import pytest
import torch
from learner_cases import group, learner, spec

from grpo_aflow.learner.storage import checkpoint
from grpo_aflow.types import InfrastructureError, UserError


@pytest.fixture
def trained(random_base):
    made = learner(random_base)
    made.backward(group())
    made.step(1e-3)
    return made


def test_round_trip(trained, random_base, tmp_path):
    folder = tmp_path / "checkpoints" / "step_000020"
    checkpoint.save(folder, trained, {"cursor": 7, "spent_usd": 0.25})
    resumed = learner(random_base, warm=False)
    assert checkpoint.load(folder, resumed) == {"cursor": 7, "spent_usd": 0.25}
    assert resumed.version == 1
    for made in (trained, resumed):
        made.backward(group(seed=3))
    assert trained.step(1e-3)["update/grad_norm"] == resumed.step(1e-3)["update/grad_norm"]
    assert all(map(torch.equal, trained.policy.parameters.values(), resumed.policy.parameters.values()))
    assert [path.name for path in folder.parent.iterdir()] == ["step_000020"]
    assert folder.stat().st_mode == folder.parent.stat().st_mode  # others may read it where they may read the run


def test_the_adapter_inside_is_plain_peft(trained, tmp_path):
    from peft import LoraConfig

    checkpoint.save(tmp_path / "c", trained, {})
    assert LoraConfig.from_pretrained(tmp_path / "c" / "adapter").r == 4
    assert (tmp_path / "c" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_newer_one_replaces_the_older(trained, tmp_path, random_base):
    checkpoint.save(tmp_path / "c", trained, {"cursor": 1})
    checkpoint.save(tmp_path / "c", trained, {"cursor": 2})
    assert checkpoint.load(tmp_path / "c", learner(random_base)) == {"cursor": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_failed_write_leaves_the_older_one_whole(trained, tmp_path, random_base):
    checkpoint.save(tmp_path / "c", trained, {"cursor": 1})
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "c", trained, {"cursor": object()})
    assert checkpoint.load(tmp_path / "c", learner(random_base)) == {"cursor": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("name", ["adapter/adapter_model.safetensors", "learner.pt"])
def test_a_full_disk_is_one_line_and_leaves_the_older_one_whole(trained, tmp_path, random_base, name):
    checkpoint.save(tmp_path / "c", trained, {"cursor": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "c" / name).stat().st_size - 1, before[1]))
    try:
        with pytest.raises(InfrastructureError, match=r"cannot write the checkpoint .*/d: .*File too large.*; make"):
            checkpoint.save(tmp_path / "d", trained, {"cursor": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.load(tmp_path / "c", learner(random_base)) == {"cursor": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("name", ["learner.pt", "extra.json", "adapter/adapter_model.safetensors"])
def test_damage_is_told(trained, tmp_path, random_base, name):
    checkpoint.save(tmp_path / "c", trained, {"cursor": 1})
    path = tmp_path / "c" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"damaged \\({name} is not as it was written\\): restore it"):
        checkpoint.load(tmp_path / "c", learner(random_base))
    path.unlink()
    with pytest.raises(UserError, match="damaged"):
        checkpoint.verify(tmp_path / "c")


def test_files_for_people_are_not_hashed(trained, tmp_path):
    checkpoint.save(tmp_path / "c", trained, {})
    card = tmp_path / "c" / "adapter" / "README.md"
    card.write_text("A note.")
    checkpoint.verify(tmp_path / "c")
    card.unlink()
    checkpoint.verify(tmp_path / "c")


def test_a_torn_manifest_and_a_missing_one_are_told(trained, tmp_path):
    checkpoint.save(tmp_path / "c", trained, {})
    (tmp_path / "c" / checkpoint.MANIFEST).write_text('{"base": "x"')
    with pytest.raises(UserError, match=r"damaged \(checkpoint.json cannot be read\)"):
        checkpoint.verify(tmp_path / "c")
    with pytest.raises(UserError, match=r"damaged \(it has no checkpoint.json\)"):
        checkpoint.verify(tmp_path / "nowhere")


def test_another_rank_is_refused_with_both_named(trained, tmp_path, random_base):
    checkpoint.save(tmp_path / "c", trained, {})
    with pytest.raises(UserError, match=r"rank 4, this run's is of rank 8: set lora.rank=4"):
        checkpoint.load(tmp_path / "c", learner(random_base, lora=spec(rank=8)))


def test_another_base_is_refused_with_both_named(trained, tmp_path, random_base):
    checkpoint.save(tmp_path / "c", trained, {})
    manifest = json.loads((tmp_path / "c" / checkpoint.MANIFEST).read_text())
    (tmp_path / "c" / checkpoint.MANIFEST).write_text(json.dumps(manifest | {"base": "LlamaForCausalLM-00"}))
    with pytest.raises(UserError, match=r"belongs to base LlamaForCausalLM-00, this run's is Qwen2ForCausalLM-\w+"):
        checkpoint.load(tmp_path / "c", learner(random_base))


def test_a_base_is_identified_by_content_not_by_place(random_base, tmp_path):
    from shutil import copytree

    from transformers import Qwen2Config, Qwen2ForCausalLM

    moved = copytree(random_base, tmp_path / "moved")
    assert learner(moved).base_id == learner(random_base).base_id
    torch.manual_seed(99)
    Qwen2ForCausalLM(Qwen2Config.from_pretrained(random_base)).save_pretrained(tmp_path / "other")
    assert learner(tmp_path / "other").base_id != learner(random_base).base_id


def test_a_base_stays_the_same_under_another_version_of_transformers(random_base, monkeypatch):
    from transformers import Qwen2Config

    before = learner(random_base).base_id
    to_dict = Qwen2Config.to_dict
    monkeypatch.setattr(Qwen2Config, "to_dict", lambda self: to_dict(self) | {"a_new_default": 1})
    assert learner(random_base).base_id == before
