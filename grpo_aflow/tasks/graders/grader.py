"""What a grader is: how the answers to one kind of task are graded, and when two of them are the same vote.

A dataset names its grader (`datasets.dataset.Dataset.grader`), and `tasks.grade` finds it there.
"""

from __future__ import annotations

import math
from typing import Protocol

from grpo_aflow.protocols import CodeRunner
from grpo_aflow.tasks.graders.tiers import Tiers
from grpo_aflow.types import Grade, Task

MASKED = Grade(exact=False, score=math.nan, tier=math.nan, rule="infrastructure")


def is_masked(graded: Grade) -> bool:
    """Whether infrastructure failed: neither right nor wrong, to be left out of every mean."""
    return math.isnan(graded.tier)


class Grader(Protocol):
    """Grades answers of one kind. `answer` is clean text; `runner` is always there for a code task."""

    def grade(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        """The official verdict; MASKED when the sandbox failed."""
        ...

    def grade_as_aflow(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        """What AFlow's own scorer says."""
        ...

    def vote_key(self, answer: str, task: Task) -> str:
        """A text that is the same for answers that are the same, read as `grade` reads them."""
        ...
