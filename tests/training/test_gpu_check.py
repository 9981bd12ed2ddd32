"""`make gpu-check` without a card: it says so, its steps work on the CPU, and one that crashes ends alone."""

import subprocess
import sys

import pytest
import torch
from learner_cases import SHAPE, spec

from grpo_aflow.learner.memory.plan import Load
from grpo_aflow.training import gpu_check, gpu_steps
from grpo_aflow.training.estimates import LearnerTime, step_flops
from grpo_aflow.training.gpu_check import Step, one_card, run_all
from grpo_aflow.training.gpu_steps import learner_step


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a card is here")
def test_without_a_card_it_says_so_and_ends_well():
    command = [sys.executable, "-m", "grpo_aflow.training.gpu_check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split(":")[0], done.stderr) == (0, "no GPU", "")


def test_a_learner_step_by_the_plan():
    found = learner_step(SHAPE, Load(prompt_tokens=20, completion_tokens=12, group_size=4), "cpu", lora=spec())
    assert "tokens/s, MFU unknown" in found
    assert found.endswith("micro-batches of 48 tokens, activations kept")


def test_what_is_measured_stands_beside_the_estimate():
    load = Load(prompt_tokens=100, completion_tokens=100, group_size=4)
    estimated = LearnerTime(seconds=2.0, mfu=0.3, tokens_per_s=250.0)
    assert gpu_steps._measured(2.5, estimated, load) == (
        "2.50 s a step, 200 tokens/s, MFU 24% (estimated 2.00 s, MFU 30%; measured / estimated 1.25)"
    )


@pytest.mark.slow
def test_the_learners_half_needs_neither_our_configuration_nor_vllm():
    program = (
        "import sys, grpo_aflow.training.gpu_check; print(sorted({'hydra', 'omegaconf', 'vllm'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_kernels_hold_here(monkeypatch):
    monkeypatch.setattr(gpu_steps, "QWEN25_7B", SHAPE)
    monkeypatch.setattr(gpu_steps, "QWEN25_05B", SHAPE)
    found = gpu_steps.kernels("cpu")
    assert found.startswith("largest errors: bfloat16 ")
    assert [part.split()[0] for part in found.split(": ", 1)[1].split("), ")] == ["bfloat16", "float16", "float32"]


def test_operations_of_a_step_by_hand():
    load = Load(prompt_tokens=10, completion_tokens=4, group_size=3)
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128  # weights: q and o, k and v, the feed-forward's three
    maps = 2 * 2 * layer * (10 + 3 * 4)  # multiply and add, two layers; the prompt once
    head = 2 * 96 * 64 * 3 * 4
    pairs = 10 * 10 / 2 + 3 * (4 * 10 + 4 * 4 / 2)
    attention = 2 * (2 + 2) * 64 * pairs  # two layers, scores and values
    assert step_flops(SHAPE, load) == 2 * (maps + head) + 3 * attention


@pytest.mark.slow
def test_a_step_that_crashes_or_hangs_is_reported_and_the_next_one_runs(capsys):
    scripts = {
        "good": "print('fine')",
        "raises": "raise ValueError('no such kernel')",
        "dies": "import os; os.kill(os.getpid(), 9)",
        "hangs": "import subprocess; subprocess.run(['sleep', '60'])",
        "last": "print('reached')",
    }
    steps = [Step(name=name, limit_s=2 if name == "hangs" else 30, run=lambda device: "") for name in scripts]
    assert run_all(steps, lambda name: [sys.executable, "-c", scripts[name]]) == 1
    verdicts = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert verdicts == ["ok", "FAILED", "FAILED", "FAILED", "ok"]


def test_the_error_is_told_and_not_what_libraries_say_after_it(capsys):
    script = (
        "import atexit, sys\natexit.register(print, 'leaked memory', file=sys.stderr)\nraise ValueError('no kernel')"
    )
    assert run_all([Step(name="one", limit_s=30, run=lambda device: "")], lambda _: [sys.executable, "-c", script]) == 1
    assert capsys.readouterr().out.rstrip().endswith("ValueError: no kernel")


def test_an_interrupt_ends_the_step_that_runs(monkeypatch):
    started = []

    def interrupted(process, *_, **__):
        if process.poll() is None and not started:
            started.append(process)
            raise KeyboardInterrupt
        process.wait(timeout=10)

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all([Step(name="one", limit_s=30, run=lambda device: "")], lambda _: ["sleep", "60"])
    assert started[0].returncode == -9


def test_one_card_is_checked_and_it_must_be_there():
    assert [one_card(name, 2) for name in ("cuda", "cuda:1")] == ["cuda:0", "cuda:1"]
    for name in ("cuda:2", "cpu", "1", "cuda:x", ""):
        with pytest.raises(ValueError, match="is no card that torch sees: choose of cuda:0 to cuda:1"):
            one_card(name, 2)


def test_what_the_card_is_too_small_for_is_left_out(monkeypatch):
    monkeypatch.setattr(gpu_steps, "device_memory", lambda: 1 << 20)
    found = learner_step(SHAPE, Load(prompt_tokens=20, completion_tokens=12, group_size=4), "cpu", lora=spec())
    assert found.startswith("left out: it needs ")


def test_all_steps_end_within_a_quarter_of_an_hour_of_typical_time():
    assert sum(step.limit_s for step in gpu_check.STEPS) <= 20 * 60  # if every one of them hung


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA card")
@pytest.mark.parametrize("name", ["card", "kernels", "learner 0.5B", "out of memory"])
def test_steps_hold_on_the_card(name):
    next(step for step in gpu_check.STEPS if step.name == name).run("cuda")
