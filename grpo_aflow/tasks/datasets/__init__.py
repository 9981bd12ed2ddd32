"""The datasets: one module each, which says where the rows are, how a row becomes a task, and how an answer is graded.

Begin with `dataset`. `registry` lists the six and finds a task's grader; `own` reads tasks from a user's file,
`own_python` finds a dataset that a user wrote in Python. All that such a dataset needs is imported from here; examples:
the six, and `experiments/your_own/dataset.py` from outside the package.
"""

from grpo_aflow.tasks.datasets.dataset import Dataset, Origin
from grpo_aflow.tasks.datasets.own_python import OwnDataset
from grpo_aflow.tasks.datasets.rows import DataRow
from grpo_aflow.tasks.graders.code_grading import ProgramGrader
from grpo_aflow.tasks.graders.grader import Grader
from grpo_aflow.tasks.graders.math_grading import LatexGrader, NumberGrader
from grpo_aflow.tasks.graders.qa_grading import PhraseGrader, SpanGrader
from grpo_aflow.tasks.graders.tiers import ATTEMPT, EXACT, NEAR, NOTHING, PARTIAL, Tiers
from grpo_aflow.tasks.reading.final_answer import FinalAnswer, ValueKind, find_final_answer

__all__ = [
    "ATTEMPT",
    "EXACT",
    "NEAR",
    "NOTHING",
    "PARTIAL",
    "DataRow",
    "Dataset",
    "FinalAnswer",
    "Grader",
    "LatexGrader",
    "NumberGrader",
    "Origin",
    "OwnDataset",
    "PhraseGrader",
    "ProgramGrader",
    "SpanGrader",
    "Tiers",
    "ValueKind",
    "find_final_answer",
]
