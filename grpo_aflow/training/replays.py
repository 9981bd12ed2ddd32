"""Which completions of an earlier part of a run may stand for draws of this one.

A version's number does not say which policy it is: a step that is made again may come out otherwise (a rollout that was
masked is answered now, the learning rate was changed). So a completion's line says what it was drawn from, by a digest
of the policy, the prompt and the sampling parameters, and it is replayed where this part would draw from the very same.

A policy is told by where it comes from: the weights that the run began with, and what each step learned from, with
which settings. So a version counts as the same where a card makes it again with another rounding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import astuple
from typing import Any

from grpo_aflow.run.folder import ROLLOUTS, RunDirectory
from grpo_aflow.run.records import RolloutKey
from grpo_aflow.types import Completion, SamplingParams, TrainingGroup

CHANGE_AN_UPDATE = ("max_grad_norm", "weight_decay", "betas")  # of the learner's settings; the others change rounding


def digest(learned: TrainingGroup) -> str:
    """Of a group as the learner consumes it."""
    return hashlib.sha256(repr(learned).encode()).hexdigest()


def digest_of_step(groups: Mapping[int, str], plain: Mapping[str, Any], learning_rate: float) -> str:
    """Of all that makes a version out of the one before. groups: digests by place; plain: the run's config."""
    settings = [plain["objective"], plain["lora"], *(plain["learner"][name] for name in CHANGE_AN_UPDATE)]
    return hashlib.sha256(repr((sorted(groups.items()), settings, learning_rate)).encode()).hexdigest()


class Replays:
    """Writes completions ahead with what they are drawn from, and tells which of those on file may be replayed.

    origins: of the recorded completions, where their lines say it. version: at which the run goes on. policy: what
    tells a version's policy; None where there is no such version. params: of a step's samples. file: of the run's.
    """

    def __init__(
        self,
        run: RunDirectory,
        origins: Mapping[RolloutKey, str],
        *,
        version: int,
        policy: Callable[[int], str | None],
        params: Callable[[int], SamplingParams],
        file: str = ROLLOUTS,
    ) -> None:
        self._run = run
        self._origins = origins
        self._version = version
        self._policy = policy
        self._params = params
        self._file = file

    def record(self, key: RolloutKey, task_id: str, prompt_ids: tuple[int, ...], completion: Completion) -> None:
        """Write a completion that was just drawn."""
        origin = self._origin(key, prompt_ids, completion.version)
        self._run.completion(key, task_id, prompt_ids, completion, origin, self._file)

    def allow(self, key: RolloutKey, prompt_ids: tuple[int, ...], completion: Completion) -> bool:
        """Whether a recorded completion may be replayed."""
        recorded = self._origins.get(key)
        if recorded is None:  # of an older run folder: what came before the checkpoint led to it
            return completion.version <= self._version
        return recorded == self._origin(key, prompt_ids, completion.version)

    def _origin(self, key: RolloutKey, prompt_ids: tuple[int, ...], version: int) -> str | None:
        """The digest of what is drawn from under `version`; None where this part of the run has no such version."""
        policy = self._policy(version)
        if policy is None:
            return None
        drawn_from = (policy, prompt_ids, astuple(self._params(key[0])))
        return hashlib.sha256(repr(drawn_from).encode()).hexdigest()
