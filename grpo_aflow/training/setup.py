"""A training run, put together: every part opened, taken up where an earlier run left off, handed to the loop."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

from grpo_aflow.config.parsing import TrainConfig
from grpo_aflow.learner.checkpoints import Checkpoints
from grpo_aflow.learner.log_prob_check import Calibration, Gate
from grpo_aflow.learner.memory import NUM_BYTES, Load, MemoryPlan, device_memory, memory_plan, model_shape
from grpo_aflow.learner.models import check_context, num_prompt_tokens
from grpo_aflow.learner.publish import AdapterStore
from grpo_aflow.rollout.seeds import derive_seed
from grpo_aflow.run.folder import RunDirectory, read_jsonl
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.run.weights import ADAPTER_CONFIG
from grpo_aflow.sampler.settings import AdapterLimits
from grpo_aflow.services import Served, open_ground, prepare_model, replayed, serve
from grpo_aflow.training.publisher import Publisher
from grpo_aflow.training.state import Training
from grpo_aflow.types import Task, UserError

PROBE_TOKENS = 1025  # of the log-prob check; log-probabilities of all but the first
FP32_PROBE_TOKENS = 64
WARM_START = "warm_start"  # in the run folder: version 0's adapter, which is also the KL reference


async def open_training(config: TrainConfig, run: RunDirectory, stack: AsyncExitStack, progress: Progress) -> Training:
    """Open everything, cheapest first; take up the newest checkpoint when `run` is being resumed."""
    checkpoints = Checkpoints(run.path / "checkpoints", keep=config.schedule.keep_checkpoints)
    begin = await asyncio.to_thread(_begin, config, run, checkpoints, progress)
    progress.status("loading tasks")
    eval_tasks = await asyncio.to_thread(config.eval.load)
    mix = await asyncio.to_thread(config.data_mix.load, evaluated=eval_tasks)
    train_tasks = [task for tasks in mix.tasks.values() for task in tasks]
    log_to = config.logger.start(run, config.plain)
    stack.push(lambda kind, error, at: log_to.close(error))
    ground, engine = await stack.enter_async_context(
        open_ground(
            config,
            run.path,
            [*train_tasks, *eval_tasks],
            progress,
            partial(_open_engine, config, run, train_tasks, eval_tasks, progress),
        )
    )
    model, served = engine.served.model, engine.served
    progress.status("loading the learner")
    thread = ThreadPoolExecutor(1, "learner")
    stack.callback(thread.shutdown)
    loop = asyncio.get_running_loop()
    learner = await loop.run_in_executor(thread, _learner, config, model, run, engine.plan)
    state, recorded = await loop.run_in_executor(thread, _take_up, config, run, checkpoints, learner, begin)
    store = stack.enter_context(closing(AdapterStore()))
    ground.watchdog.watch_path(store.folder)
    evaluator = ground.rollouter(config, served.policy(config.prompt))
    training = Training(
        config=config,
        run=run,
        progress=progress,
        log_to=log_to,
        ground=ground,
        served=served,
        rollouter=evaluator,
        evaluator=evaluator,
        learner=learner,
        publisher=None,  # type: ignore[arg-type]
        checkpoints=checkpoints,
        mix=mix,
        eval_tasks=eval_tasks,
        learner_thread=thread,
        finished=state["step"],
        finished_version=learner.version,
    )
    training.rollouter = dataclasses.replace(
        evaluator, record_ahead=run.completion, recorded=recorded, on_sampled=training.refer
    )
    training.publisher = _publisher(training, store, state.get("calibration") or {})
    await training.publisher.publish()
    run.update_manifest(
        base_model=str(model.path), sandbox=config.sandbox.name, tasks=fingerprint(mix.tasks, eval_tasks)
    )
    if run.resumed:
        run.note_resumed(state["step"], config.plain)
    progress.status("")
    return training


def _begin(config: TrainConfig, run: RunDirectory, checkpoints: Checkpoints, progress: Progress) -> int:
    """The step at which a run begins, looked for before anything is opened; UserError where it is lost."""
    if not run.resumed:
        return 0
    step = checkpoints.choose(progress.say, config.resume_from)
    done = max((int(line.get("step", 0)) for line in read_jsonl(run.path / "metrics.jsonl")), default=0)
    if config.resume_from is None and step == 0 and done >= config.schedule.save_every:
        raise UserError(
            f"{run.path} has done {done} steps and has no checkpoint any more: put its checkpoints/ back, or train "
            "again from the beginning with resume_from=0"
        )
    return step


def _take_up(config: TrainConfig, run: RunDirectory, checkpoints: Checkpoints, learner: Any, step: int) -> Any:
    """Learner and records as they were after `step`: (what the checkpoint says, completions to be replayed)."""
    state = checkpoints.load(learner, step)
    recorded = run.rewind(step) if run.resumed else {}
    checkpoints.set_aside(step)
    return state, replayed(recorded, learner.version, config.schedule.group_size)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Engine:
    served: Served
    plan: MemoryPlan


@asynccontextmanager
async def _open_engine(
    config: TrainConfig,
    run: RunDirectory,
    tasks: Sequence[Task],
    eval_tasks: Sequence[Task],
    progress: Progress,
    watchdog: Watchdog,
) -> AsyncIterator[_Engine]:
    """The policy's model, planned for its device before anything is loaded, and its sampler."""
    model = await _prepare(config, run, tasks, progress)
    longest = num_prompt_tokens(model.tokenizer, config.prompt.messages, eval_tasks)
    check_context(longest, config.sampler.max_tokens, model.max_model_len)
    plan = plan_memory(config, model, tasks)
    progress.say(f"memory plan, upper estimates on {model.device}:\n{plan.render()}", style="dim")
    limits = AdapterLimits(
        rank=config.lora.rank, num_versions=config.schedule.max_staleness + 2, layers=config.lora.layers
    )
    async with serve(config, model, watchdog, progress, limits) as served:
        yield _Engine(served=served, plan=plan)


