"""A training run, put together: every part opened, taken up where an earlier run left off, handed to the loop."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpo_aflow.config import TrainConfig
from grpo_aflow.evaluate import Result, Scores, evaluate
from grpo_aflow.interrupt import Interrupt
from grpo_aflow.learner.gate import Gate
from grpo_aflow.learner.publish import AdapterStore
from grpo_aflow.logger import Log
from grpo_aflow.pipeline import Pipeline, informative
from grpo_aflow.progress import Progress
from grpo_aflow.publisher import Publisher
from grpo_aflow.record import RunDirectory, finite, replace
from grpo_aflow.report import last_lines
from grpo_aflow.resources import held
from grpo_aflow.resume import Checkpoints
from grpo_aflow.rollout import FixedPolicy, Rollouter
from grpo_aflow.seeds import derive_seed
from grpo_aflow.stage import Ground, Served, open_ground, prepare_model, replayed, serve
from grpo_aflow.types import (
    Completion,
    InfrastructureError,
    Message,
    RolloutGroup,
    RolloutStatus,
    SamplingParams,
    Task,
    TrainingGroup,
    UserError,
)

ORACLE = "oracle"
PROBE_TOKENS = 64
LONGEST_PROMPTS = 32  # whose tokens are counted for the memory plan


@dataclass(kw_only=True, slots=True)
class Training:
    """What the loop works with. `finished` is the last step whose version is published."""

    config: TrainConfig
    run: RunDirectory
    progress: Progress
    log_to: Log
    ground: Ground
    served: Served
    rollouter: Rollouter  # of training: records ahead, replays
    evaluator: Rollouter
    learner: Any  # learner.learner.Learner
    publisher: Publisher
    checkpoints: Checkpoints
    mix: Any  # tasks.mix.TaskMix
    eval_tasks: list[Task]
    learner_thread: ThreadPoolExecutor
    finished: int
    scores: dict[str, Scores] = field(default_factory=dict)  # evaluation name -> scores
    last: dict[str, float] = field(default_factory=dict)
    finished_version: int = 0
    _references: dict[tuple[int, int], asyncio.Task[Any]] = field(default_factory=dict)

    async def on_learner(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run a piece of the learner's work on its own thread, one at a time and in order."""
        return await asyncio.get_running_loop().run_in_executor(self.learner_thread, work, *arguments)

    def refer(self, step: int, index: int, prompt_ids: tuple[int, ...], completions: list[Completion]) -> None:
        """Have the base score a group's completions while its rewards are still awaited."""
        if self.config.objective.needs_reference:
            self._references[step, index] = asyncio.create_task(self._reference(step, prompt_ids, completions))

    async def _reference(self, step: int, prompt_ids: tuple[int, ...], completions: list[Completion]) -> Any:
        with self.ground.timeline.busy("learner"):
            temperature = self.sampling(step).temperature
            return await self.on_learner(self.learner.reference_logprobs, prompt_ids, completions, temperature)

    async def learn(self, place: int, group: RolloutGroup, batch: TrainingGroup) -> None:
        """Forward and backward of one group; one without a signal costs nothing."""
        reference = self._references.pop((group.step, group.index), None)
        given = None
        if reference is not None and not informative(group):
            reference.cancel()
        elif reference is not None:
            given = await reference
        with self.ground.timeline.busy("learner"):
            await self.on_learner(self.learner.backward, batch, given, place)

    def sampling(self, step: int) -> SamplingParams:
        return self.config.sampler.params(step - 1)

    def pipeline(self) -> Pipeline:
        size = self.config.schedule.group_size

        def start(task: Task, step: int, index: int, version: int) -> Any:
            params = self.sampling(step)
            return self.rollouter.group(task, step=step, index=index, size=size, params=params, version=version)

        return Pipeline(
            schedule=self.config.schedule,
            tasks=self._tasks,
            start_group=start,
            version=lambda: self.publisher.version,
            finished=self.finished,
        )

    def _tasks(self, step: int, number: int, refill_round: int) -> list[Task]:
        """Tasks of a step; refills come from streams of their own: the main one stays a function of the step."""
        return list(self.mix.batch(step - 1, number, seed=self.config.seed + 1_000_003 * refill_round))

    def record(self, step: int, group: RolloutGroup, batch: TrainingGroup) -> None:
        for rollout, advantage in zip(group.rollouts, batch.advantages, strict=True):
            self.run.rollout((group.step, group.index, rollout.member), rollout, advantage)

    def finish(self, step: int) -> None:
        """Step `step` is done: learned, published, and safe to be saved."""
        self.finished, self.finished_version = step, self.learner.version

    async def rescue(self, error: UserError) -> str:
        """Save what the early end by `error` leaves, and say how to go on; a half-done step is done again."""
        for reference in self._references.values():
            reference.cancel()
        told = str(error)
        if self.learner.version == self.finished_version:
            try:
                await self.save()
            except InfrastructureError as unsaved:
                told = told if str(unsaved) == told else f"{told}; {unsaved}"
        steps = self.checkpoints.steps()
        saved = f"step_{steps[-1]:06d}" if steps else "nothing"
        return f"{told}; saved {saved}; resume with: grpo-aflow-train resume={self.run.path}"

    def log(self, step: int, figures: dict[str, float], *, num_rollouts: int) -> None:
        figures["throughput/rollouts_per_s"] = num_rollouts / figures["time/step_s"]
        figures |= held(num_versions=self.publisher.num_versions)
        figures["sampler/temperature"] = self.sampling(step).temperature
        figures["learner/learning_rate"] = self.config.schedule.learning_rate_at(step)
        self.run.metrics(figures)
        self.log_to.log(step, figures)
        self.progress.step(figures)
        self.last = figures

    def refuse_outage(self, step: int, groups: list[RolloutGroup]) -> None:
        """Stop when too large a share of a step was lost to infrastructure (a limit of the executor's settings)."""
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        masked = sum(rollout.status == RolloutStatus.MASKED for rollout in rollouts)
        self.ground.executor.check_masked(step=step, num_masked=masked, num_rollouts=len(rollouts))

    async def save(self) -> Path:
        return await self.on_learner(
            self.checkpoints.save, self.finished, self.learner, {"base": str(self.served.model.path)}
        )

    async def evaluate(self, step: int, interrupt: Interrupt) -> None:
        """Evaluate the current version on the held-out tasks, unless an earlier part of this run has done so."""
        if self.eval_tasks:
            result = await self._evaluated(f"step_{step:06d}", self.evaluator, interrupt)
            accuracy = sum(map(sum, result.values())) / max(1, sum(map(len, result.values())))
            if self.checkpoints.best is None or accuracy > self.checkpoints.best[0]:
                self.checkpoints.best = (accuracy, step)
                if step:
                    await self.save()
            if step == 0 and self.config.eval.oracle:
                await self._evaluated(ORACLE, self._oracle(), interrupt)

    async def _evaluated(self, name: str, rollouter: Rollouter, interrupt: Interrupt) -> Scores:
        file = self.run.path / "evaluations" / f"{name}.json"
        if not file.is_file():
            result = await self._measured(name, rollouter, interrupt)
            file.parent.mkdir(exist_ok=True)
            for group in result.groups:
                for rollout in group.rollouts:
                    key = (group.step, group.index, rollout.member)
                    self.run.rollout(key, rollout, None, file=f"evaluations/{name}.jsonl")
            replace(file, json.dumps(finite({**result.summary(), "scores": result.scores}), indent=1))
            self.progress.say(f"held-out accuracy, {name.replace('_', ' ')}: {result.accuracy}")
        self.scores[name] = json.loads(file.read_text())["scores"]
        return self.scores[name]

    async def _measured(self, name: str, rollouter: Rollouter, interrupt: Interrupt) -> Result:
        done = 0

        def count(group: RolloutGroup) -> None:
            nonlocal done
            done += 1
            self.progress.status(f"evaluating {name}: {done}/{len(self.eval_tasks)} tasks")

        return await interrupt.until(
            evaluate(
                rollouter,
                self.eval_tasks,
                settings=self.config.eval,
                version=self.publisher.version,
                max_tokens=self.config.sampler.max_tokens,
                on_group=count,
            )
        )

    def _oracle(self) -> Rollouter:
        from grpo_aflow.learner.reference_workflows import best

        policy = FixedPolicy(sources={domain: best(domain) for domain in ("math", "qa", "code")})
        return self.ground.rollouter(self.config, policy)

    def report(self) -> float:
        """Print the last lines of the run and return its value."""
        lines, value = last_lines(self.run.path, self.scores, self.last)
        for line in lines:
            self.progress.say(line)
            self.run.log(line)
        return value


