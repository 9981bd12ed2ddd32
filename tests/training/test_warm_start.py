"""A pretrained model's warm start through a whole run: version 0, reference, resume, evaluation, export."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from commands import Command, finished
from run_cases import SMALL, adapter_of, in_runs, metrics_of, only_run

from grpo_aflow.config.composing import compose
from grpo_aflow.learner.storage.export import export
from grpo_aflow.run.files import read_jsonl
from grpo_aflow.train import train
from grpo_aflow.types import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def published(trained_run, tmp_path_factory):
    """A model that writes workflows, in a folder as somebody might have published it."""
    folder = tmp_path_factory.mktemp("hub") / "published"
    shutil.copytree(trained_run / "base_model", folder)
    return folder


@pytest.fixture(scope="module")
def overrides(published, tmp_path_factory):
    return (
        *SMALL,
        *("model=qwen25_7b", f"model.path={published}", "model.device=cpu", "model.dtype=float32"),
        *("model.max_model_len=512", "model.cpu_threads=1", "warmstart.num_steps=4", "warmstart.batch_size=8"),
        *("warmstart.learning_rate=1e-3", "objective.kl=k3", "objective.kl_coef=0.05", "lora=r8"),
        f"paths.cache={tmp_path_factory.mktemp('cache')}",
    )


@pytest.fixture(scope="module")
def run(overrides, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    train(compose(*overrides, f"paths.runs={root}"))
    return only_run(root)


def weights_of(adapter):
    return (adapter / "adapter_model.safetensors").read_bytes()


def told(name, arguments, folder):
    """How a command ended, of which a user may expect to be told."""
    done = finished(name, arguments, folder)
    assert "Traceback" not in done.stderr
    return done


def test_the_base_stays_the_published_folder(run, published):
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["base_model"] == str(published)
    for adapter in (run / "warm_start", run / "checkpoints/step_000003/adapter"):
        described = json.loads((adapter / "adapter_config.json").read_text())
        assert described["base_model_name_or_path"] == str(published)
        assert described["r"] == 8
    assert weights_of(run / "warm_start") != weights_of(run / "checkpoints/step_000003/adapter")


def test_training_begins_at_the_warm_start_and_its_divergence_from_it_grows_from_zero(run):
    first, *_, last = read_jsonl(run / "metrics.jsonl")
    assert first["loss/kl"] == pytest.approx(0.0, abs=1e-6)
    assert last["loss/kl"] > 1e-6
    assert all(line["mismatch/max_abs_logp"] < 1e-4 for line in read_jsonl(run / "metrics.jsonl"))


def test_a_killed_run_resumes_to_the_bit_without_the_cache(run, overrides, tmp_path):
    cache = tmp_path / "cache"
    arguments = [*overrides, f"paths.runs={tmp_path}", f"paths.cache={cache}"]
    command = Command("train", arguments, tmp_path)
    while not in_runs(tmp_path, "checkpoints/step_000001"):
        assert not command.has_ended(), command.end()
        time.sleep(0.05)
    command.send(signal.SIGKILL)
    assert command.end().returncode == -signal.SIGKILL
    shutil.rmtree(cache)
    resumed = only_run(tmp_path)
    done = told("train", [f"resume={resumed}", f"paths.runs={tmp_path}", f"paths.cache={cache}"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert not cache.exists()  # the warm start is the run's own
    assert metrics_of(resumed) == metrics_of(run)
    assert adapter_of(resumed, 3) == adapter_of(run, 3)


def test_a_changed_warm_start_stops_the_resumption(run, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    shutil.copy(copied / "checkpoints/step_000003/adapter/adapter_model.safetensors", copied / "warm_start")
    longer = ["resume_with=[schedule.num_steps]", "schedule.num_steps=4"]
    done = told("train", [f"resume={copied}", *longer], tmp_path)
    assert done.returncode == 2
    assert "was trained from another warm start than this run's" in done.stderr


def test_before_and_after_are_evaluated_on_the_same_base(run, overrides, tmp_path):
    keys = ("model", "lora", "warmstart", "paths.cache", "eval.", "sandbox", "sampler")
    same = [override for override in overrides if override.startswith(keys)]
    policies = (["policy=base"], ["policy=base", "warmstart=none"], ["policy=checkpoint", f"policy.path={run}"])
    for number, policy in enumerate(policies):
        settings = [o for o in same if not (o.startswith("warmstart.") and "warmstart=none" in policy)]
        root = tmp_path / str(number)
        done = told("eval", [*settings, *policy, f"paths.runs={root}"], tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(next(root.rglob("evaluation.json")).read_text())["num_rollouts"] == 6


def test_an_exported_adapter_loads_on_the_published_model_with_plain_peft(run, published, tmp_path):
    import torch
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM

    export(run, tmp_path / "adapter", merged=False)
    export(run, tmp_path / "merged", merged=True)
    ids = torch.tensor([[5, 300, 301, 302, 303]])
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(published), tmp_path / "adapter")
    by_name = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with torch.inference_mode():
        expected = plain(ids).logits
        assert torch.equal(by_name(ids).logits, expected)
        torch.testing.assert_close(merged(ids).logits, expected, atol=1e-4, rtol=1e-4)
        with plain.disable_adapter():
            assert not torch.allclose(plain(ids).logits, expected, atol=1e-3)


VLLM_SCRIPT = """
import json, sys
from vllm import LLM, SamplingParams, TokensPrompt
from vllm.lora.request import LoRARequest

