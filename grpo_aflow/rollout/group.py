"""One task -> one RolloutGroup, streaming: a completion goes to its environment the moment it is sampled.

Everything random is drawn from (seed, step, group, member), so a draw does not depend on what arrives when. A
completion that an earlier, killed run already recorded is replayed rather than sampled again, where it may be.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from grpo_aflow.config.schema import EvaluateConfig, TrainConfig
from grpo_aflow.protocols import Environment, Policy, Rubric
from grpo_aflow.rollout.environment import EnvironmentSpec
from grpo_aflow.rollout.reward import score, tiers_of
from grpo_aflow.rollout.seeds import derive_seed
from grpo_aflow.run.records import RolloutKey
from grpo_aflow.run.timing import Timeline
from grpo_aflow.services import Services
from grpo_aflow.types import Completion, Rollout, RolloutGroup, SamplingParams, Task

EVALUATION = -1  # the step number of rollouts that are not trained on

Sampled = Callable[[int, int, tuple[int, ...], list[Completion]], None]  # step, group index, prompt, completions
Recorded = Callable[[RolloutKey, str, tuple[int, ...], Completion], None]  # key, task id, prompt, completion
MayReplay = Callable[[RolloutKey, tuple[int, ...], Completion], bool]  # key, prompt, completion


def always(key: RolloutKey, prompt_ids: tuple[int, ...], completion: Completion) -> bool:
    """Whatever was recorded is replayed."""
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollouter:
    """Runs tasks through policy and environment to rewards. Used alike by training and evaluation."""

    policy: Policy
    environment: Environment
    rubric: Rubric
    seed: int
    timeline: Timeline
    record_ahead: Recorded | None = None  # writes a completion before its execution starts
    recorded: Mapping[RolloutKey, Completion] = field(default_factory=dict)  # to be replayed
    may_replay: MayReplay = always  # asked of each when its group begins
    on_sampled: Sampled | None = None  # told of a group's completions as soon as all are there, rewards or not

    async def group(
        self, task: Task, *, step: int, index: int, size: int, params: SamplingParams, version: int
    ) -> RolloutGroup:
        """Sample `size` workflows for a task, run and grade each; rewards are filled in."""
        prompt_ids = self.policy.prompt_ids(task)
        running: dict[int, asyncio.Task[Rollout]] = {}
        sampled: dict[int, Completion] = {}
        try:
            async with (
                asyncio.TaskGroup() as executions,
                aclosing(self._completions(task, prompt_ids, step, index, size, params, version)) as stream,
            ):
                async for member, completion in stream:
                    sampled[member] = completion
                    work = self.environment.rollout(task, completion, step=step, member=member)
                    running[member] = executions.create_task(work)
                if self.on_sampled is not None:
                    self.on_sampled(step, index, prompt_ids, [sampled[m] for m in range(size)])
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        rollouts = score(self.rubric, [running[member].result() for member in range(size)])
        return RolloutGroup(
            step=step,
            index=index,
            task=task,
            prompt_ids=prompt_ids,
            version=rollouts[0].completion.version,
            rollouts=rollouts,
        )

    async def _completions(
        self,
        task: Task,
        prompt_ids: tuple[int, ...],
        step: int,
        index: int,
        size: int,
        params: SamplingParams,
        version: int,
    ) -> AsyncGenerator[tuple[int, Completion]]:
        keys = [(step, index, member) for member in range(size) if (step, index, member) in self.recorded]
        known = {key[2]: self.recorded[key] for key in keys if self.may_replay(key, prompt_ids, self.recorded[key])}
        # A group never mixes versions: what a killed run had begun is finished under the version it began with.
        version = next((completion.version for completion in known.values()), version)
        known = {member: completion for member, completion in known.items() if completion.version == version}
        for member, completion in known.items():
            yield member, completion
        missing = [member for member in range(size) if member not in known]
        if not missing:
            return
        seeds = [derive_seed(self.seed, step, index, member) for member in range(size)]
        with self.timeline.busy("sampler"):
            stream = self.policy.draw(task, prompt_ids, seeds=seeds, members=missing, params=params, version=version)
            async for member, completion in stream:
                if self.record_ahead is not None:
                    self.record_ahead((step, index, member), task.id, prompt_ids, completion)
                yield member, completion


def environment_spec(services: Services, config: TrainConfig | EvaluateConfig) -> EnvironmentSpec:
    """What completions meet with this config and the executor that is open."""
    return EnvironmentSpec(
        rules=services.priced(config.workflow),
        temperature=services.executor.temperature,
        max_tokens=services.executor.max_tokens,
        tiers=tiers_of(config.reward),
        sandbox=config.sandbox,
    )


def make_environment(services: Services, config: TrainConfig | EvaluateConfig) -> Environment:
    """The environment in this process, on open services."""
    return environment_spec(services, config).environment(services.executor, services.runner, services.timeline)


def make_rollouter(
    services: Services,
    config: TrainConfig | EvaluateConfig,
    policy: Policy,
    *,
    environment: Environment | None = None,
    record_ahead: Recorded | None = None,
    recorded: Mapping[RolloutKey, Completion] | None = None,
    may_replay: MayReplay = always,
    on_sampled: Sampled | None = None,
) -> Rollouter:
    """Policy and rubric of `config` on open services: the rollouts of training and evaluation alike.

    environment: where workflows run; None is this process.
    """
    return Rollouter(
        policy=policy,
        environment=environment or make_environment(services, config),
        rubric=config.reward,
        seed=config.seed,
        timeline=services.timeline,
        record_ahead=record_ahead,
        recorded=recorded or {},
        may_replay=may_replay,
        on_sampled=on_sampled,
    )
