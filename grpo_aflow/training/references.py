"""The reference's log-probabilities, computed while a group's rewards are still awaited.

Stands between the rollouts, which tell of a group's completions as soon as all are sampled, and the learner, which
wants their scores under the KL reference when it trains on the group. Objectives without KL cost nothing here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from grpo_aflow.learner.worker import LearnerWorker
from grpo_aflow.rollout.advantage import informative
from grpo_aflow.run.timing import Timeline
from grpo_aflow.types import Completion, RolloutGroup

Logprobs = Sequence[Sequence[float]]  # of each completion's tokens, in member order


class References:
    """One request to the learner for each group, under way from `refer` to `take`.

    needed: whether the objective compares with a reference at all. regularises_all: whether it does so for groups
    without a signal, too. temperature: of a step's samples.
    """

    def __init__(
        self,
        worker: LearnerWorker,
        timeline: Timeline,
        *,
        needed: bool,
        regularises_all: bool,
        temperature: Callable[[int], float],
    ) -> None:
        self._worker = worker
        self._timeline = timeline
        self._needed = needed
        self._regularises_all = regularises_all
        self._temperature = temperature
        self._running: dict[tuple[int, int], asyncio.Task[Logprobs]] = {}

    def refer(self, step: int, index: int, prompt_ids: tuple[int, ...], completions: list[Completion]) -> None:
        """Begin to score a group's completions."""
        if self._needed:
            self._running[step, index] = asyncio.create_task(self._score(step, prompt_ids, completions))

    async def take(self, group: RolloutGroup) -> Logprobs | None:
        """The scores of a group; None where none are needed, because of the objective or for want of a signal."""
        running = self._running.pop((group.step, group.index), None)
        if running is None:
            return None
        if not (informative(group) or self._regularises_all):
            running.cancel()
            return None
        return await running

    def forget(self, step: int, index: int) -> None:
        """Nobody will take the scores of that group: it came too late."""
        if (running := self._running.pop((step, index), None)) is not None:
            running.cancel()

    def cancel(self) -> None:
        """End what is under way: the run ends."""
        for running in self._running.values():
            running.cancel()
        self._running.clear()

    async def _score(self, step: int, prompt_ids: tuple[int, ...], completions: list[Completion]) -> Logprobs:
        with self._timeline.busy("learner"):
            return await self._worker.reference_logprobs(prompt_ids, completions, self._temperature(step))
