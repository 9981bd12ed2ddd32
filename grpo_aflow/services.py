"""What training and evaluation stand on, opened in order of price and closed in reverse.

Cheap checks come first (sandbox, grader, the executor's endpoint), the model and its engine last, so that a run that
cannot work says so within seconds and leaves nothing behind. An executor on the engine itself is opened after it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from grpo_aflow import tasks as task_room
from grpo_aflow.config.parsing import EvaluateConfig, TrainConfig
from grpo_aflow.executor.engine import SharedSettings
from grpo_aflow.protocols import CodeRunner, Sampler, Tokenizer
from grpo_aflow.rollout.group import Policy, Rollouter, SampledPolicy
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.timing import Timeline
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.sampler.settings import AdapterLimits
from grpo_aflow.tasks.selftest.quick import self_test
from grpo_aflow.types import Completion, Task
from grpo_aflow.workflow.operators.table import system_prompts
from grpo_aflow.workflow.rules import WorkflowRules

SHOW_EVERY_S = 1.0
BLOCKING_CALLS = 32  # sandbox calls and grades under way at once; each only waits


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """Everything but the policy: enough to run and grade workflows."""

    runner: CodeRunner
    executor: Any  # executor.Executor, a protocols.ChatModel with its settings and totals
    watchdog: Watchdog
    timeline: Timeline

    def rollouter(self, config: TrainConfig | EvaluateConfig, policy: Policy, **more: Any) -> Rollouter:
        grade = partial(task_room.grade, runner=self.runner, tiers=config.reward.tiers)
        return Rollouter(
            policy=policy,
            rules=self._priced(config.workflow),
            chat=self.executor,
            temperature=self.executor.temperature,
            max_tokens=self.executor.max_tokens,
            runner=self.runner,
            grade=grade,
            reader=task_room.GraderReading(),
            rubric=config.reward,
            seed=config.seed,
            timeline=self.timeline,
            **more,
        )

    def _priced(self, rules: WorkflowRules) -> WorkflowRules:
        """The rules with the prices of the executor that will be paid; a replay, which is paid nothing, has none."""
        price = self.executor.price
        if price is None:
            return rules
        return rules.priced(prompt_usd=price.input_usd, completion_usd=price.output_usd)


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A base model with a sampler that serves adapters of it."""

    model: Any  # learner.models.PreparedModel
    tokenizer: Tokenizer
    sampler: Sampler

    def policy(self, prompt: Any) -> SampledPolicy:
        return SampledPolicy(sampler=self.sampler, tokenizer=self.tokenizer, prompt=prompt)


class Opened(Protocol):
    """What `open_ground` needs to know of what it opens beside the executor."""

    @property
    def served(self) -> Served | None: ...


OpenedT = TypeVar("OpenedT", bound=Opened)


@asynccontextmanager
async def open_ground(
    config: TrainConfig | EvaluateConfig,
    run_dir: Path,
    tasks: Sequence[Task],
    progress: Progress,
    engine: Callable[[Watchdog], AbstractAsyncContextManager[OpenedT]],
) -> AsyncIterator[tuple[Ground, OpenedT]]:
    """Sandbox (probed), grader (self-tested on a sample of `tasks`), executor (reached), and what `engine` opens.

    engine: given the watchdog, opens the model and its sampler, where the policy or the executor needs one.
    """
    async with AsyncExitStack() as stack:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(BLOCKING_CALLS, "blocking"))
        watchdog = stack.enter_context(closing(Watchdog.start()))
        progress.status("opening the sandbox")
        runner = stack.enter_context(closing(await asyncio.to_thread(config.sandbox.open)))
        progress.status("self-test of the graders")
        await asyncio.to_thread(self_test, runner, tasks)
        if isinstance(config.executor, SharedSettings):
            opened = await stack.enter_async_context(engine(watchdog))
            executor = await _share(config, run_dir, tasks, opened.served)
            stack.push_async_callback(executor.close)
        else:
            progress.status("reaching the executor")
            executor = await config.executor.open(
                run_dir, seed=config.seed, tasks=tasks, system_prompts=system_prompts(config.workflow.operator_set)
            )
            stack.push_async_callback(executor.close)
            opened = await stack.enter_async_context(engine(watchdog))
        yield Ground(runner=runner, executor=executor, watchdog=watchdog, timeline=Timeline()), opened


async def _share(
    config: TrainConfig | EvaluateConfig, run_dir: Path, tasks: Sequence[Task], served: Served | None
) -> Any:
    assert served is not None  # whoever opens the engine looks at config.executor
    return await config.executor.share(
        run_dir,
        sampler=served.sampler,
        tokenizer=served.tokenizer,
        name=served.model.name,
        max_model_len=served.model.max_model_len,
        seed=config.seed,
        tasks=tasks,
    )


async def prepare_model(
    config: TrainConfig | EvaluateConfig, tasks: Sequence[Task], progress: Progress, *, adapter: bool = True
) -> Any:
    """The base model, built or found, with the warm start's adapter where one is wanted, and its tokenizer.

    Cancelled, it stops at the next step of a warm start, which is kept, and says so.
    """
    progress.status("preparing the model")
    from grpo_aflow.learner.models import Preparation, default_cache
    from grpo_aflow.sampler.tokenizer import ChatTokenizer

    state, started, stopped = ("", 0, 0), time.monotonic(), threading.Event()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal state
        state = (what, done, total)
        if stopped.is_set():
            raise InterruptedError(what)

    asked = Preparation(
        warmstart=config.warmstart,
        lora=config.lora,
        learner=config.learner,
        prompts=config.prompt.messages,
        tasks=tasks,
        read_tokenizer=ChatTokenizer,
        progress=tell,
        max_tokens=config.sampler.max_tokens,
        adapter=adapter,
    )
    cache = Path(config.paths.cache).expanduser() if config.paths.cache else default_cache()
    work = asyncio.create_task(asyncio.to_thread(config.model.prepare, cache, asked))
    try:
        while not work.done():
            await asyncio.wait({work}, timeout=SHOW_EVERY_S)
            if state[2]:
                progress.working(*state, elapsed_s=time.monotonic() - started)
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
    model: Any,
    watchdog: Watchdog,
    progress: Progress,
    adapters: AdapterLimits,
) -> AsyncIterator[Served]:
    """Start the sampler on a prepared model."""
    from grpo_aflow.sampler.restarting import RestartingSampler

    progress.status(f"starting the sampler ({type(config.sampler).__name__})")

    async def start() -> Sampler:
        return await config.sampler.start(model, adapters, watchdog=watchdog, seed=config.seed)

    sampler = RestartingSampler(await start(), start, progress.say)
    try:
        yield Served(model=model, tokenizer=model.tokenizer, sampler=sampler)
    finally:
        await sampler.close()


def replayed(recorded: Mapping[Any, Completion], version: int, group_size: int) -> dict[Any, Completion]:
    """Of the completions that a killed run left behind, those that may be replayed when it resumes at `version`.

    A group that is not whole and was begun under a version older than the checkpoint's cannot be finished under that
    version any more: it is drawn anew.
    """
    members: dict[tuple[int, int], int] = {}
    for step, index, _ in recorded:
        members[step, index] = members.get((step, index), 0) + 1
    return {
        key: completion
        for key, completion in recorded.items()
        if members[key[0], key[1]] == group_size or completion.version >= version
    }
