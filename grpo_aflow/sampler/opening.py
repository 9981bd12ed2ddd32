"""The options of config group `sampler`: each starts its engine on a prepared model, and imports it only then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from grpo_aflow.protocols import PreparedModel, Sampler
from grpo_aflow.run.cards import check_adapter_dtype
from grpo_aflow.sampler.colocation import EngineBytes
from grpo_aflow.sampler.settings import AdapterLimits, Sampling, ServedWeights, VllmSettings, vllm_rank

if TYPE_CHECKING:
    from grpo_aflow.run.watchdog import Watchdog


@dataclass(frozen=True, kw_only=True, slots=True)
class Hf(Sampling):
    """`sampler=hf`: transformers' generate; slow, and reproducible to the bit on the CPU."""

    def memory(self, weights: ServedWeights, *, device_bytes: int, on_card: bool) -> EngineBytes:
        """What the sampler holds for itself: its own copy of the weights, and of each adapter in fp32."""
        adapters = 4 * weights.num_versions * weights.rank * weights.adapter_weights
        return EngineBytes(weights=weights.num_base * weights.size + adapters, kv_cache=0, overhead=0)

    def check_memory(self, weights: ServedWeights, *, device_bytes: int, on_card: bool) -> None:
        """It takes what it needs."""

    def check_machine(self, device: str) -> None:
        """What the learner needs is enough."""

    async def start(
        self, model: PreparedModel, adapters: AdapterLimits, *, watchdog: Watchdog | None, seed: int
    ) -> Sampler:
        """Load the base model. `seed` has no use here: every member of a group brings its own."""
        from grpo_aflow.sampler.hf import HfSampler

        return await HfSampler.start(model)


@dataclass(frozen=True, kw_only=True, slots=True)
class Vllm(VllmSettings):
    """`sampler=vllm`: vLLM's AsyncLLM in its own process, on CPU and CUDA alike."""

    async def start(
        self, model: PreparedModel, adapters: AdapterLimits, *, watchdog: Watchdog | None, seed: int
    ) -> Sampler:
        """Start an engine; may be called again after one died.

        Args:
            adapters: what to be ready for; the rank is rounded up to the next one that vLLM takes.
            watchdog: watches the engine's processes, and ends them when this process is killed.
            seed: of the engine's own random draws.

        Raises:
            UserError: a rank above 512, fp32 on a card, or an architecture that vLLM does not serve.
            InfrastructureError: the engine does not start.
        """
        if adapters.num_versions:
            check_adapter_dtype(model.dtype, model.device)
        adapters = replace(adapters, rank=vllm_rank(adapters.rank))
        from grpo_aflow.sampler.vllm import VllmSampler

        return await VllmSampler.start(self, model, adapters, watchdog=watchdog, seed=seed)
