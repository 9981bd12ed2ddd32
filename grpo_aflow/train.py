"""The training loop: GRPO over workflows, one optimizer step per training step, every step's adapter published.

In short: draw `group_size` workflows for each task of the step; run each on its task; grade the answers; advantages are
rewards relative to their group; one clipped policy-gradient step on the LoRA weights; publish; repeat. The loss is the
config group `objective`; what runs ahead of the learner is `schedule.max_staleness` (see `pipeline`).

    grpo-aflow-train                                  the tiny policy on two CPU cores
    grpo-aflow-train experiment=seed_7b               Qwen2.5-7B on a GPU, gpt-4o-mini as executor
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path

from grpo_aflow.config.groups import due
from grpo_aflow.config.schema import TrainConfig
from grpo_aflow.rollout import metrics
from grpo_aflow.rollout.batches import batched
from grpo_aflow.rollout.reward import check_rubric
from grpo_aflow.run.ending import ending
from grpo_aflow.run.faults import known
from grpo_aflow.run.objective import objective
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.resources import settled
from grpo_aflow.run.resume import open_run
from grpo_aflow.run.signals import Interrupt
from grpo_aflow.training.setup import open_training
from grpo_aflow.training.state import Training
from grpo_aflow.types import InfrastructureError, RolloutGroup, UserError

Stepped = Callable[[Mapping[str, float]], None]


def train(
    config: TrainConfig,
    opened: Callable[[Path], None] = lambda folder: None,
    stepped: Stepped = lambda figures: None,
) -> float:
    """Run the training that `config` describes; `opened` is told the run's folder, `stepped` the figures of each step.

    `stepped` may end the run by raising Pruned. Returns what `objective_metric` names (by default the held-out accuracy
    at the end, the mean reward of the last step where nothing is evaluated): a finite number, for sweeps. Raises
    UserError and its kinds; whatever can be resumed is saved first.
    """
    return asyncio.run(_train(config, opened, stepped))


async def _train(config: TrainConfig, opened: Callable[[Path], None], stepped: Stepped) -> float:
    check_rubric(config.reward)
    run = open_run(Path(config.paths.runs), config.name, config.plain, config.resume)
    opened(run.path)
    with (
        Interrupt() as interrupt,
        Progress(num_steps=config.schedule.num_steps, log_every=config.schedule.log_every) as progress,
    ):
        with ending(run, interrupt):
            async with AsyncExitStack() as stack:
                training = await open_training(config, run, stack, progress)
                interrupt.graceful = True
                with settled():
                    value = await _run(training, interrupt, stepped)
        return objective(config.objective_metric, held_out=value, last=training.last)


async def _run(training: Training, interrupt: Interrupt, stepped: Stepped) -> float:
    """Evaluate, train, evaluate; on a signal or whatever a user can correct, save and say how to resume."""
    try:
        # Before training; or behind a step of an earlier part, which ended before it. No other policy is there now.
        if not training.finished or due(training.finished, training.config.schedule.eval_every):
            await training.evaluate(training.finished, interrupt)
        await run_loop(training, interrupt, stepped)
        await training.evaluate(training.finished, interrupt)
    except Exception as error:
        told = known(error)
        if told is None:  # a fault of ours: saved all the same
            error.add_note(await training.rescue(UserError("this is a fault of the program")))
            raise
        told.args = (await training.rescue(told),)
        with suppress(InfrastructureError):  # a full disk, of which the line tells already
            training.report()
        raise told from (None if told is error else error)
    return training.report()


async def run_loop(training: Training, interrupt: Interrupt, stepped: Stepped = lambda figures: None) -> None:
    """The steps that are left, from `training.finished` on; a signal ends it between two groups."""
    config, worker, pipeline = training.config, training.worker, training.pipeline()
    schedule, timeline = config.schedule, training.services.timeline
    timeline.lap()
    try:
        for step in range(training.finished + 1, schedule.num_steps + 1):
            version = worker.version
            arrived: dict[int, RolloutGroup] = {}
            training.watch(step, arrived)
            batches = batched(
                pipeline.groups(step),
                kind=config.objective.advantage,
                params=training.sampling,
                permuted=config.reward.permuted,
                seed=config.seed,
                step=step,
            )
            async with aclosing(training.turns.learner(training.recorded(batches, arrived))) as learnable:
                async for place, group, batch in interrupt.each(learnable):
                    await training.learn(place, group, batch)
            groups = [arrived[place] for place in sorted(arrived)]
            training.refuse_outage(step, groups)
            with timeline.busy("learner"):
                stats = await worker.step(schedule.learning_rate_at(step))
            training.publisher.check_trained(stats, training.sampling(step))
            await pipeline.drop_late(worker.version)
            await training.turns.sampler()
            published = await training.publisher.publish(training.learned_in(step))
            training.finish(step)
            pipeline.advance(step)
            figures = {"step": step, **metrics.summarise(groups, version=version), **stats, **published}
            figures |= pipeline.counts.metrics() | timeline.lap()
            training.log(step, figures, num_rollouts=sum(len(group.rollouts) for group in groups))
            if due(step, schedule.save_every) or step == schedule.num_steps:
                await training.save()
            if due(step, schedule.eval_every) and step < schedule.num_steps:
                await training.evaluate(step, interrupt)
                timeline.lap()
            stepped(figures)
    finally:
        await pipeline.close()
