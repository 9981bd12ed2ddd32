"""What a dead engine has lost is drawn once more: the part of it that all samplers over replaceable engines share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from grpo_aflow.protocols import Sampler
from grpo_aflow.types import Completion, SamplingParams


async def draw_missing(
    engine: Sampler,
    missing: list[int],
    prompt_ids: Sequence[int],
    *,
    seeds: Sequence[int],
    params: SamplingParams,
    version: int,
    priority: int,
) -> AsyncGenerator[tuple[int, Completion], None]:
    """Draw the `missing` members of a group of len(seeds); each that arrives is taken off the list.

    Raises EngineDied where the engine is gone; then the list says what is still to be drawn, under the same version.
    """
    asked = tuple(missing)  # the engine numbers the members of its call; these are they in the group
    stream = engine.sample(
        prompt_ids, seeds=[seeds[member] for member in asked], params=params, version=version, priority=priority
    )
    async with aclosing(stream):
        async for number, completion in stream:
            missing.remove(asked[number])
            yield asked[number], completion
