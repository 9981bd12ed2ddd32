"""A training run, put together: every part opened, taken up where an earlier run left off, handed to the loop."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, closing
from functools import partial
from typing import Any

from grpo_aflow.config.schema import TrainConfig
from grpo_aflow.evaluation.results import task_hash
from grpo_aflow.executor.settings import EndpointSettings
from grpo_aflow.learner.log_prob_check import Calibration, LogProbCheck
from grpo_aflow.learner.preparation.reference_workflows import corpus
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.learner.storage.checkpoints import Checkpoints
from grpo_aflow.learner.worker import LearnerWorker
from grpo_aflow.protocols import Environment, PreparedModel, ServedModel, TaskPrompt, TaskStream
from grpo_aflow.rollout.group import environment_spec, make_environment, make_rollouter
from grpo_aflow.rollout.policies import sampled
from grpo_aflow.run.background import Logs
from grpo_aflow.run.files import read_jsonl
from grpo_aflow.run.folder import Lines, RunDirectory
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.records import replayed
from grpo_aflow.run.resume import check_tasks
from grpo_aflow.services import Services, check_machine, open_services
from grpo_aflow.training.held_out import HeldOut, read_records
from grpo_aflow.training.publisher import Publisher, arithmetic_of, still_measured
from grpo_aflow.training.references import References
from grpo_aflow.training.replays import Replays
from grpo_aflow.training.served_policy import make_learner, open_policy, published_bytes
from grpo_aflow.training.state import Training
from grpo_aflow.training.summary import best_step
from grpo_aflow.training.turns import turns
from grpo_aflow.types import Task, UserError

PROBE_TOKENS = 1025  # of the log-prob check; log-probabilities of all but the first
FP32_PROBE_TOKENS = 64


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Tasks:
    stream: TaskStream
    train: Sequence[Task]  # all of the stream's
    evaluated: Sequence[Task]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Parts:
    """All that is opened, before the rest is made of it."""

    config: TrainConfig
    run: RunDirectory
    progress: Progress
    log_to: Logs
    services: Services
    served: ServedModel
    worker: LearnerWorker
    checkpoints: Checkpoints
    tasks: _Tasks
    lines: Lines  # which the run has kept of an earlier part
    environment: Environment


async def open_training(config: TrainConfig, run: RunDirectory, stack: AsyncExitStack, progress: Progress) -> Training:
    """Open everything, cheapest first; take up the newest checkpoint when `run` is being resumed."""
    await asyncio.to_thread(check_machine, config)  # refused before anything is downloaded
    checkpoints = Checkpoints(run.path / "checkpoints", keep=config.schedule.keep_checkpoints)
    lines = await asyncio.to_thread(_begin, config, run, checkpoints, progress)
    tasks = await _load_tasks(config, progress)
    hashes = fingerprint(tasks.stream.tasks, tasks.evaluated)
    check_tasks(run.manifest().get("tasks", {}), hashes, config.resume_with)
    log_to = _loggers(config, run, lines.step, progress)
    stack.push_async_exit(partial(_close, log_to, progress))
    progress.status("reaching the cluster")
    cluster = await stack.enter_async_context(config.cluster.open(progress.say))
    config = per_place(config, cluster.num_places)
    policy_model = partial(open_policy, config, run, tasks.train, tasks.evaluated, progress, cluster)
    services, opened = await stack.enter_async_context(
        open_services(config, run.path, [*tasks.train, *tasks.evaluated], progress, policy_model)
    )
    progress.status("loading the learner")
    make = partial(make_learner, config, run.path / "refused", opened.plan)
    worker = await cluster.start_learner(make, opened.served.model, timeline=services.timeline)
    stack.callback(worker.close)
    state = await worker.load(checkpoints, lines.step)
    checkpoints.set_aside(lines.step)  # first: a kill in between leaves no checkpoint ahead of its lines
    if run.resumed:
        run.rewind(lines)
    store = stack.enter_context(closing(AdapterStore(needed_bytes=published_bytes(config, opened.served.model))))
    services.watchdog.watch_path(store.folder)
    environment = await cluster.start_environment(
        make_environment(services, config),
        environment_spec(services, config).open,
        chat=services.executor,
        timeline=services.timeline,
    )
    parts = _Parts(
        config=config,
        run=run,
        progress=progress,
        log_to=log_to,
        services=services,
        served=opened.served,
        worker=worker,
        checkpoints=checkpoints,
        tasks=tasks,
        lines=lines,
        environment=environment,
    )
    training = _put_together(parts, _publisher(parts, store, state))
    checkpoints.best = best_step(training.held_out.scores)
    progress.status("comparing sampler and learner")
    await training.publisher.publish()
    run.update_manifest(
        base_model=str(opened.served.model.path),
        sandbox=config.sandbox.name,
        tasks=hashes,
        devices=opened.devices,
    )
    if run.resumed:
        run.note_resumed(lines.step, config.plain)
    progress.status("")
    return training


async def _load_tasks(config: TrainConfig, progress: Progress) -> _Tasks:
    progress.status("loading tasks")
    evaluated = await asyncio.to_thread(config.eval.load)
    stream = await asyncio.to_thread(partial(config.data_mix.load, evaluated=evaluated))
    return _Tasks(stream=stream, train=[*itertools.chain(*stream.tasks.values())], evaluated=evaluated)


def _publisher(parts: _Parts, store: AdapterStore, state: Mapping[str, Any]) -> Publisher:
    """state: what the checkpoint that was loaded has kept of an earlier publisher."""
    config, model, tasks = parts.config, parts.served.model, parts.tasks
    arithmetic = arithmetic_of(config, model)
    calibration = still_measured(state.get("calibration") or {}, arithmetic)
    return Publisher(
        worker=parts.worker,
        sampler=parts.served.sampler,
        store=store,
        trained_limit=calibration.pop("trained_limit", 0.0),
        arithmetic=arithmetic,
        policies=state.get("policies"),
        check=LogProbCheck(dtype=model.dtype, calibration=Calibration(**calibration) if calibration else None),
        probe=probe_tokens(model, config.prompt, (tasks.evaluated or tasks.train)[0]),
        max_staleness=config.schedule.max_staleness,
        timeline=parts.services.timeline,
    )


def _put_together(parts: _Parts, publisher: Publisher) -> Training:
    config, run, services, worker, lines = parts.config, parts.run, parts.services, parts.worker, parts.lines
    references = References(
        worker,
        services.timeline,
        needed=config.objective.needs_reference,
        regularises_all=config.objective.regularises_all,
        temperature=lambda step: config.sampler.params(step).temperature,
    )
    replays = Replays(run, lines.origins, version=worker.version, policy=publisher.policy, params=config.sampler.params)
    rolling_out = partial(
        make_rollouter, services, config, sampled(parts.served, config.prompt), environment=parts.environment
    )
    return Training(
        config=config,
        run=run,
        progress=parts.progress,
        log_to=parts.log_to,
        services=services,
        served=parts.served,
        rollouter=rolling_out(
            record_ahead=replays.record,
            recorded=replayed(lines.recorded, worker.version, config.schedule.group_size),
            may_replay=replays.allow,
            on_sampled=references.refer,
        ),
        worker=worker,
        references=references,
        publisher=publisher,
        turns=turns(config.sampler, parts.served, services.timeline),
        checkpoints=parts.checkpoints,
        stream=parts.tasks.stream,
        held_out=HeldOut(
            config,
            parts.tasks.evaluated,
            services,
            rolling_out(),
            run=run,
            log_to=parts.log_to,
            progress=parts.progress,
            policy=publisher.policy,
            made=read_records(run.path, lines.step),
        ),
        finished=lines.step,
        finished_version=worker.version,
        last=_last_figures(lines.metrics),
    )


def per_place(config: TrainConfig, num_places: int) -> TrainConfig:
    """The config with as many executor calls under way at once as `executor.concurrency` gives to each place."""
    executor = config.executor
    if num_places == 1 or not isinstance(executor, EndpointSettings):
        return config
    scaled = dataclasses.replace(executor, concurrency=executor.concurrency * num_places)
    return dataclasses.replace(config, executor=scaled)


def _loggers(config: TrainConfig, run: RunDirectory, begin: int, progress: Progress) -> Logs:
    def say(line: str) -> None:
        progress.say(line)
        run.log(line)

    return Logs({name: logger.start(run, config.plain, begin=begin) for name, logger in config.logger.items()}, say)


async def _close(
    log_to: Logs, progress: Progress, kind: type[BaseException] | None, error: BaseException | None, at: object
) -> None:
    progress.watch(lambda: "waiting for the loggers")
    await asyncio.to_thread(log_to.close, error)


def _last_figures(metrics: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """The figures of the last step that a resumed run has done; none of a new one."""
    return {name: math.nan if value is None else value for line in metrics[-1:] for name, value in line.items()}


def _begin(config: TrainConfig, run: RunDirectory, checkpoints: Checkpoints, progress: Progress) -> Lines:
    """The step at which a run begins, and what it keeps, read before anything is opened; UserError where it is lost."""
    if not run.resumed:
        return run.lines_until(0)
    step = checkpoints.choose(progress.say, config.resume_from)
    lines = run.lines_until(step)
    done = max((int(line["step"]) for line in read_jsonl(run.path / "metrics.jsonl")), default=0)
    if config.resume_from is None and step == 0 and done >= config.schedule.save_every:
        raise UserError(
            f"{run.path} has done {done} steps and has no checkpoint any more: put its checkpoints/ back, or train "
            "again from the beginning with resume_from=0"
        )
    read_records(run.path, step)  # wanted again once all is open
    return lines


def fingerprint(train: Mapping[str, Sequence[Task]], evaluated: Sequence[Task]) -> dict[str, str]:
    """By dataset: which tasks exactly a run trained on and was evaluated on."""
    parts = {f"train/{name}": tasks for name, tasks in train.items()} | {"evaluated": evaluated}
    return {name: task_hash(tasks) for name, tasks in parts.items()}


def probe_tokens(model: PreparedModel, prompt: TaskPrompt, task: Task) -> tuple[int, ...]:
    """The text of the log-prob check, of the policy's own kind: prompts, each with a reference workflow.

    In fp32 single tokens tell; in lower precision a tolerance is measured, which takes many.
    """
    size = FP32_PROBE_TOKENS if model.dtype == "float32" else PROBE_TOKENS
    opening = model.tokenizer.encode_chat(prompt.messages(task))
    probe: list[int] = []
    for workflow in itertools.cycle(corpus()):
        probe += [*opening, *model.tokenizer.encode(workflow.source), model.tokenizer.end_id]
        if len(probe) >= size:
            break
    return tuple(probe[: min(size, model.max_model_len - 1)])  # one token is generated behind it
