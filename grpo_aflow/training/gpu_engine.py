"""What `gpu_check` looks at where vLLM is installed: engine and learner on one card, in a published model's shape.

A group goes the whole way of a run, through the run's own parts: the engine starts, the adapter is published and
checked, the group is drawn from it and held against the learner token by token, the learner learns from it, and the new
version is published and checked. Weights and prompt are random, so no completion ends early.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from grpo_aflow.learner.learner import Learner
from grpo_aflow.learner.log_prob_check import LogProbCheck
from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.memory.plan import GIB, Load, device_memory
from grpo_aflow.learner.memory.shapes import ModelShape
from grpo_aflow.learner.model_folder import adapted_layers
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.learner.worker import LocalWorker
from grpo_aflow.protocols import PreparedModel, Sampler
from grpo_aflow.run.card_speeds import speed_of
from grpo_aflow.run.timing import Timeline
from grpo_aflow.sampler.colocation import Colocate
from grpo_aflow.sampler.opening import Vllm
from grpo_aflow.sampler.settings import AdapterLimits, ServedWeights
from grpo_aflow.training.estimates import sampling_time
from grpo_aflow.training.gpu_steps import (
    OBJECTIVE,
    drawn_tokens,
    left_out,
    left_out_by_plan,
    random_model,
    roomy_folder,
)
from grpo_aflow.training.publisher import Publisher
from grpo_aflow.training.trials import LORA_128, trial_plan
from grpo_aflow.types import Completion, Message, SamplingParams, TrainingGroup

PROBE_TOKENS = 1025  # as of a run: what the tolerance of the log-prob check is measured on
LEARNING_RATE = 1e-3  # large: the new version must be seen through bf16
NUM_VERSIONS = 2


@dataclass(frozen=True, slots=True)
class IdsAlone:
    """Implements `Tokenizer` for a model without words: ids are drawn, and none of them ends a completion."""

    eos_ids: tuple[int, ...] = ()
    end_id: int = 0
    pad_id: int = 0

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        raise NotImplementedError("prompts are drawn here")

    def encode(self, text: str) -> tuple[int, ...]:
        raise NotImplementedError("prompts are drawn here")

    def decode(self, token_ids: Sequence[int]) -> str:
        return ""


def engine_and_learner(
    shape: ModelShape,
    load: Load,
    device: str,
    *,
    lora: LoraSpec = LORA_128,
    dtype: str = "bfloat16",
    tensor_parallel_size: int = 1,
    enforce_eager: bool = False,
) -> str:
    """Publish, draw, compare, learn, publish again; the line says how fast, how far apart, and in how much memory.

    Raises SelfTestFailed where the engine does not serve what the learner holds.
    """
    if missing := left_out("vllm"):
        return missing
    size = tensor_parallel_size
    return asyncio.run(_whole_way(shape, load, device, lora=lora, dtype=dtype, size=size, eager=enforce_eager))


async def _whole_way(
    shape: ModelShape, load: Load, device: str, *, lora: LoraSpec, dtype: str, size: int, eager: bool
) -> str:
    on_card = device != "cpu"
    served = ServedWeights(
        num_base=shape.num_weights,
        adapter_weights=shape.num_adapter_weights(lora) // lora.rank,
        rank=lora.rank,
        num_versions=NUM_VERSIONS,
        cached_per_token=2 * shape.num_layers * shape.kv_width,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        max_model_len=load.prompt_tokens + max(load.completion_tokens, PROBE_TOKENS),
        size=torch.finfo(getattr(torch, dtype)).bits // 8,
    )
    settings = _engine_settings(served, load, tensor_parallel_size=size, enforce_eager=eager)
    device_bytes = torch.cuda.mem_get_info(device)[1] if on_card else device_memory()
    held = settings.memory(served, device_bytes=device_bytes, on_card=on_card)
    plan = trial_plan(shape, lora, load, device_bytes=device_bytes, sampler_bytes=held.total, dtype=dtype)
    if too_large := left_out_by_plan(plan):
        return too_large
    with tempfile.TemporaryDirectory(dir=roomy_folder(2 * shape.num_weights)) as folder:
        path = random_model(shape, Path(folder), device=device)
        if on_card:
            torch.cuda.empty_cache()
        model = PreparedModel(
            path=path,
            name=str(path),
            tokenizer=IdsAlone(),
            adapter=None,
            device=device,
            sampler_device=device,
            dtype=dtype,
            max_model_len=served.max_model_len,
        )
        limits = AdapterLimits(rank=lora.rank, num_versions=NUM_VERSIONS, layers=adapted_layers(lora, path))
        started = time.perf_counter()
        sampler = await settings.start(model, limits, watchdog=None, seed=0)
        start_s = time.perf_counter() - started
        try:
            worker = await LocalWorker.start(
                lambda: Learner(
                    path, lora, OBJECTIVE, plan.settings, device, dtype, planned=plan.summary, published_dtype=dtype
                )
            )
            try:
                found = await _one_step(worker, sampler, shape, load, lora, device=device, dtype=dtype)
            finally:
                worker.close()
        finally:
            await sampler.close()
    figures = [f"engine started in {start_s:.0f} s", found]
    if on_card:
        free, whole = torch.cuda.mem_get_info(device)
        figures.append(f"card in use {(whole - free) / GIB:.1f} GiB of a plan of {plan.total / GIB:.1f}")
    return ", ".join(figures)


async def _one_step(
    worker: LocalWorker,
    sampler: Sampler,
    shape: ModelShape,
    load: Load,
    lora: LoraSpec,
    *,
    device: str,
    dtype: str,
) -> str:
    """From version 0 to version 1, through the run's own publisher."""
    timeline, store = Timeline(), AdapterStore(needed_bytes=NUM_VERSIONS * 4 * shape.num_adapter_weights(lora))
    tokens = drawn_tokens(PROBE_TOKENS + load.prompt_tokens, shape.vocab_size)
    publisher = Publisher(
        worker=worker,
        sampler=sampler,
        store=store,
        check=LogProbCheck(dtype=dtype),
        probe=tokens[:PROBE_TOKENS],
        max_staleness=0,
        timeline=timeline,
    )
    try:
        await publisher.publish()
        prompt = tokens[PROBE_TOKENS:]
        await _draw(sampler, prompt, load, max_tokens=2)  # the first requests compile
        started = time.perf_counter()
        completions = await _draw(sampler, prompt, load, max_tokens=load.completion_tokens)
        drawing_s = time.perf_counter() - started
        apart = await _apart(worker, prompt, completions)
        advantages = tuple(1.0 if row % 2 else -1.0 for row in range(load.group_size))
        await worker.backward(
            TrainingGroup(prompt_ids=prompt, completions=tuple(completions), advantages=advantages, temperature=1.0),
            None,
        )
        stats = await worker.step(LEARNING_RATE)
        publisher.check_trained(stats, _sampling(load.completion_tokens))
        checked = await publisher.publish()
    finally:
        store.close()
    spent = timeline.lap()
    number = sum(len(completion.token_ids) for completion in completions)
    speed = f"{number / drawing_s:,.0f} tokens/s drawn"
    card = None if device == "cpu" else speed_of(torch.cuda.get_device_name(device))
    if card is not None:
        estimated = sampling_time(card, shape, lora, load, num_groups=1, most_at_once=load.group_size)
        speed += f" (measured / estimated {number / drawing_s / estimated.tokens_per_s:.2f})"
    slope = checked.get("gate/slope_from_base")
    return ", ".join(
        (
            speed,
            _distances(apart),
            f"learner {stats['time/learner_s']:.2f} s",
            f"publishing {spent['time/publish_busy_s'] / 2:.2f} s, check {spent['time/gate_busy_s'] / 2:.2f} s",
            "new version's slope " + ("not known: its effect is below the noise" if slope is None else f"{slope:.2f}"),
        )
    )


