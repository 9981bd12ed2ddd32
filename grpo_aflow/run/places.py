"""Processes of one kind: work goes to the one with the least to do, one that dies is started anew, others may join.

Behind engines (`sampler.routed`) and execution workers (`cluster.executions`), wherever these run.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from grpo_aflow.types import InfrastructureError, UserError

MAX_RESTARTS = 3  # of one place; after them the others go on without it


class Closable(Protocol):
    async def close(self) -> None:
        """End it; it may be dead already."""
        ...


ProcessT = TypeVar("ProcessT", bound=Closable)
Start = Callable[[int], Awaitable[ProcessT]]  # by the number of the place


@dataclass(slots=True)
class Place(Generic[ProcessT]):
    """Where a process runs, this one or the one that replaces it."""

    number: int
    process: ProcessT | None  # None: dead
    load: int = 0  # in whatever the owner counts
    num_restarts: int = 0
    restarting: asyncio.Task[None] | None = None


def least_loaded(loads: Mapping[int, int]) -> int:
    """The number with the smallest load; of several the first."""
    return min(loads, key=lambda number: (loads[number], number))


class Places(Generic[ProcessT]):
    """The places of one kind of process. Make them with `open`.

    Args:
        what: a process, for messages: "engine".
        lost: what becomes of a dead one's work, for messages: "its samples are drawn elsewhere".
        start: makes the process of a place, ready for work.
    """

    def __init__(
        self, what: str, lost: str, processes: Sequence[ProcessT], start: Start[ProcessT], say: Callable[[str], None]
    ) -> None:
        self._what, self._lost = what, lost
        self._places = [Place(number, process) for number, process in enumerate(processes)]
        self._start = start
        self._say = say
        self._changed = asyncio.Condition()  # a process has come back, or will not
        self._limit, self._start_joining = 0, start
        self._joining: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(len(processes))  # of places to come

    @classmethod
    async def open(
        cls, what: str, lost: str, number: int, start: Start[ProcessT], say: Callable[[str], None]
    ) -> Places[ProcessT]:
        """Start one process in each of `number` places; where one does not start, none stays."""
        started = await asyncio.gather(*map(start, range(number)), return_exceptions=True)
        processes = [process for process in started if not isinstance(process, BaseException)]
        for failed in started:
            if isinstance(failed, BaseException):
                await asyncio.gather(*(process.close() for process in processes))
                raise failed
        return cls(what, lost, processes, start, say)

    def grow(self, limit: int, start: Start[ProcessT]) -> None:
        """From now on keep `limit` processes, as far as there is room: those that are missing join when they are ready.

        start: makes one in a place of its own; waits, however long, until there is room.
        """
        self._limit, self._start_joining = limit, start
        self._invite()

    @property
    def num_restarts(self) -> int:
        return sum(place.num_restarts for place in self._places)

    def alive(self) -> list[tuple[Place[ProcessT], ProcessT]]:
        return [(place, place.process) for place in self._places if place.process is not None]

    def name(self, place: Place[ProcessT]) -> str:
        """Of the place's present process: one started anew has a new name."""
        return f"{self._what} {place.number}.{place.num_restarts}"

    async def chosen(self) -> tuple[Place[ProcessT], ProcessT]:
        """The process with the least to do; waits for one to come back where all are dead."""
        async with self._changed:
            while True:
                alive = {place.number: (place, process) for place, process in self.alive()}
                if alive:
                    return alive[least_loaded({number: place.load for number, (place, _) in alive.items()})]
                if all(place.restarting is None for place in self._places):
                    raise InfrastructureError(f"every {self._what} has died, and none comes back: resume the run")
                await self._changed.wait()

    def died(self, place: Place[ProcessT], dead: ProcessT, error: Exception) -> None:
        """Begin to start another one, unless somebody else has done so."""
        if place.process is not dead:
            return
        place.process = None
        if place.num_restarts >= MAX_RESTARTS:
            self._say(f"{self.name(place)} has died once more ({error}); the others go on without it")
            self._invite()
            return
        self._say(f"{self.name(place)} has died ({error}); {self._lost}, another one is started")
        place.restarting = asyncio.create_task(self._restart(place, dead))

    async def _restart(self, place: Place[ProcessT], dead: ProcessT) -> None:
        try:
            await dead.close()
            place.process = await self._start(place.number)
            place.num_restarts += 1
            self._say(f"{self.name(place)} is there")
        except UserError as error:
            self._say(f"{self.name(place)} cannot be started anew ({error}); the others go on without it")
        finally:
            place.restarting = None
            async with self._changed:
                self._changed.notify_all()
        self._invite()

    def _invite(self) -> None:
        """Begin to start as many as are missing."""
        present = sum(place.process is not None or place.restarting is not None for place in self._places)
        for _ in range(self._limit - present - len(self._joining)):
            task = asyncio.create_task(self._join(next(self._numbers)))
            self._joining.add(task)
            task.add_done_callback(self._joining.discard)

    async def _join(self, number: int) -> None:
        try:
            process = await self._start_joining(number)
        except UserError as error:
            self._limit -= 1  # what failed once would fail again
            self._say(f"{self._what} {number} cannot join ({error}); the others go on without it")
            return
        place = Place(number, process)
        self._places.append(place)
        self._say(f"{self.name(place)} has joined: {len(self.alive())} are at work")
        async with self._changed:
            self._changed.notify_all()

    async def close(self) -> None:
        starting = [place.restarting for place in self._places if place.restarting is not None]
        starting += self._joining
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        await asyncio.gather(*(process.close() for _, process in self.alive()))
