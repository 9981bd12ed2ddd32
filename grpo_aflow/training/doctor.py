"""`grpo-aflow-doctor`: what this very run needs, and whether it is there, with the fix of whatever is missing.

It takes the overrides of `grpo-aflow-train` and asks the parts of the run themselves: the same functions, and so the
same words, as when the run is opened (`setup`, `services`). Nothing is trained, built or downloaded, except tasks from
the hub; with `call=True` one small call of the executor is paid.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from grpo_aflow.config.schema import TrainConfig
from grpo_aflow.executor.address import key_of
from grpo_aflow.executor.settings import EndpointSettings
from grpo_aflow.learner.hardware import about_card, driver_version
from grpo_aflow.learner.memory.plan import GIB, free_memory
from grpo_aflow.learner.memory.shapes import model_shape
from grpo_aflow.learner.models import Preparation, Pretrained
from grpo_aflow.learner.storage.adapter_store import NEEDED_BYTES, SHARED_MEMORY
from grpo_aflow.protocols import Executor
from grpo_aflow.rollout.group import EVALUATION
from grpo_aflow.rollout.reward import check_rubric
from grpo_aflow.run.cards import CPU, MIN_DRIVER
from grpo_aflow.run.faults import known
from grpo_aflow.run.loggers import WandB
from grpo_aflow.run.progress import Progress
from grpo_aflow.sampler.requirements import check_builds, check_shared_memory
from grpo_aflow.sampler.settings import VllmSettings
from grpo_aflow.services import look, model_cache, place_on, preparation
from grpo_aflow.tasks.selftest.quick import self_test
from grpo_aflow.training.served_policy import check_prompts, plan_memory
from grpo_aflow.training.setup import fingerprint
from grpo_aflow.types import CallContext, ChatStatus, InfrastructureError, Message, Task, UserError
from grpo_aflow.workflow import system_prompts

ADAPTER_BYTES = 4 * 3  # of each of its weights in a checkpoint: itself and AdamW's two moments, fp32
SPARE_BYTES = 1 << 30  # of a run's other files: rollouts, ledger, cache


class State(StrEnum):
    ok = "ok"
    note = "note"  # to be known; the run works without it
    missing = "missing"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `text`: what is there; where something is missing, the line that names its fix."""

    what: str
    state: State
    text: str


class Note(Exception):
    """Raised by a check: nothing is missing, but somebody should know."""


