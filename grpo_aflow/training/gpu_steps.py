"""What `gpu_check` looks at on a card: one function per step, from the device to a line that says what was found.

The learner's steps work on models with random weights in the shapes of published ones: nothing is downloaded. A step
raises when what it looks at does not hold.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from grpo_aflow.learner.hardware import about_card as card
from grpo_aflow.learner.hardware import driver_version
from grpo_aflow.learner.learner import Learner
from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.memory.plan import GIB, Load, MemoryPlan, device_memory
from grpo_aflow.learner.memory.shapes import QWEN25_05B, QWEN25_7B, ModelShape
from grpo_aflow.learner.objectives import KL, Aggregation, Correction, OldLogprobs, TokenClip, ZeroVariance
from grpo_aflow.learner.policy.kernel_check import check_kernels
from grpo_aflow.learner.settings import AdapterProducts
from grpo_aflow.learner.update.step_stats import StepStats
from grpo_aflow.run.card_speeds import speed_of
from grpo_aflow.run.files import read_jsonl
from grpo_aflow.sampler.colocation import Colocate
from grpo_aflow.training.estimates import LearnerTime, learner_time
from grpo_aflow.training.trials import LORA_128, trial_plan
from grpo_aflow.types import AdvantageKind, Completion, TrainingGroup, UserError

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
    zero_variance=ZeroVariance.skip,
    off_policy_threshold=None,
)


def about_card(device: str) -> str:
    """Name, memory, driver, and what vLLM will ask for besides."""
    shared = shutil.disk_usage("/dev/shm").free / GIB
    return f"{card(device)}, driver {driver_version() or 'unknown'}, /dev/shm {shared:.1f} GiB free"


def kernels(device: str) -> str:
    """Every way of attending in every type, with the heads of both models, against fp64."""
    largest = []
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        found: dict[str, float] = {}
        for shape in (QWEN25_05B, QWEN25_7B):
            heads = {"num_heads": shape.num_heads, "num_kv_heads": shape.num_kv_heads, "head_size": shape.head_size}
            errors = check_kernels(torch.device(device), dtype, **heads)
            found |= {name: max(error, found.get(name, 0.0)) for name, error in errors.items()}
        name = max(found, key=lambda name: found[name])
        largest.append(f"{str(dtype).removeprefix('torch.')} {found[name]:.1e} ({name})")
    return "largest errors: " + ", ".join(largest)


def learner_step(
    shape: ModelShape,
    load: Load,
    device: str,
    *,
    lora: LoraSpec = LORA_128,
    adapter_products: AdapterProducts = AdapterProducts.float32,
) -> str:
    """Two optimizer steps on one group, the second timed: speed beside the estimate, peak memory beside the plan."""
    if too_large := left_out_by_plan(plan_for(shape, lora, load, device, adapter_products=adapter_products)):
        return too_large
    trial = start_trial(shape, lora, load, device, adapter_products=adapter_products)
    on_card = device != "cpu"
    for _ in range(2):
        if on_card:
            torch.cuda.reset_peak_memory_stats(device)
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        stats = trial.step()
        if on_card:
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - started
    if stats["update/made"] != 1.0:
        raise RuntimeError(f"the step made no version: {stats}")
    plan = trial.plan
    speed = speed_of(torch.cuda.get_device_name(device)) if on_card else None
    estimated = None if speed is None else learner_time(speed, shape, lora, load, plan.settings)
    figures = [_measured(seconds, estimated, load)]
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
    trial = start_trial(QWEN25_05B, lora, load, device)
    trial.step()
    whole = torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info(device)[0]
    ballast = torch.empty(max(0, free - int(0.7 * whole)), dtype=torch.uint8, device=device)
    policy = trial.learner.policy
    before = policy.limits
    try:
        trial.learner.backward(trial.group)
        found = f"halved from {before.tokens} to {policy.limits.tokens} tokens"
        if policy.limits == before:
            raise RuntimeError("memory did not run out: the check is too weak")
    except UserError as error:
        found = f"refused in one line ({error})"
    del ballast
    trial.learner.discard()
    trial.step()
    return f"{found}, and the next step went through"


def with_vllm(device: str, *, colocate: Colocate = Colocate.resident) -> str:
    """A short run of the tiny policy on the card: sampler, publishing, log-prob check and learner side by side.

    Or by turns: then each version is published to an engine that has just woken, and checked against the learner.
    """
    if missing := left_out("vllm", "hydra"):
        return missing
    overrides = ["model=tiny", f"model.device={device}", "model.dtype=bfloat16", "sampler.kv_cache_gb=1"]
    overrides += ["schedule.num_steps=3", "eval=none", "logger=none", f"sampler.colocate={colocate.value}"]
    overrides += ["sampler.enforce_eager=true"]  # no compilation: starts in a third of the time
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-c", "from grpo_aflow.cli import train; train()", *overrides, f"paths.runs={runs}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"exit code {done.returncode}: {' '.join(done.stderr.split()[-60:])}")
        [metrics] = Path(runs).rglob("metrics.jsonl")
        lines = list(read_jsonl(metrics))
    took = max(line["time/publish_busy_s"] for line in lines)
    return f"{len(lines)} steps of the tiny policy in bf16, every published version checked; publishing {took:.2f} s"


def left_out(*packages: str) -> str:
    """What a step says that needs packages of which some are not installed; empty: all are."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"left out: {', '.join(missing)} is not installed here; the learner's half stands above" if missing else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A learner on random weights that has the card for itself, its plan, and a group of random tokens for it."""

    learner: Learner
    plan: MemoryPlan
    group: TrainingGroup

    def step(self) -> StepStats:
        self.learner.backward(self.group)
        return self.learner.step(1e-5)