async def open_training(config: TrainConfig, run: RunDirectory, stack: AsyncExitStack, progress: Progress) -> Training:
    """Open everything, cheapest first; take up the newest checkpoint when `run` is being resumed."""
    progress.status("loading tasks")
    eval_tasks = await asyncio.to_thread(config.eval.load)
    mix = await asyncio.to_thread(config.data_mix.load, evaluated=eval_tasks)
    train_tasks = [task for tasks in mix.tasks.values() for task in tasks]
    log_to = stack.enter_context(closing(config.logger.start(run.path, config.plain)))
    ground = await stack.enter_async_context(open_ground(config, run.path, [*train_tasks, *eval_tasks], progress))
    model = await asyncio.to_thread(prepare_model, config, train_tasks, progress)
    progress.say(plan_memory(config, model, train_tasks), style="dim")
    served = await stack.enter_async_context(
        serve(
            config,
            model,
            ground,
            progress,
            max_loras=config.schedule.max_staleness + 2,
            max_rank=config.lora.rank,
            layers=config.lora.layers,
        )
    )
    progress.status("loading the learner")
    thread = ThreadPoolExecutor(1, "learner")
    stack.callback(thread.shutdown)
    loop = asyncio.get_running_loop()
    learner = await loop.run_in_executor(thread, _learner, config, model, run)
    checkpoints = Checkpoints(run.path / "checkpoints", keep=config.schedule.keep_checkpoints)
    state = await loop.run_in_executor(thread, checkpoints.load, learner, progress.say)
    if run.resumed and state.get("base", str(model.path)) != str(model.path):
        raise UserError(f"resume: the base model is now {model.path}, the checkpoint was trained on {state['base']}")
    recorded = replayed(run.rewind(state["step"]), learner.version, config.schedule.group_size) if run.resumed else {}
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
    training.publisher = _publisher(training, store)
    await training.publisher.publish()
    run.update_manifest(
        base_model=str(model.path), sandbox=config.sandbox.name, tasks=fingerprint(mix.tasks, eval_tasks)
    )
    progress.status("")
    return training


