"""What a run will hold on its devices, before a model is loaded: a memory plan for each of them.

Stands between the config, whose groups say what they hold, and `learner.memory.plan`, which adds it up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from grpo_aflow.config.schema import TrainConfig
from grpo_aflow.learner.memory.plan import (
    NUM_BYTES,
    DevicePlan,
    Load,
    MemoryPlan,
    device_memory,
    memory_plan,
    sampler_plan,
)
from grpo_aflow.learner.memory.shapes import ModelShape
from grpo_aflow.run.cards import CPU, Hardware, Placement
from grpo_aflow.sampler.settings import ServedWeights
from grpo_aflow.types import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """One plan for each device of a run."""

    learner: MemoryPlan
    sampler: DevicePlan | None  # None: it is on the learner's device, and in its plan
    check_sampler: Callable[[], None]  # raises UserError where its settings leave the engine too little

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

    def render(self) -> str:
        """The plans as text, each under its device."""
        plans = [self.learner] if self.sampler is None else [self.learner, self.sampler]
        return "\n".join(f"{plan.device}:\n{plan.render()}" for plan in plans)


def plan_run(
    config: TrainConfig, shape: ModelShape, *, prompt_tokens: int, hardware: Hardware, placement: Placement
) -> RunPlan:
    """Plan a run of `config` on a model of this shape, with prompts of at most `prompt_tokens`."""
    dtype = config.model.dtype
    device_bytes = _total(hardware, placement.sampler)
    weights = served_weights(config, shape)
    on_card = placement.sampler != CPU
    sampler_bytes = config.sampler.memory(weights, device_bytes=device_bytes, on_card=on_card)
    check_sampler = partial(config.sampler.check_memory, weights, device_bytes=device_bytes, on_card=on_card)
    learner = memory_plan(
        shape,
        config.lora,
        config.learner,
        Load(
            prompt_tokens=prompt_tokens,
            completion_tokens=config.sampler.max_tokens,
            group_size=config.schedule.group_size,
        ),
        dtype=dtype,
        device_bytes=_total(hardware, placement.learner),
        sampler_bytes=sampler_bytes if placement.is_shared else 0,
        taken_bytes=_taken(hardware, placement.learner),
        device=hardware.name(placement.learner),
    )
    if placement.is_shared:
        return RunPlan(learner=learner, sampler=None, check_sampler=check_sampler)
    own = sampler_plan(
        sampler_bytes=sampler_bytes,
        device_bytes=device_bytes,
        taken_bytes=_taken(hardware, placement.sampler),
        device=hardware.name(placement.sampler),
    )
    return RunPlan(learner=learner, sampler=own, check_sampler=check_sampler)


def served_weights(config: TrainConfig, shape: ModelShape) -> ServedWeights:
    """What the sampler holds of a model of this shape."""
    return ServedWeights(
        num_base=shape.num_weights,
        adapter_weights=shape.num_adapter_weights(config.lora) // config.lora.rank,
        rank=config.lora.rank,
        num_versions=config.schedule.max_staleness + 2,
        cached_per_token=2 * shape.num_layers * shape.kv_width,
        max_model_len=config.model.max_model_len,
        size=NUM_BYTES[config.model.dtype],
    )


def _total(hardware: Hardware, device: str) -> int:
    card = hardware.card(device)
    return device_memory() if card is None else card.total_bytes


def _taken(hardware: Hardware, device: str) -> int:
    card = hardware.card(device)
    return 0 if card is None else card.taken_bytes
