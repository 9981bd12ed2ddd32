"""What a run will hold on its devices, before a model is loaded: a memory plan for each of them.

Stands between the config, whose groups say what they hold, and `learner.memory.plan`, which adds it up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from grpo_aflow.config.schema import TrainConfig
from grpo_aflow.learner.memory.plan import (
    GIB,
    NUM_BYTES,
    DevicePlan,
    Load,
    MemoryPlan,
    device_memory,
    memory_plan,
    sampler_plan,
    sampling_plan,
)
from grpo_aflow.learner.memory.shapes import ModelShape
from grpo_aflow.run.cards import CPU, Hardware, Placement, float32_products
from grpo_aflow.sampler.colocation import EngineBytes
from grpo_aflow.sampler.settings import FLOAT32_PRODUCTS, ServedWeights, VllmSettings
from grpo_aflow.types import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """One plan for each device of a run; two of a device that sampler and learner use in turns."""

    learner: MemoryPlan
    # Of the sampler's own device, or of its turn on the learner's; None: it is there all the time, and in that plan.
    sampler: DevicePlan | None
    check_sampler: Callable[[], None]  # raises UserError where its settings leave the engine too little
    host_bytes: int  # of the machine's memory that a sleeping engine's weights take
    host_free: int | None  # None: not known

    @property
    def fits(self) -> bool:
        try:
            self.check()
        except UserError:
            return False
        return True

    def check(self) -> None:
        """Raise UserError when a device is too small, or when the sampler's settings leave it too little of one."""
        self.learner.check()
        if self.sampler is not None:
            self.sampler.check()
        self.check_sampler()
        if self.host_free is not None and self.host_bytes > self.host_free:
            raise UserError(
                f"an engine that sleeps keeps {self.host_bytes / GIB:.1f} GiB of weights in the machine's memory, of "
                f"which {self.host_free / GIB:.1f} GiB are free: set sampler.colocate=share"
            )

    def render(self) -> str:
        """The plans as text, each under its device."""
        plans = [self.learner] if self.sampler is None else [self.learner, self.sampler]
        return "\n".join(f"{plan.device}:\n{plan.render()}" for plan in plans)


def plan_run(
    config: TrainConfig, shape: ModelShape, *, prompt_tokens: int, hardware: Hardware, placement: Placement
) -> RunPlan:
    """Plan a run of `config` on a model of this shape, with prompts of at most `prompt_tokens`.

    Raises UserError for what no memory would help.
    """
    if shape.is_mixture and placement.sampler == CPU and isinstance(config.sampler, VllmSettings):
        raise UserError(
            "the model is a mixture of experts, and vLLM's CPU build serves no adapters on one: set sampler=hf"
        )
    load = Load(
        prompt_tokens=prompt_tokens,
        completion_tokens=config.sampler.max_tokens,
        group_size=config.schedule.group_size,
    )
    weights = served_weights(config, shape)
    on_card = placement.sampler != CPU
    device_bytes = min(_total(hardware, device) for device in placement.sampler_devices)
    held = config.sampler.memory(weights, device_bytes=device_bytes, on_card=on_card)
    learner = _learner_plan(config, shape, load, hardware, placement, held)
    return RunPlan(
        learner=learner,
        sampler=_sampler_plan(config, shape, load, hardware, placement, held, learner),
        check_sampler=partial(config.sampler.check_memory, weights, device_bytes=device_bytes, on_card=on_card),
        host_bytes=len(placement.sampler_devices) * config.sampler.colocation.on_host(held)
        if placement.is_shared
        else 0,
        host_free=hardware.free_memory,
    )


