"""The learner as a run sees it: awaitable methods, whatever stands behind them.

`LocalWorker` is a learner in this process with threads of its own, one for each group that it computes at once: all
work on it happens there. `ranked.RankedWorker` is several learners, each in a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, TypeVarTuple

from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.learner.storage.checkpoints import Checkpoints
from grpo_aflow.types import Adapter, Completion, TrainingGroup

if TYPE_CHECKING:
    from grpo_aflow.learner.learner import Learner
    from grpo_aflow.learner.update.step_stats import StepStats

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
NICENESS = 5  # of the learner's threads on the CPU; everybody else's is 0, and 19 would be the most
Busy = Callable[[], AbstractContextManager[None]]  # held for each group while it is computed


class LearnerWorker(Protocol):
    """A `Learner` behind awaitable methods; see there for what each of them does and raises."""

    @property
    def version(self) -> int:
        """The policy version that the learner is."""
        ...

    async def backward(
        self, group: TrainingGroup, reference: Sequence[Sequence[float]] | None, place: int | None = None
    ) -> None:
        """Have the group learned from; returns when there is room for the next one. What goes wrong later is raised by
        the call that follows."""
        ...

    async def step(self, lr: float) -> StepStats: ...

    async def score(self, token_ids: Sequence[int], *, adapter: bool) -> tuple[float, ...]: ...

    async def reference_logprobs(
        self, prompt_ids: Sequence[int], completions: Sequence[Completion], temperature: float
    ) -> tuple[tuple[float, ...], ...]: ...

    async def publish(self, store: AdapterStore) -> Adapter:
        """Write the present version's adapter to `store`."""
        ...

    async def save(self, checkpoints: Checkpoints, step: int, extra: Mapping[str, Any]) -> Path:
        """Write the checkpoint of `step`; see `Checkpoints.save`."""
        ...

    async def load(self, checkpoints: Checkpoints, step: int) -> Mapping[str, Any]:
        """Go to the checkpoint of `step`; see `Checkpoints.load`."""
        ...

    def close(self) -> None:
        """Wait for what is under way, then end what does the work."""
        ...


class LocalWorker:
    """Implements `LearnerWorker` in this process."""

    def __init__(self, learner: Learner, busy: Busy = nullcontext) -> None:
        self._learner = learner
        self._busy = busy
        self._num_threads = learner.settings.parallel_groups or 1
        on_cpu = learner.policy.device.type == "cpu"
        self._threads = ThreadPoolExecutor(self._num_threads, "learner", _give_way if on_cpu else None)
        self._running: set[asyncio.Future[None]] = set()  # groups

    @classmethod
    async def start(cls, make: Callable[[], Learner], busy: Busy = nullcontext) -> LocalWorker:
        """Make the learner, which takes a while."""
        return cls(await asyncio.to_thread(make), busy)

    @property
    def version(self) -> int:
        return self._learner.version

    async def backward(
        self, group: TrainingGroup, reference: Sequence[Sequence[float]] | None, place: int | None = None
    ) -> None:
        self._running.add(noted(self._begun(self._learner.backward, group, reference, place), self._busy))
        await self._until(self._num_threads - 1)

    async def step(self, lr: float) -> StepStats:
        await self._until(0)
        return await self._begun(self._learner.step, lr)

    async def score(self, token_ids: Sequence[int], *, adapter: bool) -> tuple[float, ...]:
        return await self._begun(self._learner.score, token_ids, adapter)

    async def reference_logprobs(
        self, prompt_ids: Sequence[int], completions: Sequence[Completion], temperature: float
    ) -> tuple[tuple[float, ...], ...]:
        return await self._begun(self._learner.reference_logprobs, prompt_ids, completions, temperature)

    async def publish(self, store: AdapterStore) -> Adapter:
        return await self._begun(lambda: store.publish(self._learner.publish_adapter, self._learner.version))

    async def save(self, checkpoints: Checkpoints, step: int, extra: Mapping[str, Any]) -> Path:
        await self._forgotten()
        return await self._begun(checkpoints.save, step, self._learner, extra)

    async def load(self, checkpoints: Checkpoints, step: int) -> Mapping[str, Any]:
        await self._forgotten()
        return await self._begun(checkpoints.load, self._learner, step)

    def close(self) -> None:
        self._threads.shutdown()

    async def _until(self, number: int) -> None:
        """Wait until no more than `number` groups are being computed; raise what went wrong with one that was."""
        while len(self._running) > number:
            done, _ = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            self._running -= done
            await asyncio.gather(*done)

    async def _forgotten(self) -> None:
        """Wait for the groups of a step that will not be made, whatever becomes of them."""
        running, self._running = self._running, set()
        await asyncio.gather(*running, return_exceptions=True)

    def _begun(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def noted(running: asyncio.Future[T], busy: Busy) -> asyncio.Future[T]:
    """The same; `busy` is held until it has ended."""
    held = ExitStack()
    held.enter_context(busy())
    running.add_done_callback(lambda _: held.close())
    return running


def _give_way() -> None:
    """To the sampler's engine, which a step waits for first, and to what is executed, where all want the same cores."""
    if sys.platform == "linux":  # where a thread has a priority of its own, which its OpenMP threads inherit
        thread = threading.get_native_id()
        # One that gives way already, as below `nice -n 10`, may not be raised without privileges.
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
