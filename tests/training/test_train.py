"""The whole road with the hf sampler, every part real: what a run leaves behind, and that resuming is exact."""

import hashlib
import json
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from commands import Command, finished
from run_cases import ROLLOUTS_A_STEP, SMALL, adapter_of, in_runs, metrics_of, only_run

from grpo_aflow.config.composing import compose
from grpo_aflow.executor.ledger import read_costs
from grpo_aflow.run.files import read_jsonl
from grpo_aflow.train import train

pytestmark = pytest.mark.slow


def test_what_a_run_leaves_behind(trained_run):
    manifest = json.loads((trained_run / "manifest.json").read_text())
    assert manifest["status"] == "done"
    assert manifest["sandbox"] == "sandlock"
    assert manifest["devices"]["learner"] == {
        "device": "cpu",
        "name": "this machine",
        "float32_products": "highest",
    }
    assert [line["step"] for line in read_jsonl(trained_run / "metrics.jsonl")] == [1, 2, 3]
    kinds = Counter((line["kind"], line["step"]) for line in read_jsonl(trained_run / "rollouts.jsonl"))
    assert kinds == {(kind, step): ROLLOUTS_A_STEP for kind in ("completion", "rollout") for step in (1, 2, 3)}
    assert {path.name for path in (trained_run / "checkpoints").iterdir()} >= {"step_000002", "step_000003"}
    assert not (trained_run / "lock").exists()


def test_every_step_made_a_version_and_busy_plus_idle_is_the_step(trained_run):
    for line in read_jsonl(trained_run / "metrics.jsonl"):
        assert line["update/version"] == line["step"]
        assert line["staleness/max"] == 0
        for resource in ("sampler", "executor", "learner", "publish", "gate"):
            busy, idle = line[f"time/{resource}_busy_s"], line[f"time/{resource}_idle_s"]
            assert busy + idle == pytest.approx(line["time/step_s"])
        assert line["mismatch/max_abs_logp"] < 1e-4
        assert line["resources/versions"] == 1
        assert 0 < line["resources/memory_gib"] < 16
        assert line["resources/open_files"] > 10


def test_trained_ids_are_the_sampled_ids_and_end_with_eos(trained_run):
    from grpo_aflow.sampler.tokenizer import ChatTokenizer

    manifest = json.loads((trained_run / "manifest.json").read_text())
    tokenizer = ChatTokenizer(Path(manifest["base_model"]))
    for line in read_jsonl(trained_run / "rollouts.jsonl"):
        if line["kind"] == "completion":
            assert tokenizer.decode(line["token_ids"]) == line["text"]
            assert len(line["token_ids"]) == len(line["logprobs"])
            assert (line["token_ids"][-1] in tokenizer.eos_ids) == (line["finish_reason"] == "stop")


def test_advantages_of_a_group_sum_to_zero(trained_run):
    sums = Counter()
    for line in read_jsonl(trained_run / "rollouts.jsonl"):
        if line["kind"] == "rollout":
            sums[line["step"], line["group"]] += line["advantage"]
    assert sums
    assert all(abs(total) < 1e-5 for total in sums.values())


def test_no_key_is_written_anywhere(model_cache, tmp_path, monkeypatch):
    """The key is read and sent with every call."""
    secret = "sk-" + hashlib.sha256(b"not a key").hexdigest()
    keyed = ("executor.api_key_env=OPENAI_API_KEY", "schedule.num_steps=1", "eval.datasets=[]")
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    done = finished("train", [*SMALL, *keyed, f"paths.runs={tmp_path}"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert secret not in done.stdout + done.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_same_seed_same_bits(trained_run, tmp_path):
    train(compose(*SMALL, f"paths.runs={tmp_path}"))
    again = only_run(tmp_path)
    assert metrics_of(again) == metrics_of(trained_run)
    assert adapter_of(again, 3) == adapter_of(trained_run, 3)


def test_killed_twice_and_resumed_to_the_bit(trained_run, tmp_path):
    """SIGKILL in the first step and, resumed, in the second; resumed again, it ends as the uninterrupted one did."""
    started = [*SMALL, f"paths.runs={tmp_path}"]
    for lines in (20, 45):  # of rollouts.jsonl, which gets 24 in each step
        command = Command("train", started, tmp_path)
        wait_for(tmp_path, lines, command)
        command.send(signal.SIGKILL)
        assert command.end().returncode == -signal.SIGKILL
        run = only_run(tmp_path)
        started = [f"resume={run}", f"paths.runs={tmp_path}"]
    done = finished("train", started, tmp_path)
    assert done.returncode == 0, done.stderr
    assert only_run(tmp_path) == run
    assert metrics_of(run) == metrics_of(trained_run)
    assert adapter_of(run, 3) == adapter_of(trained_run, 3)
    paid = Counter(entry.key for entry in read_costs(run / "ledger.jsonl").entries if entry.outcome == "ok")
    assert max(paid.values()) == 1  # no received answer was paid for twice


def test_sigterm_saves_and_says_how_to_resume(model_cache, tmp_path):
    command = Command("train", [*SMALL, f"paths.runs={tmp_path}"], tmp_path)
    wait_for(tmp_path, 20, command)
    command.send(signal.SIGTERM)
    done = command.end()
    assert done.returncode == 143
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "resume with: grpo-aflow-train resume=" in line
    run = only_run(tmp_path)
    assert json.loads((run / "manifest.json").read_text())["status"] == "interrupted"
    assert not (run / "lock").exists()


def test_a_damaged_checkpoint_falls_back_to_the_one_before(trained_run, tmp_path):
    run = tmp_path / "copy"
    shutil.copytree(trained_run, run)
    weights = run / "checkpoints/step_000003/adapter/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    done = finished("train", [f"resume={run}"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "passed over, not whole: step_000003" in done.stdout
    assert "going on from step_000002" in done.stdout
    assert adapter_of(run, 3) == adapter_of(trained_run, 3)


def test_replay_reproduces_the_recorded_rewards_offline(trained_run, tmp_path):
    (tmp_path / "cache").mkdir()
    shutil.copy(trained_run / "cache.sqlite", tmp_path / "cache")
    replay = ("executor=replay", f"executor.cache_folder={tmp_path / 'cache'}", "executor.temperature=0.7")
    train(compose(*SMALL, *replay, f"paths.runs={tmp_path / 'runs'}"))
    names = ("reward/mean", "accuracy/exact", "cost/calls")
    rewards = [[line[name] for name in names] for line in metrics_of(only_run(tmp_path / "runs"))]
    assert rewards == [[line[name] for name in names] for line in metrics_of(trained_run)]


def wait_for(root, lines, command):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not command.has_ended():
        files = in_runs(root, "rollouts.jsonl")
        if files and files[0].read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.02)
    raise AssertionError(f"the run ended before it had {lines} lines: {command.end(timeout_s=0)}")


def test_resuming_under_another_config_is_refused(trained_run, tmp_path):
    done = finished("train", [f"resume={trained_run}", "lora=r8"], tmp_path)
    assert done.returncode == 2
    assert "lora.rank (was 16, now 8)" in done.stderr
