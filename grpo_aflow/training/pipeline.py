"""The streaming pipeline: which groups are under way, and in which order the learner gets them.

Groups of step k start as soon as step k-1-max_staleness is finished, all at once; the learner receives each group of a
step the moment it is in, with its place, by which the step is summed in task order. So at staleness 0 every group of a
step is sampled from the version that the step before it made, and at staleness s up to s+1 steps are under way
together. The number of groups in flight is bounded by that window; cancellation ends whatever is under way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from grpo_aflow.config.groups import Schedule
from grpo_aflow.rollout.advantage import informative
from grpo_aflow.rollout.batches import Placed
from grpo_aflow.types import RolloutGroup, Task

StartGroup = Callable[[Task, int, int, int], Coroutine[Any, Any, RolloutGroup]]  # (task, step, index, version)
Running = asyncio.Task[RolloutGroup]
Dropped = Callable[[int, int], None]  # (step, index)
RECHECK_S = 0.01  # between two looks at a deadline that an outage may have put off


@dataclass(slots=True)
class GroupCounts:
    """What became of a step's groups."""

    refilled: int = 0
    late_used: int = 0  # came after their own step's deadline and were trained on in this one
    late_dropped: int = 0  # came too late for the staleness bound

    def metrics(self) -> dict[str, float]:
        return {f"groups/{name}": getattr(self, name) for name in ("refilled", "late_used", "late_dropped")}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Started:
    """A group under way."""

    running: Running
    step: int
    index: int
    version: int  # that it was started under


class Pipeline:
    """Keeps the groups of up to max_staleness + 1 steps under way.

    tasks: (step, number, refill round) -> the tasks of a batch, a pure function; round 0 is the step's own batch.
    version: the policy version that is served now.
    dropped: told of each group that is ended because it came too late to be learned from.
    clock: seconds, by which `group_deadline_s` is counted; may stand still, as a run's does during an outage.
    """

    def __init__(
        self,
        *,
        schedule: Schedule,
        tasks: Callable[[int, int, int], Sequence[Task]],
        start_group: StartGroup,
        version: Callable[[], int],
        finished: int,
        dropped: Dropped = lambda step, index: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedule = schedule
        self._tasks = tasks
        self._start_group = start_group
        self._version = version
        self._dropped = dropped
        self._clock = clock
        self._steps: dict[int, list[_Started]] = {}
        self._late: list[_Started] = []
        self._refills: list[Running] = []
        self._launched = finished
        self.counts = GroupCounts()
        self.advance(finished)

    def advance(self, finished: int) -> None:
        """Start the groups of every step that may run now that step `finished` is done."""
        last = min(self._schedule.num_steps, finished + 1 + self._schedule.max_staleness)
        while self._launched < last:
            self._launched += 1
            step = self._launched
            tasks = self._tasks(step, self._schedule.prompts_per_step, 0)
            self._steps[step] = [self._launch(task, step, index) for index, task in enumerate(tasks)]

    async def groups(self, step: int) -> AsyncGenerator[Placed]:
        """The groups to train on in `step`, as they come in: its own, then late ones of earlier steps, then refills."""
        self.counts = GroupCounts()
        own, came = self._steps[step], set()
        missing = 0
        async for place, group in _arrivals([group.running for group in own], self._left_s()):
            came.add(place)
            missing += not informative(group)
            yield place, group
        place = len(own)
        async for group in self._late_groups():
            yield place, group
            place += 1
        self._late += [entry for i, entry in enumerate(own) if i not in came]
        del self._steps[step]
        index, budget, round_ = len(own), self._schedule.refill, 0
        while missing and budget:
            round_ += 1
            number = min(missing, budget)
            budget -= number
            tasks = self._tasks(step, number, round_)
            self._refills = [self._launch(task, step, index + i).running for i, task in enumerate(tasks)]
            async for i, group in _arrivals(self._refills, lambda: None):
                self.counts.refilled += 1
                missing -= informative(group)
                yield place + i, group
            index, place = index + number, place + number

    async def drop_late(self, version: int) -> None:
        """End the late groups that would be beyond the staleness bound under `version`.

        Called before that one is published: what they sample from an older version would keep it from being retired.
        """
        beyond = [late for late in self._late if version - late.version > self._schedule.max_staleness]
        self._late = [late for late in self._late if late not in beyond]
        self.counts.late_dropped += len(beyond)
        await _cancel([late.running for late in beyond])
        for late in beyond:
            self._dropped(late.step, late.index)

    async def close(self) -> None:
        groups = [*self._late, *(group for groups in self._steps.values() for group in groups)]
        await _cancel([*self._refills, *(group.running for group in groups)])
        self._late.clear()
        self._steps.clear()

    def _launch(self, task: Task, step: int, index: int) -> _Started:
        version = self._version()
        running = asyncio.create_task(self._start_group(task, step, index, version))
        return _Started(running=running, step=step, index=index, version=version)

    def _left_s(self) -> Callable[[], float | None]:
        """Tells what is left of the time that a step waits for its groups, from now on; None: as long as it takes."""
        limit, began = self._schedule.group_deadline_s, self._clock()
        return lambda: None if limit is None else limit - (self._clock() - began)

    async def _late_groups(self) -> AsyncGenerator[RolloutGroup]:
        """Groups of earlier steps that are in by now; those beyond the staleness bound are ended."""
        await self.drop_late(self._version())
        for late in [late for late in self._late if late.running.done()]:
            self._late.remove(late)  # not all at once: whatever ends this in between, `close` must know the others
            self.counts.late_used += 1
            yield late.running.result()


async def _arrivals(groups: Sequence[Running], left_s: Callable[[], float | None]) -> AsyncGenerator[Placed]:
    """Each group with its place, the moment it is in; when no time is left only those that are already there."""
    places = {running: place for place, running in enumerate(groups)}
    ended: asyncio.Queue[Running] = asyncio.Queue()
    for running in groups:  # told once each: waiting for the first of n would go through all n every time
        running.add_done_callback(ended.put_nowait)
    missing = len(groups)
    try:
        while missing:
            left = left_s()
            done = await _taken(ended, left if left is None or left > RECHECK_S else RECHECK_S * (left > 0))
            if not done and left is not None and left <= 0:
                return
            missing -= len(done)
            for running in sorted(done, key=places.__getitem__):
                yield places[running], running.result()
    finally:
        for running in groups:
            running.remove_done_callback(ended.put_nowait)


async def _taken(ended: asyncio.Queue[Running], timeout_s: float | None) -> list[Running]:
    """All that has ended by now; if nothing has, what ends first, or nothing within `timeout_s`."""
    await asyncio.sleep(0)  # callbacks of what is done already are run by the loop
    done = []
    if ended.empty():
        with suppress(TimeoutError):
            done.append(await asyncio.wait_for(ended.get(), timeout_s))
    while not ended.empty():
        done.append(ended.get_nowait())
    return done


async def _cancel(running: Sequence[Running]) -> None:
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
