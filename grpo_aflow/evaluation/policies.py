"""Which policy is evaluated or used: config group `policy`. Each opens into what the rollout path draws from."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from grpo_aflow.config.schema import EvaluateConfig
from grpo_aflow.evaluation.baseline_workflows import random_workflow
from grpo_aflow.learner.lora import plain_layers
from grpo_aflow.learner.model_folder import adapted_layers, is_base_of, kept_base
from grpo_aflow.learner.storage.checkpoints import newest_adapter
from grpo_aflow.protocols import Policy, ServedModel
from grpo_aflow.rollout.policies import FixedPolicy, sampled
from grpo_aflow.run.files import read_object
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.saved import read_manifest
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.run.weights import ADAPTER_CONFIG
from grpo_aflow.sampler.settings import AdapterLimits
from grpo_aflow.services import prepare_model, serve
from grpo_aflow.types import BASE, DOMAINS, Adapter, Completion, SamplingParams, Task, UserError
from grpo_aflow.workflow.fixed import load_fixed


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """Implements `protocols.ResolvedPolicy`."""

    policy: Policy
    version: int
    served: ServedModel | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """The policy before training: the base model with its warm start, or as it is with `warmstart=none`."""

    is_sampled: ClassVar[bool] = True

    def check(self) -> None:
        pass

    @asynccontextmanager
    async def resolve(
        self, config: EvaluateConfig, tasks: Sequence[Task], progress: Progress, watchdog: Watchdog
    ) -> AsyncIterator[Resolved]:
        model = await prepare_model(config, tasks, progress)
        layers = await asyncio.to_thread(adapted_layers, config.lora, model.path)
        limits = AdapterLimits(rank=config.lora.rank, layers=layers)
        async with serve(config, model, watchdog, progress, limits) as served:
            version = BASE
            if model.adapter is not None:
                version = 0
                await served.sampler.publish(Adapter(version=version, path=model.adapter))
            yield Resolved(policy=sampled(served, config.prompt), version=version, served=served)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A trained adapter on the base model that it was trained on."""

    is_sampled: ClassVar[bool] = True
    path: str

    def check(self) -> None:
        adapter_config(newest_adapter(Path(self.path)))

    @asynccontextmanager
    async def resolve(
        self, config: EvaluateConfig, tasks: Sequence[Task], progress: Progress, watchdog: Watchdog
    ) -> AsyncIterator[Resolved]:
        folder = newest_adapter(Path(self.path))
        adapter = adapter_config(folder)
        progress.say(f"policy: {folder}{_still_running(folder)}")
        model = await prepare_model(config, tasks, progress, adapter=False, kept=kept_base(folder))
        check_base(folder, adapter.get("base_model_name_or_path"), model.path, model.name)
        limits = AdapterLimits(rank=adapter["r"], layers=plain_layers(adapter["target_modules"]))
        async with serve(config, model, watchdog, progress, limits) as served:
            await served.sampler.publish(Adapter(version=1, path=folder))
            yield Resolved(policy=sampled(served, config.prompt), version=1, served=served)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fixed:
    """A workflow written by hand or by another system, used for every task of its evaluation."""

    is_sampled: ClassVar[bool] = False
    path: str

    def check(self) -> None:
        load_fixed(Path(self.path))

    @asynccontextmanager
    async def resolve(
        self, config: EvaluateConfig, tasks: Sequence[Task], progress: Progress, watchdog: Watchdog
    ) -> AsyncIterator[Resolved]:
        policy = FixedPolicy(sources=dict.fromkeys(DOMAINS, load_fixed(Path(self.path))))
        async with _without_policy(config, tasks, progress, watchdog) as served:
            yield Resolved(policy=policy, version=BASE, served=served)


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomPolicy:
    """Draws workflows of the reference workflows' kinds by chance; implements `protocols.Policy`."""

    def prompt_ids(self, task: Task) -> tuple[int, ...]:
        return ()

    async def draw(
        self,
        task: Task,
        prompt_ids: tuple[int, ...],
        *,
        seeds: Sequence[int],
        members: Sequence[int],
        params: SamplingParams,
        version: int,
    ) -> AsyncGenerator[tuple[int, Completion]]:
        for member in members:
            text = random_workflow(task.domain, random.Random(seeds[member]))
            yield (
                member,
                Completion(token_ids=(), logprobs=(), text=text, finish_reason="stop", version=version),
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomValid:
    """Valid workflows by chance, another one for every rollout: what writing alone is worth."""

    is_sampled: ClassVar[bool] = False

    def check(self) -> None:
        pass

    @asynccontextmanager
    async def resolve(
        self, config: EvaluateConfig, tasks: Sequence[Task], progress: Progress, watchdog: Watchdog
    ) -> AsyncIterator[Resolved]:
        async with _without_policy(config, tasks, progress, watchdog) as served:
            yield Resolved(policy=RandomPolicy(), version=BASE, served=served)


@asynccontextmanager
async def _without_policy(
    config: EvaluateConfig, tasks: Sequence[Task], progress: Progress, watchdog: Watchdog
) -> AsyncIterator[ServedModel | None]:
    """The engine for a policy that needs none: opened only where the executor wants it."""
    if not config.executor.needs_engine:
        yield None
        return
    model = await prepare_model(config, tasks, progress, adapter=False)
    async with serve(config, model, watchdog, progress, AdapterLimits(rank=1, num_versions=0)) as served:
        yield served


def _still_running(adapter: Path) -> str:
    """A word about an adapter whose run goes on: another evaluation will find a newer one."""
    run = adapter.resolve().parents[2] if len(adapter.resolve().parents) > 2 else adapter
    running = (run / "config.yaml").is_file() and read_manifest(run).get("status") == "running"
    return " (its run has not ended)" if running else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraDescription:
    """What is read of PEFT's description of an adapter; one of another kind than LoRA has no rank."""

    r: int
    target_modules: str | list[str]


def adapter_config(folder: Path) -> dict[str, Any]:
    """PEFT's description of an adapter; UserError when it is damaged or of another kind."""
    return read_object(
        folder / ADAPTER_CONFIG, LoraDescription, "give another checkpoint; only LoRA adapters are served"
    )


def check_base(folder: Path, trained_on: str | None, base: Path, name: str) -> None:
    """Refuse an adapter on another base than its own: it would load, and answer nonsense. Raises UserError.

    Bases are compared by content where the adapter says of which it is (ours do), else by name. trained_on: what the
    adapter calls its base; name: what this config calls its own.
    """
    same = is_base_of(base, folder)
    if same is None:
        same = not trained_on or trained_on == name or Path(trained_on).resolve() == base.resolve()
    if not same:
        raise UserError(
            f"the adapter {folder} was trained on the base model {trained_on}, but this config gives {base}: choose "
            "the model, warmstart and prompt of the run that made it (see its config.yaml)"
        )
