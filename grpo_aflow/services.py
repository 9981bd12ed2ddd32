"""What training and evaluation stand on, opened in order of price and closed in reverse.

Cheap checks come first (sandbox, grader, the executor's endpoint), the model and its engine last, so that a run that
cannot work says so within seconds and leaves nothing behind. An executor on the engine itself is opened after it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from grpo_aflow.cluster.local import Here
from grpo_aflow.cluster.placement import Cluster
from grpo_aflow.cluster.settings import RaySettings
from grpo_aflow.config.schema import EvaluateConfig, TrainConfig
from grpo_aflow.learner.hardware import read_hardware
from grpo_aflow.learner.model_folder import ReportProgress
from grpo_aflow.learner.models import Preparation
from grpo_aflow.learner.preparation.cache import default_cache
from grpo_aflow.protocols import CodeRunner, Executor, PreparedModel, ServedModel
from grpo_aflow.run.cards import CPU, Hardware, Placement, place
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.timing import Timeline
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.sampler.settings import AdapterLimits, VllmSettings, placement_of
from grpo_aflow.sampler.tokenizer import ChatTokenizer
from grpo_aflow.tasks.selftest.quick import self_test
from grpo_aflow.types import Task
from grpo_aflow.workflow import WorkflowRules, system_prompts

SHOW_EVERY_S = 1.0
BLOCKING_CALLS = 32  # sandbox calls and grades under way at once; each only waits


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """Everything but the policy: enough to run and grade workflows."""

    runner: CodeRunner
    executor: Executor
    watchdog: Watchdog
    timeline: Timeline

    def priced(self, rules: WorkflowRules) -> WorkflowRules:
        """The rules with the prices of the executor that will be paid; a replay, which is paid nothing, has none."""
        price = self.executor.price
        if price is None:
            return rules
        return rules.priced(prompt_usd=price.input_usd, completion_usd=price.output_usd)


class Opened(Protocol):
    """What `open_services` must know of what it opens beside the executor."""

    @property
    def served(self) -> ServedModel | None: ...


OpenedT = TypeVar("OpenedT", bound=Opened)


@asynccontextmanager
async def open_services(
    config: TrainConfig | EvaluateConfig,
    run_dir: Path,
    tasks: Sequence[Task],
    progress: Progress,
    engine: Callable[[Watchdog], AbstractAsyncContextManager[OpenedT]],
) -> AsyncIterator[tuple[Services, OpenedT]]:
    """Sandbox (probed), grader (self-tested on a sample of `tasks`), executor (reached), and what `engine` opens.

    engine: given the watchdog, opens the model and its sampler, where the policy or the executor needs one.
    """

    async def open_executor(served: ServedModel | None) -> Executor:
        progress.status("reaching the executor")
        executor = await config.executor.open(
            run_dir,
            seed=config.seed,
            tasks=tasks,
            system_prompts=system_prompts(config.workflow.operator_set),
            served=served,
        )
        stack.push_async_callback(executor.close)
        return executor

    async with AsyncExitStack() as stack:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(BLOCKING_CALLS, "blocking"))
        watchdog = stack.enter_context(closing(Watchdog.start()))
        progress.status("opening the sandbox")
        runner = stack.enter_context(closing(await asyncio.to_thread(config.sandbox.open)))
        progress.status("self-test of the graders")
        await asyncio.to_thread(self_test, runner, tasks)
        if config.executor.needs_engine:
            opened = await stack.enter_async_context(engine(watchdog))
            executor = await open_executor(opened.served)
        else:
            executor = await open_executor(None)
            opened = await stack.enter_async_context(engine(watchdog))
        yield Services(runner=runner, executor=executor, watchdog=watchdog, timeline=Timeline()), opened


def model_cache(config: TrainConfig | EvaluateConfig) -> Path:
    """Where built models are kept."""
    return Path(config.paths.cache).expanduser() if config.paths.cache else default_cache()


def look(config: TrainConfig | EvaluateConfig) -> Hardware:
    """The machine, as far as a run with this config concerns it. Blocking; imports torch where a card is asked for."""
    devices = (config.model.device, config.learner.device, config.sampler.device)
    return read_hardware(cards=any(device not in (None, CPU) for device in devices))


def place_on(hardware: Hardware, config: TrainConfig | EvaluateConfig) -> Placement:
    """The devices of learner and sampler; UserError where one is not here or cannot do what is asked of it.

    An evaluation has no learner: the sampler gets its card.
    """
    placement = place(
        hardware,
        default=config.model.device,
        learner=config.learner.device if isinstance(config, TrainConfig) else CPU,
        sampler=config.sampler.device,
        dtype=config.model.dtype,
        needs_vllm=isinstance(config.sampler, VllmSettings) and _samples_here(config),
        has_adapters=isinstance(config, TrainConfig) or config.policy.is_sampled,
        num_sampler_cards=config.sampler.num_cards if _samples_here(config) else 1,
    )
    if not isinstance(config, TrainConfig):
        return replace(placement, learner=placement.sampler)
    on_card = placement.sampler != CPU
    if placement.is_shared:
        config.check_shared(on_card=on_card)
    if on_card:
        config.check_cards_of_engines()
    return placement


def check_machine(config: TrainConfig | EvaluateConfig) -> None:
    """Refuse, in seconds and before anything is opened, what this machine's cards and packages cannot do. Blocking."""
    if not isinstance(config, TrainConfig) and not config.needs_engine:
        return
    placement = place_on(look(config), config)
    if _samples_here(config):
        config.sampler.check_machine(placement.sampler)


