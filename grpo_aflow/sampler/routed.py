"""One sampler over several engines: a group goes to one of them, the one with the least to do.

A group stays whole, so that the engine computes its prompt once. What an engine has to do is counted in tokens of its
key-value cache: what it says that it holds, with every sample that it gives, and what it has been given since. One that
says nothing is taken to hold what its open groups may hold at most.

An engine that dies loses its samples, which are drawn again elsewhere under the same version; it is started anew in the
background (`run.places`) and joins with the versions that are served then. So does an engine for which there is room
only later.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol, TypeVar, runtime_checkable

from grpo_aflow.protocols import Sampler
from grpo_aflow.run.places import Place, Places, Start
from grpo_aflow.sampler.cache_use import tokens_held
from grpo_aflow.sampler.redraw import draw_missing
from grpo_aflow.types import Adapter, Completion, EngineDied, InfrastructureError, SamplingParams

T = TypeVar("T")


@runtime_checkable
class TellsCacheUse(Protocol):
    """An engine that knows what it holds."""

    @property
    def cache_tokens(self) -> int | None:
        """In its key-value cache now, or as soon as there is room for what waits; None: not known."""
        ...


class Served:
    """The versions that every engine has to serve."""

    def __init__(self) -> None:
        self.adapters: dict[int, Adapter] = {}

    def starting(self, start: Start[Sampler]) -> Start[Sampler]:
        """`start`, followed by all that is served: an engine is ready when nothing is missing."""

        async def start_and_publish(number: int) -> Sampler:
            engine = await start(number)
            try:
                await self._catch_up(engine)
            except BaseException:
                await engine.close()
                raise
            return engine

        return start_and_publish

    async def _catch_up(self, engine: Sampler) -> None:
        """Publish what is served, and what is published meanwhile."""
        there: set[int] = set()
        while there != self.adapters.keys():
            for version in [version for version in self.adapters if version not in there]:
                adapter = self.adapters.get(version)
                try:
                    if adapter is not None:
                        await engine.publish(adapter)
                        there.add(version)
                except InfrastructureError:
                    if version in self.adapters:  # else it was retired, and its files are gone
                        raise
            for version in there - self.adapters.keys():
                await engine.retire(version)
                there.discard(version)


class RoutedSampler:
    """Implements `protocols.Sampler` on several engines. Make one with `open`."""

    def __init__(self, engines: Places[Sampler], served: Served) -> None:
        self._engines = engines
        self._served = served
        self._open: Counter[int] = Counter()  # groups by the number of their place

    @classmethod
    async def open(cls, num_engines: int, start: Start[Sampler], say: Callable[[str], None]) -> RoutedSampler:
        """Start all engines; where one does not start, none stays."""
        served = Served()
        lost = "its samples are drawn elsewhere"
        return cls(await Places.open("engine", lost, num_engines, served.starting(start), say), served)

    def grow(self, limit: int, start: Start[Sampler]) -> None:
        """Keep `limit` engines as far as there is room; see `Places.grow`."""
        self._engines.grow(limit, self._served.starting(start))

    @property
    def num_restarts(self) -> int:
        return self._engines.num_restarts

    async def publish(self, adapter: Adapter) -> None:
        """To every engine that lives; the others get it when they are back."""
        self._served.adapters[adapter.version] = adapter
        await self._everywhere(lambda engine: engine.publish(adapter))

    async def retire(self, version: int) -> None:
        del self._served.adapters[version]
        await self._everywhere(lambda engine: engine.retire(version))

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
            place, engine = await self._engines.chosen()
            load = tokens_held(len(prompt_ids), len(missing), params.max_tokens)
            place.load += load
            self._open[place.number] += 1
            stream = draw_missing(
                engine, missing, prompt_ids, seeds=seeds, params=params, version=version, priority=priority
            )
            try:
                async with aclosing(stream):
                    async for drawn in stream:
                        if (told := _told(engine)) is not None:
                            place.load = told
                        yield drawn
            except EngineDied as error:
                self._engines.died(place, engine, error)
            finally:
                self._end(place, engine, load)

    async def score(self, token_ids: Sequence[int], *, version: int | None) -> tuple[float, ...]:
        return next(iter((await self.scores(token_ids, version=version)).values()))

    async def scores(self, token_ids: Sequence[int], *, version: int | None) -> Mapping[str, tuple[float, ...]]:
        while True:
            scores = await self._everywhere(lambda engine: engine.score(token_ids, version=version))
            if scores:
                return scores
            await self._engines.chosen()

    async def close(self) -> None:
        await self._engines.close()

    def _end(self, place: Place[Sampler], engine: Sampler, load: int) -> None:
        """Of one group there."""
        self._open[place.number] -= 1
        if not self._open[place.number]:
            place.load = 0
        elif _told(engine) is None:
            place.load -= load

    async def _everywhere(self, work: Callable[[Sampler], Awaitable[T]]) -> dict[str, T]:
        """The results by engine, of those that live to the end of it; any other fault than a death is raised."""
        alive = [(place, engine, self._engines.name(place)) for place, engine in self._engines.alive()]
        done = await asyncio.gather(*(work(engine) for _, engine, _ in alive), return_exceptions=True)
        results: dict[str, T] = {}
        for (place, engine, name), result in zip(alive, done, strict=True):
            if isinstance(result, EngineDied):
                self._engines.died(place, engine, result)
            elif isinstance(result, BaseException):
                raise result
            else:
                results[name] = result
        return results


def _told(engine: Sampler) -> int | None:
    return engine.cache_tokens if isinstance(engine, TellsCacheUse) else None
