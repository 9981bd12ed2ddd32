import errno
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import yaml
from learner_cases import settings, spec
from safetensors.torch import load_file

from grpo_aflow.learner.models import Preparation, Pretrained, TinyPolicy
from grpo_aflow.learner.policy.model import PolicyModel
from grpo_aflow.learner.preparation.cache import cached_folder, default_cache
from grpo_aflow.learner.warmstart import NoWarmStart, ReferenceWorkflows
from grpo_aflow.run.cards import Placement
from grpo_aflow.sampler.tokenizer import ChatTokenizer
from grpo_aflow.types import InfrastructureError, Task, UserError

CONF = Path(__file__).parents[2] / "conf" / "model"
TINY = TinyPolicy(
    vocab_size=512,
    hidden_size=32,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    intermediate_size=64,
    max_model_len=256,
    seed=0,
    device="cpu",
    dtype="float32",
    cpu_threads=1,
)
PRETRAINED = Pretrained(
    path="/no/such/folder",
    revision=None,
    max_model_len=256,
    enable_thinking=False,
    device="cpu",
    dtype="float32",
    cpu_threads=1,
)
WARM = ReferenceWorkflows(num_steps=3, batch_size=4, learning_rate=3e-3, preference=0.2, seed=0)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A random model with its tokenizer, as somebody might have published it."""
    folder = prepare(TINY, tmp_path_factory.mktemp("published"), NoWarmStart())[0].path
    return replace(PRETRAINED, path=str(folder))


def compact(task):
    return [{"role": "user", "content": f"{task.domain} {task.dataset}\n"}]


LEARNER = settings(logits_chunk=64)


def prepare(model, cache, warmstart=WARM, prompts=compact, *, progress=lambda what, done, total: None, **changes):
    steps: list[int] = []

    def count(what, done, total):
        steps.append(done)
        progress(what, done, total)

    asked = Preparation(
        warmstart=warmstart,
        lora=spec(),
        learner=LEARNER,
        prompts=prompts,
        tasks=[],
        read_tokenizer=ChatTokenizer,
        progress=count,
        max_tokens=32,
        placement=Placement(learner="cpu", sampler="cpu"),
    )
    return model.prepare(cache, replace(asked, **changes)), steps


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
    _cut(folder)
    assert prepare(TINY, tmp_path)[1] == [1, 2, 3]


def test_a_base_that_a_run_has_kept_needs_no_cache(tmp_path):
    kept = prepare(TINY, tmp_path / "cache")[0].path
    prepared, steps = prepare(TINY, tmp_path / "none", kept=kept)
    assert (prepared.path, steps, (tmp_path / "none").exists()) == (kept, [], False)
    _cut(kept)
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


def _cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


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
    r"model\.safetensors has \d+ bytes of \d+: it was cut": _cut,
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
