"""MATH: competition problems with LaTeX answers. Official splits: train 7,500, test 5,000.

Hub `EleutherAI/hendrycks_math`, one config per subject, columns: problem, level ("Level 5"), type (the subject),
solution (worked, the answer in its last `\\boxed`). AFlow's files hold level-5 problems of four subjects: validate
119, test 486.
Prompt: the problem as it stands. Grade: the declared answer equals the gold by what its LaTeX means
(`math_grading.LatexGrader`).

Example:
    >>> from grpo_aflow.tasks import grade, load_tasks
    >>> task = load_tasks("math", split="train", source="bundled")[0]
    >>> grade(task, rf"Therefore it is $\\boxed{{{task.answers[0]}}}$.").exact
    True
"""

from __future__ import annotations

from grpo_aflow.tasks.datasets.dataset import Dataset, KnownGolds, Origin
from grpo_aflow.tasks.datasets.rows import DataRow
from grpo_aflow.tasks.graders.math_grading import LatexGrader
from grpo_aflow.tasks.reading.marks import last_boxed
from grpo_aflow.types import Task


def to_task(row: DataRow, origin: Origin) -> Task:
    """One row as a task; the gold is the content of the solution's last box, at any depth of braces."""
    solution = row.text("solution")
    gold = last_boxed(solution)
    if not gold:
        raise row.refusal("column 'solution' has no gold: it must end in \\boxed{...}")
    return Task(
        id=f"{origin.prefix}math/{origin.split}/{origin.index}",
        dataset="math",
        domain="math",
        problem=row.text("problem").strip(),
        answers=(gold,),
        metadata={"level": row.values.get("level"), "subject": row.values.get("type"), "solution": solution},
    )


MATH = Dataset(
    name="math",
    domain="math",
    grader=LatexGrader(),
    hub="EleutherAI/hendrycks_math",
    configs=(
        "algebra",
        "counting_and_probability",
        "geometry",
        "intermediate_algebra",
        "number_theory",
        "prealgebra",
        "precalculus",
    ),
    splits={"train": "train", "test": "test"},
    schema="problem, level, type, solution",
    to_task=to_task,
    files={},
    known_golds=KnownGolds(splits=("aflow_validate", "aflow_test"), num_exact=605),
)
