"""The memory plan: how much a run may need on its device, estimated from shapes before any model is loaded, and how its
micro-batches are cut so that it fits.

An estimate from above, in bytes: what autograd keeps for the backward of each decoder layer (`activations`), and what
exists twice for a moment. Allocator fragmentation and the driver's own share go into `RESERVE`. Where it was too low
nevertheless, the learner halves its micro-batches (`policy.out_of_memory`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace

from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.memory.activations import activation_bytes, logits_bytes, scoring_bytes
from grpo_aflow.learner.memory.shapes import ModelShape
from grpo_aflow.learner.settings import LearnerSettings, Packing
from grpo_aflow.types import UserError

GIB = 1 << 30
NUM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
RESERVE = 0.06  # of the device: driver, allocator fragmentation, kernels' workspaces
# fp32 each: the adapter, AdamW's two moments, the step's gradient sums, those of the group under way, the KL reference.
ADAPTER_COPIES = 6
ENOUGH_TOKENS = 16_384  # of a micro-batch: more would not make matrix products any faster
KEPT_TOKENS = 4_096  # of a micro-batch whose activations are kept; that smaller ones lose more by it is assumed
STEP_TOKENS = 256
GATHERED_LAYERS = 3  # of a sharded base at once: the one that computes, the next one, and the buffer it comes through


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """The longest tokens of a step: a prompt, a completion, and how many of them."""

    prompt_tokens: int  # P
    completion_tokens: int  # T
    group_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DevicePlan:
    """What one device is to hold, in bytes by purpose, and what it has."""

    parts: Mapping[str, int]
    device_bytes: int
    device: str = "the device"

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        return self.total <= self.device_bytes

    def render(self) -> str:
        """A table to print."""
        rows = [*self.parts.items(), ("together", self.total), ("device", self.device_bytes)]
        return "\n".join(f"{name:<24}{size / GIB:>10.2f} GiB" for name, size in rows)

    def check(self) -> None:
        """Raise UserError, with the numbers and the fix, when the plan does not fit."""
        if self.fits:
            return
        name, size = max(self.parts.items(), key=lambda part: part[1])
        raise UserError(
            f"the run needs {self.total / GIB:.1f} GiB but {self.device} has {self.device_bytes / GIB:.1f} GiB; the "
            f"largest part is {name} with {size / GIB:.1f} GiB: {self._fix(name)}"
        )

    def _fix(self, name: str) -> str:
        return _FIXES[name]


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan(DevicePlan):
    """The learner's device: also the settings that the bytes are for."""

    settings: LearnerSettings  # with nothing left open

    def render(self) -> str:
        """A table to print, and how micro-batches are cut."""
        return f"{super(MemoryPlan, self).render()}\nmicro-batches of at most {self._cut}"

    @property
    def summary(self) -> str:
        """One line, for the message of a run whose memory ran out in spite of it."""
        return (
            f"the memory plan had said {self.total / GIB:.1f} of {self.device_bytes / GIB:.1f} GiB with micro-batches "
            f"of {self._cut}"
        )

    @property
    def _cut(self) -> str:
        own = self.settings
        how = "activations recomputed" if own.gradient_checkpointing else "activations kept"
        at_once = f", {own.parallel_groups} groups at once" if (own.parallel_groups or 1) > 1 else ""
        return f"{own.micro_batch} rows and {own.max_tokens_per_micro_batch} tokens, {how}{at_once}"

    def _fix(self, name: str) -> str:
        if (self.settings.parallel_groups or 1) > 1 and name in ("activations", "logits chunk"):
            return "lower learner.parallel_groups, or set it to null"
        if name == "activations" and not self.settings.gradient_checkpointing:
            return "set learner.gradient_checkpointing=true, or lower sampler.max_tokens"
        return super(MemoryPlan, self)._fix(name)

    def with_groups(self, number: int, adapter_bytes: int) -> MemoryPlan:
        """The plan of a learner that computes that many groups at once, cut as for one. adapter_bytes: of gradients."""
        parts = dict(self.parts)
        parts["adapter and optimizer"] += (number - 1) * adapter_bytes
        for name in ("activations", "logits chunk"):
            parts[name] *= number
        return replace(self, parts=parts, settings=replace(self.settings, parallel_groups=number))

    def fits_beside(self, others_free: int | None) -> bool:
        """Whether it fits the device, and into what others leave of it; None: that is not looked at."""
        return self.fits and (others_free is None or self.total - self.parts["reserve"] <= others_free)

    def check_free(self, free_bytes: int) -> None:
        """Raise UserError when others hold so much of the machine's memory that the plan does not fit into the rest.

        Not part of the plan there: micro-batches are cut by it, and on the CPU a run is to be the same to the bit.
        """
        if not self.fits_beside(free_bytes):
            needed = self.total - self.parts["reserve"]
            raise UserError(
                f"the run needs {needed / GIB:.1f} GiB and only {free_bytes / GIB:.1f} of "
                f"{self.device_bytes / GIB:.1f} GiB are free: end what else runs on this machine"
            )


