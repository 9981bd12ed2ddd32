"""How the policy is sampled and how engines are set up: plain values, checked when made.

The options of config group `sampler`, which start engines from them, are in `opening`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from grpo_aflow.protocols import PreparedModel, Sampler
from grpo_aflow.run.cards import Placement
from grpo_aflow.sampler.colocation import COLOCATIONS, Colocate, Colocation, EngineBytes, Resident
from grpo_aflow.sampler.requirements import check_builds, check_shared_memory
from grpo_aflow.types import SamplingParams, UserError

if TYPE_CHECKING:
    from grpo_aflow.run.watchdog import Watchdog

CPU_KV_CACHE_GB = 0.25  # where kv_cache_gb is null: 43,000 tokens of the tiny policy
CARD_OVERHEAD = 2 << 30  # of an engine on a card besides weights and KV cache: an estimate, not yet measured
# Of vLLM's fp32 products on a card (LoRA's low-rank results, the head where it is in fp32): no TF32.
FLOAT32_PRODUCTS = "highest"
CPU_LORA_SWITCH = "GRPO_AFLOW_CPU_LORA"  # set in the engine's environment on the CPU; see `cpu_platform`
MAX_TEMPERATURE = 10
LEAST_TEMPERATURE = 0.01  # vLLM raises what is below it, 0 apart, and says so in a log line alone
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM takes for max_lora_rank


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterLimits:
    """The adapters that an engine must be ready to serve."""

    rank: int
    num_versions: int = 1  # served at once; a run needs max_staleness + 2; 0: the base model alone
    # Names of the layers that adapters change; LoRA costs time in every layer that is not left out. Empty: any linear.
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedWeights:
    """What an engine holds of a model and its adapters, in numbers of weights."""

    num_base: int
    adapter_weights: int  # of an adapter, for each unit of its rank
    rank: int
    num_versions: int  # adapters served at once
    cached_per_token: int  # keys and values
    num_heads: int  # of attention; cards that a model is spread over share them evenly
    num_kv_heads: int  # of keys and values: shared evenly, too, or evenly repeated
    max_model_len: int  # tokens; the cache must hold one sequence of them
    size: int  # bytes of a weight; vLLM keeps adapters and the cache in the base's type


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling(ABC):
    """Config group `sampler`: temperature schedule, truncation, length, and an engine that can be started."""

    temperature: float  # at step 1
    final_temperature: float  # after `temperature_steps` steps, linear in between
    temperature_steps: int  # 0: `temperature` throughout
    top_p: float  # 1 = off
    top_k: int  # 0 = off
    max_tokens: int
    device: str | None  # "cpu", "cuda", "cuda:1"; None: the model's

    def __post_init__(self) -> None:
        for name in ("temperature", "final_temperature"):
            if not 0 <= getattr(self, name) <= MAX_TEMPERATURE:
                raise ValueError(f"{name} must be between 0 (greedy) and {MAX_TEMPERATURE}; got {getattr(self, name)}")
        for name, least in (("temperature_steps", 0), ("top_k", 0), ("max_tokens", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1; got {self.top_p}")

    def params(self, step: int) -> SamplingParams:
        """The parameters at a training step, counted from 1.

        Example: temperature 0.5, final 0.15, 150 steps: 0.5 at step 1, 0.325 at step 76, 0.15 from step 151 on.
        """
        temperature = self.temperature
        if self.temperature_steps:
            done = min(step - 1, self.temperature_steps) / self.temperature_steps
            temperature += (self.final_temperature - self.temperature) * done
        return SamplingParams(temperature=temperature, top_p=self.top_p, top_k=self.top_k, max_tokens=self.max_tokens)

    @property
    def colocation(self) -> Colocation:
        """How it lives on a device that it shares with the learner."""
        return Resident()

    @property
    def num_cards(self) -> int:
        """Over how many cards it spreads one copy of the model, where it works on cards."""
        return 1

    def apart(self) -> Sampling:
        """The same for a sampler that has its device for itself."""
        return self

    @abstractmethod
    def memory(self, weights: ServedWeights, *, device_bytes: int, on_card: bool) -> EngineBytes:
        """What the sampler holds for itself."""

    @abstractmethod
    def check_memory(self, weights: ServedWeights, *, device_bytes: int, on_card: bool) -> None:
        """Raise UserError where the settings leave the sampler less than it must have."""

    @abstractmethod
    def check_machine(self, device: str) -> None:
        """Raise UserError where this machine lacks what the sampler needs on `device`. Takes no time."""

    @abstractmethod
    async def start(
        self, model: PreparedModel, adapters: AdapterLimits, *, watchdog: Watchdog | None, seed: int
    ) -> Sampler:
        """Start an engine on a prepared model; may be called again after one died."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VllmSettings(Sampling):
    """The fields of `sampler=vllm`."""

    kv_cache_gb: float | None  # null: CUDA: measured, within gpu_memory_utilization; CPU: 0.25
    gpu_memory_utilization: float  # share of the card for weights and KV cache when kv_cache_gb is null
    max_num_seqs: int  # sequences in one batch
    tensor_parallel_size: int  # cards that one copy of the model is spread over
    enforce_eager: bool  # no compilation and no CUDA graphs: starts faster, decodes slower; always so on the CPU
    cpu_threads: int  # of the engine, on the CPU
    lm_head_fp32: bool  # logits in fp32 also over a bf16 or fp16 base, as the learner's
    colocate: Colocate  # on a card that the learner shares; without effect where each has its own

    def __post_init__(self) -> None:
        super(VllmSettings, self).__post_init__()
        for name in ("temperature", "final_temperature"):
            if 0 < getattr(self, name) < LEAST_TEMPERATURE:
                raise ValueError(
                    f"{name} must be 0 or at least {LEAST_TEMPERATURE}, below which vLLM draws at "
                    f"{LEAST_TEMPERATURE}; got {getattr(self, name)}"
                )
        if self.kv_cache_gb is not None and not self.kv_cache_gb > 0:
            raise ValueError(f"kv_cache_gb must be positive or null; got {self.kv_cache_gb}")
        if not 0 < self.gpu_memory_utilization < 1:
            raise ValueError(f"gpu_memory_utilization must be between 0 and 1; got {self.gpu_memory_utilization}")
        for name in ("max_num_seqs", "cpu_threads", "tensor_parallel_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")

    @property
    def colocation(self) -> Colocation:
        return COLOCATIONS[self.colocate]

    @property
    def num_cards(self) -> int:
        return self.tensor_parallel_size

    def apart(self) -> Sampling:
        return replace(self, colocate=Colocate.resident)

    def check_machine(self, device: str) -> None:
        """A build of vLLM for the device and for the installed torch, and shared memory for its queues."""
        check_builds(device)
        check_shared_memory()

    def memory(self, weights: ServedWeights, *, device_bytes: int, on_card: bool) -> EngineBytes:
        """What the engine holds for itself: its share of a card; else weights, slots of adapters and KV cache.

        Of several cards on each of them; on the CPU all its processes together.
        """
        weights = self._shard(weights)
        held = _without_cache(weights, on_card=on_card)
        if on_card and self.kv_cache_gb is None:
            share = int(self.gpu_memory_utilization * device_bytes)
            return replace(held, kv_cache=max(share - held.total, _sequence(weights)))
        kv_cache_gb = CPU_KV_CACHE_GB if self.kv_cache_gb is None else self.kv_cache_gb
        num_here = 1 if on_card else self.tensor_parallel_size
        return replace(held, weights=num_here * held.weights, kv_cache=num_here * int(kv_cache_gb * 2**30))

    def check_memory(self, weights: ServedWeights, *, device_bytes: int, on_card: bool) -> None:
        """Raise UserError where a share of a card, or the KV cache, is too small for one sequence of full length, and
        for a number of cards that the model's heads cannot be spread over."""
        self._check_heads(weights)
        weights = self._shard(weights)
        least, one = _least(weights, on_card=on_card), _sequence(weights)
        if self.kv_cache_gb is not None and self.kv_cache_gb * 2**30 < one:
            raise UserError(
                f"sampler.kv_cache_gb={self.kv_cache_gb:g} holds no sequence of model.max_model_len="
                f"{weights.max_model_len} tokens, which takes {one / 2**30:.2f} GiB: raise it, or lower the length"
            )
        share = self.gpu_memory_utilization * device_bytes
        if on_card and self.kv_cache_gb is None and share < least:
            raise UserError(
                f"sampler.gpu_memory_utilization={self.gpu_memory_utilization:g} gives vLLM {share / 2**30:.1f} GiB of "
                f"its card, and it needs {least / 2**30:.1f}: set it to {least / device_bytes + 0.05:.2f} or more"
            )

    def _check_heads(self, weights: ServedWeights) -> None:
        heads, kv_heads = weights.num_heads, weights.num_kv_heads
        fitting = [
            size for size in range(1, heads + 1) if heads % size == 0 and (kv_heads % size == 0 or size % kv_heads == 0)
        ]
        if self.tensor_parallel_size not in fitting:
            raise UserError(
                f"sampler.tensor_parallel_size={self.tensor_parallel_size} does not divide the model's {heads} "
                f"heads of attention ({kv_heads} of keys and values): choose one of {', '.join(map(str, fitting))}"
            )

    def _shard(self, weights: ServedWeights) -> ServedWeights:
        """What is on one of the cards: its part of base and cache, and all of the adapters (their A is on each)."""
        number = self.tensor_parallel_size
        return replace(
            weights,
            num_base=math.ceil(weights.num_base / number),
            cached_per_token=math.ceil(weights.cached_per_token / min(number, weights.num_kv_heads)),
        )


