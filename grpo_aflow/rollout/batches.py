"""From scored rollout groups to what the learner consumes: advantages, one group at a time where that is possible.

Two things need all groups of a step and wait for them: a deviation over the batch, and the control experiment's
permutation of rewards. Everything else streams, in the order of arrival, each group with its place in the step's.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

from grpo_aflow.rollout.advantage import advantages, group_advantages
from grpo_aflow.rollout.seeds import derive_seed
from grpo_aflow.types import AdvantageKind, RolloutGroup, SamplingParams, TrainingGroup

Placed = tuple[int, RolloutGroup]  # a group with its place in the step's order
Batched = tuple[int, RolloutGroup, TrainingGroup]
Params = Callable[[int], SamplingParams]  # of a step; a late group was drawn with those of its own


async def streamed(groups: AsyncIterator[Placed], *, kind: AdvantageKind, params: Params) -> AsyncGenerator[Batched]:
    """Each group with its advantages, the moment it is in."""
    async for place, group in groups:
        yield place, group, training_group(group, group_advantages(_rewards(group), kind), params(group.step))


async def gathered(
    groups: AsyncIterator[Placed], *, kind: AdvantageKind, params: Params, permutation_seed: int | None
) -> AsyncGenerator[Batched]:
    """The groups of a step once all are in; with a seed, their rewards are first permuted across the whole step."""
    whole = sorted([placed async for placed in groups], key=lambda placed: placed[0])
    rewards = [_rewards(group) for _, group in whole]
    if permutation_seed is not None:
        rewards = permuted(rewards, permutation_seed)
    for (place, group), values in zip(whole, advantages(rewards, kind), strict=True):
        yield place, group, training_group(group, values, params(group.step))


def batched(
    groups: AsyncIterator[Placed],
    *,
    kind: AdvantageKind,
    params: Params,
    permuted: bool,
    seed: int,
    step: int,
) -> AsyncGenerator[Batched]:
    """Choose between the two."""
    if permuted or kind == AdvantageKind.batch_std:
        permutation_seed = derive_seed(seed, "permutation", step) if permuted else None
        return gathered(groups, kind=kind, params=params, permutation_seed=permutation_seed)
    return streamed(groups, kind=kind, params=params)


def permuted(rewards: Sequence[Sequence[float]], seed: int) -> list[list[float]]:
    """The same rewards, shuffled over all places of the step."""
    flat = [value for group in rewards for value in group]
    random.Random(seed).shuffle(flat)
    rest = iter(flat)
    return [[next(rest) for _ in group] for group in rewards]


def training_group(group: RolloutGroup, values: Sequence[float], params: SamplingParams) -> TrainingGroup:
    return TrainingGroup(
        prompt_ids=group.prompt_ids,
        completions=tuple(rollout.completion for rollout in group.rollouts),
        advantages=tuple(values),
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
    )


def _rewards(group: RolloutGroup) -> list[float]:
    return [rollout.reward for rollout in group.rollouts]
