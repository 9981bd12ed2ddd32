"""A training run, put together: every part opened, taken up where an earlier run left off, handed to the loop."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_aflow.cluster.placement import Cluster
from grpo_aflow.config.schema import TrainConfig
from grpo_aflow.evaluation.results import task_hash
from grpo_aflow.executor.settings import EndpointSettings
from grpo_aflow.learner.hardware import release_cached
from grpo_aflow.learner.log_prob_check import Calibration, LogProbCheck
from grpo_aflow.learner.memory.plan import NUM_BYTES, MemoryPlan
from grpo_aflow.learner.memory.shapes import model_shape
from grpo_aflow.learner.model_folder import BASE_FOLDER, adapted_layers
from grpo_aflow.learner.preparation.reference_workflows import corpus
from grpo_aflow.learner.preparation.tokenization import check_context, num_prompt_tokens
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.learner.storage.checkpoints import Checkpoints
from grpo_aflow.protocols import PreparedModel, ServedModel, TaskPrompt
from grpo_aflow.rollout.group import environment_spec, make_environment, make_rollouter
from grpo_aflow.rollout.policies import sampled
from grpo_aflow.rollout.seeds import derive_seed
from grpo_aflow.run.background import Logs
from grpo_aflow.run.cards import Hardware
from grpo_aflow.run.files import read_jsonl, whole_folder
from grpo_aflow.run.folder import Lines, RunDirectory
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.records import replayed
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.run.weights import ADAPTER_CONFIG
from grpo_aflow.sampler.settings import AdapterLimits, VllmSettings, placement_of
from grpo_aflow.services import check_machine, look, open_services, prepare_model, serve
from grpo_aflow.training.held_out import HeldOut, read_records
from grpo_aflow.training.planning import RunPlan, devices_of, plan_run
from grpo_aflow.training.publisher import Publisher, arithmetic_of, still_measured
from grpo_aflow.training.references import References
from grpo_aflow.training.replays import Replays
from grpo_aflow.training.state import Training
from grpo_aflow.training.summary import best_step
from grpo_aflow.training.turns import turns
from grpo_aflow.types import Task, UserError

if TYPE_CHECKING:
    from grpo_aflow.learner.learner import Learner

PROBE_TOKENS = 1025  # of the log-prob check; log-probabilities of all but the first
FP32_PROBE_TOKENS = 64
WARM_START = "warm_start"  # in the run folder: version 0's adapter, which is also the KL reference


async def open_training(config: TrainConfig, run: RunDirectory, stack: AsyncExitStack, progress: Progress) -> Training:
    """Open everything, cheapest first; take up the newest checkpoint when `run` is being resumed."""
    await asyncio.to_thread(check_machine, config)  # refused before anything is downloaded
    checkpoints = Checkpoints(run.path / "checkpoints", keep=config.schedule.keep_checkpoints)
    lines = await asyncio.to_thread(_begin, config, run, checkpoints, progress)
    begin = lines.step
    progress.status("loading tasks")
    eval_tasks = await asyncio.to_thread(config.eval.load)
    stream = await asyncio.to_thread(partial(config.data_mix.load, evaluated=eval_tasks))
    train_tasks = [task for tasks in stream.tasks.values() for task in tasks]
    log_to = _loggers(config, run, begin, progress)
    stack.push_async_exit(partial(_close, log_to, progress))
    progress.status("reaching the cluster")
    cluster = await stack.enter_async_context(config.cluster.open(progress.say))
    config = per_place(config, cluster.num_places)
    engine = partial(_open_engine, config, run, train_tasks, eval_tasks, progress, cluster)
    services, opened = await stack.enter_async_context(
        open_services(config, run.path, [*train_tasks, *eval_tasks], progress, engine)
    )
    model = opened.served.model
    progress.status("loading the learner")
    make = partial(_learner, config, run.path / "refused", opened.plan)
    worker = await cluster.start_learner(make, model, timeline=services.timeline)
    stack.callback(worker.close)
    state = await worker.load(checkpoints, begin)
    checkpoints.set_aside(begin)  # first: a kill in between leaves no checkpoint ahead of its lines
    if run.resumed:
        run.rewind(lines)
    store = stack.enter_context(closing(AdapterStore(needed_bytes=_published_bytes(config, model))))
    services.watchdog.watch_path(store.folder)
    policy = sampled(opened.served, config.prompt)
    spec = environment_spec(services, config)
    environment = await cluster.start_environment(
        make_environment(services, config), spec.open, chat=services.executor, timeline=services.timeline
    )
    references = References(
        worker,
        services.timeline,
        needed=config.objective.needs_reference,
        regularises_all=config.objective.regularises_all,
        temperature=lambda step: config.sampler.params(step).temperature,
    )
    arithmetic = arithmetic_of(config, model)
    calibration = still_measured(state.get("calibration") or {}, arithmetic)
    publisher = Publisher(
        worker=worker,
        sampler=opened.served.sampler,
        store=store,
        trained_limit=calibration.pop("trained_limit", 0.0),
        arithmetic=arithmetic,
        policies=state.get("policies"),
        check=LogProbCheck(dtype=model.dtype, calibration=Calibration(**calibration) if calibration else None),
        probe=probe_tokens(model, config.prompt, (eval_tasks or train_tasks)[0]),
        max_staleness=config.schedule.max_staleness,
        timeline=services.timeline,
    )
    replays = Replays(run, lines.origins, version=worker.version, policy=publisher.policy, params=config.sampler.params)
    training = Training(
        config=config,
        run=run,
        progress=progress,
        log_to=log_to,
        services=services,
        served=opened.served,
        rollouter=make_rollouter(
            services,
            config,
            policy,
            environment=environment,
            record_ahead=replays.record,
            recorded=replayed(lines.recorded, worker.version, config.schedule.group_size),
            may_replay=replays.allow,
            on_sampled=references.refer,
        ),
        worker=worker,
        references=references,
        publisher=publisher,
        turns=turns(config.sampler, opened.served, services.timeline),
        checkpoints=checkpoints,
        stream=stream,
        held_out=HeldOut(
            config,
            eval_tasks,
            services,
            make_rollouter(services, config, policy, environment=environment),
            run=run,
            log_to=log_to,
            progress=progress,
            made=read_records(run.path, begin),
        ),
        finished=begin,
        finished_version=worker.version,
        last=_last_figures(lines.metrics),
    )
    checkpoints.best = best_step(training.held_out.scores)
    progress.status("comparing sampler and learner")
    await training.publisher.publish()
    run.update_manifest(
        base_model=str(model.path),
        sandbox=config.sandbox.name,
        tasks=fingerprint(stream.tasks, eval_tasks),
        devices=opened.devices,
    )
    if run.resumed:
        run.note_resumed(begin, config.plain)
    progress.status("")
    return training


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
    return {name: value for line in metrics[-1:] for name, value in line.items() if value is not None}


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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Engine:
    served: ServedModel
    plan: MemoryPlan
    devices: dict[str, dict[str, str]]


@asynccontextmanager
async def _open_engine(
    config: TrainConfig,
    run: RunDirectory,
    tasks: Sequence[Task],
    eval_tasks: Sequence[Task],
    progress: Progress,
    cluster: Cluster,
    watchdog: Watchdog,
) -> AsyncIterator[_Engine]:
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
        yield _Engine(served=served, plan=planned.learner, devices=devices)


def _published_dtype(config: TrainConfig, dtype: str) -> str:
    """The type that adapters are handed over in: vLLM rounds them to the base's when it loads them."""
    return dtype if isinstance(config.sampler, VllmSettings) else "float32"


def _published_bytes(config: TrainConfig, model: PreparedModel) -> int:
    """Of all adapters that lie between learner and sampler at once: those that are served, and one that is written."""
    number = config.schedule.max_staleness + 3
    size = NUM_BYTES[_published_dtype(config, model.dtype)]
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


def fingerprint(train: Mapping[str, Sequence[Task]], evaluated: Sequence[Task]) -> dict[str, str]:
    """By dataset: which tasks exactly a run trained on and was evaluated on."""
    parts = {f"train/{name}": tasks for name, tasks in train.items()} | {"evaluated": evaluated}
    return {name: task_hash(tasks) for name, tasks in parts.items()}


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


def _learner(
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
        published_dtype=_published_dtype(config, model.dtype),
        planned=plan.summary,
        shard_base=shard_base,
    )


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
