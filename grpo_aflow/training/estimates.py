"""How long the stages of a training step should take on a card: reckoned from shapes and data sheets, never measured.

Pure arithmetic: operations and bytes from a model's shape (`learner.memory.shapes`), a card's peaks
(`run.card_speeds`), and the shares of these peaks that are assumed to be reached (`Assumed`). Written down before any
card was measured, so that `make gpu-check` can hold what it measures against it.

Letters: P prompt tokens, T completion tokens, G completions of a group, N groups of a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.memory.activations import kept_per_token, made_anew_per_token
from grpo_aflow.learner.memory.plan import Load
from grpo_aflow.learner.memory.shapes import ModelShape
from grpo_aflow.learner.settings import AdapterProducts, LearnerSettings, Packing
from grpo_aflow.run.card_speeds import CardSpeed
from grpo_aflow.sampler.colocation import Colocate, EngineBytes

SIZE = 2  # bytes of a weight and of an activation: bf16


@dataclass(frozen=True, kw_only=True, slots=True)
class Assumed:
    """Shares of a card's peaks, and times that no peak bounds. Assumptions: nothing here has been measured."""

    matrix_share: float = 0.55  # of the bf16 peak, in large products and attention
    adapter_share: float = 0.67  # of the fp32, TF32 or bf16 peak, in the adapter's narrow products
    bandwidth_share: float = 0.7  # of the memory's bandwidth
    launch_s: float = 8e-6  # of the host, for each kernel
    launches_per_layer: int = 90  # of a forward: its own, and PEFT's eight for each adapted map
    lora_slowdown: float = 1.15  # of decoding with adapters
    # Of vLLM's host for each decoding step: scheduling, handing out. On a card it is beside the step before, which is
    # still under way (its async scheduling; see docs/gpu.md), so a step takes the longer of both.
    decode_host_s: float = 2e-3
    file_rate: float = 1.3e9  # bytes a second of an adapter, written to /dev/shm and read again
    release_s: float = 0.3  # to unmap or map the KV cache, which is not copied
    asleep_rate: float = 1.5e9  # bytes a second into pinned memory (11 s for an 8B model on an A100, vllm issue 48337)
    awake_share: float = 0.25  # of PCIe's bandwidth, back again (2 s there)
    check_tokens: int = 1025  # of the probe that both sides score twice behind each publish


ASSUMED = Assumed()


# --- learner ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerTime:
    """An optimizer step on one group."""

    seconds: float
    mfu: float  # of the step's own operations; what is computed a second time does not count
    tokens_per_s: float


def step_flops(shape: ModelShape, load: Load) -> float:
    """Operations of one step on one group, as the learner computes it: the prompt once, logits of completions alone.

    Forward and the inputs' gradients; the frozen weights need none. What is computed a second time does not count.
    """
    head = 2 * shape.vocab_size * shape.hidden_size * load.group_size * load.completion_tokens
    attention = _attention_flops(shape, load)
    return 2.0 * (_map_flops(shape, load) + head) + 3.0 * attention  # attention has two inputs that need gradients


def recomputed_flops(shape: ModelShape, load: Load) -> float:
    """Operations that recomputing the layers in the backward adds: their forward, without the head."""
    return float(_map_flops(shape, load) + _attention_flops(shape, load))


def adapter_flops(shape: ModelShape, lora: LoraSpec, load: Load, *, recomputes: bool) -> float:
    """Operations of the adapter: forward (twice where it is recomputed), gradients of inputs and weights."""
    return 2.0 * shape.num_adapter_weights(lora) * _computed_tokens(load) * (4 if recomputes else 3)


def adapter_rate(card: CardSpeed, lora: LoraSpec, settings: LearnerSettings, assumed: Assumed = ASSUMED) -> float:
    """Operations a second in the adapter's products.

    These are narrow: a number that is read, or written, of `SIZE` bytes goes through 2 * rank of them, so in bf16 the
    memory's bandwidth bounds them, too.
    """
    if settings.adapter_products == AdapterProducts.float32:
        return (card.tf32_flops if settings.tf32 else card.fp32_flops) * assumed.adapter_share
    by_reading = 2 * lora.rank / SIZE * card.memory_bandwidth * assumed.bandwidth_share
    return min(card.bf16_flops * assumed.adapter_share, by_reading)