def _samples_here(config: TrainConfig | EvaluateConfig) -> bool:
    """Whether engines start on this machine, and not on those that Ray has."""
    return not (isinstance(config, TrainConfig) and isinstance(config.cluster, RaySettings))


def preparation(
    config: TrainConfig | EvaluateConfig,
    tasks: Sequence[Task],
    *,
    adapter: bool,
    tell: ReportProgress,
    kept: Path | None = None,
) -> Preparation:
    """What the model of `config` is prepared with; see `Preparation`."""
    return Preparation(
        warmstart=config.warmstart,
        lora=config.lora,
        learner=config.learner,
        prompts=config.prompt.messages,
        tasks=tasks,
        read_tokenizer=ChatTokenizer,
        progress=tell,
        max_tokens=config.sampler.max_tokens,
        placement=place_on(look(config), config),
        adapter=adapter,
        kept=kept if kept is not None and kept.is_dir() else None,
    )


async def prepare_model(
    config: TrainConfig | EvaluateConfig,
    tasks: Sequence[Task],
    progress: Progress,
    *,
    adapter: bool = True,
    kept: Path | None = None,
) -> PreparedModel:
    """The base model, built or found, with the warm start's adapter where one is wanted, and its tokenizer.

    kept: where a run has its own copy of a base that was never published.
    Cancelled, it stops at the next step of a warm start, which is kept, and says so.
    """
    progress.status("preparing the model")
    state = shown = ("", 0, 0)
    stopped = threading.Event()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal state
        state = (what, done, total)
        if stopped.is_set():
            raise InterruptedError(what)

    asked = preparation(config, tasks, adapter=adapter, tell=tell, kept=kept)
    work = asyncio.create_task(asyncio.to_thread(config.model.prepare, model_cache(config), asked))
    try:
        while not work.done():
            await asyncio.wait({work}, timeout=SHOW_EVERY_S)
            if state != shown:
                shown = state
                progress.working(*shown)
        return work.result()
    except asyncio.CancelledError:
        stopped.set()
        await asyncio.wait({work})
        for note in getattr(work.exception(), "__notes__", []):
            progress.say(note)
        raise


@asynccontextmanager
async def serve(
    config: TrainConfig | EvaluateConfig,
    model: PreparedModel,
    watchdog: Watchdog,
    progress: Progress,
    adapters: AdapterLimits,
    cluster: Cluster | None = None,
) -> AsyncIterator[ServedModel]:
    """Start the sampler on a prepared model, on the device that it is to have; `cluster` says where, None is here."""
    progress.status(f"starting the sampler ({type(config.sampler).__name__})")
    shares = isinstance(config, TrainConfig) and placement_of(model).is_shared
    sampling = config.sampler if shares else config.sampler.apart()
    sampled = replace(model, device=model.sampler_device)
    where = cluster or Here(progress.say)
    sampler = await where.start_sampler(sampling, sampled, adapters, watchdog=watchdog, seed=config.seed)
    try:
        yield ServedModel(model=model, sampler=sampler)
    finally:
        await sampler.close()
