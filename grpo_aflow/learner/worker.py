"""The learner as a run sees it: awaitable methods, whatever stands behind them.

`LocalWorker` is a learner in this process with its one thread: all work on it happens there, one piece at a time and in
order. `ranked.RankedWorker` is several, each in a process of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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


class LearnerWorker(Protocol):
    """A `Learner` behind awaitable methods; see there for what each of them does and raises."""

    @property
    def version(self) -> int:
        """The policy version that the learner is."""
        ...

    async def backward(
        self, group: TrainingGroup, reference: Sequence[Sequence[float]] | None, place: int | None = None
    ) -> None: ...

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

    def __init__(self, learner: Learner, thread: ThreadPoolExecutor) -> None:
        self._learner = learner
        self._thread = thread

    @classmethod
    async def start(cls, make: Callable[[], Learner]) -> LocalWorker:
        """Make the learner on its own thread."""
        thread = ThreadPoolExecutor(1, "learner")
        try:
            learner = await asyncio.get_running_loop().run_in_executor(thread, make)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(learner, thread)

    @property
    def version(self) -> int:
        return self._learner.version

    async def backward(
        self, group: TrainingGroup, reference: Sequence[Sequence[float]] | None, place: int | None = None
    ) -> None:
        await self._run(self._learner.backward, group, reference, place)

    async def step(self, lr: float) -> StepStats:
        return await self._run(self._learner.step, lr)

    async def score(self, token_ids: Sequence[int], *, adapter: bool) -> tuple[float, ...]:
        return await self._run(self._learner.score, token_ids, adapter)

    async def reference_logprobs(
        self, prompt_ids: Sequence[int], completions: Sequence[Completion], temperature: float
    ) -> tuple[tuple[float, ...], ...]:
        return await self._run(self._learner.reference_logprobs, prompt_ids, completions, temperature)

    async def publish(self, store: AdapterStore) -> Adapter:
        return await self._run(lambda: store.publish(self._learner.publish_adapter, self._learner.version))

    async def save(self, checkpoints: Checkpoints, step: int, extra: Mapping[str, Any]) -> Path:
        return await self._run(checkpoints.save, step, self._learner, extra)

    async def load(self, checkpoints: Checkpoints, step: int) -> Mapping[str, Any]:
        return await self._run(checkpoints.load, self._learner, step)

    def close(self) -> None:
        self._thread.shutdown()

    async def _run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
