"""Rubrics as users may write them, each wrong in its own way."""

import math

from grpo_aflow.rollout.reward import Rubric


class Nan(Rubric):
    def base(self, grade):
        return math.nan


class Infinite(Rubric):
    def base(self, grade):
        return math.inf if grade.exact else 0.0


class Words(Rubric):
    def base(self, grade):
        return "good"


class Nothing(Rubric):
    def base(self, grade):
        return None


class Fails(Rubric):
    def base(self, grade):
        return 1 / (grade.tier - 0.7)


class Sound(Rubric):
    def base(self, grade):
        return grade.exact
