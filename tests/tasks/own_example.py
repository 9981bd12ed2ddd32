"""Datasets of one's own in Python, as the documentation describes them, and some that are wrong."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from grpo_aflow.tasks.datasets import Dataset, NumberGrader
from grpo_aflow.types import Grade, Task


class Parity:
    """Is a number even or odd?"""

    domain = "math"

    def load(self, split):
        return [
            Task(id=f"parity/{n}", dataset="", domain="math", problem=f"Is {n} even or odd?", answers=(answer,))
            for n, answer in ((4, "even"), (7, "odd"))
        ]

    def grade(self, task, answer, *, runner, tiers):
        exact = answer.strip().lower() == task.answers[0]
        return Grade(exact=exact, score=float(exact), tier=float(exact), rule="parity")


class FirstLetter(Parity):
    """Counts answers with the same first letter as the same vote."""

    def vote_key(self, answer, task):
        return answer.strip().lower()[0]


class NoGrade(Parity):
    def grade(self, task, answer, *, runner, tiers):
        return True


class GradeFails(Parity):
    def grade(self, task, answer, *, runner, tiers):
        return 1 / 0


class Grades(Parity):
    """Its grades have these values."""

    def __init__(self, **values):
        self.values = values

    def grade(self, task, answer, *, runner, tiers):
        return replace(Grade(exact=False, score=0.0, tier=0.0, rule="parity"), **self.values)


class NoTasks(Parity):
    def load(self, split):
        return ["Is 4 even or odd?"]


class LoadFails(Parity):
    def load(self, split):
        return {"test": []}[split]


class Changed(Parity):
    """Its first task has other values."""

    def __init__(self, **values):
        self.values = values

    def load(self, split):
        first, *others = super().load(split)
        return [replace(first, **self.values), *others]


class OtherDomain(Parity):
    domain = "qa"


class UnknownDomain(Parity):
    domain = "maths"


class NoLoader:
    domain = "math"
    grade = Parity.grade


PARITY, FIRST_LETTER, NO_GRADE, GRADE_FAILS = Parity(), FirstLetter(), NoGrade(), GradeFails()
NO_TASKS, OTHER_DOMAIN, UNKNOWN_DOMAIN, NO_LOADER = NoTasks(), OtherDomain(), UnknownDomain(), NoLoader()
LOAD_FAILS, NO_ANSWER, NUMBER_AS_ID = LoadFails(), Changed(answers=()), Changed(id=4)
ODD_METADATA = Changed(metadata={"value": Fraction(1, 2)})


def _sum_to_task(row, origin):
    return Task(
        id=f"sums/{origin.split}/{origin.index}",
        dataset="sums",
        domain="math",
        problem=row.text("sum"),
        answers=(row.text("result"),),
    )


SUMS = Dataset(  # rows in a file, graded as the package's own
    name="sums",
    domain="math",
    grader=NumberGrader(),
    hub="somebody/sums",
    configs=("main",),
    splits={"train": "train"},
    schema="sum, result",
    to_task=_sum_to_task,
    files={},
    broken_golds=frozenset({"sums/train/1"}),
)


def write_sums(folder: Path) -> Path:
    """A file for `SUMS`, with a wrong gold in its second row."""
    rows = ('{"sum": "What is 2 + 2?", "result": "4"}', '{"sum": "What is 2 + 3?", "result": "six"}')
    (folder / "train.jsonl").write_text("\n".join(rows))
    return folder