_FIXES = {
    "base weights": "choose a smaller model (7B takes 40 GB, with experiment=single_40gb), or model.dtype=bfloat16",
    "adapter and optimizer": "lower lora.rank",
    "activations": "lower learner.max_tokens_per_micro_batch or sampler.max_tokens",
    "logits chunk": "lower learner.logits_chunk",
    "sampler": "lower sampler.gpu_memory_utilization or sampler.kv_cache_gb (experiment=single_40gb shows how a 7B "
    "model fits 40 GB), or choose a smaller model",
    "other processes": "end them, or give the run another card (learner.device, sampler.device, CUDA_VISIBLE_DEVICES)",
    "reserve": "use a larger device",
}


def memory_plan(
    shape: ModelShape,
    lora: LoraSpec,
    settings: LearnerSettings,
    load: Load,
    *,
    dtype: str,
    device_bytes: int,
    sampler_bytes: int,
    taken_again: int = 0,
    taken_bytes: int = 0,
    base_shares: int = 1,
    device: str = "the device",
    most_groups: int = 1,
    free_bytes: int | None = None,
) -> MemoryPlan:
    """Plan a run whose sampler holds `sampler_bytes` (its own weights and cache) of the same device's memory.

    taken_again: what it takes besides when the learner's turn is over, and only scores. taken_bytes: what other
    processes have of the device. base_shares: over how many learner ranks the base's decoder layers are spread.
    most_groups: that are worth computing at once. free_bytes: of the device, where not all of it is.

    What the settings leave open is chosen here: activations are recomputed where keeping them would leave less than
    `KEPT_TOKENS` for a micro-batch, and a micro-batch takes what there is room for, at most `ENOUGH_TOKENS`. Groups are
    computed at once as far as they fit when cut like that, so their number changes no number of a step.
    """
    size = NUM_BYTES[dtype]
    head_copy = shape.vocab_size * shape.hidden_size * 4 if settings.lm_head_fp32 and size < 4 else 0
    parts = {
        "base weights": _held_weights(shape, base_shares) * size + head_copy,
        "adapter and optimizer": ADAPTER_COPIES * 4 * shape.num_adapter_weights(lora),
        "activations": 0,
        "logits chunk": logits_bytes(shape, settings),
        "sampler": sampler_bytes,
        "reserve": int(RESERVE * device_bytes),
        **({"other processes": taken_bytes} if taken_bytes else {}),
    }
    room = device_bytes - sum(parts.values())
    settings, parts["activations"] = _cut(shape, lora, settings, load, size, room, taken_again)
    one = MemoryPlan(parts=parts, device_bytes=device_bytes, settings=settings, device=device)
    given, gradients = settings.parallel_groups, 4 * shape.num_adapter_weights(lora)
    if given is not None:
        return one.with_groups(given, gradients)
    larger = (one.with_groups(number, gradients) for number in range(most_groups, 1, -1))
    return next((plan for plan in larger if plan.fits_beside(free_bytes)), one.with_groups(1, gradients))


