"""What a run asks of the place where its engines and learners are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from grpo_aflow.cluster.executions import OpenEnvironments
from grpo_aflow.learner.worker import LearnerWorker
from grpo_aflow.protocols import ChatModel, Environment, PreparedModel, Sampler
from grpo_aflow.run.timing import Timeline
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.sampler.settings import AdapterLimits, Sampling

if TYPE_CHECKING:
    from grpo_aflow.learner.learner import Learner


class MakeLearner(Protocol):
    """Makes a learner. shard_base: see `Learner`."""

    def __call__(self, model: PreparedModel, /, *, shard_base: bool = False) -> Learner: ...


class Cluster(Protocol):
    """Open machines."""

    @property
    def num_places(self) -> int:
        """In how many places workflows run; `executor.concurrency` and the size of the sandbox hold for each."""
        ...

    async def start_sampler(
        self, sampling: Sampling, model: PreparedModel, adapters: AdapterLimits, *, watchdog: Watchdog, seed: int
    ) -> Sampler:
        """Engines on a prepared model, as one sampler; see `Sampling.start`."""
        ...

    async def start_learner(self, make: MakeLearner, model: PreparedModel, *, timeline: Timeline) -> LearnerWorker:
        """Learners, as one; `make` is called where each is to be, with the model as that process knows it.

        timeline: where they note the time in which they learn from groups.
        """
        ...

    async def start_environment(
        self, here: Environment, elsewhere: OpenEnvironments, *, chat: ChatModel, timeline: Timeline
    ) -> Environment:
        """Where workflows run: `here`, or in processes that open `elsewhere` and whose calls `chat` answers."""
        ...