@dataclass(slots=True)
class Doctor:
    """Looks at one thing after another; a check returns what it found, or raises what the run itself would raise."""

    config: TrainConfig
    progress: Progress
    rows: list[Row] = field(default_factory=list)
    train_tasks: Mapping[str, Sequence[Task]] = field(default_factory=dict)
    eval_tasks: Sequence[Task] = ()
    folder: Path | None = None  # of the model, where it is here

    @property
    def tasks(self) -> list[Task]:
        return [task for tasks in self.train_tasks.values() for task in tasks]

    async def look(self, what: str, check: Callable[[], str]) -> None:
        """A blocking check, in a thread."""
        await self.look_async(what, lambda: asyncio.to_thread(check))

    async def look_async(self, what: str, check: Callable[[], Awaitable[str]]) -> None:
        self.progress.watch(lambda: f"looking at {what}")
        try:
            row = Row(what, State.ok, await check())
        except Note as note:
            row = Row(what, State.note, str(note))
        except Exception as error:
            told = known(error)
            if told is None:
                raise
            row = Row(what, State.missing, str(told))
        self.rows.append(row)

    # --- device ---

    def card(self) -> str:
        if not self.uses_card:
            if driver_version():
                raise Note("model.device=cpu: the NVIDIA card of this machine stays idle; model.device=cuda uses it")
            return "not needed: model.device=cpu"
        placement = place_on(look(self.config), self.config)
        cards = dict.fromkeys(device for device in (placement.learner, *placement.sampler_devices) if device != CPU)
        return "; ".join(map(about_card, cards))

    def driver(self) -> str:
        if not self.uses_card:
            return "not needed: model.device=cpu"
        version = driver_version()
        if version is None and look(self.config).cards:  # a container is often given no nvidia-smi
            raise Note(f"nvidia-smi does not tell the driver's version; torch reaches the card, as {MIN_DRIVER} on can")
        if version is None:
            raise UserError(f"no NVIDIA driver answers: install one from {MIN_DRIVER} on, or set model.device=cpu")
        if self.uses_vllm and int(version.split(".")[0]) < MIN_DRIVER:
            raise UserError(f"driver {version}: vLLM needs {MIN_DRIVER} or later; update it, or set sampler=hf")
        return version

    def builds(self) -> str:
        device = self.config.sampler.device or self.config.model.device
        return check_builds(device) if self.uses_vllm else "not needed: no sampler=vllm"

    def shared_memory(self) -> str:
        if self.uses_vllm:
            check_shared_memory()
        free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
        if free < NEEDED_BYTES:
            raise Note(
                f"{free / GIB:.2f} GiB free, less than {NEEDED_BYTES / GIB:g}: adapters go through the temporary "
                "folder, which is slower on a disk (docker: --shm-size=2g)"
            )
        return f"{free / GIB:.1f} GiB free"

    @property
    def uses_card(self) -> bool:
        config = self.config
        return any((own or config.model.device) != CPU for own in (config.learner.device, config.sampler.device))

    @property
    def uses_vllm(self) -> bool:
        return isinstance(self.config.sampler, VllmSettings)

    def cluster(self) -> str:
        """The machines, with what the run needs of them."""
        return self.config.cluster.look()

    # --- data, model, memory ---

    def load_tasks(self) -> str:
        self.eval_tasks = self.config.eval.load()
        self.train_tasks = self.config.data_mix.load(evaluated=self.eval_tasks).tasks
        return f"{len(self.tasks)} tasks to train on, {len(self.eval_tasks)} held out"

    def hashes(self) -> list[Row]:
        """One line for each dataset: which tasks exactly, as in a run's manifest."""
        sizes = {f"train/{name}": len(tasks) for name, tasks in self.train_tasks.items()}
        sizes["evaluated"] = len(self.eval_tasks)
        hashes = fingerprint(self.train_tasks, self.eval_tasks)
        return [Row(f"  {name}", State.ok, f"{sizes[name]} tasks, sha256 {hashes[name][:16]}") for name in hashes]

    def model(self) -> str:
        self.folder = self.config.model.here(model_cache(self.config), self.asked())
        if self.folder is None:
            how = (
                "downloaded from the hub" if isinstance(self.config.model, Pretrained) else "built, in about a minute,"
            )
            raise Note(f"not here yet: it is {how} when the run starts")
        return f"{self.folder}, {model_shape(self.folder).num_weights / 1e6:,.1f} M weights"

    def memory(self) -> str:
        """The memory plan of the run, against what the device has and what is free of it."""
        if self.folder is None:
            raise Note("planned as soon as the model is here")
        model = self.config.model.prepare(model_cache(self.config), self.asked())
        check_prompts(self.config, model, self.eval_tasks)
        plan = plan_memory(self.config, model, self.tasks, look(self.config)).learner
        free = free_memory(model.device)
        if model.device == CPU:  # of a card the plan itself counts what others hold
            plan.check_free(free)
        return (
            f"plan {plan.total / GIB:.1f} GiB of {plan.device_bytes / GIB:.1f} on {model.device}, {free / GIB:.1f} free"
        )

    def asked(self) -> Preparation:
        return preparation(self.config, self.tasks, adapter=False, tell=lambda what, done, total: None)

    # --- sandbox, executor, keys, disk ---

    def sandbox(self) -> str:
        with closing(self.config.sandbox.open()) as runner:
            report = self_test(runner, self.tasks)
        return (
            f"{self.config.sandbox.name} confines; self-test: {report.num_golds} golds graded exact, "
            f"{report.num_attacks} attacks graded nothing, {report.duration_s:.1f} s"
        )

    async def executor(self, *, call: bool) -> str:
        """Open it as a run would, in a folder that is removed; `call`: ask it once."""
        config = self.config.executor
        if config.needs_engine:
            raise Note("answered by the sampler's own engine, which starts with the run")
        prompts = system_prompts(self.config.workflow.operator_set)
        with tempfile.TemporaryDirectory() as folder:
            executor = await config.open(
                Path(folder), seed=self.config.seed, tasks=self.tasks, system_prompts=prompts, served=None
            )
            try:
                where = f"{address_of(config)}, {price_of(executor)}"
                return f"{where}; {await _asked(executor)}" if call else f"{where}; not asked (--call asks once)"
            finally:
                await executor.close()

    def disk(self) -> str:
        """The folder of the runs, against what the checkpoints of this one take."""
        weights = model_shape(self.folder).num_adapter_weights(self.config.lora) if self.folder else 0
        needed = SPARE_BYTES + (self.config.schedule.keep_checkpoints + 2) * ADAPTER_BYTES * weights
        return check_disk(Path(self.config.paths.runs).expanduser(), needed, key="paths.runs")

    def cache_disk(self) -> str:
        """Where a model that is not here yet will be written."""
        if isinstance(self.config.model, Pretrained):
            from huggingface_hub.constants import HF_HUB_CACHE

            return check_disk(Path(HF_HUB_CACHE), 0, key="HF_HOME")
        return check_disk(model_cache(self.config), 0, key="paths.cache")


