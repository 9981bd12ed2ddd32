"""From scored rollout groups to what the learner consumes: advantages, one group at a time where that is possible.

Two things need all groups of a step and wait for them: a deviation over the batch, and the control experiment's
permutation of rewards. Everything else streams.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence

from grpo_aflow.advantage import AdvantageKind, advantages, group_advantages
from grpo_aflow.rollout import derive_seed
from grpo_aflow.types import RolloutGroup, TrainingGroup

Batched = tuple[RolloutGroup, TrainingGroup]


async def streamed(
    groups: AsyncIterator[RolloutGroup], *, kind: AdvantageKind, temperature: float
) -> AsyncIterator[Batched]:
    """Each group with its advantages, the moment it is in."""
    async for group in groups:
        yield group, training_group(group, group_advantages(_rewards(group), kind), temperature)


async def gathered(
    groups: AsyncIterator[RolloutGroup], *, kind: AdvantageKind, temperature: float, permutation_seed: int | None
) -> AsyncIterator[Batched]:
    """The groups of a step once all are in; with a seed, their rewards are first permuted across the whole step."""
    whole = [group async for group in groups]
    rewards = [_rewards(group) for group in whole]
    if permutation_seed is not None:
        rewards = permuted(rewards, permutation_seed)
    for group, values in zip(whole, advantages(rewards, kind), strict=True):
        yield group, training_group(group, values, temperature)


def batched(
    groups: AsyncIterator[RolloutGroup],
    *,
    kind: AdvantageKind,
    temperature: float,
    permuted: bool,
    seed: int,
    step: int,
) -> AsyncIterator[Batched]:
    """Choose between the two."""
    if permuted or kind == AdvantageKind.batch_std:
        permutation_seed = derive_seed(seed, "permutation", step) if permuted else None
        return gathered(groups, kind=kind, temperature=temperature, permutation_seed=permutation_seed)
    return streamed(groups, kind=kind, temperature=temperature)


def permuted(rewards: Sequence[Sequence[float]], seed: int) -> list[list[float]]:
    """The same rewards, shuffled over all places of the step."""
    flat = [value for group in rewards for value in group]
    random.Random(seed).shuffle(flat)
    rest = iter(flat)
    return [[next(rest) for _ in group] for group in rewards]


def training_group(group: RolloutGroup, values: Sequence[float], temperature: float) -> TrainingGroup:
    return TrainingGroup(
        prompt_ids=group.prompt_ids,
        completions=tuple(rollout.completion for rollout in group.rollouts),
        advantages=tuple(values),
        temperature=temperature,
    )


def _rewards(group: RolloutGroup) -> list[float]:
    return [rollout.reward for rollout in group.rollouts]
