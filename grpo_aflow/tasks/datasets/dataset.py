"""What a dataset is: where its rows are found, and how one row becomes a `types.Task`.

Each of the six modules beside this one holds one `Dataset` value. Users bring a dataset of their own either as a jsonl
file (`own.py`) or as any Python object with the shape of `OwnDataset`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from grpo_aflow.protocols import CodeRunner
from grpo_aflow.tasks.datasets.rows import Row
from grpo_aflow.tasks.graders.tiers import Tiers
from grpo_aflow.types import Domain, Grade, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What a row's dataset needs to name a task: the split, the position in it, and a prefix that keeps ids apart."""

    split: str
    index: int
    prefix: str = ""  # "bundled/" for the tasks that come with the package


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One of the six datasets: its address on the hub, its splits and its row reader."""

    name: str
    domain: Domain
    hub: str  # the name that `datasets.load_dataset` takes
    configs: tuple[str, ...]  # hub configs that are joined, in this order
    splits: Mapping[str, str]  # our split -> the hub's split; the official test set is always "test"
    schema: str  # the hub's columns, for refusals
    to_task: Callable[[Row, Origin], Task]
    files: Mapping[str, tuple[str, ...]]  # split -> names of files of the original publication
    expand: Callable[[Row], Iterator[Row]] | None = None  # a nested record of the original publication -> rows


class OwnDataset(Protocol):
    """A dataset written in Python: `load_tasks("package.module:attribute", split=...)`, also as a key of `data_mix`.

    Every task's `dataset` must be the same "package.module:attribute", which is how `grade` finds its way back.
    """

    domain: Domain

    def load(self, split: str) -> Iterable[Task]:
        """All tasks of one split, in a fixed order, with unique ids."""
        ...

    def grade(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        """Must not raise for any answer."""
        ...
