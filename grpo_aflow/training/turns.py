"""Who works on a card that sampler and learner share, and when: the two ways of `sampler.colocate`.

Stands between the groups of a step, as they come in, and the learner. `SideBySide`: the learner gets each group at once
and the engine goes on sampling. `InTurns`: the learner waits until every group of the step is in, so that no sample, no
score and no executor's call is under way; then the engine gives its memory back until the step is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from grpo_aflow.learner.hardware import release_cached
from grpo_aflow.protocols import ServedModel, SleepingSampler
from grpo_aflow.rollout.batches import Batched
from grpo_aflow.run.timing import Timeline
from grpo_aflow.sampler.settings import Sampling, placement_of


class Turns(Protocol):
    """One of them."""

    def learner(self, batches: AsyncGenerator[Batched]) -> AsyncGenerator[Batched]:
        """The groups of a step, each when the learner may work on it."""
        ...

    async def sampler(self) -> None:
        """The step is made: return when the engine serves, and adapters can be published."""
        ...


class SideBySide:
    """Both work at the same time."""

    def learner(self, batches: AsyncGenerator[Batched]) -> AsyncGenerator[Batched]:
        return batches

    async def sampler(self) -> None:
        """It has never stopped."""


class InTurns:
    """One sleeps while the other works.

    release: gives the driver back what the learner's allocator keeps for later; the engine needs it.
    """

    def __init__(
        self, sampler: SleepingSampler, timeline: Timeline, release: Callable[[], None] = release_cached
    ) -> None:
        self._sampler = sampler
        self._timeline = timeline
        self._release = release

    async def learner(self, batches: AsyncGenerator[Batched]) -> AsyncGenerator[Batched]:
        async with aclosing(batches):
            whole = [batch async for batch in batches]
        with self._timeline.busy("publish"):
            await self._sampler.sleep()
        for batch in whole:
            yield batch

    async def sampler(self) -> None:
        with self._timeline.busy("publish"):
            await asyncio.to_thread(self._release)
            await self._sampler.wake()


def turns(sampling: Sampling, served: ServedModel, timeline: Timeline) -> Turns:
    """What the settings ask for, where sampler and learner have one device; else there is nothing to take turns for."""
    if not (sampling.colocation.takes_turns and placement_of(served.model).is_shared):
        return SideBySide()
    assert isinstance(served.sampler, SleepingSampler)  # `TrainConfig.check_shared` has refused the others
    return InTurns(served.sampler, timeline)
