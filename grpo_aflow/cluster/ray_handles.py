"""What stands in the run's own process for those of `ray_actors`: a call here is a call there.

`RayEngine` is a `protocols.Sampler`, `RayRank` a `learner.rank.Rank`, `RayWorker` an `executions.Worker`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayTaskError

from grpo_aflow.cluster.executions import Answer, Asked, Assignment
from grpo_aflow.learner.rank import Given, LearnerCopy
from grpo_aflow.types import Adapter, Completion, EngineDied, RankDied, Rollout, SamplingParams, WorkerDied

if TYPE_CHECKING:
    from grpo_aflow.learner.learner import LearnerState
    from grpo_aflow.learner.update.step_stats import StepStats

T = TypeVar("T")
Remote = Any  # a handle of an actor or of what its method yields: Ray makes its methods at run time


@contextmanager
def faults(died: type[EngineDied | RankDied | WorkerDied], what: str) -> Iterator[None]:
    """Ray's errors as ours: a process that is gone, and what was raised within one that lives."""
    try:
        yield
    except RayActorError as error:
        raise died(f"{what}: its process is gone") from error
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise


async def streamed(stream: Remote) -> AsyncGenerator[Any, None]:
    """What a method yields, as it comes; leaving early cancels it."""
    ended = False
    try:
        async for item in stream:
            yield await item
        ended = True
    finally:
        if not ended:
            ray.cancel(stream)


async def end(actor: Remote) -> None:
    """Let it clean up, if it lives."""
    try:
        await actor.close.remote()
    except RayActorError:
        return
    ray.kill(actor)


@dataclass(slots=True)
class RayEngine:
    """Implements `protocols.Sampler` and `routed.TellsCacheUse`."""

    actor: Remote
    name: str
    send: Callable[[Adapter], Awaitable[object]]  # an adapter's files into the object store
    cache_tokens: int | None = None  # as it said with its last sample

    async def publish(self, adapter: Adapter) -> None:
        files = await self.send(adapter)
        with faults(EngineDied, self.name):
            await self.actor.publish.remote(adapter.version, files)

    async def retire(self, version: int) -> None:
        with faults(EngineDied, self.name):
            await self.actor.retire.remote(version)

    async def sample(
        self,
        prompt_ids: Sequence[int],
        *,
        seeds: Sequence[int],
        params: SamplingParams,
        version: int,
        priority: int = 0,
    ) -> AsyncGenerator[tuple[int, Completion], None]:
        call = self.actor.sample.options(num_returns="streaming")
        with faults(EngineDied, self.name):
            stream = call.remote(tuple(prompt_ids), tuple(seeds), params, version, priority)
            async with aclosing(streamed(stream)) as drawn:
                async for completion, self.cache_tokens in drawn:
                    yield completion

    async def score(self, token_ids: Sequence[int], *, version: int | None) -> tuple[float, ...]:
        with faults(EngineDied, self.name):
            scores: tuple[float, ...] = await self.actor.score.remote(tuple(token_ids), version)
            return scores

    async def scores(self, token_ids: Sequence[int], *, version: int | None) -> Mapping[str, tuple[float, ...]]:
        return {self.name: await self.score(token_ids, version=version)}

    async def close(self) -> None:
        """Let it clean up, if it lives."""
        await end(self.actor)


@dataclass(frozen=True, slots=True)
class RayRank:
    """Implements `learner.rank.Rank`."""

    actor: Remote
    name: str

    async def address(self) -> str:
        return await self._asked(self.actor.address.remote())

    async def join(self, address: str, rank: int, num_ranks: int) -> None:
        await self._asked(self.actor.join.remote(address, rank, num_ranks))

    async def backward(self, given: Given) -> None:
        await self._asked(self.actor.backward.remote(given))

    async def follow(self) -> None:
        await self._asked(self.actor.follow.remote())

    async def step(self, lr: float) -> StepStats:
        return await self._asked(self.actor.step.remote(lr))

    async def score(self, token_ids: Sequence[int], adapter: bool) -> tuple[float, ...]:
        return await self._asked(self.actor.score.remote(tuple(token_ids), adapter))

    async def reference_logprobs(
        self, prompt_ids: Sequence[int], completions: Sequence[Completion], temperature: float
    ) -> tuple[tuple[float, ...], ...]:
        return await self._asked(
            self.actor.reference_logprobs.remote(tuple(prompt_ids), tuple(completions), temperature)
        )

    async def version(self) -> int:
        return await self._asked(self.actor.version.remote())

    async def copy(self) -> LearnerCopy:
        return await self._asked(self.actor.copy.remote())

    async def adapter(self) -> Mapping[str, bytes]:
        return await self._asked(self.actor.adapter.remote())

    async def load(self, state: LearnerState) -> None:
        await self._asked(self.actor.load.remote(state))

    def kill(self) -> None:
        ray.kill(self.actor)

    async def _asked(self, call: Awaitable[T]) -> T:
        with faults(RankDied, self.name):
            return await call


@dataclass(frozen=True, slots=True)
class RayWorker:
    """Implements `executions.Worker`."""

    actor: Remote
    name: str

    async def execute(self, assignment: Assignment) -> AsyncGenerator[Asked | Rollout, None]:
        call = self.actor.execute.options(num_returns="streaming")
        with faults(WorkerDied, self.name):
            async with aclosing(streamed(call.remote(assignment))) as said:
                async for part in said:
                    yield part

    async def answer(self, assignment: int, number: int, answer: Answer) -> None:
        with faults(WorkerDied, self.name):
            await self.actor.answer.remote(assignment, number, answer)

    async def close(self) -> None:
        await end(self.actor)
