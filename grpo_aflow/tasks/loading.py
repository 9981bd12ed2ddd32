"""`load_tasks`: from any source to validated tasks; nothing else reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from grpo_aflow.tasks.datasets import own
from grpo_aflow.tasks.datasets.dataset import Dataset, Origin
from grpo_aflow.tasks.datasets.own_python import OwnDataset, is_python_name, own_dataset, own_tasks
from grpo_aflow.tasks.datasets.registry import DATASETS, dataset_named
from grpo_aflow.tasks.datasets.rows import read_rows
from grpo_aflow.tasks.datasets.sources import bundled_file, find_files, rows_of
from grpo_aflow.tasks.manifest import is_prepared, prepared_file
from grpo_aflow.types import Task, UserError

OWN_FILES = (".jsonl", ".jsonl.gz", ".parquet")


def load_tasks(name: str, *, split: str, source: str | None = None, revision: str = "main") -> list[Task]:
    """All tasks of one split of a dataset, in its own order, with unique ids.

    `name`: one of `datasets.registry.DATASETS`; or the path of a jsonl file of one's own (`own.py`); or
    "package.module:attribute" (`own_python.py`). `split`: train, test (the official one, or the official dev set where
    that is not public), validation, aflow_validate or aflow_test. `source`: None or "hub", "bundled", a folder (in the
    hub's layout, of the original files, of AFlow's files, or written by grpo-aflow-data) or a file.
    Raises UserError, naming file, row and fix, for anything missing or broken.
    """
    loaded = list(_with_unique_ids(name, _tasks(name, split, source, revision)))
    if not loaded and name in DATASETS:
        raise UserError(f"{name}: split {split!r} of {source or 'the hub'} holds no tasks; check split and source")
    if not loaded:
        raise UserError(f"{name}: holds no task of split {split!r}; give it some (rows without a split are of all)")
    return loaded


def local_files(name: str, split: str, source: str | None) -> list[Path] | None:
    """The files that `load_tasks` would read: none from the hub, None where that cannot be known (a dataset in Python).

    Raises UserError where there are none.
    """
    if _python_code(name) is not None:
        return None
    if name.endswith(OWN_FILES):
        return [Path(name)]
    dataset = dataset_named(name)
    if source in (None, "hub"):
        return []
    if source == "bundled":
        return [bundled_file(dataset, split)]
    path = Path(str(source)).expanduser()
    if is_prepared(path):
        return [prepared_file(path, name, split)]
    return find_files(dataset, split, path) if path.is_dir() else [path]


@lru_cache(maxsize=2)
def bundled(split: str) -> tuple[Task, ...]:
    """The tasks that come with the package, of all six datasets; split "train" or "test"."""
    return tuple(task for name in DATASETS for task in load_tasks(name, split=split, source="bundled"))


def _tasks(name: str, split: str, source: str | None, revision: str) -> Iterable[Task]:
    if (code := _python_code(name)) is not None:
        return own_tasks(name, code, split)
    if name.endswith(OWN_FILES):
        return _file_tasks(Path(name), split)
    return _dataset_tasks(name, split, source, revision)


def _python_code(name: str) -> OwnDataset | None:
    """The dataset of that name, where it is code that makes its tasks rather than a `Dataset` of rows."""
    found = own_dataset(name) if is_python_name(name) else None
    return None if isinstance(found, Dataset) else found


def _dataset_tasks(name: str, split: str, source: str | None, revision: str) -> Iterator[Task]:
    dataset = dataset_named(name)
    if source not in (None, "hub", "bundled") and is_prepared(Path(str(source))):
        yield from _file_tasks(prepared_file(Path(source), name, split), split)
        return
    prefix = "bundled/" if source == "bundled" else ""
    for index, row in enumerate(rows_of(dataset, split, source, revision)):
        yield replace(dataset.to_task(row, Origin(split=split, index=index, prefix=prefix)), dataset=name)


def _file_tasks(path: Path, split: str) -> Iterator[Task]:
    """The tasks of a file in the own schema."""
    if not path.is_file():
        raise UserError(f"{path} is not a file; name an existing .jsonl file of tasks")
    places: dict[str, str] = {}
    for row in read_rows(path, own.SCHEMA):
        if row.values.get("split") not in (None, split):
            continue
        task = own.to_task(row, own.own_name(path))
        if task.id in places:
            raise row.refusal(f"column 'id' repeats {task.id!r} of {places[task.id]}; give every task an id of its own")
        places[task.id] = row.place.rpartition(", ")[2]
        yield task


def _with_unique_ids(name: str, tasks: Iterable[Task]) -> Iterator[Task]:
    seen: set[str] = set()
    for number, task in enumerate(tasks, start=1):
        if task.id in seen:
            raise UserError(f"{name}: task {number} repeats the id {task.id!r}; give every task an id of its own")
        seen.add(task.id)
        yield task
