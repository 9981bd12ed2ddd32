"""The thresholds between the training tiers 0.0, 0.2, 0.4, 0.7 and 1.0; their values live in
`conf/reward/five_tier.yaml` alone.

`grade` uses them to turn a verdict into `Grade.tier`. Accuracy (`Grade.exact`) never depends on them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

from grpo_aflow import CONF_DIR
from grpo_aflow.types import UserError

EXACT, NEAR, PARTIAL, ATTEMPT, NOTHING = 1.0, 0.7, 0.4, 0.2, 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tiers:
    """Where near (0.7), partial (0.4) and attempt (0.2) begin."""

    near_f1: float
    partial_f1: float
    attempt_f1: float
    near_pass_rate: float
    partial_pass_rate: float
    near_relative_error: float  # maths, only for a gold that is a rounded decimal
    partial_relative_error: float

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"{name} must lie between 0 and 1; got {getattr(self, name)}")
        if not self.attempt_f1 < self.partial_f1 < self.near_f1:
            raise ValueError("attempt_f1 < partial_f1 < near_f1 must hold")
        if not self.partial_pass_rate < self.near_pass_rate:
            raise ValueError("partial_pass_rate must be below near_pass_rate")
        if not self.near_relative_error < self.partial_relative_error:
            raise ValueError("near_relative_error must be below partial_relative_error")

    def of_f1(self, f1: float) -> tuple[float, str]:
        """(tier, rule) of an F1 that is not an exact match."""
        if f1 >= self.near_f1:
            return NEAR, f"f1>={self.near_f1:g}"
        if f1 >= self.partial_f1:
            return PARTIAL, f"f1>={self.partial_f1:g}"
        if f1 >= self.attempt_f1:
            return ATTEMPT, f"f1>={self.attempt_f1:g}"
        return NOTHING, f"f1<{self.attempt_f1:g}"

    def of_pass_rate(self, rate: float, *, defined: bool) -> tuple[float, str]:
        """(tier, rule) of the share of assertions passed by a candidate that failed the official test."""
        if defined and rate >= self.near_pass_rate:
            return NEAR, f"passed>={self.near_pass_rate:g}"
        if defined and rate >= self.partial_pass_rate:
            return PARTIAL, f"passed>={self.partial_pass_rate:g}"
        return (ATTEMPT, "defined") if defined else (NOTHING, "not_defined")

    def of_relative_error(self, error: float) -> tuple[float, str]:
        """(tier, rule) of a number's distance from a gold that is a rounded decimal."""
        if error <= self.near_relative_error:
            return NEAR, f"within_{self.near_relative_error:g}"
        if error <= self.partial_relative_error:
            return PARTIAL, f"within_{self.partial_relative_error:g}"
        return ATTEMPT, "number"


@lru_cache(maxsize=1)
def configured_tiers() -> Tiers:
    """The thresholds of `conf/reward/five_tier.yaml`, for callers that compose no config."""
    import yaml

    path = CONF_DIR / "reward" / "five_tier.yaml"
    if not path.is_file():
        raise UserError(f"{path} is missing; install the package again")
    node = yaml.safe_load(path.read_text(encoding="utf-8"))["tiers"]
    return Tiers(**{name: float(value) for name, value in node.items() if name != "_target_"})
