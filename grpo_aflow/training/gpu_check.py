"""`make gpu-check`: everything worth knowing about a card in a quarter of an hour, safest first.

    python -m grpo_aflow.training.gpu_check [--only STEP] [--device cpu]

Each step is a process of its own under its own time limit, so that one that hangs or falls takes nothing along; its
line is printed as it ends. The learner's steps need torch, transformers and peft alone, on models with random weights
in the shapes of Qwen2.5-0.5B and 7B; the last step is a short training run with vLLM, where that is installed. Without
a card it says so and ends with 0. A step that fails makes the exit code 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from grpo_aflow.learner.learner import Learner
from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.memory.plan import GIB, Load, MemoryPlan, device_memory, memory_plan
from grpo_aflow.learner.memory.shapes import ModelShape
from grpo_aflow.learner.objectives import KL, Aggregation, Correction, OldLogprobs, TokenClip
from grpo_aflow.learner.policy.kernel_check import check_kernels
from grpo_aflow.learner.settings import LearnerSettings, Packing
from grpo_aflow.types import AdvantageKind, Completion, TrainingGroup, UserError

# Dense bf16 operations a second, from the makers' data sheets, by a part of the card's name.
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A6000": 155e12, "4090": 165e12}

SMALL = ModelShape(
    num_layers=24,
    hidden_size=896,
    intermediate_size=4864,
    num_heads=14,
    num_kv_heads=2,
    head_size=64,
    vocab_size=151936,
    tied_embeddings=True,
)
LARGE = ModelShape(
    num_layers=28,
    hidden_size=3584,
    intermediate_size=18944,
    num_heads=28,
    num_kv_heads=4,
    head_size=128,
    vocab_size=152064,
    tied_embeddings=False,
)
ALL = LoraSpec(rank=128, alpha=256, dropout=0.0, target_modules=["all-linear"])
OBJECTIVE = TokenClip(
    aggregation=Aggregation.sequence_mean,
    max_length=8192,
    advantage=AdvantageKind.group_std,
    clip_low=0.2,
    clip_high=0.2,
    dual_clip=None,
    old_logprobs=OldLogprobs.learner,
    correction=Correction.none,
    correction_max=2.0,
    correction_min=0.0,
    kl=KL.none,
    kl_coef=0.0,
    entropy_coef=0.0,
    mask_truncated=False,
    off_policy_threshold=None,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One line of the table."""

    name: str
    limit_s: int
    run: Callable[[str], str]  # device -> what was found; raises when it does not hold


def about_card(device: str) -> str:
    """Name, memory, driver, and what vLLM will ask for besides."""
    card = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    smi = shutil.which(asked[0])
    driver = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split() if smi else []
    bf16 = "bf16" if torch.cuda.is_bf16_supported() else "NO bf16"
    shared = shutil.disk_usage("/dev/shm").free / GIB
    return (
        f"{card.name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free, capability {card.major}.{card.minor}, {bf16}, "
        f"driver {driver[0] if driver else 'unknown'}, torch {torch.__version__}, /dev/shm {shared:.1f} GiB free"
    )


def kernels(device: str) -> str:
    """Every way of attending in every type, with the heads of both models, against fp64."""
    worst = []
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for shape in (SMALL, LARGE):
            heads = {"num_heads": shape.num_heads, "num_kv_heads": shape.num_kv_heads, "head_size": shape.head_size}
            found = check_kernels(torch.device(device), dtype, **heads)
            name, error = max(found.items(), key=lambda one: one[1])
            worst.append(f"{str(dtype).removeprefix('torch.')} {error:.1e} ({name})")
    return "largest errors: " + ", ".join(worst[::2])


