"""Config groups that are plain values of a run: its schedule, what it is evaluated on, where it writes.

Pure functions of these values stand with them. Steps count from 1: step k turns policy version k-1 into version k.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from grpo_aflow.sampler.settings import MAX_TEMPERATURE
from grpo_aflow.tasks import load_tasks
from grpo_aflow.types import SamplingParams, Task, UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """Where runs and sweeps are written, and where built models are kept."""

    runs: str
    sweeps: str
    cache: str | None  # null = $GRPO_AFLOW_CACHE, else ~/.cache/grpo-aflow


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """What `--multirun` does with its jobs."""

    stop_on_error: bool  # whether a job that ends badly ends the sweep


class Decay(StrEnum):
    constant = "constant"
    linear = "linear"
    cosine = "cosine"


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Config group `schedule`: how many steps of what size, and the learning rate of each."""

    num_steps: int
    prompts_per_step: int
    group_size: int
    learning_rate: float
    warmup_steps: int
    decay: Decay
    max_staleness: int
    refill: int
    group_deadline_s: float | None
    log_every: int
    save_every: int
    eval_every: int
    keep_checkpoints: int

    def __post_init__(self) -> None:
        for name in ("num_steps", "prompts_per_step", "log_every", "save_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in ("warmup_steps", "refill", "eval_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")
        if self.group_size < 2:
            raise ValueError(f"group_size must be at least 2, or no advantage can be formed; got {self.group_size}")
        if not 0 <= self.max_staleness <= 3:
            raise ValueError(f"max_staleness must be 0, 1, 2 or 3; got {self.max_staleness}")
        if not 0 <= self.learning_rate <= 1:
            raise ValueError(f"learning_rate must be between 0 and 1; got {self.learning_rate}")
        if self.group_deadline_s is not None and self.group_deadline_s <= 0:
            raise ValueError(f"group_deadline_s must be positive or null; got {self.group_deadline_s}")

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up over `warmup_steps`, then the decay to 0 at the end of the run."""
        if step <= self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        rest = max(1, self.num_steps - self.warmup_steps)
        done = (step - self.warmup_steps - 1) / rest
        if self.decay == Decay.linear:
            return self.learning_rate * (1 - done)
        if self.decay == Decay.cosine:
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        return self.learning_rate


def due(step: int, every: int) -> bool:
    """Whether something that happens every `every` steps (0 = never) happens at `step`."""
    return every > 0 and step % every == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Config group `eval`: on which tasks, and with how many samples."""

    datasets: list[str]
    source: str | None
    split: str
    max_tasks_per_dataset: int | None
    sample_seed: int | None  # draws them by chance; None takes the first ones
    samples: int
    temperature: float
    top_p: float
    top_k: int
    concurrency: int
    best_reference: bool
    aflow: bool

    def __post_init__(self) -> None:
        for name in ("samples", "concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.max_tasks_per_dataset is not None and self.max_tasks_per_dataset < 1:
            raise ValueError(f"max_tasks_per_dataset must be at least 1 or null; got {self.max_tasks_per_dataset}")
        if not 0 < self.temperature <= MAX_TEMPERATURE:
            raise ValueError(f"temperature must be above 0 and at most {MAX_TEMPERATURE}; got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1; got {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (off) or more; got {self.top_k}")

    def load(self) -> list[Task]:
        tasks: list[Task] = []
        for name in self.datasets:
            tasks += self._some(name, load_tasks(name, split=self.split, source=self.source))
        if twice := [name for name, number in Counter(task.id for task in tasks).items() if number > 1]:
            raise UserError(
                f"eval.datasets: {len(twice)} task ids come twice, for example {twice[0]!r}; name no dataset twice, "
                "and give every task an id of its own"
            )
        return tasks

    def _some(self, dataset: str, tasks: list[Task]) -> list[Task]:
        """At most `max_tasks_per_dataset` of them, in their own order."""
        most = self.max_tasks_per_dataset
        if most is None or self.sample_seed is None or most >= len(tasks):
            return tasks[:most]
        places = random.Random(f"{self.sample_seed}/{dataset}").sample(range(len(tasks)), most)
        return [tasks[place] for place in sorted(places)]

    def sampling(self, max_tokens: int) -> SamplingParams:
        return SamplingParams(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k, max_tokens=max_tokens)