if __name__ == "__main__":
    base, adapter, ids = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    llm = LLM(model=base, enable_lora=True, max_lora_rank=8, dtype="float32", enforce_eager=True, max_model_len=128,
              kv_cache_memory_bytes=1 << 26, disable_log_stats=True)
    def score(lora):
        params = SamplingParams(max_tokens=1, prompt_logprobs=0)
        [out] = llm.generate([TokensPrompt(prompt_token_ids=ids)], params, lora_request=lora)
        return [row[token].logprob for row, token in zip(out.prompt_logprobs[1:], ids[1:])]
    print("RESULT" + json.dumps([score(None), score(LoRARequest("policy", 1, adapter))]))
"""


def test_an_exported_adapter_loads_on_the_published_model_with_plain_vllm(run, published, tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    export(run, tmp_path / "adapter", merged=False)
    ids = [5, 300, 301, 302, 303, 304]
    script = tmp_path / "serve.py"
    script.write_text(VLLM_SCRIPT)
    environment = {
        **os.environ,
        **{"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "VLLM_LOGGING_LEVEL": "ERROR"},
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process that imports everything, not two
    }
    done = subprocess.run(
        [sys.executable, script, str(published), str(tmp_path / "adapter"), json.dumps(ids)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    without, served = json.loads(line.removeprefix("RESULT"))
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(published), tmp_path / "adapter")
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids])).logits[0, :-1].log_softmax(dim=-1)
        expected = logprobs.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
    assert served == pytest.approx(expected, abs=1e-4)
    assert without != pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("damage", ["cut", "gone", "changed"])
def test_a_damaged_adapter_is_not_exported(run, tmp_path, damage):
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    file = copied / "checkpoints/step_000003/adapter/adapter_model.safetensors"
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[:-50] if damage == "cut" else whole[:-1] + b"x")
    done = told("export", [copied, tmp_path / "out"], tmp_path)
    assert done.returncode == 2
    assert "step_000003" in done.stderr
    assert not (tmp_path / "out").exists()


def test_answers_beyond_the_context_are_refused_before_anything_is_started(overrides, tmp_path):
    done = told("train", [*overrides, f"paths.runs={tmp_path}/runs", "sampler.max_tokens=600"], tmp_path)
    assert done.returncode == 2
    assert "sampler.max_tokens=600 are " in done.stderr
    assert "tokens more than model.max_model_len=512" in done.stderr
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UserError, match="all-linear together with q_proj"):
        compose("lora.target_modules=[all-linear,q_proj]")
