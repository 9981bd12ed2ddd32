"""The rhythm of a run: how many steps of what size, and what the learning rate is at each.

Pure functions of the step. Steps count from 1: step k turns policy version k-1 into version k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Decay(StrEnum):
    constant = "constant"
    linear = "linear"
    cosine = "cosine"


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Config group `schedule`."""

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
