import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import yaml

from grpo_aflow.learner.models import Pretrained, TinyPolicy, cached_folder, check_device, default_cache
from grpo_aflow.learner.warmstart import NoWarmStart, ReferenceWorkflows
from grpo_aflow.types import UserError

CONF = Path(__file__).parents[2] / "conf" / "model"
TINY = TinyPolicy(
    vocab_size=512,
    hidden_size=32,
    num_layers=1,
    num_heads=1,
    intermediate_size=64,
    max_model_len=128,
    seed=0,
    device="cpu",
    dtype="float32",
    cpu_threads=1,
)
PRETRAINED = Pretrained(
    path="/no/such/folder",
    revision=None,
    max_model_len=128,
    enable_thinking=False,
    device="cpu",
    dtype="float32",
    cpu_threads=1,
)
WARM = ReferenceWorkflows(num_steps=3, batch_size=4, learning_rate=3e-3, preference=0.2, lora_rank=4, seed=0)


def compact(task):
    return [{"role": "user", "content": f"{task.domain} {task.dataset}\n"}]


def prepare(model, cache, warmstart=WARM, prompts=compact):
    steps: list[str] = []
    prepared = model.prepare(
        cache, warmstart=warmstart, prompts=prompts, tasks=[], progress=lambda what, done, total: steps.append(what)
    )
    return prepared, steps


def test_the_tiny_policy_is_built_once_and_found_again(tmp_path):
    first, steps = prepare(TINY, tmp_path)
    assert steps == ["warm start"] * 3
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
    assert (prepared.path, prepared.max_model_len, steps) == (folder, 128, [])


def test_a_pretrained_model_is_warm_started_on_a_merged_adapter(tmp_path):
    from transformers import AutoModelForCausalLM

    folder = prepare(TINY, tmp_path, NoWarmStart())[0].path
    model = replace(PRETRAINED, path=str(folder))
    prepared, steps = prepare(model, tmp_path)
    assert steps == ["warm start"] * 3
    assert prepare(model, tmp_path)[0] == prepared
    before = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    after = AutoModelForCausalLM.from_pretrained(prepared.path).state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[-2] for name in changed} == {
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    }


@pytest.mark.parametrize("path", ["/no/such/folder", "./missing", "~/missing", "just-a-name", "too/many/parts"])
def test_a_missing_folder_is_one_clear_line(tmp_path, path):
    with pytest.raises(UserError, match=r"model\.path: no folder .* here; give a model folder or a hub id"):
        prepare(replace(PRETRAINED, path=path), tmp_path, NoWarmStart())


def test_a_folder_that_is_no_model_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"holds no tokenizer_config\.json; give a folder in Hugging Face format"):
        prepare(replace(PRETRAINED, path=str(tmp_path)), tmp_path / "cache", NoWarmStart())


def test_a_hub_that_cannot_be_reached_is_one_clear_line(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"model\.path: nobody/nothing is no folder here and cannot be had from the hub"
    ):
        prepare(replace(PRETRAINED, path="nobody/nothing"), tmp_path, NoWarmStart())


def test_devices_that_are_not_there_are_refused():
    assert check_device("cpu") == "cpu"
    with pytest.raises(UserError, match="must be cpu or cuda; got tpu"):
        check_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"set model\.device=cpu"):
            check_device("cuda")


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
    from grpo_aflow.learner import tiny
    from grpo_aflow.learner.reference_workflows import corpus
    from grpo_aflow.sampler.tokenizer import ChatTokenizer

    messages = [{"role": "user", "content": "math gsm8k\n"}]
    texts = [workflow.source for workflow in corpus()] + ["math gsm8k\n"]
    built = tiny.build_tokenizer(texts, vocab_size=1024, max_model_len=128)
    tiny.build_model(
        built, hidden_size=32, num_layers=1, num_heads=1, intermediate_size=64, max_model_len=128, seed=0
    ).save_pretrained(tmp_path)
    built.save_pretrained(tmp_path)
    loaded = ChatTokenizer(tmp_path)
    template = {"add_generation_prompt": True, "return_dict": False}
    assert loaded.encode_chat(messages) == tuple(built.apply_chat_template(messages, **template))
    assert len(loaded.encode_chat(messages)) <= 5
    for workflow in corpus():
        assert loaded.decode(built.encode(workflow.source)) == workflow.source
