"""A reward from outside the package: the tier of the grade, and less of it where the answer is long.

grpo-aflow-train --config-dir experiments/your_own/conf reward=brief
"""

from __future__ import annotations

from dataclasses import dataclass

from grpo_aflow.rollout.reward import GradeRubric
from grpo_aflow.types import Grade


@dataclass(frozen=True, kw_only=True, slots=True)
class Brief(GradeRubric):
    """tier * (1 - weight * length / (length + half)), length in characters of what was read as the answer."""

    weight: float  # the share of the reward that an endless answer loses
    half: int  # the length that loses half of it

    def base(self, grade: Grade) -> float:
        length = len(grade.read)
        return grade.tier * (1 - self.weight * length / (length + self.half))
