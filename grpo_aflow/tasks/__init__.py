"""Tasks and their graders: six datasets, the tasks that come with the package, and datasets of one's own.

load_tasks(name, split=..., source=...)  ->  list[Task]      grade(task, answer, runner=...)  ->  Grade

Begin with `datasets/dataset.py`. From below: `reading` finds the answer in a text and `latex` compares mathematics;
`graders` make grades of them; each module in `datasets` says where its rows are and which grader is its own; `loading`
and `grading` are what the rest of the package calls. On these stand `mix` (the tasks of a run in their order, with
`leaks`), `prepare` (`grpo-aflow-data`, with `manifest`) and `selftest`.
"""

from grpo_aflow.tasks.graders.grader import is_masked
from grpo_aflow.tasks.grading import GraderReading, grade
from grpo_aflow.tasks.loading import bundled, load_tasks

__all__ = ["GraderReading", "bundled", "grade", "is_masked", "load_tasks"]
