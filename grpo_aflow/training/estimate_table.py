"""`make plan`, second half: how long each stage of a training step should take, by card.

    python -m grpo_aflow.training.estimate_table

docs/gpu.md shows the same table; a test holds the two together. Pure arithmetic (`estimates`): no card, no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from grpo_aflow.learner.memory.plan import GIB, Load
from grpo_aflow.learner.memory.shapes import QWEN25_05B, QWEN25_7B, ModelShape
from grpo_aflow.learner.settings import AdapterProducts
from grpo_aflow.run.card_speeds import A100_40, A100_80, CARD_SPEEDS, H100, H200, L40S, CardSpeed
from grpo_aflow.sampler.colocation import Colocate
from grpo_aflow.sampler.settings import VllmSettings
from grpo_aflow.training.estimates import (
    ASSUMED,
    StepTime,
    check_time,
    hand_over_time,
    learner_time,
    publishing_time,
    sampling_time,
    step_time,
)
from grpo_aflow.training.plan_table import COMMANDS, Command, composed, load_of, planned
from grpo_aflow.training.planning import served_weights
from grpo_aflow.training.trials import LONG, LORA_128, SHORT, trial_plan

SHOWN = (H200, H100, A100_80, L40S, A100_40)
SEED = next(command for command in COMMANDS if "experiment=seed_7b" in command.overrides)
FLOAT32, BASE = AdapterProducts.float32, AdapterProducts.base
BASE_PRODUCTS = f"learner.adapter_products={BASE}"
REFUSED = "refused"  # the memory plan does not fit
Stage = Callable[[CardSpeed], str]


def _learner(shape: ModelShape, load: Load, *, tf32: bool = False, products: AdapterProducts = FLOAT32) -> Stage:
    """A trial of `make gpu-check`."""

    def stage(card: CardSpeed) -> str:
        room = int(card.memory_gib * GIB)
        plan = trial_plan(shape, LORA_128, load, device_bytes=room, tf32=tf32, adapter_products=products)
        if not plan.fits:
            return REFUSED
        found = learner_time(card, shape, LORA_128, load, plan.settings)
        return f"{found.seconds:.2f} s, MFU {found.mfu:.0%}"

    return stage


def _decoding(load: Load, *, number: int) -> Stage:
    """So many completions at once, of which each has its own prompt."""

    def stage(card: CardSpeed) -> str:
        found = sampling_time(card, QWEN25_7B, LORA_128, load, num_groups=number // load.group_size, most_at_once=256)
        return f"{found.decode_step_s * 1e3:.1f} ms, {found.tokens_per_s:,.0f} tokens/s"

    return stage


def _hand_over(choice: Colocate) -> Stage:
    """The README's 7B command by turns."""
    config = composed(*COMMANDS[0].overrides, f"sampler.colocate={choice.value}", "schedule.max_staleness=0")

    def stage(card: CardSpeed) -> str:
        weights = served_weights(config, QWEN25_7B)
        held = config.sampler.memory(weights, device_bytes=int(card.memory_gib * GIB), on_card=True)
        return f"{hand_over_time(card, held, choice):.1f} s"

    return stage


def _seed_step(of: Callable[[StepTime], float], *more: str) -> Stage:
    command = replace(SEED, overrides=(*SEED.overrides, *more))

    def stage(card: CardSpeed) -> str:
        found = command_time(command, card)
        return REFUSED if found is None else f"{of(found):.0f} s"

    return stage


