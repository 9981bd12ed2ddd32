"""The six datasets by name, and the grader of a task."""

from __future__ import annotations

from collections.abc import Mapping

from grpo_aflow.tasks.datasets.dataset import Dataset
from grpo_aflow.tasks.datasets.gsm8k import GSM8K
from grpo_aflow.tasks.datasets.hotpotqa import HOTPOTQA
from grpo_aflow.tasks.datasets.humaneval import HUMANEVAL
from grpo_aflow.tasks.datasets.math import MATH
from grpo_aflow.tasks.datasets.mbpp import MBPP
from grpo_aflow.tasks.datasets.own_python import OwnDataset, OwnGrader, is_python_name, own_dataset
from grpo_aflow.tasks.datasets.squad2 import SQUAD2
from grpo_aflow.tasks.graders.grader import Grader
from grpo_aflow.types import Domain, Task, UserError

DATASETS: Mapping[str, Dataset] = {
    dataset.name: dataset for dataset in (GSM8K, MATH, SQUAD2, HOTPOTQA, HUMANEVAL, MBPP)
}
# How tasks are graded whose dataset is none of these: a file of one's own, a question on the command line.
OF_DOMAIN: Mapping[Domain, Grader] = {"math": MATH.grader, "qa": SQUAD2.grader, "code": HUMANEVAL.grader}


def dataset_named(name: str) -> Dataset:
    """One of the six, or a `Dataset` from outside. Raises UserError with the names that exist."""
    found = own_dataset(name) if is_python_name(name) else DATASETS.get(name)
    if not isinstance(found, Dataset):
        raise UserError(
            f"there is no dataset {name!r}; known: {', '.join(DATASETS)}, a path ending in .jsonl, or "
            "package.module:attribute"
        )
    return found


def domain_of(name: str) -> Domain | None:
    """The domain of a dataset; None for a file, whose tasks say it themselves. Raises UserError as `own_dataset`."""
    found = own_dataset(name) if is_python_name(name) else DATASETS.get(name)
    return None if found is None else found.domain


def grader_of(task: Task) -> Grader:
    """The grader of the task's dataset, else of its domain. Raises UserError for a dataset that cannot be imported."""
    dataset = _dataset_of(task)
    if dataset is None:
        return OF_DOMAIN[task.domain]
    if isinstance(dataset, Dataset):
        return dataset.grader
    return OwnGrader(name=task.dataset, dataset=dataset, votes=OF_DOMAIN[task.domain])


def has_broken_gold(task: Task) -> bool:
    """Whether its dataset knows the gold to be wrong."""
    dataset = _dataset_of(task)
    return isinstance(dataset, Dataset) and task.id in dataset.broken_golds


def _dataset_of(task: Task) -> Dataset | OwnDataset | None:
    """None for a name that is not known, or that a file of one's own gives to tasks of another domain."""
    found = own_dataset(task.dataset) if is_python_name(task.dataset) else DATASETS.get(task.dataset)
    return found if found is not None and found.domain == task.domain else None
