"""`cluster=local`: one engine and one learner, on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from grpo_aflow.cluster.executions import OpenEnvironments
from grpo_aflow.cluster.placement import MakeLearner
from grpo_aflow.learner.hardware import release_cached
from grpo_aflow.learner.worker import LearnerWorker, LocalWorker
from grpo_aflow.protocols import ChatModel, Environment, PreparedModel, Sampler
from grpo_aflow.run.timing import Timeline
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.sampler.restarting import RestartingSampler
from grpo_aflow.sampler.settings import AdapterLimits, Sampling


@dataclass(frozen=True, slots=True)
class Here:
    """Implements `placement.Cluster`. say: tells the user of an engine that is started anew."""

    say: Callable[[str], None]

    @property
    def num_places(self) -> int:
        return 1

    async def start_sampler(
        self, sampling: Sampling, model: PreparedModel, adapters: AdapterLimits, *, watchdog: Watchdog, seed: int
    ) -> Sampler:
        async def start() -> Sampler:
            await asyncio.to_thread(release_cached)  # what the learner no longer uses of a card that both share
            return await sampling.start(model, adapters, watchdog=watchdog, seed=seed)

        return RestartingSampler(await start(), start, self.say)

    async def start_learner(self, make: MakeLearner, model: PreparedModel, *, timeline: Timeline) -> LearnerWorker:
        return await LocalWorker.start(partial(make, model), partial(timeline.busy, "learner"))

    async def start_environment(
        self, here: Environment, elsewhere: OpenEnvironments, *, chat: ChatModel, timeline: Timeline
    ) -> Environment:
        return here


@dataclass(frozen=True, kw_only=True, slots=True)
class Local:
    """The option; it has no settings."""

    @asynccontextmanager
    async def open(self, say: Callable[[str], None]) -> AsyncIterator[Here]:
        yield Here(say)

    def look(self) -> str:
        """See `config.schema.ClusterConfig`."""
        return "this process"
