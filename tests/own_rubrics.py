"""Rubrics as users may write them, each wrong in its own way."""

import math
from dataclasses import dataclass

from grpo_aflow.rollout.reward import GradeRubric


class Nan(GradeRubric):
    def base(self, grade):
        return math.nan


class Infinite(GradeRubric):
    def base(self, grade):
        return math.inf if grade.exact else 0.0


class Words(GradeRubric):
    def base(self, grade):
        return "good"


class Nothing(GradeRubric):
    def base(self, grade):
        return None


class Fails(GradeRubric):
    def base(self, grade):
        return 1 / (grade.tier - 0.7)


class Sound(GradeRubric):
    def base(self, grade):
        return grade.exact


@dataclass(frozen=True, kw_only=True)
class WithBonus(GradeRubric):
    bonus: float = 0.0

    def base(self, grade):
        return grade.exact + self.bonus
