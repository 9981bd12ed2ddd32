"""A learner of several ranks: whole groups are spread over them, and one sum over all makes the step.

Every rank holds the same adapter and optimizer; the ranks' sums are reduced once, at the step, with the normaliser of
the whole step (`update.ranks`), so the result does not depend on who had which group. How they share the work is said
by a `sharing.Sharing`. A rank that dies is started anew with the state of one that lives, and the step's groups, which
are kept until it is made, are given out again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from grpo_aflow.learner.rank import Given, LearnerCopy, Rank, Reference
from grpo_aflow.learner.sharing import Apart, Running, Sharing
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.learner.storage.checkpoints import Checkpoints
from grpo_aflow.learner.worker import Busy, noted
from grpo_aflow.types import Adapter, Completion, InfrastructureError, RankDied, TrainingGroup

if TYPE_CHECKING:
    from grpo_aflow.learner.update.step_stats import StepStats

T = TypeVar("T")
Share = Callable[[Sequence[Rank]], Sharing]
MAX_RECOVERIES = 3  # of a run: whatever kills ranks more often will not stop doing so


@dataclass(slots=True)
class _Step:
    """The step that is being gathered."""

    given: list[Given] = field(default_factory=list)
    running: set[Running] = field(default_factory=set)


class RankedWorker:
    """Implements `LearnerWorker` on ranks; `start` makes the rank of a number. Make one with `open`."""

    def __init__(
        self,
        ranks: list[Rank],
        start: Callable[[int], Awaitable[Rank]],
        version: int,
        say: Callable[[str], None],
        share: Share,
        busy: Busy = nullcontext,
    ) -> None:
        self._ranks = ranks
        self._busy = busy
        self._sharing = share(ranks)
        self._start = start
        self._version = version
        self._say = say
        self._step = _Step()
        self._mending = asyncio.Lock()
        self._kept: LearnerCopy | None = None  # of the ranks as they were, until all are mended
        self.num_recoveries = 0

    @classmethod
    async def open(
        cls,
        num_ranks: int,
        start: Callable[[int], Awaitable[Rank]],
        say: Callable[[str], None],
        share: Share = Apart,
        busy: Busy = nullcontext,
    ) -> RankedWorker:
        """Start all ranks and let them meet."""
        started = await asyncio.gather(*map(start, range(num_ranks)), return_exceptions=True)
        ranks = [rank for rank in started if not isinstance(rank, BaseException)]
        try:
            for failed in started:
                if isinstance(failed, BaseException):
                    raise failed
            await _meet(ranks)
            return cls(ranks, start, await ranks[0].version(), say, share, busy)
        except BaseException:
            for rank in ranks:
                rank.kill()
            raise

    @property
    def version(self) -> int:
        return self._version

    # --- an optimizer step --------------------------------------------------------------------------------------------

    async def backward(self, group: TrainingGroup, reference: Reference, place: int | None = None) -> None:
        async with self._mending:
            before, step = self.num_recoveries, self._step
            place = len(step.given) if place is None else place
            step.given.append(Given(group=group, reference=reference, place=place))
            step.running.update(self._noted(self._sharing.give(step.given[-1])))
        try:
            while len(step.running) >= self._sharing.num_running:
                done, step.running = await asyncio.wait(step.running, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.gather(*done)
        except RankDied as died:
            await self._recover(before, died)

    async def step(self, lr: float) -> StepStats:
        """See `Learner.step`; figures over all ranks."""
        while True:
            async with self._mending:
                before = self.num_recoveries
                running, self._step.running = {*self._step.running, *self._noted(self._sharing.rest())}, set()
            made: list[StepStats | BaseException] = [
                error
                for error in await asyncio.gather(*running, return_exceptions=True)
                if isinstance(error, BaseException)
            ]
            if not made:
                made = await asyncio.gather(*(rank.step(lr) for rank in self._ranks), return_exceptions=True)
            died, stats = _sorted_out(made)
            if died is not None:
                await self._recover(before, died)
                stats = [one for one in stats if int(one["update/version"]) > self._version]
            if stats:
                self._version = int(stats[0]["update/version"])
                self._begin()
                return {**stats[0], "time/learner_s": max(one["time/learner_s"] for one in stats)}

    def _begin(self, given: Sequence[Given] = ()) -> None:
        """A step anew, of these groups."""
        self._step = _Step(list(given))
        self._sharing.begin()
        for one in given:
            self._step.running.update(self._noted(self._sharing.give(one)))

    def _noted(self, running: Sequence[Running]) -> list[Running]:
        return [noted(one, self._busy) for one in running]

    # --- everything else ----------------------------------------------------------------------------------------------

    async def score(self, token_ids: Sequence[int], *, adapter: bool) -> tuple[float, ...]:
        return await self._mended(lambda: self._sharing.ask(lambda rank: rank.score(token_ids, adapter)))

    async def reference_logprobs(
        self, prompt_ids: Sequence[int], completions: Sequence[Completion], temperature: float
    ) -> tuple[tuple[float, ...], ...]:
        return await self._mended(
            lambda: self._sharing.ask(lambda rank: rank.reference_logprobs(prompt_ids, completions, temperature))
        )

    async def publish(self, store: AdapterStore) -> Adapter:
        files = await self._mended(lambda: self._ranks[0].adapter())
        return await asyncio.to_thread(store.publish_files, files, self._version)

    async def save(self, checkpoints: Checkpoints, step: int, extra: Mapping[str, Any]) -> Path:
        copy = await self._mended(self._copy)
        return await asyncio.to_thread(checkpoints.save, step, copy, extra)

    async def load(self, checkpoints: Checkpoints, step: int) -> Mapping[str, Any]:
        copy = await self._copy()
        extra = await asyncio.to_thread(checkpoints.load, copy, step)
        if step:
            await asyncio.gather(*(rank.load(copy.state) for rank in self._ranks))
            self._version = await self._ranks[0].version()
        return extra

    def close(self) -> None:
        for rank in self._ranks:
            rank.kill()

    async def _copy(self) -> LearnerCopy:
        """An interrupted step is forgotten by all ranks."""
        await asyncio.gather(*self._step.running, return_exceptions=True)
        self._begin()
        others = asyncio.gather(*(rank.version() for rank in self._ranks[1:]))
        copy, _ = await asyncio.gather(self._ranks[0].copy(), others)
        return copy

    # --- ranks that die -----------------------------------------------------------------------------------------------

    async def _mended(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`; where a rank has died it is replaced, and the work done again."""
        while True:
            async with self._mending:
                before = self.num_recoveries
            try:
                return await work()
            except RankDied as died:
                await self._recover(before, died)

    async def _recover(self, before: int, died: RankDied) -> None:
        """Go on without what died, unless another caller has seen to it.

        before: how many recoveries the caller knew of. Raises InfrastructureError where no rank lives, or too many
        died.
        """
        async with self._mending:
            while self.num_recoveries == before:
                try:
                    await self._mend(died)
                except RankDied as another:
                    before, died = self.num_recoveries, another

    async def _mend(self, died: RankDied) -> None:
        """Replace the dead, bring all to the state of the newest that lives, and give out the step's groups again.

        The step is made where one rank has made it.
        """
        self.num_recoveries += 1
        await asyncio.gather(*self._step.running, return_exceptions=True)
        asked = await asyncio.gather(*(rank.version() for rank in self._ranks), return_exceptions=True)
        versions = {number: found for number, found in enumerate(asked) if not isinstance(found, BaseException)}
        if not (versions or self._kept) or self.num_recoveries > MAX_RECOVERIES:
            raise InfrastructureError(f"{died}; no learner rank is left to go on from: resume the run") from died
        dead = [number for number in range(len(self._ranks)) if number not in versions]
        self._say(f"learner rank {', '.join(map(str, dead)) or '(a connection)'} has died; it is started anew")
        if self._kept is None:
            newest = max(versions, key=lambda number: versions[number])
            self._kept = await self._ranks[newest].copy()
        for number in self._sharing.replaced(dead):
            self._ranks[number].kill()
            self._ranks[number] = await self._start(number)
        await _meet(self._ranks)
        copy = self._kept
        await asyncio.gather(*(rank.load(copy.state) for rank in self._ranks))
        self._kept = None
        self._begin(self._step.given if copy.version == self._version else [])


def _sorted_out(made: Sequence[StepStats | BaseException]) -> tuple[RankDied | None, list[StepStats]]:
    """That a rank died, and what others have made all the same; any other error is raised."""
    errors = [one for one in made if isinstance(one, BaseException)]
    for error in errors:
        if not isinstance(error, RankDied):
            raise error
    died = next((error for error in errors if isinstance(error, RankDied)), None)
    return died, [one for one in made if not isinstance(one, BaseException)]


async def _meet(ranks: Sequence[Rank]) -> None:
    address = await ranks[0].address()
    await asyncio.gather(*(rank.join(address, number, len(ranks)) for number, rank in enumerate(ranks)))
