"""`make gpu-check`: what a card can do for training, in a quarter of an hour, the safest steps first.

    python -m grpo_aflow.training.gpu_check [--only STEP] [--device cuda:1]

Each step is a process of its own under its own time limit, so that one that hangs or crashes ends alone; its line is
printed as it ends. The learner's steps need torch, transformers and peft alone, and stand beside what was estimated for
such a card (`estimates`). The last ones want vLLM, too: a short training run; engine and learner on one card in the
shapes of 0.5B and 7B models (`gpu_engine`); and the run again with both taking turns (`sampler.colocate`). Without a
card it says so and ends with 0. A step that fails makes the exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from grpo_aflow.learner.memory.shapes import QWEN25_05B, QWEN25_7B
from grpo_aflow.learner.settings import AdapterProducts
from grpo_aflow.sampler.colocation import Colocate
from grpo_aflow.training.gpu_engine import engine_and_learner
from grpo_aflow.training.gpu_steps import about_card, kernels, learner_step, out_of_memory, with_vllm
from grpo_aflow.training.trials import LONG, SHORT


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One line of the table."""

    name: str
    limit_s: int
    run: Callable[[str], str]  # device -> what was found; raises when it does not hold


BASE = AdapterProducts.base
STEPS = (
    Step(name="card", limit_s=30, run=about_card),
    Step(name="kernels", limit_s=60, run=kernels),
    Step(name="learner 0.5B", limit_s=90, run=partial(learner_step, QWEN25_05B, SHORT)),
    Step(name="out of memory", limit_s=90, run=out_of_memory),
    Step(name="learner 7B", limit_s=150, run=partial(learner_step, QWEN25_7B, SHORT)),
    Step(
        name="learner 7B, bf16 adapter", limit_s=90, run=partial(learner_step, QWEN25_7B, SHORT, adapter_products=BASE)
    ),
    Step(name="learner 7B, long", limit_s=120, run=partial(learner_step, QWEN25_7B, LONG)),
    Step(name="run with vLLM", limit_s=90, run=with_vllm),
    Step(name="engine 0.5B", limit_s=120, run=partial(engine_and_learner, QWEN25_05B, SHORT, enforce_eager=True)),
    Step(name="engine 7B", limit_s=180, run=partial(engine_and_learner, QWEN25_7B, SHORT)),
    Step(name="run, share", limit_s=90, run=partial(with_vllm, colocate=Colocate.share)),
    Step(name="run, sleep", limit_s=90, run=partial(with_vllm, colocate=Colocate.sleep)),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps and print their table. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="gpu-check", description="Check a card for training, safest steps first.")
    parser.add_argument("--device", default="cuda", help="cuda or cuda:1")
    parser.add_argument("--only", choices=[step.name for step in STEPS], help="one step, in this very process")
    asked = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no GPU: torch finds no NVIDIA card here, so there is nothing to check")
        return 0
    try:
        device = one_card(asked.device, torch.cuda.device_count())
    except ValueError as error:
        parser.error(str(error))
    if asked.only:
        print(next(step for step in STEPS if step.name == asked.only).run(device))
        return 0
    return run_all(STEPS, lambda step: [sys.executable, "-m", __spec__.name, "--device", device, "--only", step])


def one_card(device: str, num_cards: int) -> str:
    """The card to check, by its number: a run on "cuda" would spread over two cards, and share none.

    Raises ValueError for what is no card of this machine.
    """
    kind, colon, number = device.partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()) or int(number or 0) >= num_cards:
        there = "cuda:0" if num_cards == 1 else f"cuda:0 to cuda:{num_cards - 1}"
        raise ValueError(f"--device {device} is no card that torch sees: choose of {there}")
    return f"cuda:{int(number or 0)}"


def run_all(steps: Sequence[Step], command: Callable[[str], list[str]]) -> int:
    """Each step by its command, under its limit; a line as it ends. Returns 1 when one failed."""
    failed = 0
    for step in steps:
        started = time.monotonic()
        found, holds = _run(command(step.name), step.limit_s)
        failed += not holds
        verdict = "ok" if holds else "FAILED"
        print(f"{step.name:<18}{verdict:<8}{time.monotonic() - started:>6.0f} s  {found}", flush=True)
    return 1 if failed else 0


def _run(command: list[str], limit_s: int) -> tuple[str, bool]:
    """(last line of a process's output, whether it ended well)."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        _end(process)
        return f"ended after its limit of {limit_s} s", False
    except BaseException:  # an interrupt does not reach a session of its own, and would leave the card taken
        _end(process)
        raise
    lines = [line for line in (errors if process.returncode else output).splitlines() if line.strip()]
    if process.returncode:  # what libraries say at their end stands below the error
        lines = [line for line in lines if _ERROR.match(line)] or lines
    return (lines[-1] if lines else f"exit code {process.returncode}"), process.returncode == 0


_ERROR = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Failed|Interrupt)\b")  # the last line of a traceback


def _end(process: subprocess.Popen[str]) -> None:
    """End a step with all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


if __name__ == "__main__":
    sys.exit(main())
