"""GSM8K: grade-school word problems with integer answers. Official splits: train 7,473, test 1,319.

Hub `openai/gsm8k`, config `main`, columns: question (text), answer (worked solution whose last line is `#### n`).
AFlow's files hold the official test set in two parts: validate 264, test 1,055.
Prompt: the question as it stands. Grade: the stated number equals the gold (`math_grading.NumberGrader`).

Example:
    >>> from grpo_aflow.tasks import grade, load_tasks
    >>> task = load_tasks("gsm8k", split="train", source="bundled")[0]
    >>> grade(task, f"The answer is {task.answers[0]}.").exact
    True
"""

from __future__ import annotations

import re

from grpo_aflow.tasks.datasets.dataset import Dataset, KnownGolds, Origin
from grpo_aflow.tasks.datasets.rows import DataRow
from grpo_aflow.tasks.graders.math_grading import NumberGrader
from grpo_aflow.tasks.reading.quantities import parse_number
from grpo_aflow.types import Task

_GOLD = re.compile(r"####\s*\$?(-?[\d.,]+)")


def to_task(row: DataRow, origin: Origin) -> Task:
    """One row of the hub, or of AFlow's files, as a task; the gold loses its thousands separators."""
    matches = _GOLD.findall(row.text("answer"))
    gold = matches[-1].replace(",", "").rstrip(".") if matches else ""
    if parse_number(gold) is None:
        raise row.refusal("column 'answer' has no gold: its last line must be '#### <number>'")
    return Task(
        id=f"{origin.prefix}gsm8k/{origin.split}/{origin.index}",
        dataset="gsm8k",
        domain="math",
        problem=row.text("question").strip(),
        answers=(gold,),
    )


GSM8K = Dataset(
    name="gsm8k",
    domain="math",
    grader=NumberGrader(),
    hub="openai/gsm8k",
    configs=("main",),
    splits={"train": "train", "test": "test"},
    schema="question, answer",
    to_task=to_task,
    files={},
    known_golds=KnownGolds(splits=("test",), num_exact=1319),
)