def stages() -> Mapping[str, Stage]:
    """What is estimated, by the words for it."""
    size = 2 * QWEN25_7B.num_adapter_weights(LORA_128) / 1e9
    return {
        "learner 0.5B, SHORT": _learner(QWEN25_05B, SHORT),
        "learner 7B, SHORT": _learner(QWEN25_7B, SHORT),
        "the same with `learner.tf32=true`": _learner(QWEN25_7B, SHORT, tf32=True),
        "the same with `learner.adapter_products=base`": _learner(QWEN25_7B, SHORT, products=BASE),
        "learner 7B, LONG": _learner(QWEN25_7B, LONG),
        "the same with `learner.tf32=true` ": _learner(QWEN25_7B, LONG, tf32=True),
        "the same with `learner.adapter_products=base` ": _learner(QWEN25_7B, LONG, products=BASE),
        "decoding 7B, 16 sequences of 8,192 tokens": _decoding(LONG, number=16),
        "decoding 7B, 256 sequences of 1,024 tokens": _decoding(SHORT, number=256),
        f"publishing an adapter of {size:.2f} GB": lambda card: f"{publishing_time(QWEN25_7B, LORA_128):.1f} s",
        "log-prob check behind it": lambda card: f"{check_time(card, QWEN25_7B):.2f} s",
        "giving way and back, `share`": _hand_over(Colocate.share),
        "giving way and back, `sleep`": _hand_over(Colocate.sleep),
        "`experiment=seed_7b`: sampling 16 completions of 8,192 tokens": _seed_step(lambda found: found.sampling_s),
        "its learner": _seed_step(lambda found: found.learner_s),
        "its step at staleness 0": _seed_step(lambda found: found.on_policy_s),
        "its step at staleness 1": _seed_step(lambda found: found.staleness_1_s),
        "the same with `learner.adapter_products=base`  ": _seed_step(lambda found: found.staleness_1_s, BASE_PRODUCTS),
    }


def table(cards: Sequence[CardSpeed] = SHOWN) -> str:
    """All stages on some cards, in Markdown."""
    head = f"| stage | {' | '.join(card.name for card in cards)} |\n|{'---|' * (1 + len(cards))}"
    rows = [f"| {name.strip()} | {' | '.join(map(stage, cards))} |" for name, stage in stages().items()]
    return "\n".join([head, *rows])


def command_time(command: Command, card: CardSpeed) -> StepTime | None:
    """A step of a documented command on one such card, side by side; None where its memory plan does not fit."""
    plan = planned(command, card.gigabytes)
    if not plan.fits:
        return None
    config = composed(*command.overrides)
    weights = served_weights(config, command.shape)
    return step_time(
        card,
        command.shape,
        config.lora,
        load_of(config),
        plan.learner.settings,
        config.sampler.memory(weights, device_bytes=int(card.memory_gib * GIB), on_card=True),
        num_groups=config.schedule.prompts_per_step,
        most_at_once=config.sampler.max_num_seqs if isinstance(config.sampler, VllmSettings) else 1,
    )


def assumptions() -> str:
    """What the table rests on besides shapes and data sheets, in one paragraph."""
    a = ASSUMED
    return (
        f"Assumed: {a.matrix_share:.0%} of the bf16 peak in large products and attention, {a.adapter_share:.0%} of the "
        f"fp32, TF32 or bf16 peak in the adapter's, {a.bandwidth_share:.0%} of the memory's bandwidth; "
        f"{a.launch_s * 1e6:g} us of the host for each of {a.launches_per_layer} kernels of a layer's forward; "
        f"decoding with adapters {a.lora_slowdown - 1:.0%} slower, and {a.decode_host_s * 1e3:g} ms of vLLM's host for "
        f"each token, beside the card's work; adapters written and read at {a.file_rate / 1e9:g} GB/s; "
        f"{a.release_s:g} s to unmap or map the KV "
        f"cache; weights asleep at {a.asleep_rate / 1e9:g} GB/s and back at {a.awake_share:.0%} of PCIe's peak."
    )


def lines() -> Iterator[str]:
    """What `make plan` prints: the table, then by command and card how long a step should take."""
    yield "estimates, not measured; completions of full length; without what executor and grading take"
    yield assumptions()
    yield table()
    for command in COMMANDS:
        config = composed(*command.overrides)
        number = config.schedule.prompts_per_step * config.schedule.group_size
        yield f"{command.label.replace('`', '')}: {number} completions of {config.sampler.max_tokens} tokens a step"
        for card in CARD_SPEEDS:
            found = command_time(command, card)
            yield f"  {card.name:<12}" + (REFUSED if found is None else _parts(found))


def _parts(found: StepTime) -> str:
    return (
        f"sampling {found.sampling_s:6.1f} s + learner {found.learner_s:6.1f} s + publishing and check "
        f"{found.publishing_s:4.1f} s = {found.on_policy_s:6.1f} s at staleness 0, {found.staleness_1_s:6.1f} s at 1"
    )


if __name__ == "__main__":
    for line in lines():
        print(line)