async def _prepare(config: TrainConfig, run: RunDirectory, tasks: Sequence[Task], progress: Progress) -> Any:
    """The model; its warm start lies in the run folder, so that a resumed run depends on no cache."""
    kept = run.path / WARM_START
    model = await prepare_model(config, tasks, progress, adapter=not kept.is_dir())
    if model.adapter is not None:
        await asyncio.to_thread(keep_adapter, model.adapter, kept, model.name)
    return dataclasses.replace(model, adapter=kept if kept.is_dir() else None)


def keep_adapter(adapter: Path, folder: Path, base_name: str) -> None:
    """Copy an adapter to `folder`, whole or not at all, with its base called `base_name`."""
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(adapter, new)
    described = json.loads((new / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    (new / ADAPTER_CONFIG).write_text(json.dumps({**described, "base_model_name_or_path": base_name}, indent=2))
    new.rename(folder)


def fingerprint(train: Mapping[str, Sequence[Task]], evaluated: Sequence[Task]) -> dict[str, str]:
    """SHA-256 over ids and texts, by dataset: which tasks exactly a run trained on and was evaluated on."""
    parts = {f"train/{name}": tasks for name, tasks in train.items()} | {"evaluated": evaluated}
    return {
        name: hashlib.sha256(repr([(t.id, t.problem, t.answers, t.hidden_tests) for t in tasks]).encode()).hexdigest()
        for name, tasks in parts.items()
    }


def plan_memory(config: TrainConfig, model: Any, tasks: Sequence[Task]) -> MemoryPlan:
    """What the run will hold on its device, before a model is loaded; UserError when it cannot fit."""
    shape, device_bytes = model_shape(model.path), device_memory(model.device)
    plan = memory_plan(
        shape,
        config.lora,
        config.learner,
        Load(
            prompt_tokens=num_prompt_tokens(model.tokenizer, config.prompt.messages, tasks),
            completion_tokens=config.sampler.max_tokens,
            group_size=config.schedule.group_size,
        ),
        dtype=model.dtype,
        device_bytes=device_bytes,
        sampler_bytes=config.sampler.memory(
            weight_bytes=shape.num_weights * NUM_BYTES[model.dtype],
            device_bytes=device_bytes,
            on_card=model.device != "cpu",
        ),
    )
    plan.check()
    return plan


def _learner(config: TrainConfig, model: Any, run: RunDirectory, plan: MemoryPlan) -> Any:
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
        dump_dir=run.path / "refused",
        planned=plan.summary,
    )


def _publisher(training: Training, store: AdapterStore, calibration: Mapping[str, float]) -> Publisher:
    """With what a resumed run has measured before (empty: nothing)."""
    measured = dict(calibration)
    trained_limit = measured.pop("trained_limit", 0.0)
    return Publisher(
        learner=training.learner,
        sampler=training.served.sampler,
        store=store,
        gate=Gate(dtype=training.served.model.dtype, calibration=Calibration(**measured) if measured else None),
        probe=_probe(training),
        max_staleness=training.config.schedule.max_staleness,
        timeline=training.ground.timeline,
        on_learner=training.on_learner,
        trained_limit=trained_limit,
    )


def _probe(training: Training) -> tuple[int, ...]:
    """The text of the log-prob check, of the policy's own kind: prompts, each with a reference workflow.

    In fp32 single tokens tell; in lower precision a tolerance is measured, which takes many.
    """
    from grpo_aflow.learner.reference_workflows import corpus

    model, prompt = training.served.model, training.config.prompt
    size = FP32_PROBE_TOKENS if model.dtype == "float32" else PROBE_TOKENS
    task = training.eval_tasks[0] if training.eval_tasks else _any(training.mix)
    opening = model.tokenizer.encode_chat(prompt.messages(task))
    probe: list[int] = []
    for workflow in itertools.cycle(corpus()):
        probe += [*opening, *model.tokenizer.encode(workflow.source), model.tokenizer.end_id]
        if len(probe) >= size:
            break
    return tuple(probe[: min(size, model.max_model_len - 1)])  # one token is generated behind it


def _any(mix: Any) -> Task:
    return next(task for tasks in mix.tasks.values() for task in tasks)