def learner_time(
    card: CardSpeed,
    shape: ModelShape,
    lora: LoraSpec,
    load: Load,
    settings: LearnerSettings,
    assumed: Assumed = ASSUMED,
) -> LearnerTime:
    """One optimizer step on one group, with the settings that the memory plan has chosen.

    The sum of products in bf16, the adapter's in fp32, TF32 or bf16, and activations that are written and read; or what
    the host needs to launch it all, where that takes longer.
    """
    recomputes = settings.gradient_checkpointing is True
    own = step_flops(shape, load)
    done = own + (recomputed_flops(shape, load) if recomputes else 0.0)
    matrices = done / (card.bf16_flops * assumed.matrix_share)
    rate = adapter_rate(card, lora, settings, assumed)
    adapter = adapter_flops(shape, lora, load, recomputes=recomputes) / rate
    passes = 3 if recomputes else 2
    is_shared = settings.packing == Packing.shared_prefix
    kept = kept_per_token(shape, lora, SIZE, settings.adapter_size(SIZE), is_shared=is_shared)
    anew = made_anew_per_token(shape, lora, SIZE)
    # Written by one operation, read by another.
    moved = 2 * (passes * (kept + anew) + anew) * shape.num_layers * _computed_tokens(load)
    on_card = matrices + adapter + moved / (card.memory_bandwidth * assumed.bandwidth_share)
    launches = (_num_micro_batches(load, settings) + 1) * shape.num_layers * assumed.launches_per_layer * (passes + 1)
    seconds = max(on_card, launches * assumed.launch_s)
    return LearnerTime(
        seconds=seconds, mfu=own / seconds / card.bf16_flops, tokens_per_s=_computed_tokens(load) / seconds
    )


def _computed_tokens(load: Load) -> int:
    return load.prompt_tokens + load.group_size * load.completion_tokens


def _map_flops(shape: ModelShape, load: Load) -> int:
    """A forward's linear maps."""
    layer = sum(rows * columns for rows, columns in shape.linears().values())
    return 2 * shape.num_layers * layer * _computed_tokens(load)


def _attention_flops(shape: ModelShape, load: Load) -> float:
    """A forward's scores and values, for each pair of a query and a key that it sees."""
    prompt, completion = load.prompt_tokens, load.completion_tokens
    pairs = prompt**2 / 2 + load.group_size * (completion * prompt + completion**2 / 2)
    return 4 * shape.num_layers * shape.q_width * pairs