def _learner_plan(
    config: TrainConfig, shape: ModelShape, load: Load, hardware: Hardware, placement: Placement, held: EngineBytes
) -> MemoryPlan:
    """The learner's device while it works."""
    name = hardware.name(placement.learner)
    kept = config.sampler.colocation.kept(held) if placement.is_shared else 0
    return memory_plan(
        shape,
        config.lora,
        config.learner,
        load,
        dtype=config.model.dtype,
        device_bytes=_total(hardware, placement.learner),
        sampler_bytes=kept,
        taken_again=held.total - kept if placement.is_shared else 0,
        taken_bytes=_taken(hardware, placement.learner),
        base_shares=config.base_shares,
        device=f"{name} while it learns" if _in_turns(config, placement) else name,
        most_groups=_most_groups(config, hardware, placement),
        free_bytes=hardware.free_memory if placement.learner == CPU else None,
    )


def _most_groups(config: TrainConfig, hardware: Hardware, placement: Placement) -> int:
    """Groups that the learner may compute at once. UserError where more are asked for than it can."""
    elsewhere = None
    if placement.learner != CPU:
        elsewhere = "a card computes one group after the other"
    elif not config.learns_here:
        elsewhere = "cluster=ray spreads the groups over its ranks (cluster.num_ranks)"
    if elsewhere is not None and (config.learner.parallel_groups or 1) > 1:
        raise UserError(
            f"learner.parallel_groups={config.learner.parallel_groups} is for a learner on the CPU in the run's own "
            f"process, and {elsewhere}: set it to null"
        )
    if elsewhere is not None:
        return 1
    return max(1, min(hardware.cores // config.model.cpu_threads, config.schedule.prompts_per_step))


def _sampler_plan(
    config: TrainConfig,
    shape: ModelShape,
    load: Load,
    hardware: Hardware,
    placement: Placement,
    held: EngineBytes,
    learner: MemoryPlan,
) -> DevicePlan | None:
    """The sampler's own device, or its turn on the learner's; None where all of it is in the learner's plan."""
    tightest = min(placement.sampler_devices, key=lambda one: _total(hardware, one) - _taken(hardware, one))
    if _in_turns(config, placement):
        return sampling_plan(
            learner,
            shape,
            config.lora,
            load,
            dtype=config.model.dtype,
            sampler_bytes=held.total,
            device=f"{hardware.name(placement.learner)} while it samples",
        )
    if placement.is_shared:
        return None
    return sampler_plan(
        sampler_bytes=held.total,
        device_bytes=_total(hardware, tightest),
        taken_bytes=_taken(hardware, tightest),
        device=hardware.name(tightest),
    )


def _in_turns(config: TrainConfig, placement: Placement) -> bool:
    return placement.is_shared and config.sampler.colocation.takes_turns


def served_weights(config: TrainConfig, shape: ModelShape) -> ServedWeights:
    """What the sampler holds of a model of this shape."""
    return ServedWeights(
        num_base=shape.num_weights,
        adapter_weights=shape.num_adapter_weights(config.lora) // config.lora.rank,
        rank=config.lora.rank,
        num_versions=config.schedule.max_staleness + 2,
        cached_per_token=2 * shape.num_layers * shape.kv_width,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        max_model_len=config.model.max_model_len,
        size=NUM_BYTES[config.model.dtype],
    )


def _total(hardware: Hardware, device: str) -> int:
    card = hardware.card(device)
    return device_memory() if card is None else card.total_bytes


def _taken(hardware: Hardware, device: str) -> int:
    card = hardware.card(device)
    return 0 if card is None else card.taken_bytes


def devices_of(config: TrainConfig, placement: Placement, hardware: Hardware) -> dict[str, dict[str, str]]:
    """For the manifest: where learner and sampler work, and how they multiply in fp32 there."""
    products = {
        "learner": float32_products(tf32=config.learner.tf32),
        "sampler": FLOAT32_PRODUCTS if isinstance(config.sampler, VllmSettings) else "the learner's",
    }
    devices = {"learner": (placement.learner,), "sampler": placement.sampler_devices}
    return {
        who: {
            "device": ", ".join(own),
            "name": ", ".join(map(hardware.name, own)),
            "float32_products": products[who],
        }
        for who, own in devices.items()
    }
