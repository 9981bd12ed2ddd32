"""What a training run and an evaluation are made of: one typed field for each config group.

A group's type is the class that its options share, or, where users bring their own, the protocol of what is asked of
it: any dataclass that has this can be named by an option's `_target_`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from grpo_aflow.cluster.placement import Cluster
from grpo_aflow.cluster.settings import RaySettings
from grpo_aflow.config.groups import Evaluation, Paths, Schedule, Sweep
from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.models import ModelSource
from grpo_aflow.learner.objectives import Objective
from grpo_aflow.learner.settings import LearnerSettings
from grpo_aflow.learner.warmstart import WarmStart
from grpo_aflow.protocols import CodeRunner, ExecutorConfig, ResolvedPolicy, Rubric, TaskPrompt, TaskStream
from grpo_aflow.run.background import Log
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.objective import check_objective
from grpo_aflow.run.progress import Progress
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.sampler.settings import Sampling
from grpo_aflow.types import Task, UserError
from grpo_aflow.workflow.rules import WorkflowRules


class DataMixConfig(Protocol):
    """Config group `data_mix`: which tasks a run trains on."""

    def load(self, *, evaluated: Sequence[Task]) -> TaskStream:
        """The tasks in their order; none of `evaluated` may be among them."""
        ...


class ClusterConfig(Protocol):
    """Config group `cluster`: where engines and learner ranks run."""

    def open(self, say: Callable[[str], None]) -> AbstractAsyncContextManager[Cluster]:
        """Reach the machines, and refuse what does not fit on them; UserError names the fix."""
        ...

    def look(self) -> str:
        """The machines in words, against what is needed of them; refuses as `open` does. Blocking."""
        ...


class SandboxConfig(Protocol):
    """Config group `sandbox`: how generated code is confined."""

    @property
    def name(self) -> str: ...

    def open(self) -> CodeRunner:
        """Start it, and prove that it confines. Blocking."""
        ...


class LoggerConfig(Protocol):
    """An option of config group `logger`: where figures go besides `metrics.jsonl`. Several may be chosen at once."""

    def check(self) -> None:
        """Refuse what cannot work, before anything is opened; UserError names the fix."""
        ...

    def start(self, run: RunDirectory, config: Mapping[str, Any], *, begin: int) -> Log:
        """What is logged to, not yet reached. `begin`: the step after which the run goes on, 0 for a new one."""
        ...


class PolicyConfig(Protocol):
    """Config group `policy`: which policy is evaluated."""

    @property
    def is_sampled(self) -> bool:
        """Whether it draws from the model; one that does not needs an engine only where the executor wants it."""
        ...

    def check(self) -> None:
        """Refuse what is not there, before anything is opened or written; UserError names the fix."""
        ...

    def resolve(
        self, config: EvaluateConfig, tasks: Sequence[Task], progress: Progress, watchdog: Watchdog
    ) -> AbstractAsyncContextManager[ResolvedPolicy]:
        """Open what the policy is drawn from, and the engine that the executor may need."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run."""

    name: str
    seed: int
    resume: str | None
    resume_from: int | None
    resume_with: list[str]
    objective_metric: str | None
    paths: Paths
    sweep: Sweep
    model: ModelSource
    lora: LoraSpec
    objective: Objective
    learner: LearnerSettings
    sampler: Sampling
    schedule: Schedule
    cluster: ClusterConfig
    data_mix: DataMixConfig
    prompt: TaskPrompt
    workflow: WorkflowRules
    executor: ExecutorConfig
    sandbox: SandboxConfig
    reward: Rubric
    warmstart: WarmStart
    eval: Evaluation
    logger: Mapping[str, LoggerConfig]
    plain: Mapping[str, Any]  # the composed config as plain data, for the run directory

    def check(self) -> None:
        """Refuse what cannot work, before anything is opened; UserError names the fix."""
        self.model.check()
        self.executor.check(self.model)
        for logger in self.logger.values():
            logger.check()
        check_objective(self.objective_metric, evaluated=bool(self.eval.datasets))
        for key in ("temperature", "final_temperature"):
            if not getattr(self.sampler, key) > 0:
                raise UserError(
                    f"sampler.{key}={getattr(self.sampler, key)}: greedy draws are all alike, so nothing can be "
                    "learned from them; give a temperature above 0"
                )
        try:
            self.objective.check_sampling(
                top_p=self.sampler.top_p, top_k=self.sampler.top_k, max_staleness=self.schedule.max_staleness
            )
        except ValueError as error:
            raise UserError(f"objective.{error}") from error

    @property
    def base_shares(self) -> int:
        """In how many parts learner ranks hold the base."""
        return self.cluster.base_shares if isinstance(self.cluster, RaySettings) else 1

    @property
    def learns_here(self) -> bool:
        """Whether the learner is in the run's own process."""
        return not isinstance(self.cluster, RaySettings)

    def check_cards_of_engines(self) -> None:
        """Refuse engines of several cards that Ray gives fewer; UserError names the fix."""
        number, cluster = self.sampler.num_cards, self.cluster
        if isinstance(cluster, RaySettings) and 0 < cluster.engine_gpus < number:
            raise UserError(
                f"cluster.engine_gpus={cluster.engine_gpus:g} gives an engine fewer cards than "
                f"sampler.tensor_parallel_size={number}: set cluster.engine_gpus={number}"
            )

    def check_shared(self, *, on_card: bool) -> None:
        """Refuse what cannot work where sampler and learner have one device; UserError names the fix."""
        if not self.sampler.colocation.takes_turns:
            return
        fix, schedule = "or set sampler.colocate=resident", self.schedule
        if not on_card:
            raise UserError(
                f"sampler.colocate gives memory of a card back, and sampler and learner are both on the CPU: choose a "
                f"card with model.device=cuda, {fix}"
            )
        if isinstance(self.cluster, RaySettings):
            raise UserError(
                f"cluster=ray gives engines and learners cards of their own, and sampler.colocate is for one that both "
                f"share: set cluster=local, {fix}"
            )
        if schedule.max_staleness > 0:
            raise UserError(
                f"schedule.max_staleness={schedule.max_staleness} samples while the learner works, and with this "
                f"sampler.colocate the engine then sleeps: set schedule.max_staleness=0, {fix}"
            )
        if schedule.group_deadline_s is not None:
            raise UserError(
                f"schedule.group_deadline_s={schedule.group_deadline_s:g} leaves groups under way while the learner "
                f"works, and with this sampler.colocate the engine then sleeps: set schedule.group_deadline_s=null, "
                f"{fix}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """One evaluation of a policy; also what `grpo-aflow-solve` needs."""

    name: str
    seed: int
    resume: str | None
    resume_with: list[str]
    settings_of: str | None
    solve_as: str
    baselines: list[str]
    paths: Paths
    sweep: Sweep
    policy: PolicyConfig
    model: ModelSource
    lora: LoraSpec
    learner: LearnerSettings
    sampler: Sampling
    prompt: TaskPrompt
    workflow: WorkflowRules
    executor: ExecutorConfig
    sandbox: SandboxConfig
    reward: Rubric
    warmstart: WarmStart
    eval: Evaluation
    plain: Mapping[str, Any]

    @property
    def needs_engine(self) -> bool:
        """Whether anything is asked of the model: by the policy, or by an executor on the same engine."""
        return self.policy.is_sampled or self.executor.needs_engine

    def check(self) -> None:
        """Refuse what cannot work, before anything is opened; UserError names the fix."""
        self.model.check()
        self.executor.check(self.model)
