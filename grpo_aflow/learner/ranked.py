"""A learner of several ranks: whole groups are spread over them, and one sum over all makes the step.

Every rank holds the same adapter and optimizer; the ranks' sums are reduced once, at the step, with the normaliser of
the whole step (`update.ranks`), so the result does not depend on who had which group. A rank that dies is started anew
with the state of one that lives, and the step's groups, which are kept until it is made, are given out again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.learner.storage.checkpoints import Checkpoints
from grpo_aflow.types import Adapter, Completion, InfrastructureError, RankDied, TrainingGroup

if TYPE_CHECKING:
    from grpo_aflow.learner.learner import LearnerState
    from grpo_aflow.learner.update.step_stats import StepStats

T = TypeVar("T")
Reference = Sequence[Sequence[float]] | None
MAX_RECOVERIES = 3  # of a run: whatever kills ranks more often will not stop doing so


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """A group that was given to the learner in the present step."""

    group: TrainingGroup
    reference: Reference
    place: int


@dataclass(kw_only=True, slots=True)
class LearnerCopy:
    """What a rank holds, in this process: `Checkpoints` saves it and loads into it as into a learner."""

    lora: LoraSpec
    version: int
    base_id: str
    start_id: str | None
    state: LearnerState
    adapter: Mapping[str, bytes]  # the adapter's files in PEFT's format, by name

    def save_adapter(self, folder: Path) -> None:
        write_files(folder, self.adapter)

    def state_dict(self) -> LearnerState:
        return self.state

    def load_state_dict(self, state: LearnerState) -> None:
        self.state = state

    def discard(self) -> None:
        """Nothing to forget."""


class Rank(Protocol):
    """One learner in a process of its own. Every method raises RankDied where that process is gone."""

    async def address(self) -> str:
        """host:port of a free port on its machine, where the ranks can meet."""
        ...

    async def join(self, address: str, rank: int, num_ranks: int) -> None:
        """Meet the others; all must be called together. With one rank nothing is met."""
        ...

    async def backward(self, given: Given) -> None: ...
    async def step(self, lr: float) -> StepStats: ...
    async def score(self, token_ids: Sequence[int], adapter: bool) -> tuple[float, ...]: ...
    async def reference_logprobs(
        self, prompt_ids: Sequence[int], completions: Sequence[Completion], temperature: float
    ) -> tuple[tuple[float, ...], ...]: ...
    async def version(self) -> int:
        """Of the policy; the groups given since the last step are forgotten."""
        ...

    async def copy(self) -> LearnerCopy:
        """All that it holds; the groups given since the last step are forgotten."""
        ...

    async def adapter(self) -> Mapping[str, bytes]: ...
    async def load(self, state: LearnerState) -> None: ...
    def kill(self) -> None: ...


def num_tokens(group: TrainingGroup) -> int:
    """What a group costs: its prompt once and its completions; nothing without a signal."""
    if not any(advantage for advantage in group.advantages if advantage == advantage):
        return 0
    return len(group.prompt_ids) + sum(len(completion.token_ids) for completion in group.completions)


def least(loads: Sequence[float]) -> int:
    """The first of those with the smallest load."""
    return min(range(len(loads)), key=loads.__getitem__)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@dataclass(slots=True)
class _Step:
    """The step that is being gathered."""

    loads: list[int]  # tokens by rank
    given: list[Given] = field(default_factory=list)
    running: set[asyncio.Task[None]] = field(default_factory=set)


class RankedWorker:
    """Implements `LearnerWorker` on ranks; `start` makes the rank of a number. Make one with `open`."""

    def __init__(
        self, ranks: list[Rank], start: Callable[[int], Awaitable[Rank]], version: int, say: Callable[[str], None]
    ) -> None:
        self._ranks = ranks
        self._start = start
        self._version = version
        self._say = say
        self._step = _Step([0] * len(ranks))
        self._scoring = [0] * len(ranks)
        self._mending = asyncio.Lock()
        self.num_recoveries = 0

    @classmethod
    async def open(
        cls, num_ranks: int, start: Callable[[int], Awaitable[Rank]], say: Callable[[str], None]
    ) -> RankedWorker:
        """Start all ranks and let them meet."""
        started = await asyncio.gather(*map(start, range(num_ranks)), return_exceptions=True)
        ranks = [rank for rank in started if not isinstance(rank, BaseException)]
        try:
            for failed in started:
                if isinstance(failed, BaseException):
                    raise failed
            await _meet(ranks)
            return cls(ranks, start, await ranks[0].version(), say)
        except BaseException:
            for rank in ranks:
                rank.kill()
            raise

    @property
    def version(self) -> int:
        return self._version

    # --- an optimizer step --------------------------------------------------------------------------------------------

    async def backward(self, group: TrainingGroup, reference: Reference, place: int | None = None) -> None:
        """Give the group to the rank with the fewest tokens; returns when a rank is free for the next one."""
        async with self._mending:
            before, step = self.num_recoveries, self._step
            place = len(step.given) if place is None else place
            step.given.append(Given(group=group, reference=reference, place=place))
            self._give(step.given[-1])
        try:
            while len(step.running) >= len(self._ranks):
                done, step.running = await asyncio.wait(step.running, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.gather(*done)
        except RankDied as died:
            await self._recover(before, died)

    async def step(self, lr: float) -> StepStats:
        """See `Learner.step`; figures over all ranks."""
        while True:
            before = self.num_recoveries
            running, self._step.running = self._step.running, set()
            made: list[StepStats | BaseException] = [
                error for error in await asyncio.gather(*running, return_exceptions=True) if error is not None
            ]
            if not made:
                made = await asyncio.gather(*(rank.step(lr) for rank in self._ranks), return_exceptions=True)
            died, stats = _sorted_out(made)
            if died is not None:
                await self._recover(before, died)
                stats = [one for one in stats if int(one["update/version"]) > self._version]
            if stats:
                self._version = int(stats[0]["update/version"])
                self._step = _Step([0] * len(self._ranks))
                return {**stats[0], "time/learner_s": max(one["time/learner_s"] for one in stats)}

    def _give(self, given: Given) -> None:
        step = self._step
        number = least(step.loads)
        step.loads[number] += max(1, num_tokens(given.group))
        step.running.add(asyncio.create_task(self._ranks[number].backward(given)))

    # --- everything else ----------------------------------------------------------------------------------------------

    async def score(self, token_ids: Sequence[int], *, adapter: bool) -> tuple[float, ...]:
        return await self._mended(lambda: self._ranks[0].score(token_ids, adapter))

    async def reference_logprobs(
        self, prompt_ids: Sequence[int], completions: Sequence[Completion], temperature: float
    ) -> tuple[tuple[float, ...], ...]:
        async def ask() -> tuple[tuple[float, ...], ...]:
            number = least(self._scoring)
            self._scoring[number] += 1
            try:
                return await self._ranks[number].reference_logprobs(prompt_ids, completions, temperature)
            finally:
                self._scoring[number] -= 1

        return await self._mended(ask)

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
        self._step = _Step([0] * len(self._ranks))
        others = asyncio.gather(*(rank.version() for rank in self._ranks[1:]))
        copy, _ = await asyncio.gather(self._ranks[0].copy(), others)
        return copy

    # --- ranks that die -----------------------------------------------------------------------------------------------

    async def _mended(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`; where a rank has died it is replaced, and the work done again."""
        while True:
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
        if not versions or self.num_recoveries > MAX_RECOVERIES:
            raise InfrastructureError(f"{died}; no learner rank is left to go on from: resume the run") from died
        dead = [number for number in range(len(self._ranks)) if number not in versions]
        self._say(f"learner rank {', '.join(map(str, dead)) or '(a connection)'} has died; it is started anew")
        newest = max(versions, key=lambda number: versions[number])
        copy = await self._ranks[newest].copy()
        for number in dead:
            self._ranks[number].kill()
            self._ranks[number] = await self._start(number)
        await asyncio.gather(*(rank.load(copy.state) for rank in self._ranks))
        await _meet(self._ranks)
        given = self._step.given if versions[newest] == self._version else []
        self._step = _Step([0] * len(self._ranks), given)
        for one in given:
            self._give(one)


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
