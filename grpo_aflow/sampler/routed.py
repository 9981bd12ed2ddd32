"""One sampler over several engines: a group goes to one of them, the one with the least to do.

A group stays whole, so that the engine computes its prompt once. What an engine has to do is counted in tokens: those
that its open requests hold in its key-value cache at most. An engine that dies loses its samples, which are drawn again
elsewhere under the same version; it is started anew in the background and joins with the versions that are served then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from grpo_aflow.protocols import Sampler
from grpo_aflow.types import Adapter, Completion, EngineDied, InfrastructureError, SamplingParams, UserError

T = TypeVar("T")

MAX_RESTARTS = 3  # of one engine; after them the others go on without it


@dataclass(slots=True)
class _Place:
    """Where an engine runs."""

    number: int
    engine: Sampler | None = None  # None: dead
    load: int = 0  # tokens
    num_restarts: int = 0
    restarting: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return f"engine {self.number}.{self.num_restarts}"


def tokens_held(num_prompt_tokens: int, num_samples: int, max_tokens: int) -> int:
    """In the key-value cache, at most, by samples that share their prompt."""
    return num_prompt_tokens + num_samples * max_tokens


def least_loaded(loads: Mapping[int, int]) -> int:
    """The number with the smallest load; of several the first."""
    return min(loads, key=lambda number: (loads[number], number))


class RoutedSampler:
    """Implements `protocols.Sampler` on engines that `start` makes by their number. Make one with `open`."""

    def __init__(
        self, engines: Sequence[Sampler], start: Callable[[int], Awaitable[Sampler]], say: Callable[[str], None]
    ) -> None:
        self._places = [_Place(number, engine) for number, engine in enumerate(engines)]
        self._start = start
        self._say = say
        self._adapters: dict[int, Adapter] = {}
        self._changed = asyncio.Condition()  # an engine has come back, or will not

    @classmethod
    async def open(
        cls, num_engines: int, start: Callable[[int], Awaitable[Sampler]], say: Callable[[str], None]
    ) -> RoutedSampler:
        """Start all engines; where one does not start, none stays."""
        started = await asyncio.gather(*map(start, range(num_engines)), return_exceptions=True)
        engines = [engine for engine in started if not isinstance(engine, BaseException)]
        for failed in started:
            if isinstance(failed, BaseException):
                await asyncio.gather(*(engine.close() for engine in engines))
                raise failed
        return cls(engines, start, say)

    @property
    def num_restarts(self) -> int:
        return sum(place.num_restarts for place in self._places)

    async def publish(self, adapter: Adapter) -> None:
        """To every engine that lives; the others get it when they are back."""
        self._adapters[adapter.version] = adapter
        await self._everywhere(lambda engine: engine.publish(adapter))

    async def retire(self, version: int) -> None:
        del self._adapters[version]
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
            place, engine = await self._chosen()
            asked = tuple(missing)  # the engine numbers the members of its call; these are they in the group
            load = tokens_held(len(prompt_ids), len(asked), params.max_tokens)
            place.load += load
            stream = engine.sample(
                prompt_ids, seeds=[seeds[m] for m in asked], params=params, version=version, priority=priority
            )
            try:
                async with aclosing(stream):
                    async for number, completion in stream:
                        missing.remove(asked[number])
                        yield asked[number], completion
            except EngineDied as error:
                self._died(place, engine, error)
            finally:
                place.load -= load

    async def score(self, token_ids: Sequence[int], *, version: int | None) -> tuple[float, ...]:
        return next(iter((await self.scores(token_ids, version=version)).values()))

    async def scores(self, token_ids: Sequence[int], *, version: int | None) -> Mapping[str, tuple[float, ...]]:
        while True:
            scores = await self._everywhere(lambda engine: engine.score(token_ids, version=version))
            if scores:
                return scores
            await self._chosen()

    async def close(self) -> None:
        restarting = [place.restarting for place in self._places if place.restarting is not None]
        for task in restarting:
            task.cancel()
        await asyncio.gather(*restarting, return_exceptions=True)
        await asyncio.gather(*(place.engine.close() for place in self._places if place.engine is not None))

    async def _everywhere(self, work: Callable[[Sampler], Awaitable[T]]) -> dict[str, T]:
        """The results by engine, of those that live to the end of it; any other fault than a death is raised."""
        alive = [(place, place.engine, place.name) for place in self._places if place.engine is not None]
        done = await asyncio.gather(*(work(engine) for _, engine, _ in alive), return_exceptions=True)
        results: dict[str, T] = {}
        for (place, engine, name), result in zip(alive, done, strict=True):
            if isinstance(result, EngineDied):
                self._died(place, engine, result)
            elif isinstance(result, BaseException):
                raise result
            else:
                results[name] = result
        return results

    async def _chosen(self) -> tuple[_Place, Sampler]:
        """The engine with the least to do; waits for one to come back where all are dead."""
        async with self._changed:
            while True:
                alive = {place.number: place.load for place in self._places if place.engine is not None}
                if alive:
                    place = self._places[least_loaded(alive)]
                    assert place.engine is not None
                    return place, place.engine
                if all(place.restarting is None for place in self._places):
                    raise InfrastructureError("every engine has died, and none comes back: resume the run")
                await self._changed.wait()

    # --- engines that die ---------------------------------------------------------------------------------------------

    def _died(self, place: _Place, dead: Sampler, error: EngineDied) -> None:
        """Begin to start another one, unless somebody else has done so."""
        if place.engine is not dead:
            return
        place.engine = None
        if place.num_restarts >= MAX_RESTARTS:
            self._say(f"{place.name} has died once more ({error}); the others go on without it")
            return
        self._say(f"{place.name} has died ({error}); its samples are drawn elsewhere, another one is started")
        place.restarting = asyncio.create_task(self._restart(place, dead))

    async def _restart(self, place: _Place, dead: Sampler) -> None:
        engine: Sampler | None = None
        try:
            await dead.close()
            engine = await self._start(place.number)
            await self._catch_up(engine)
            place.num_restarts += 1
            place.engine = engine
            self._say(f"{place.name} is there; it serves versions {sorted(self._adapters)}")
        except UserError as error:
            self._say(f"{place.name} cannot be started anew ({error}); the others go on without it")
        finally:
            place.restarting = None
            if engine is not None and place.engine is not engine:
                await engine.close()
            async with self._changed:
                self._changed.notify_all()

    async def _catch_up(self, engine: Sampler) -> None:
        """Publish what is served, and what is published meanwhile."""
        served: set[int] = set()
        while served != self._adapters.keys():
            for version in [version for version in self._adapters if version not in served]:
                adapter = self._adapters.get(version)
                try:
                    if adapter is not None:
                        await engine.publish(adapter)
                        served.add(version)
                except InfrastructureError:
                    if version in self._adapters:  # else it was retired, and its files are gone
                        raise
            for version in served - self._adapters.keys():
                await engine.retire(version)
                served.discard(version)