def _without_cache(weights: ServedWeights, *, on_card: bool) -> EngineBytes:
    """An engine besides its KV cache: the base, a slot for each adapter, on a card an engine's own share."""
    slots = weights.num_versions * vllm_rank(weights.rank) * weights.adapter_weights
    return EngineBytes(
        weights=(weights.num_base + slots) * weights.size, kv_cache=0, overhead=CARD_OVERHEAD if on_card else 0
    )


def _sequence(weights: ServedWeights) -> int:
    """Bytes of the keys and values of one sequence of full length."""
    return weights.cached_per_token * weights.max_model_len * weights.size


def _least(weights: ServedWeights, *, on_card: bool) -> int:
    """Bytes without which vLLM does not start."""
    return _without_cache(weights, on_card=on_card).total + _sequence(weights)


def placement_of(model: PreparedModel) -> Placement:
    """The devices of a prepared model's learner and sampler."""
    return Placement(learner=model.device, sampler=model.sampler_device, num_sampler_cards=model.num_sampler_cards)


def vllm_rank(rank: int) -> int:
    """The next rank that vLLM takes for `max_lora_rank`; adapters of any rank up to it can be loaded."""
    for allowed in LORA_RANKS:
        if rank <= allowed:
            return allowed
    raise UserError(f"lora.rank={rank} is more than vLLM serves (512); lower it, or set sampler=hf")


def fit(params: SamplingParams, num_prompt_tokens: int, max_model_len: int) -> SamplingParams:
    """Shorten max_tokens to the room that a prompt leaves; refuse a prompt that leaves none."""
    room = max_model_len - num_prompt_tokens
    if room < 1:
        raise UserError(
            f"a prompt of {num_prompt_tokens} tokens leaves no room in model.max_model_len={max_model_len}; "
            "raise that, or set prompt=compact"
        )
    return replace(params, max_tokens=min(params.max_tokens, room))