def fingerprint(train: Mapping[str, Sequence[Task]], evaluated: Sequence[Task]) -> dict[str, str]:
    """SHA-256 over ids and texts, by dataset: which tasks exactly a run trained on and was evaluated on."""
    parts = {f"train/{name}": tasks for name, tasks in train.items()} | {"evaluated": evaluated}
    return {
        name: hashlib.sha256(repr([(t.id, t.problem, t.answers, t.hidden_tests) for t in tasks]).encode()).hexdigest()
        for name, tasks in parts.items()
    }


def plan_memory(config: TrainConfig, model: Any, tasks: Sequence[Task]) -> str:
    """What the run will hold on its device, as a table, before a model is loaded; UserError when it cannot fit."""
    from grpo_aflow.learner.memory import NUM_BYTES, Load, device_memory, memory_plan, model_shape
    from grpo_aflow.sampler.tokenizer import ChatTokenizer

    shape, device_bytes = model_shape(model.path), device_memory(model.device)
    tokenizer = ChatTokenizer(model.path, enable_thinking=model.enable_thinking)
    longest = sorted(tasks, key=lambda task: len(task.problem))[-LONGEST_PROMPTS:]
    plan = memory_plan(
        shape,
        config.lora,
        config.learner,
        Load(
            prompt_tokens=max(len(tokenizer.encode_chat(config.prompt.messages(task))) for task in longest),
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
    return f"memory plan, upper estimates on {model.device}:\n{plan.render()}"


def _learner(config: TrainConfig, model: Any, run: RunDirectory) -> Any:
    from grpo_aflow.learner.learner import Learner

    return Learner(
        model.path,
        config.lora,
        config.objective,
        config.learner,
        model.device,
        model.dtype,
        derive_seed(config.seed, "learner"),
        num_sequences=config.schedule.prompts_per_step * config.schedule.group_size,
        dump_dir=run.path / "refused",
    )


def _publisher(training: Training, store: AdapterStore) -> Publisher:
    """The gate's probe is a short text of the policy's own kind: a prompt and a reference workflow."""
    from grpo_aflow.learner.reference_workflows import corpus

    tokenizer = training.served.tokenizer
    messages = training.config.prompt.messages(training.eval_tasks[0] if training.eval_tasks else _any(training.mix))
    answer: Message = {"role": "user", "content": corpus()[0].source}
    probe = (*tokenizer.encode_chat(messages), *tokenizer.encode_chat([answer]))[:PROBE_TOKENS]
    return Publisher(
        learner=training.learner,
        sampler=training.served.sampler,
        store=store,
        gate=Gate(dtype=training.served.model.dtype),
        probe=probe,
        max_staleness=training.config.schedule.max_staleness,
        timeline=training.ground.timeline,
        on_learner=training.on_learner,
    )


def _any(mix: Any) -> Task:
    return next(task for tasks in mix.tasks.values() for task in tasks)