def examine(config: TrainConfig, *, call: bool) -> bool:
    """Print the table; whether the run has all that it needs."""
    with Progress(num_steps=1, log_every=1) as progress:
        rows = asyncio.run(rows_of(config, progress, call=call))
        progress.status("")
        progress.console.print(table(rows), soft_wrap=False)
        missing = [row.what.strip() for row in rows if row.state is State.missing]
        progress.say(f"missing: {', '.join(missing)}" if missing else "this run has what it needs")
    return not missing


async def rows_of(config: TrainConfig, progress: Progress, *, call: bool) -> Sequence[Row]:
    """The lines of the table, in the order in which they are looked at."""
    doctor = Doctor(config, progress)
    await doctor.look("settings", lambda: _settings(config))
    await doctor.look("GPU", doctor.card)
    await doctor.look("driver", doctor.driver)
    await doctor.look("vLLM and torch", doctor.builds)
    await doctor.look("/dev/shm", doctor.shared_memory)
    await doctor.look("cluster", doctor.cluster)
    await doctor.look("data", doctor.load_tasks)
    doctor.rows += doctor.hashes() if doctor.rows[-1].state is State.ok else []
    await doctor.look("model files", doctor.model)
    await doctor.look("memory", doctor.memory)
    await doctor.look("sandbox", doctor.sandbox)
    for name, check in keys_of(config).items():
        await doctor.look(f"key {name}", check)
    await doctor.look_async("executor", partial(doctor.executor, call=call))
    await doctor.look("disk", doctor.disk)
    if doctor.folder is None:
        await doctor.look("disk, model", doctor.cache_disk)
    return doctor.rows


def table(rows: Sequence[Row]) -> Table:
    """For people."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("what", no_wrap=True)
    shown.add_column("", no_wrap=True)
    shown.add_column("what is there, or how to mend it", overflow="fold")
    colours = {State.ok: "green", State.note: "yellow", State.missing: "bold red"}
    for row in rows:
        shown.add_row(Text(row.what), Text(row.state.value, style=colours[row.state]), Text(row.text))
    return shown


def keys_of(config: TrainConfig) -> dict[str, Callable[[], str]]:
    """The environment's keys that this run may use, by name, each with its check; no value is ever shown."""
    checks: dict[str, Callable[[], str]] = {}
    executor = config.executor
    if isinstance(executor, EndpointSettings) and (name := executor.api_key_env):
        checks[name] = lambda: "set" if key_of(name) else "not needed"
    if any(isinstance(logger, WandB) for logger in config.logger.values()):
        checks["WANDB_API_KEY"] = lambda: _optional("WANDB_API_KEY", "W&B keeps the figures offline, in the run folder")
    if isinstance(config.model, Pretrained) and not Path(config.model.path).expanduser().is_dir():
        checks["HF_TOKEN"] = lambda: _optional("HF_TOKEN", "only a gated model needs it")
    return checks


def check_disk(folder: Path, needed: int, *, key: str) -> str:
    """Whether `folder` can be written and has room for `needed` bytes. Raises UserError."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(
            f"{folder} cannot be written: make {there} writable for this user, or set {key} to another folder"
        )
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / GIB:.1f} GiB free, and the run may write {needed / GIB:.1f}: make room, or set {key} "
            "to another folder"
        )
    asked = f", the run may write {needed / GIB:.1f}" if needed else ""
    return f"{folder}: {free / GIB:.1f} GiB free{asked}"


def address_of(config: object) -> str:
    """Who answers."""
    if isinstance(config, EndpointSettings):
        return f"{config.model or 'the recorded model'} at {config.base_url or 'this machine'}"
    return type(config).__name__


def price_of(executor: Executor) -> str:
    """What a million tokens cost."""
    price = executor.price
    if price is None:
        return "no price"
    return f"{price.input_usd * 1e6:g} and {price.output_usd * 1e6:g} USD per million tokens in and out"


async def _asked(executor: Executor) -> str:
    """One small call. Raises InfrastructureError when nobody answers."""
    context = CallContext(
        step=EVALUATION, task_id="doctor", dataset="doctor", member=0, operator="custom", ordinal=(0,), domain="math"
    )
    question: Message = {"role": "user", "content": "Reply with the word ready."}
    reply = await executor.chat(
        [question], context=context, temperature=executor.temperature, max_tokens=executor.max_tokens
    )
    if reply.status in (ChatStatus.TIMEOUT, ChatStatus.INFRASTRUCTURE):
        raise InfrastructureError(f"no answer ({reply.error}): see what the endpoint says, or set executor.timeout_s")
    tokens = reply.prompt_tokens + reply.completion_tokens
    return f"answered in {reply.latency_s:.1f} s ({reply.status.value}), {tokens} tokens, {reply.cost_usd:.6f} USD"


def _settings(config: TrainConfig) -> str:
    config.check()
    check_rubric(config.reward)
    return "fit each other"


def _optional(name: str, without: str) -> str:
    if not os.environ.get(name):
        raise Note(f"not set: {without}")
    return "set"
