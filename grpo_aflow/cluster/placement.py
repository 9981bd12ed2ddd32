"""What a run asks of the place where its engines and learners are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from grpo_aflow.learner.worker import LearnerWorker
from grpo_aflow.protocols import PreparedModel, Sampler
from grpo_aflow.run.watchdog import Watchdog
from grpo_aflow.sampler.settings import AdapterLimits, Sampling

if TYPE_CHECKING:
    from grpo_aflow.learner.learner import Learner

MakeLearner = Callable[[], "Learner"]


class Cluster(Protocol):
    """Open machines."""

    async def start_sampler(
        self, sampling: Sampling, model: PreparedModel, adapters: AdapterLimits, *, watchdog: Watchdog, seed: int
    ) -> Sampler:
        """Engines on a prepared model, as one sampler; see `Sampling.start`."""
        ...

    async def start_learner(self, make: MakeLearner, model: PreparedModel) -> LearnerWorker:
        """Learners, as one; `make` is called where each is to be."""
        ...