def _engine_settings(served: ServedWeights, load: Load, *, tensor_parallel_size: int, enforce_eager: bool) -> Vllm:
    """An engine with room for the group at full length, and for the probe beside it."""
    tokens = (load.group_size + 1) * served.max_model_len
    return Vllm(
        temperature=1.0,
        final_temperature=1.0,
        temperature_steps=0,
        top_p=1.0,
        top_k=0,
        max_tokens=load.completion_tokens,
        device=None,
        kv_cache_gb=max(0.1, 1.1 * tokens * served.cached_per_token * served.size / 2**30),
        gpu_memory_utilization=0.5,
        max_num_seqs=max(16, load.group_size),
        tensor_parallel_size=tensor_parallel_size,
        enforce_eager=enforce_eager,
        cpu_threads=1,
        lm_head_fp32=False,
        colocate=Colocate.resident,
    )


async def _draw(sampler: Sampler, prompt: tuple[int, ...], load: Load, *, max_tokens: int) -> list[Completion]:
    """A group's completions under version 0, in the order of its members."""
    params, seeds = _sampling(max_tokens), tuple(range(load.group_size))
    drawn = dict([one async for one in sampler.sample(prompt, seeds=seeds, params=params, version=0)])
    return [drawn[member] for member in seeds]


def _sampling(max_tokens: int) -> SamplingParams:
    return SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=max_tokens)


async def _apart(worker: LocalWorker, prompt: tuple[int, ...], completions: Sequence[Completion]) -> list[float]:
    """By how many nats engine and learner differ at each drawn token."""
    learner = await worker.reference_logprobs(prompt, completions, 1.0)  # of the base, which version 0 still is
    return [
        abs(theirs - ours)
        for completion, scores in zip(completions, learner, strict=True)
        for theirs, ours in zip(completion.logprobs, scores, strict=True)
    ]


def _distances(apart: Sequence[float]) -> str:
    """Example: mismatch over 8,192 tokens: mean 1.2e-02, 99 % below 6.0e-02, largest 3.1e-01 nats."""
    most = statistics.quantiles(apart, n=100)[-1]
    return (
        f"mismatch over {len(apart):,} tokens: mean {statistics.fmean(apart):.1e}, 99 % below {most:.1e}, "
        f"largest {max(apart):.1e} nats"
    )