def _num_micro_batches(load: Load, settings: LearnerSettings) -> int:
    """Rows of full length, by the plan's limits."""
    rows = settings.micro_batch
    if settings.max_tokens_per_micro_batch is not None:
        rows = max(1, min(rows, settings.max_tokens_per_micro_batch // load.completion_tokens))
    return math.ceil(load.group_size / rows)


# --- sampler ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingTime:
    """Completions of full length, drawn side by side."""

    seconds: float
    decode_step_s: float  # a token of each sequence
    tokens_per_s: float
    num_at_once: int


def sampling_time(
    card: CardSpeed,
    shape: ModelShape,
    lora: LoraSpec,
    load: Load,
    *,
    num_groups: int,
    most_at_once: int,
    kv_cache_bytes: int | None = None,
    assumed: Assumed = ASSUMED,
) -> SamplingTime:
    """`num_groups` groups at once: decoding reads the weights and each sequence's cache for every token.

    most_at_once: sequences in a batch (`sampler.max_num_seqs`). kv_cache_bytes: what is cached at most, at full length;
    None: all.
    """
    number = num_groups * load.group_size
    cached = 2 * shape.num_layers * shape.kv_width * SIZE  # bytes of a token
    longest = cached * (load.prompt_tokens + load.completion_tokens)
    fitting = most_at_once if kv_cache_bytes is None else min(most_at_once, max(1, kv_cache_bytes // longest))
    batch = min(number, fitting)
    weights = SIZE * (shape.num_weights + shape.num_adapter_weights(lora))
    read = weights + batch * cached * (load.prompt_tokens + load.completion_tokens / 2)
    by_memory = read / (card.memory_bandwidth * assumed.bandwidth_share)
    by_products = 2 * shape.num_used_weights * batch / (card.bf16_flops * assumed.matrix_share)
    step = max(max(by_memory, by_products) * assumed.lora_slowdown, assumed.decode_host_s)
    prompts = 2 * shape.num_used_weights * num_groups * load.prompt_tokens / (card.bf16_flops * assumed.matrix_share)
    seconds = prompts + number / batch * load.completion_tokens * step  # a sequence that ends makes room for the next
    return SamplingTime(
        seconds=seconds,
        decode_step_s=step,
        tokens_per_s=number * load.completion_tokens / seconds,
        num_at_once=batch,
    )


# --- between them -----------------------------------------------------------------------------------------------------


def publishing_time(shape: ModelShape, lora: LoraSpec, assumed: Assumed = ASSUMED) -> float:
    """Seconds to hand a version over: written once, read once."""
    size = SIZE * shape.num_adapter_weights(lora)
    return 2 * size / assumed.file_rate


def check_time(card: CardSpeed, shape: ModelShape, assumed: Assumed = ASSUMED) -> float:
    """Seconds of the log-prob check: on either side the probe under two sets of weights, at half the usual share."""
    return 4 * 2 * shape.num_used_weights * assumed.check_tokens / (card.bf16_flops * assumed.matrix_share / 2)


def hand_over_time(card: CardSpeed, held: EngineBytes, choice: Colocate, assumed: Assumed = ASSUMED) -> float:
    """Seconds a step in which the engine gives its memory back and takes it again."""
    if choice is Colocate.resident:
        return 0.0
    mapped = 2 * assumed.release_s
    if choice is Colocate.share:
        return mapped
    return mapped + held.weights / assumed.asleep_rate + held.weights / (card.host_bandwidth * assumed.awake_share)


# --- a step -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTime:
    """A training step whose completions all have full length; what executor and grading take is not in it."""

    sampling_s: float
    learner_s: float
    publishing_s: float  # with the log-prob check
    hand_over_s: float
    two_steps_s: float  # sampling of two steps' groups at once, as at staleness 1

    @property
    def on_policy_s(self) -> float:
        """At staleness 0: one after the other, as all groups come in at the same time."""
        return self.sampling_s + self.learner_s + self.publishing_s + self.hand_over_s

    @property
    def staleness_1_s(self) -> float:
        """On one card, side by side: twice the sequences share each read of the weights, and nothing is won beyond that
        by working at the same time, as both want the same card."""
        return self.two_steps_s / 2 + self.learner_s + self.publishing_s


def step_time(
    card: CardSpeed,
    shape: ModelShape,
    lora: LoraSpec,
    load: Load,
    settings: LearnerSettings,
    held: EngineBytes,
    *,
    num_groups: int,
    most_at_once: int,
    colocate: Colocate = Colocate.resident,
) -> StepTime:
    """A step of `num_groups` groups on one card that sampler and learner share."""

    def sampling(num_groups: int) -> float:
        return sampling_time(
            card,
            shape,
            lora,
            load,
            num_groups=num_groups,
            most_at_once=most_at_once,
            kv_cache_bytes=held.kv_cache,
        ).seconds

    return StepTime(
        sampling_s=sampling(num_groups),
        learner_s=num_groups * learner_time(card, shape, lora, load, settings).seconds,
        publishing_s=publishing_time(shape, lora) + check_time(card, shape),
        hand_over_s=hand_over_time(card, held, colocate),
        two_steps_s=sampling(2 * num_groups),
    )
