"""`make gpu-check` without a card: it says so, its steps hold on the CPU, one that falls is told and passed."""

import subprocess
import sys

import pytest
import torch
from learner_cases import spec

from grpo_aflow.learner.memory.plan import Load
from grpo_aflow.learner.memory.shapes import ModelShape
from grpo_aflow.training import gpu_check
from grpo_aflow.training.gpu_check import Step, learner_step, run_all

SHAPE = ModelShape(
    num_layers=2,
    hidden_size=64,
    intermediate_size=128,
    num_heads=4,
    num_kv_heads=2,
    head_size=16,
    vocab_size=96,
    tied_embeddings=True,
)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a card is here")
def test_without_a_card_it_says_so_and_ends_well():
    command = [sys.executable, "-m", "grpo_aflow.training.gpu_check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split(":")[0], done.stderr) == (0, "no GPU", "")


def test_a_learner_step_by_the_plan():
    found = learner_step(SHAPE, spec(), Load(prompt_tokens=20, completion_tokens=12, group_size=4), "cpu")
    assert "tokens/s, MFU unknown" in found
    assert found.endswith("micro-batches of 48 tokens, activations kept")


def test_kernels_hold_here(monkeypatch):
    monkeypatch.setattr(gpu_check, "LARGE", SHAPE)
    monkeypatch.setattr(gpu_check, "SMALL", SHAPE)
    assert gpu_check.kernels("cpu").startswith("largest errors: bfloat16 ")


def test_a_step_that_falls_or_hangs_is_told_and_the_next_one_runs(capsys):
    scripts = {
        "good": "print('fine')",
        "falls": "raise ValueError('no such kernel')",
        "dies": "import os; os.kill(os.getpid(), 9)",
        "hangs": "import subprocess; subprocess.run(['sleep', '60'])",
        "last": "print('reached')",
    }
    steps = [Step(name=name, limit_s=2 if name == "hangs" else 30, run=lambda device: "") for name in scripts]
    assert run_all(steps, lambda name: [sys.executable, "-c", scripts[name]]) == 1
    told = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert told == ["ok", "FAILED", "FAILED", "FAILED", "ok"]


def test_all_steps_end_within_a_quarter_of_an_hour_of_typical_time():
    assert sum(step.limit_s for step in gpu_check.STEPS) <= 20 * 60  # if every one of them hung


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA card")
@pytest.mark.parametrize("name", ["card", "kernels", "learner 0.5B", "out of memory"])
def test_steps_hold_on_the_card(name):
    next(step for step in gpu_check.STEPS if step.name == name).run("cuda")
