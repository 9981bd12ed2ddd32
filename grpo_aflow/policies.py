"""Which policy is evaluated or used: config group `policy`. Each opens into what the rollout path draws from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from grpo_aflow.config import EvaluateConfig
from grpo_aflow.progress import Progress
from grpo_aflow.resume import newest_adapter
from grpo_aflow.rollout import FixedPolicy, Policy
from grpo_aflow.stage import Ground, prepare_model, serve
from grpo_aflow.types import BASE, DOMAINS, Adapter, Task, UserError

Opened = tuple[Policy, int]  # with the version to draw from


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """The base model without an adapter."""

    @asynccontextmanager
    async def resolve(
        self, config: EvaluateConfig, ground: Ground, tasks: Sequence[Task], progress: Progress
    ) -> AsyncIterator[Opened]:
        model = await asyncio.to_thread(prepare_model, config, tasks, progress)
        async with serve(config, model, ground, progress, max_loras=1, max_rank=config.lora.rank) as served:
            yield served.policy(config.prompt), BASE


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A trained adapter on the base model that it was trained on."""

    path: str

    @asynccontextmanager
    async def resolve(
        self, config: EvaluateConfig, ground: Ground, tasks: Sequence[Task], progress: Progress
    ) -> AsyncIterator[Opened]:
        folder = newest_adapter(Path(self.path))
        adapter = json.loads((folder / "adapter_config.json").read_text())
        model = await asyncio.to_thread(prepare_model, config, tasks, progress)
        trained_on = adapter.get("base_model_name_or_path")
        if trained_on and Path(trained_on).resolve() != Path(model.path).resolve():
            raise UserError(
                f"policy.path={self.path} was trained on the base model {trained_on}, but this config gives "
                f"{model.path}: choose the model, warmstart and prompt of the run that made it (see its config.yaml)"
            )
        async with serve(config, model, ground, progress, max_loras=1, max_rank=int(adapter["r"])) as served:
            await served.sampler.publish(Adapter(version=1, path=folder))
            yield served.policy(config.prompt), 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Fixed:
    """A workflow written by hand or by another system, used for every task of its evaluation."""

    path: str

    @asynccontextmanager
    async def resolve(
        self, config: EvaluateConfig, ground: Ground, tasks: Sequence[Task], progress: Progress
    ) -> AsyncIterator[Opened]:
        from grpo_aflow.workflow.fixed import load_fixed

        text = load_fixed(Path(self.path))
        yield FixedPolicy(sources=dict.fromkeys(DOMAINS, text)), BASE
