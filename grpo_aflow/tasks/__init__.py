"""Tasks and their graders: six datasets, the tasks that come with the package, and datasets of one's own.

load_tasks(name, split=..., source=...)  ->  list[Task]      grade(task, answer, runner=...)  ->  Grade
"""

from grpo_aflow.tasks.grading import GraderReading, grade, is_masked, normalise
from grpo_aflow.tasks.loading import bundled, load_tasks

__all__ = ["GraderReading", "bundled", "grade", "is_masked", "load_tasks", "normalise"]
