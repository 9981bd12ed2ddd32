"""What a dataset is: where its rows are found, how one row becomes a `types.Task`, and how an answer to it is graded.

Each of the six modules beside this one holds one `Dataset` value and is the only file that knows it by name. Users
bring their own as a jsonl file (`own`) or in Python (`own_python`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from grpo_aflow.tasks.datasets.rows import DataRow
from grpo_aflow.tasks.graders.grader import Grader
from grpo_aflow.types import Domain, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What a row's dataset needs to name a task: the split, the position in it, and a prefix that keeps ids apart."""

    split: str
    index: int
    prefix: str = ""  # "bundled/" for the tasks that come with the package


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownGolds:
    """What the original files are known to hold: the full self-test (`make selftest`) expects it."""

    splits: tuple[str, ...]  # their golds are graded, all together
    num_exact: int  # of these golds at least so many grade exact
    attacked: tuple[str, ...] = ()  # code: the splits whose tasks the attack battery is tried on


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Rows on the hub or in files, the reader that makes tasks of them, and the grader of the answers."""

    name: str
    domain: Domain
    grader: Grader
    hub: str  # the name that `datasets.load_dataset` takes
    configs: tuple[str, ...]  # hub configs that are joined, in this order
    splits: Mapping[str, str]  # our split -> the hub's split; the official test set is always "test"
    schema: str  # the hub's columns, for refusals
    to_task: Callable[[DataRow, Origin], Task]
    files: Mapping[str, tuple[str, ...]]  # split -> names of files of the original publication
    expand: Callable[[DataRow], Iterator[DataRow]] | None = None  # a nested record of the original publication -> rows
    broken_golds: frozenset[str] = frozenset()  # ids of tasks whose gold is known to be wrong: never exact
    known_golds: KnownGolds | None = None  # None: the full self-test leaves the dataset out