def _held_weights(shape: ModelShape, base_shares: int) -> int:
    """Of the base, in one process that holds a share of its decoder layers and gathers them one after the other."""
    if base_shares == 1:
        return shape.num_weights
    layers = shape.num_layers * shape.num_layer_weights
    gathered = GATHERED_LAYERS * shape.num_layer_weights
    return shape.num_weights - layers + -(-layers // base_shares) + gathered


def sampling_plan(
    learning: MemoryPlan, shape: ModelShape, lora: LoraSpec, load: Load, *, dtype: str, sampler_bytes: int, device: str
) -> DevicePlan:
    """Plan the other half of a step in which learner and sampler take turns: all of the sampler, beside a learner that
    holds its weights and scores now and then (the reference, the log-prob check).

    learning: the plan of its own turn.
    """
    settings = learning.settings
    assert settings.max_tokens_per_micro_batch is not None  # the plan has chosen
    one_row = load.completion_tokens + (load.prompt_tokens if settings.packing == Packing.padded else 0)
    whole = min(settings.micro_batch, load.group_size) * one_row
    scoring = scoring_bytes(
        shape,
        lora,
        settings,
        num_tokens=max(one_row, min(settings.max_tokens_per_micro_batch, whole)),
        num_prompt=load.prompt_tokens,
        element_size=NUM_BYTES[dtype],
    )
    parts = {**learning.parts, "activations": scoring, "sampler": sampler_bytes}
    return DevicePlan(parts=parts, device_bytes=learning.device_bytes, device=device)


def sampler_plan(*, sampler_bytes: int, device_bytes: int, taken_bytes: int, device: str) -> DevicePlan:
    """Plan the device of a sampler that shares it with no learner."""
    parts = {"sampler": sampler_bytes, "reserve": int(RESERVE * device_bytes)}
    if taken_bytes:
        parts["other processes"] = taken_bytes
    return DevicePlan(parts=parts, device_bytes=device_bytes, device=device)


def _cut(
    shape: ModelShape,
    lora: LoraSpec,
    settings: LearnerSettings,
    load: Load,
    size: int,
    room: int,
    taken_again: int,
) -> tuple[LearnerSettings, int]:
    """Settings with nothing left open, and the bytes of their activations."""
    carried = load.prompt_tokens if settings.packing == Packing.padded else 0
    one_row = load.completion_tokens + carried
    whole = min(settings.micro_batch, load.group_size) * one_row
    most = settings.max_tokens_per_micro_batch or max(one_row, ENOUGH_TOKENS)
    is_open = settings.max_tokens_per_micro_batch is None
    given = settings.gradient_checkpointing
    for checkpointing in (False, True) if given is None else (given,):
        settings = replace(settings, gradient_checkpointing=checkpointing)

        def needed(tokens: int, settings: LearnerSettings = settings) -> int:
            return max(
                _activations(shape, lora, settings, load, tokens, size),
                scoring_bytes(
                    shape, lora, settings, num_tokens=tokens, num_prompt=load.prompt_tokens, element_size=size
                )
                + taken_again,
            )

        fitting = bisect_right(range(0, most + STEP_TOKENS, STEP_TOKENS), room, key=needed) - 1
        tokens = max(one_row, min(most, whole, STEP_TOKENS * fitting)) if is_open else max(one_row, min(most, whole))
        if tokens >= min(most, whole, KEPT_TOKENS) and needed(tokens) <= room:
            break
    return replace(settings, max_tokens_per_micro_batch=tokens if is_open else most), _activations(
        shape, lora, settings, load, tokens, size
    )


def _activations(
    shape: ModelShape, lora: LoraSpec, settings: LearnerSettings, load: Load, tokens: int, size: int
) -> int:
    return activation_bytes(shape, lora, settings, num_tokens=tokens, num_prompt=load.prompt_tokens, element_size=size)


def free_memory(device: str) -> int:
    """Bytes of it that nobody holds now."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def device_memory() -> int:
    """Bytes of memory that the machine has in all."""
    import psutil

    return int(psutil.virtual_memory().total)