def random_model(shape: ModelShape, folder: Path, *, device: str, context: int = 16384) -> Path:
    """A Qwen2 of this shape with random weights in bf16, drawn on the device, in a folder."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        max_position_embeddings=context,
        tie_word_embeddings=shape.tied_embeddings,
        dtype="bfloat16",
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            Qwen2ForCausalLM(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(before)
    return folder


def one_group(rows: int, prompt: int, completion: int, vocab_size: int) -> TrainingGroup:
    """A group of random tokens whose advantages alternate."""
    generator = torch.Generator().manual_seed(0)

    def drawn(number: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, vocab_size, (number,), generator=generator).tolist())

    one = [
        Completion(
            token_ids=drawn(completion), logprobs=(-12.0,) * completion, text="", finish_reason="stop", version=0
        )
        for _ in range(rows)
    ]
    advantages = tuple(1.0 if row % 2 else -1.0 for row in range(rows))
    return TrainingGroup(prompt_ids=drawn(prompt), completions=tuple(one), advantages=advantages, temperature=1.0)


def planned(shape: ModelShape, lora: LoraSpec, load: Load, device: str) -> MemoryPlan:
    """The plan of a learner that has the card for itself."""
    open_settings = LearnerSettings(
        micro_batch=load.group_size,
        max_tokens_per_micro_batch=None,
        accumulation=1,
        packing=Packing.shared_prefix,
        max_grad_norm=1.0,
        weight_decay=0.01,
        betas=[0.9, 0.999],
        gradient_checkpointing=None,
        logits_chunk=1024,
        lm_head_fp32=False,
        max_nonfinite_steps=1,
    )
    plan = memory_plan(
        shape, lora, open_settings, load, dtype="bfloat16", device_bytes=device_memory(device), sampler_bytes=0
    )
    plan.check()
    return plan


def learner_step(shape: ModelShape, lora: LoraSpec, load: Load, device: str) -> str:
    """Two optimizer steps on one group, the second timed: tokens a second, MFU, peak memory beside the plan."""
    plan = planned(shape, lora, load, device)
    each = one_group(load.group_size, load.prompt_tokens, load.completion_tokens, shape.vocab_size)
    with tempfile.TemporaryDirectory(dir=_roomy(2 * shape.num_weights)) as folder:
        path = random_model(shape, Path(folder), device=device)
        learner = Learner(
            path,
            lora,
            OBJECTIVE,
            plan.settings,
            device,
            "bfloat16",
            num_sequences=load.group_size,
            planned=plan.summary,
        )
    on_card = device != "cpu"
    for _ in range(2):
        if on_card:
            torch.cuda.reset_peak_memory_stats(device)
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        learner.backward(each)
        stats = learner.step(1e-5)
        if on_card:
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
    if stats["update/made"] != 1.0:
        raise RuntimeError(f"the step made no version: {stats}")
    tokens = load.prompt_tokens + load.group_size * load.completion_tokens
    figures = [f"{seconds:.2f} s a step, {tokens / seconds:,.0f} tokens/s, {_mfu(shape, tokens, seconds, device)}"]
    if on_card:
        ours = plan.total - plan.parts["reserve"]
        peak = torch.cuda.max_memory_allocated(device)
        figures.append(f"peak {peak / GIB:.1f} GiB, plan {ours / GIB:.1f} (peak / plan {peak / ours:.2f})")
    how = "recomputed" if plan.settings.gradient_checkpointing else "kept"
    figures.append(f"micro-batches of {plan.settings.max_tokens_per_micro_batch} tokens, activations {how}")
    return ", ".join(figures)


def out_of_memory(device: str) -> str:
    """A step beside a tensor that fills the card must end in halved micro-batches or in one line, and go on after."""
    load = Load(prompt_tokens=256, completion_tokens=2048, group_size=8)
    lora = LoraSpec(rank=16, alpha=32, dropout=0.0, target_modules=["all-linear"])
    plan = planned(SMALL, lora, load, device)
    each = one_group(load.group_size, load.prompt_tokens, load.completion_tokens, SMALL.vocab_size)
    with tempfile.TemporaryDirectory() as folder:
        path = random_model(SMALL, Path(folder), device=device)
        learner = Learner(path, lora, OBJECTIVE, plan.settings, device, "bfloat16", planned=plan.summary)
    learner.backward(each)
    learner.step(1e-5)
    whole = torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info(device)[0]
    ballast = torch.empty(max(0, free - int(0.7 * whole)), dtype=torch.uint8, device=device)
    before = learner.policy.limits
    try:
        learner.backward(each)
        found = f"halved from {before.tokens} to {learner.policy.limits.tokens} tokens"
        if learner.policy.limits == before:
            raise RuntimeError("memory did not run out: the check is too weak")
    except UserError as error:
        found = f"refused in one line ({error})"
    del ballast
    learner.discard()
    learner.backward(each)
    learner.step(1e-5)
    return f"{found}, and the next step went through"


def with_vllm(device: str) -> str:
    """A short run of the tiny policy on the card: sampler, publishing, log-prob check and learner side by side."""
    missing = [name for name in ("vllm", "hydra") if importlib.util.find_spec(name) is None]
    if missing:
        return f"left out: {', '.join(missing)} is not installed here; the learner's half stands above"
    overrides = ["model=tiny", f"model.device={device}", "model.dtype=bfloat16", "sampler.kv_cache_gb=1"]
    overrides += ["schedule.num_steps=3", "eval=none", "logger=none"]
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-c", "from grpo_aflow.cli import train; train()", *overrides, f"paths.runs={runs}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"exit code {done.returncode}: {' '.join(done.stderr.split()[-60:])}")
        [metrics] = Path(runs).rglob("metrics.jsonl")
        number = len(metrics.read_text(encoding="utf-8").splitlines())
    return f"{number} steps of the tiny policy in bf16, every published version checked"


STEPS = (
    Step(name="card", limit_s=30, run=about_card),
    Step(name="kernels", limit_s=90, run=kernels),
    Step(
        name="learner 0.5B",
        limit_s=120,
        run=lambda device: learner_step(
            SMALL, ALL, Load(prompt_tokens=1024, completion_tokens=1024, group_size=8), device
        ),
    ),
    Step(name="out of memory", limit_s=120, run=out_of_memory),
    Step(
        name="learner 7B",
        limit_s=240,
        run=lambda device: learner_step(
            LARGE, ALL, Load(prompt_tokens=1024, completion_tokens=1024, group_size=8), device
        ),
    ),
    Step(
        name="learner 7B, long",
        limit_s=240,
        run=lambda device: learner_step(
            LARGE, ALL, Load(prompt_tokens=1024, completion_tokens=8192, group_size=4), device
        ),
    ),
    Step(name="run with vLLM", limit_s=240, run=with_vllm),
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
    if asked.only:
        print(next(step for step in STEPS if step.name == asked.only).run(asked.device))
        return 0
    return run_all(STEPS, lambda step: [sys.executable, "-m", __spec__.name, "--device", asked.device, "--only", step])


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
    """(last line of what a process said, whether it ended well)."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with what it has started
        process.communicate()
        return f"ended after its limit of {limit_s} s", False
    said = [line for line in (errors if process.returncode else output).splitlines() if line.strip()]
    return (said[-1] if said else f"exit code {process.returncode}"), process.returncode == 0


def _mfu(shape: ModelShape, tokens: int, seconds: float, device: str) -> str:
    """Model FLOPs utilisation: 4 operations a weight and token, as the frozen base needs no gradient of its weights
    (2 forward, 2 for the inputs' gradient); recomputation does not count, nor does attention."""
    name = torch.cuda.get_device_name(device) if device != "cpu" else ""
    peak = next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)
    matrices = shape.num_weights - (0 if shape.tied_embeddings else shape.vocab_size * shape.hidden_size)
    return "MFU unknown for this device" if peak is None else f"MFU {4 * matrices * tokens / seconds / peak:.0%}"


def _roomy(size: int) -> str | None:
    """/dev/shm where a model of so many bytes fits it twice, else the usual temporary folder."""
    try:
        return "/dev/shm" if shutil.disk_usage("/dev/shm").free > 2 * size else None
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main())
