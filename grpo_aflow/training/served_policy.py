"""The policy's model as a run has it: prepared, kept in the run folder, planned for its device, served, learned on.

`setup` opens it between the tasks, which the plan reads, and what rolls out and learns.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_aflow.cluster.placement import Cluster
from grpo_aflow.config.schema import TrainConfig
from grpo_aflow.learner.hardware import release_cached
from grpo_aflow.learner.memory.plan import NUM_BYTES, MemoryPlan
from grpo_aflow.learner.memory.shapes import model_shape
from grpo_aflow.learner.model_folder import BASE_FOLDER, adapted_layers
from grpo_aflow.learner.preparation.tokenization import check_context, num_prompt_tokens
from grpo_aflow.protocols import PreparedModel, ServedModel
from grpo_aflow.rollout.seeds import derive_seed
from grpo_aflow.run.cards import Hardware
from grpo_aflow.run.files import whole_folder
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.run.weights import ADAPTER_CONFIG
from grpo_aflow.sampler.settings import AdapterLimits, VllmSettings, placement_of
from grpo_aflow.services import look, prepare_model, serve
from grpo_aflow.training.planning import RunPlan, devices_of, plan_run
from grpo_aflow.types import Task

if TYPE_CHECKING:
    from grpo_aflow.learner.learner import Learner

WARM_START = "warm_start"  # in the run folder: version 0's adapter, which is also the KL reference


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServedPolicy:
    """What a run has of its policy's model before it learns."""

    served: ServedModel
    plan: MemoryPlan
    devices: dict[str, dict[str, str]]


@asynccontextmanager
async def open_policy(
    config: TrainConfig,
    run: RunDirectory,
    tasks: Sequence[Task],
    eval_tasks: Sequence[Task],
    progress: Progress,
    cluster: Cluster,
    watchdog: Watchdog,
) -> AsyncIterator[ServedPolicy]:
    """The policy's model, planned for its device before anything is loaded, and its sampler."""
    model = await _prepare(config, run, tasks, progress)
    check_prompts(config, model, eval_tasks)
    await asyncio.to_thread(release_cached)  # what the warm start has left would count as other processes'
    hardware = await asyncio.to_thread(look, config)
    planned = plan_memory(config, model, tasks, hardware)
    progress.say(f"memory plan, upper estimates on {planned.render()}", style="dim")
    limits = AdapterLimits(
        rank=config.lora.rank,
        num_versions=config.schedule.max_staleness + 2,
        layers=await asyncio.to_thread(adapted_layers, config.lora, model.path),
    )
    async with serve(config, model, watchdog, progress, limits, cluster) as served:
        devices = devices_of(config, placement_of(model), hardware)
        yield ServedPolicy(served=served, plan=planned.learner, devices=devices)


def published_dtype(config: TrainConfig, dtype: str) -> str:
    """The type that adapters are handed over in: vLLM rounds them to the base's when it loads them."""
    return dtype if isinstance(config.sampler, VllmSettings) else "float32"


def published_bytes(config: TrainConfig, model: PreparedModel) -> int:
    """Of all adapters that lie between learner and sampler at once: those that are served, and one that is written."""
    number = config.schedule.max_staleness + 3
    size = NUM_BYTES[published_dtype(config, model.dtype)]
    return number * size * model_shape(model.path).num_adapter_weights(config.lora)


async def _prepare(config: TrainConfig, run: RunDirectory, tasks: Sequence[Task], progress: Progress) -> PreparedModel:
    """The model; what only this machine has of it is kept in the run folder, which then depends on no cache."""
    base, warm_start = run.path / BASE_FOLDER, run.path / WARM_START
    model = await prepare_model(config, tasks, progress, adapter=not warm_start.is_dir(), kept=base)
    if not config.model.published:
        if not base.is_dir():
            await asyncio.to_thread(keep_folder, model.path, base)
        model = dataclasses.replace(model, path=base, name=str(base))
    if model.adapter is not None:
        await asyncio.to_thread(keep_adapter, model.adapter, warm_start, model.name)
    return dataclasses.replace(model, adapter=warm_start if warm_start.is_dir() else None)


def keep_folder(source: Path, folder: Path) -> None:
    """Copy a folder, whole or not at all."""
    with whole_folder(folder) as new:
        shutil.copytree(source, new, dirs_exist_ok=True)


def keep_adapter(adapter: Path, folder: Path, base_name: str) -> None:
    """Copy an adapter to `folder`, whole or not at all, with its base called `base_name`."""
    with whole_folder(folder) as new:
        shutil.copytree(adapter, new, dirs_exist_ok=True)
        described = json.loads((new / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        (new / ADAPTER_CONFIG).write_text(json.dumps({**described, "base_model_name_or_path": base_name}, indent=2))


def check_prompts(config: TrainConfig, model: PreparedModel, tasks: Sequence[Task]) -> None:
    """Refuse tasks whose prompt leaves no room for a completion. Raises UserError with the figures."""
    longest = num_prompt_tokens(model.tokenizer, config.prompt.messages, tasks)
    check_context(longest, config.sampler.max_tokens, model.max_model_len)


def plan_memory(config: TrainConfig, model: PreparedModel, tasks: Sequence[Task], hardware: Hardware) -> RunPlan:
    """What the run will hold on its devices, before a model is loaded; UserError when it cannot fit."""
    planned = plan_run(
        config,
        model_shape(model.path),
        prompt_tokens=num_prompt_tokens(model.tokenizer, config.prompt.messages, tasks),
        hardware=hardware,
        placement=placement_of(model),
    )
    planned.check()
    return planned


def make_learner(
    config: TrainConfig, dump_dir: Path, plan: MemoryPlan, model: PreparedModel, /, *, shard_base: bool = False
) -> Learner:
    from grpo_aflow.learner.learner import Learner

    return Learner(
        model.path,
        config.lora,
        config.objective,
        plan.settings,
        model.device,
        model.dtype,
        derive_seed(config.seed, "learner"),
        start=model.adapter,
        base_name=model.name,
        num_sequences=config.schedule.prompts_per_step * config.schedule.group_size,
        dump_dir=dump_dir,
        published_dtype=published_dtype(config, model.dtype),
        planned=plan.summary,
        shard_base=shard_base,
    )
