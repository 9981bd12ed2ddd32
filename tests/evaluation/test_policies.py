"""Which adapters may be evaluated, and on which base."""

import json
import os
import shutil

import pytest
from commands import finished

from grpo_aflow.evaluation.policies import adapter_config, check_base
from grpo_aflow.learner.lora import plain_layers
from grpo_aflow.learner.storage.checkpoints import newest_adapter
from grpo_aflow.types import UserError


def evaluate(path, *overrides, cwd):
    arguments = ["policy=checkpoint", f"policy.path={path}", "eval.max_tasks_per_dataset=1", "eval.samples=1"]
    return finished("eval", [*arguments, *overrides], cwd)


def refused(done, cwd):
    """The one line of a refusal that left nothing behind."""
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "Traceback" not in done.stderr
    assert not list(cwd.iterdir())
    return line


@pytest.mark.slow
def test_a_checkpoint_is_evaluated_on_its_own_base(trained_run, tmp_path):
    done = evaluate(trained_run, "sampler=hf", f"paths.runs={tmp_path}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [result] = tmp_path.rglob("evaluation.json")
    assert json.loads(result.read_text())["num_rollouts"] == 6


@pytest.mark.slow
def test_an_adapter_of_another_base_is_refused_with_both_named(trained_run, tmp_path):
    """One whose run has not kept its base."""
    base = json.loads((trained_run / "manifest.json").read_text())["base_model"]
    run, work = tmp_path / "run", tmp_path / "work"
    shutil.copytree(trained_run, run, ignore=shutil.ignore_patterns("base_model"))
    work.mkdir()
    line = refused(evaluate(run, "sampler=hf", "warmstart=none", cwd=work), work)
    assert f"step_000003/adapter was trained on the base model {base}, but this config gives " in line
    assert os.environ["GRPO_AFLOW_CACHE"] in line.partition("this config gives")[2]
    assert "choose the model, warmstart and prompt of the run that made it" in line


def test_a_run_without_a_checkpoint_yet_is_told_so(tmp_path):
    (tmp_path / "config.yaml").write_text("name: x\n")
    (tmp_path / "manifest.json").write_text('{"status": "running"}')
    with pytest.raises(UserError, match=r"no checkpoint yet \(status: running\).*policy=base settings_of="):
        newest_adapter(tmp_path)


@pytest.mark.slow
def test_a_checkpoint_of_a_run_that_goes_on_and_of_one_with_a_damaged_config(trained_run, tmp_path):
    run, work = tmp_path / "run", tmp_path / "work"
    shutil.copytree(trained_run, run)
    work.mkdir()
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    done = evaluate(run, f"paths.runs={work}", cwd=work)
    assert done.returncode == 0, done.stderr
    assert "step_000003/adapter (its run has not ended)" in " ".join(done.stdout.split())
    shutil.rmtree(work / next(work.iterdir()).name)
    (run / "config.yaml").write_text("")
    line = refused(evaluate(run, cwd=work), work)
    assert "config.yaml is damaged (it is empty)" in line
    assert "settings_of=none" in line


@pytest.mark.slow
def test_a_checkpoint_without_its_adapter_file_is_refused(trained_run, tmp_path):
    run, empty = tmp_path / "run", tmp_path / "empty"
    shutil.copytree(trained_run, run)
    empty.mkdir()
    (run / "checkpoints/step_000003/adapter/adapter_model.safetensors").unlink()
    line = refused(evaluate(run, "sampler=hf", cwd=empty), empty)
    assert "step_000003/adapter has no adapter_model.safetensors: it is not whole; give another checkpoint" in line


def test_a_base_is_known_by_its_folder_or_its_hub_id(tmp_path):
    folder, link = tmp_path / "base", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    check_base(tmp_path, str(link), folder, None)
    check_base(tmp_path, "org/name", folder, "org/name")
    check_base(tmp_path, None, folder, None)
    for named in (str(tmp_path / "other"), "org/other"):
        with pytest.raises(UserError, match="was trained on the base model .*other, but this config gives .*base"):
            check_base(tmp_path, named, folder, "org/name")


def test_layers_are_left_out_by_name():
    assert plain_layers(["q_proj", "v_proj"]) == ("q_proj", "v_proj")
    assert plain_layers(["layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj", "v_proj"]) == ("q_proj", "v_proj")
    for others in (["all-linear"], "all-linear", ".*_proj"):
        assert plain_layers(others) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"r": 4', r"adapter_config.json cannot be read \(.*\): give another checkpoint"),
        ("[1]", "adapter_config.json cannot be read"),
        (
            '{"peft_type": "IA3", "target_modules": ["k_proj"]}',
            r"\(it has no r\): give another checkpoint; only LoRA adapters are served",
        ),
    ],
)
def test_a_damaged_description_is_one_line(tmp_path, text, message):
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(UserError, match=message):
        adapter_config(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["checkpoint", "fixed"])
def test_a_path_that_is_not_there_is_told_before_anything_is_opened(policy, tmp_path):
    missing = [
        "policy=" + policy,
        f"policy.path={tmp_path / 'nope'}",
        "executor=openai",
        "executor.base_url=http://127.0.0.1:9",
    ]
    line = refused(finished("eval", missing, tmp_path), tmp_path)
    assert "nope" in line
    assert "there is no such folder" in line or "is not there" in line


def test_a_folder_without_weights_is_no_adapter(tmp_path):
    with pytest.raises(UserError, match="holds no adapter"):
        newest_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="has no adapter_model.safetensors"):
        newest_adapter(tmp_path)
    (tmp_path / "adapter_model.bin").write_text("")
    assert newest_adapter(tmp_path) == tmp_path
