"""`executor=simulated`: the simulated endpoint in a process of its own, and a client of it like any other's."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from grpo_aflow.executor.client import ExecutorClient
from grpo_aflow.executor.opening import open_endpoint, open_replay
from grpo_aflow.executor.settings import CacheMode
from grpo_aflow.protocols import ExecutingModel, ServedModel
from grpo_aflow.simulation.launch import start_server
from grpo_aflow.simulation.settings import SimulatedSettings
from grpo_aflow.types import Task

REQUEST_LOG_FILE = "endpoint.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedExecutor(SimulatedSettings):
    """A fallible solver for known tasks, on loopback; see README.md here. Implements `protocols.ExecutorConfig`."""

    needs_engine: ClassVar[bool] = False

    def check(self, model: ExecutingModel) -> None:
        """It works beside every policy."""

    async def open(
        self,
        run_dir: Path,
        *,
        seed: int,
        tasks: Sequence[Task],
        system_prompts: Mapping[str, str],
        served: ServedModel | None = None,
    ) -> ExecutorClient:
        """Start the endpoint for `tasks` and connect to it; see `protocols.ExecutorConfig.open`."""
        if self.cache is CacheMode.replay:
            return open_replay(self, run_dir, seed=seed)
        run_dir.mkdir(parents=True, exist_ok=True)
        log = run_dir / REQUEST_LOG_FILE if self.request_log else None
        server = await asyncio.to_thread(start_server, self, tasks=tasks, system_prompts=system_prompts, log=log)
        try:
            return open_endpoint(
                self,
                run_dir,
                base_url=server.base_url,
                provider=world_name(self),
                seed=seed,
                on_close=server.stop,
            )
        except BaseException:
            server.stop()
            raise


def world_name(settings: SimulatedSettings) -> str:
    """The provider's name in cache keys: another world gives other answers, another port the same ones."""
    world = {"seed": settings.world_seed, "accuracy": settings.accuracy, "power": settings.ensemble_power}
    return "simulated:" + hashlib.sha256(json.dumps(world, sort_keys=True).encode()).hexdigest()[:16]
