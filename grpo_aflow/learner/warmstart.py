"""The config group `warmstart`: whether a model is shown workflows before GRPO begins, and how.

`models` trains accordingly: a pretrained model's result is an adapter, policy version 0; the tiny policy's is part of
its base.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from grpo_aflow.learner.preparation.reference_workflows import corpus


@dataclass(frozen=True, kw_only=True, slots=True)
class NoWarmStart:
    """`warmstart=none`: the base model is used as it is."""

    @property
    def identity(self) -> dict[str, object]:
        return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceWorkflows:
    """`warmstart=reference_workflows`: fine-tune on the corpus for a fixed number of steps."""

    num_steps: int
    batch_size: int
    learning_rate: float  # peak; see `learning_rate_at`
    preference: float  # share of each domain's own best operators; the other workflows share the rest evenly
    seed: int

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive; got {self.learning_rate}")
        if not 0 < self.preference < 1:
            raise ValueError(f"preference must be between 0 and 1; got {self.preference}")

    def learning_rate_at(self, step: int) -> float:
        """Of a step, from 0: linear warm-up over a tenth of the steps, then linear decay to zero."""
        warm_up = max(1, self.num_steps // 10)
        share = min((step + 1) / warm_up, (self.num_steps - step) / max(1, self.num_steps - warm_up))
        return self.learning_rate * min(1.0, share)

    @property
    def identity(self) -> dict[str, object]:
        """All that decides the result, for the key of the cache."""
        return asdict(self) | {"corpus": [asdict(workflow) for workflow in corpus()]}


WarmStart = NoWarmStart | ReferenceWorkflows
