"""A sampler that outlives its engine: started once more when it dies, with the versions that were being served.

Stands between the run and an engine that lives in a process of its own. Samples that were lost are drawn again under
the same version; those that had arrived are kept. A second death ends the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing

from grpo_aflow.protocols import Sampler, SleepingSampler
from grpo_aflow.sampler.redraw import draw_missing
from grpo_aflow.types import Adapter, Completion, EngineDied, SamplingParams


class RestartingSampler:
    """Implements `protocols.Sampler` on top of `start`, which makes a fresh engine each time it is called.

    Where the engines can sleep, it is a `protocols.SleepingSampler`, too.
    """

    def __init__(self, sampler: Sampler, start: Callable[[], Awaitable[Sampler]], say: Callable[[str], None]) -> None:
        self._sampler = sampler
        self._start = start
        self._say = say
        self._adapters: dict[int, Adapter] = {}
        self._restart = asyncio.Lock()
        self.num_restarts = 0

    async def publish(self, adapter: Adapter) -> None:
        sampler = self._sampler
        try:
            await sampler.publish(adapter)
        except EngineDied as error:
            await self._recover(sampler, error)
            await self._sampler.publish(adapter)
        self._adapters[adapter.version] = adapter

    async def retire(self, version: int) -> None:
        """A dead engine serves nothing: the version is then simply not published again."""
        del self._adapters[version]
        sampler = self._sampler
        try:
            await sampler.retire(version)
        except EngineDied as error:
            await self._recover(sampler, error)

    async def sample(
        self,
        prompt_ids: Sequence[int],
        *,
        seeds: Sequence[int],
        params: SamplingParams,
        version: int,
        priority: int = 0,
    ) -> AsyncGenerator[tuple[int, Completion], None]:
        missing = list(range(len(seeds)))
        while missing:
            sampler = self._sampler
            stream = draw_missing(
                sampler, missing, prompt_ids, seeds=seeds, params=params, version=version, priority=priority
            )
            try:
                async with aclosing(stream):
                    async for drawn in stream:
                        yield drawn
            except EngineDied as error:
                await self._recover(sampler, error)

    async def score(self, token_ids: Sequence[int], *, version: int | None) -> tuple[float, ...]:
        sampler = self._sampler
        try:
            return await sampler.score(token_ids, version=version)
        except EngineDied as error:
            await self._recover(sampler, error)
            return await self._sampler.score(token_ids, version=version)

    async def scores(self, token_ids: Sequence[int], *, version: int | None) -> Mapping[str, tuple[float, ...]]:
        return {f"engine {self.num_restarts}": await self.score(token_ids, version=version)}

    async def sleep(self) -> None:
        sampler = self._sampler
        try:
            await _sleeping(sampler).sleep()
        except EngineDied as error:
            await self._recover(sampler, error)
            await _sleeping(self._sampler).sleep()

    async def wake(self) -> None:
        """In place of an engine that died in its sleep another one starts, which is awake."""
        sampler = self._sampler
        try:
            await _sleeping(sampler).wake()
        except EngineDied as error:
            await self._recover(sampler, error)

    async def close(self) -> None:
        await self._sampler.close()

    async def _recover(self, dead: Sampler, error: EngineDied) -> None:
        """Start another engine, unless somebody else has done so; raises `error` when one was started before."""
        async with self._restart:
            if self._sampler is not dead:
                return
            if self.num_restarts:
                raise error
            self.num_restarts += 1
            self._say("the sampler's engine has died; starting another one")
            await dead.close()
            sampler = await self._start()
            try:
                for adapter in self._adapters.values():
                    await sampler.publish(adapter)
            except BaseException:
                await sampler.close()
                raise
            self._sampler = sampler
            self._say(f"the engine is back; it serves versions {sorted(self._adapters)}")


def _sleeping(sampler: Sampler) -> SleepingSampler:
    if not isinstance(sampler, SleepingSampler):
        raise TypeError(f"{type(sampler).__name__} cannot sleep")
    return sampler