def start_trial(
    shape: ModelShape,
    lora: LoraSpec,
    load: Load,
    device: str,
    *,
    adapter_products: AdapterProducts = AdapterProducts.float32,
) -> Trial:
    """Plan the learner of a model of this shape, make the model, and load it."""
    plan = plan_for(shape, lora, load, device, adapter_products=adapter_products)
    plan.check()
    with tempfile.TemporaryDirectory(dir=roomy_folder(2 * shape.num_weights)) as folder:
        path = random_model(shape, Path(folder), device=device)
        learner = Learner(path, lora, OBJECTIVE, plan.settings, device, "bfloat16", planned=plan.summary)
    return Trial(learner=learner, plan=plan, group=random_group(load, shape.vocab_size))


def plan_for(
    shape: ModelShape, lora: LoraSpec, load: Load, device: str, *, adapter_products: AdapterProducts
) -> MemoryPlan:
    """The plan of a learner that has the device for itself."""
    device_bytes = device_memory() if device == "cpu" else torch.cuda.mem_get_info(device)[1]
    return trial_plan(shape, lora, load, device_bytes=device_bytes, adapter_products=adapter_products)


def left_out_by_plan(plan: MemoryPlan) -> str:
    """What a step says that the card is too small for, which is no fault of the card; empty: it fits."""
    if plan.fits:
        return ""
    return f"left out: it needs {plan.total / GIB:.1f} GiB by the plan, and the card has {plan.device_bytes / GIB:.1f}"


def random_model(shape: ModelShape, folder: Path, *, device: str, context: int = 16384) -> Path:
    """A Qwen2 of this shape with random weights in bf16, drawn on the device, in a folder."""
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


def random_group(load: Load, vocab_size: int) -> TrainingGroup:
    """A group of random tokens whose advantages alternate."""
    length = load.completion_tokens
    tokens = drawn_tokens(load.prompt_tokens + load.group_size * length, vocab_size)
    rows = [tokens[start : start + length] for start in range(load.prompt_tokens, len(tokens), length)]
    completions = tuple(
        Completion(token_ids=row, logprobs=(-12.0,) * length, text="", finish_reason="stop", version=0) for row in rows
    )
    advantages = tuple(1.0 if row % 2 else -1.0 for row in range(load.group_size))
    return TrainingGroup(
        prompt_ids=tokens[: load.prompt_tokens], completions=completions, advantages=advantages, temperature=1.0
    )


def drawn_tokens(number: int, vocab_size: int) -> tuple[int, ...]:
    """Random tokens, the same ones each time."""
    return tuple(torch.randint(0, vocab_size, (number,), generator=torch.Generator().manual_seed(0)).tolist())


def _measured(seconds: float, estimated: LearnerTime | None, load: Load) -> str:
    """Speed and utilisation as measured, beside what was reckoned for this kind of card before any was at hand."""
    tokens = load.prompt_tokens + load.group_size * load.completion_tokens
    speed = f"{seconds:.2f} s a step, {tokens / seconds:,.0f} tokens/s"
    if estimated is None:
        return f"{speed}, MFU unknown for this device"
    mfu = estimated.mfu * estimated.seconds / seconds
    return (
        f"{speed}, MFU {mfu:.0%} (estimated {estimated.seconds:.2f} s, MFU {estimated.mfu:.0%}; "
        f"measured / estimated {seconds / estimated.seconds:.2f})"
    )


def roomy_folder(size: int) -> str | None:
    """/dev/shm where a model of so many bytes fits it twice, else the usual temporary folder."""
    try:
        return "/dev/shm" if shutil.disk_usage("/dev/shm").free > 2 * size else None
    except OSError:
        return None
