"""`executor=simulated`: the simulated endpoint in a process of its own, and a client of it like any other's."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from grpo_aflow.executor.client import Executor
from grpo_aflow.executor.opening import connect, open_replay
from grpo_aflow.executor.settings import CacheMode
from grpo_aflow.protocols import ExecutingModel, ServedModel
from grpo_aflow.simulation.server import start_server
from grpo_aflow.simulation.settings import SimulatedSettings
from grpo_aflow.types import Task

REQUEST_LOG_FILE = "endpoint.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedExecutor(SimulatedSettings):
    """A fallible solver for known tasks, served by a process of its own on loopback. See SIMULATED_WORLD.md."""

    needs_engine: ClassVar[bool] = False

    def check(self, model: ExecutingModel) -> None:
        """It works beside every policy."""

    async def open(
        self,
        run_dir: Path,
        *,
        seed: int,
        tasks: Sequence[Task] = (),
        system_prompts: Mapping[str, str] | None = None,
        served: ServedModel | None = None,
    ) -> Executor:
        """Start the endpoint for `tasks` and connect to it; see `protocols.ExecutorConfig.open`."""
        if self.cache is CacheMode.replay:
            return open_replay(self, run_dir, seed=seed, tasks=tasks)
        run_dir.mkdir(parents=True, exist_ok=True)
        log = run_dir / REQUEST_LOG_FILE if self.request_log else None
        server = await asyncio.to_thread(start_server, self, tasks=tasks, system_prompts=system_prompts or {}, log=log)
        try:
            return connect(
                self,
                run_dir,
                base_url=server.base_url,
                provider=world_name(self),
                seed=seed,
                tasks=tasks,
                on_close=server.stop,
            )
        except BaseException:
            server.stop()
            raise


def world_name(settings: SimulatedSettings) -> str:
    """The provider's name in cache keys: another world gives other answers, another port the same ones."""
    world = {"seed": settings.world_seed, "accuracy": settings.accuracy, "power": settings.ensemble_power}
    return "simulated:" + hashlib.sha256(json.dumps(world, sort_keys=True).encode()).hexdigest()[:16]
