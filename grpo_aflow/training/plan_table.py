"""`make plan`: which documented command fits which card by the memory plan, and what makes a refused one fit.

    python -m grpo_aflow.training.plan_table

README.md shows the same table; a test holds the two together. Pure arithmetic on shapes: no card, no model, no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from grpo_aflow.config.composing import compose
from grpo_aflow.config.schema import TrainConfig
from grpo_aflow.learner.memory.plan import GIB, Load
from grpo_aflow.learner.memory.shapes import QWEN3_8B, QWEN25_05B, QWEN25_7B, ModelShape
from grpo_aflow.run.card_speeds import A100_40, H100, H200, L40S, RTX_4090
from grpo_aflow.run.cards import BF16_CAPABILITY, Card, Hardware, place
from grpo_aflow.sampler.colocation import Colocate
from grpo_aflow.training.planning import RunPlan, plan_run

CARDS = {card.gigabytes: card.memory_gib for card in (RTX_4090, A100_40, L40S, H100, H200)}  # GiB of so many GB
PROMPT = 3000  # tokens, at most: prompt=full has 900 to 1,100 around a problem of at most 4,000 characters
GPU = (  # README's line
    "prompt=full",
    "warmstart=none",
    "data_mix=hub",
    "executor=openai",
    "schedule=long",
    "sampler.max_tokens=2048",
    "objective.max_length=2048",
    "eval=none",
    "executor.max_usd=20",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A documented command line: how the README calls it, the model's shape, and its overrides."""

    label: str
    shape: ModelShape
    overrides: Sequence[str]


COMMANDS = (
    Command(label="`model=qwen25_7b ...`, as above", shape=QWEN25_7B, overrides=("model=qwen25_7b", *GPU)),
    Command(label="the same with `model=qwen3_8b`", shape=QWEN3_8B, overrides=("model=qwen3_8b", *GPU)),
    Command(label="`experiment=seed_7b`", shape=QWEN25_7B, overrides=("experiment=seed_7b",)),
    Command(
        label="`experiment=single_40gb` (7B; LoRA 64 on q, k, v, o)",
        shape=QWEN25_7B,
        overrides=("experiment=single_40gb",),
    ),
    Command(
        label="`experiment=small_real model.device=cuda`",
        shape=QWEN25_05B,
        overrides=("experiment=small_real", "model.device=cuda", "model.path=."),
    ),
)
_SMALL_ENGINE = ("sampler.kv_cache_gb=1.5", "sampler.max_num_seqs=32", "sampler.enforce_eager=true")
_SMALL_ADAPTER = ("lora.rank=64", "lora.target_modules=[q_proj,k_proj,v_proj,o_proj]")
# Sampler and learner by turns on their card, which wants strictly on-policy steps.
TURNS = {
    choice.value: (f"sampler.colocate={choice.value}", "schedule.max_staleness=0")
    for choice in (Colocate.share, Colocate.sleep)
}
# What makes a refused command fit: number of cards, overrides; the first one that does is shown.
FIXES: Sequence[tuple[int, Sequence[str]]] = (
    (1, ("sampler.kv_cache_gb=4",)),
    (1, TURNS["share"]),
    (1, TURNS["sleep"]),
    (1, _SMALL_ENGINE),
    (1, (*_SMALL_ENGINE, *_SMALL_ADAPTER)),
    (2, ()),
    (2, ("sampler.gpu_memory_utilization=0.9",)),
    (2, ("sampler.gpu_memory_utilization=0.9", "model.max_model_len=8192")),
)


@cache
def composed(*overrides: str) -> TrainConfig:
    """The config of a command line."""
    return compose(*overrides)


def planned(command: Command, gigabytes: int, *further: str, num_cards: int = 1) -> RunPlan:
    """The plan of a command on cards of so many GB."""
    config = composed(*command.overrides, *further)
    total = int(CARDS[gigabytes] * GIB)
    card = Card(name=f"{gigabytes} GB", capability=BF16_CAPABILITY, total_bytes=total, free_bytes=total)
    hardware = Hardware(cards=(card,) * num_cards, vllm_build="cuda")
    placement = place(
        hardware,
        default=config.model.device,
        learner=config.learner.device,
        sampler=config.sampler.device,
        dtype=config.model.dtype,
        needs_vllm=True,
        num_sampler_cards=config.sampler.num_cards,
    )
    return plan_run(
        config,
        command.shape,
        prompt_tokens=load_of(config).prompt_tokens,
        hardware=hardware,
        placement=placement,
    )


def load_of(config: TrainConfig) -> Load:
    """The longest that a step may hold."""
    return Load(
        prompt_tokens=min(PROMPT, config.model.max_model_len - config.sampler.max_tokens),
        completion_tokens=config.sampler.max_tokens,
        group_size=config.schedule.group_size,
    )


def fix(command: Command, gigabytes: int) -> str:
    """What makes a refused command fit such a card: overrides, a second card, or a smaller model."""
    for num_cards, further in FIXES:
        if planned(command, gigabytes, *further, num_cards=num_cards).fits:
            return " ".join([*["two such cards"][: num_cards - 1], *further])
    return "a smaller model: experiment=small_real model.device=cuda"


def readme_table() -> str:
    """The table in Markdown, and under it what makes refused commands fit."""
    head = f"| command | {' | '.join(f'{size} GB' for size in CARDS)} |\n|{'---|' * (1 + len(CARDS))}"
    rows = []
    for command in COMMANDS:
        cells = ["fits" if planned(command, size).fits else "refused" for size in CARDS]
        rows.append(f"| {command.label} | {' | '.join(cells)} |")
    return "\n".join([head, *rows])


def lines() -> Iterator[str]:
    """What `make plan` prints: by command and card what the learner's device holds, also by turns, or what to set."""
    for command in COMMANDS:
        yield command.label.replace("`", "")
        for size in CARDS:
            plan = planned(command, size)
            learner = plan.learner
            need = f"{learner.total / GIB:6.1f} of {learner.device_bytes / GIB:5.1f} GiB"
            if plan.fits:
                how = "recomputed" if learner.settings.gradient_checkpointing else "kept"
                tokens = learner.settings.max_tokens_per_micro_batch
                yield f"  {size:>4} GB  fits     {need}  micro-batches of {tokens} tokens, activations {how}"
            else:
                yield f"  {size:>4} GB  refused  {need}  fits with {fix(command, size)}"
            yield from (_turns_line(command, size, choice) for choice in TURNS)


def _turns_line(command: Command, size: int, choice: str) -> str:
    """The two halves of a step in which one sleeps while the other works."""
    plan = planned(command, size, *TURNS[choice])
    assert plan.sampler is not None
    verdict = "fits" if plan.fits else "refused"
    return (
        f"           {choice:<9}{verdict:<8} {plan.learner.total / GIB:5.1f} GiB while it learns, "
        f"{plan.sampler.total / GIB:5.1f} while it samples; micro-batches of "
        f"{plan.learner.settings.max_tokens_per_micro_batch} tokens"
    )


if __name__ == "__main__":
    for line in lines():
        print(line)
