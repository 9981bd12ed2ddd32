"""Puts the processes of `ray_actors` where Ray has room, and hands out samplers, learners and environments on them.

An adapter goes through Ray's object store, once to each node.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import ray
from ray.exceptions import RayActorError, RayTaskError

from grpo_aflow.cluster.executions import MAX_EXECUTIONS, OpenEnvironments, Worker, Workers
from grpo_aflow.cluster.needs import differences
from grpo_aflow.cluster.placement import MakeLearner
from grpo_aflow.cluster.ray_actors import EngineActor, RankActor, Whereabouts, WorkerActor, installed
from grpo_aflow.cluster.ray_handles import RayEngine, RayRank, RayWorker, Remote
from grpo_aflow.cluster.settings import RaySettings
from grpo_aflow.learner.rank import read_files
from grpo_aflow.learner.ranked import RankedWorker
from grpo_aflow.learner.sharing import Apart, Together
from grpo_aflow.learner.worker import LearnerWorker
from grpo_aflow.protocols import ChatModel, Environment, PreparedModel, Sampler
from grpo_aflow.run.timing import Timeline
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.sampler.routed import RoutedSampler
from grpo_aflow.sampler.settings import AdapterLimits, Sampling
from grpo_aflow.types import Adapter, InfrastructureError, UserError

LOG_LINES = 5  # quoted of a process that does not come up


def _seen_there(model: PreparedModel, gpus: float) -> PreparedModel:
    """The model as a process with cards of its own knows it: there they are numbered from 0."""
    return replace(model, device="cuda:0") if gpus and model.device != "cpu" else model


class RayCluster:
    """Implements `placement.Cluster`."""

    def __init__(self, settings: RaySettings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._sent: dict[Path, asyncio.Future[object]] = {}
        self._workers: Workers | None = None
        self._grow: Callable[[], None] = lambda: None

    @property
    def num_places(self) -> int:
        return max(1, self._settings.num_workers)

    async def start_sampler(
        self, sampling: Sampling, model: PreparedModel, adapters: AdapterLimits, *, watchdog: Watchdog, seed: int
    ) -> Sampler:
        own, shared_by = self._settings, secrets.token_hex(4)
        there = _seen_there(model, own.engine_gpus)

        async def start(number: int, *, when_there_is_room: bool = False) -> Sampler:
            actor = ray.remote(num_cpus=own.engine_cpus, num_gpus=own.engine_gpus)(EngineActor).remote()
            name = f"engine {number}"
            if when_there_is_room:
                await _placed(actor)
            await self._up(actor, name, lambda: actor.start.remote(sampling, there, adapters, seed + number, shared_by))
            return RayEngine(actor, name, self._send)

        sampler = await RoutedSampler.open(own.num_engines, start, self._say)
        self._grow = partial(sampler.grow, own.max_engines or own.num_engines, partial(start, when_there_is_room=True))
        await asyncio.to_thread(watchdog.watch_children)
        return sampler

    async def start_learner(self, make: MakeLearner, model: PreparedModel, *, timeline: Timeline) -> LearnerWorker:
        own = self._settings
        there = _seen_there(model, own.rank_gpus)

        async def start(number: int) -> RayRank:
            actor = ray.remote(num_cpus=own.rank_cpus, num_gpus=own.rank_gpus)(RankActor).remote()
            name = f"learner rank {number}"
            await self._up(actor, name, lambda: actor.start.remote(make, there, own.rank_timeout_s, own.shard_base))
            return RayRank(actor, name)

        share = Together if own.shard_base else Apart
        return await RankedWorker.open(own.num_ranks, start, self._say, share, partial(timeline.busy, "learner"))

    async def start_environment(
        self, here: Environment, elsewhere: OpenEnvironments, *, chat: ChatModel, timeline: Timeline
    ) -> Environment:
        own = self._settings
        if not own.num_workers:
            self._grow()
            return here

        async def start(number: int) -> Worker:
            # One on each node as long as there are nodes; an answer must find room beside all executions.
            placed = ray.remote(
                num_cpus=own.worker_cpus, scheduling_strategy="SPREAD", max_concurrency=2 * MAX_EXECUTIONS
            )
            actor = placed(WorkerActor).remote()
            name = f"execution worker {number}"
            await self._up(actor, name, lambda: actor.start.remote(elsewhere))
            return RayWorker(actor, name)

        self._workers = await Workers.open(own.num_workers, start, self._say, chat=chat, timeline=timeline)
        self._grow()  # not before all that the run needs has its place
        return self._workers

    async def close(self) -> None:
        self._sent.clear()
        if self._workers is not None:
            await self._workers.close()

    async def _send(self, adapter: Adapter) -> object:
        """A reference to the adapter's files in the object store, put there once for all engines."""
        if adapter.path not in self._sent:
            for old in list(self._sent)[:-1]:
                del self._sent[old]  # an engine that still needs it later has it read again
            put = asyncio.to_thread(lambda: ray.put(read_files(adapter.path)))
            self._sent[adapter.path] = asyncio.ensure_future(put)
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
            if isinstance(error.cause, UserError) and where is not None:
                raise type(error.cause)(f"cluster=ray: {name} on {where.node}: {error.cause}") from None
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except BaseException:
            ray.kill(actor)
            raise


async def _placed(actor: Remote) -> None:
    """Wait, however long, until Ray has room for it: a cluster that grows by itself sees what is waited for."""
    try:
        await actor.whereabouts.remote()
    except RayActorError as error:
        raise InfrastructureError("it died while it started") from error
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
