"""Datasets from outside the package, written in Python and named "package.module:attribute".

    grpo-aflow-train --config-dir my_conf data_mix=mine        my_conf/data_mix/mine.yaml:
                                                                   datasets: {my_package.my_module:MINE: 1.0}

The attribute is either a `Dataset` like the six (rows on the hub or in files), or any object with the shape of
`OwnDataset`. Its tasks carry the whole name in `Task.dataset`, which is how `grade` finds the way back.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol, SupportsFloat, runtime_checkable

from grpo_aflow.protocols import CodeRunner
from grpo_aflow.run.faults import raised_at
from grpo_aflow.tasks.datasets.dataset import Dataset
from grpo_aflow.tasks.graders.grader import MASKED, Grader
from grpo_aflow.tasks.graders.tiers import Tiers
from grpo_aflow.types import DOMAINS, Domain, Grade, Task, UserError

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@runtime_checkable
class OwnDataset(Protocol):
    """Tasks that Python code makes or reads, and their grader."""

    @property
    def domain(self) -> Domain: ...

    def load(self, split: str) -> Iterable[Task]:
        """All tasks of one split, in a fixed order, with unique ids; `load_tasks` fills in their `dataset`."""
        ...

    def grade(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        """The grade of an answer, which may be any text. `runner` is always there for a code task."""
        ...


@runtime_checkable
class Voting(Protocol):
    """An `OwnDataset` may also say when two answers are the same vote; without this its domain's rule is used."""

    def vote_key(self, answer: str, task: Task) -> str: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnGrader:
    """An `OwnDataset` as a `Grader`: AFlow has no scorer of its own for it, and votes may follow the domain."""

    name: str
    dataset: OwnDataset
    votes: Grader  # of the domain

    def grade(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        graded = self.dataset.grade(task, answer, runner=runner, tiers=tiers)
        if not isinstance(graded, Grade):
            raise UserError(f"the dataset {self.name}: grade gives {graded!r}; it must give a grpo_aflow.types.Grade")
        for field, value in (("score", graded.score), ("tier", graded.tier)):
            if graded != MASKED and not (isinstance(value, SupportsFloat) and 0 <= float(value) <= 1):
                raise UserError(
                    f"the dataset {self.name}: grade gives {value!r} as {field} for {answer[:60]!r} ({task.id}); "
                    "it must give a number from 0 to 1"
                )
        return graded

    def grade_as_aflow(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        return self.grade(task, answer, runner=runner, tiers=tiers)

    def vote_key(self, answer: str, task: Task) -> str:
        if not isinstance(self.dataset, Voting):
            return self.votes.vote_key(answer, task)
        try:
            return str(self.dataset.vote_key(answer, task))
        except Exception as error:  # whatever the user's code may raise
            raise UserError(f"the dataset {self.name}: vote_key fails on {answer[:60]!r} ({error!r})") from error


def is_python_name(name: str) -> bool:
    """Whether a dataset's name is "package.module:attribute"."""
    return _NAME.fullmatch(name) is not None


@lru_cache(maxsize=64)
def own_dataset(name: str) -> Dataset | OwnDataset:
    """The object of that name. Raises UserError."""
    module_name, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # whatever the user's module does while it is imported
        raise UserError(
            f"the dataset {name!r} cannot be imported ({type(error).__name__}: {error}); name it "
            "package.module:attribute"
        ) from error
    if isinstance(found, type):
        raise UserError(f"the dataset {name!r} is a class; name an object of it, for example {attribute.upper()} = ...")
    if isinstance(found, Dataset):
        return found
    if not isinstance(found, OwnDataset):
        missing = [part for part in ("domain", "load", "grade") if not hasattr(found, part)]
        raise UserError(f"the dataset {name!r} lacks {', '.join(missing)}; see {OwnDataset.__module__}.OwnDataset")
    if found.domain not in DOMAINS:
        raise UserError(f"the dataset {name!r} has the domain {found.domain!r}; it must be {', '.join(DOMAINS)}")
    return found


def own_tasks(name: str, dataset: OwnDataset, split: str) -> Iterator[Task]:
    """The tasks of a split, each with the dataset's name. Raises UserError for what is no task of this dataset."""
    for number, task in enumerate(_loaded(name, dataset, split), start=1):
        if not isinstance(task, Task):
            raise UserError(f"the dataset {name}: load gives {task!r}; it must give objects of grpo_aflow.types.Task")
        if fault := _fault(task, dataset.domain):
            raise UserError(f"the dataset {name}: task {number} {fault}")
        yield replace(task, dataset=name)


def _loaded(name: str, dataset: OwnDataset, split: str) -> Iterator[object]:
    try:
        yield from dataset.load(split)
    except UserError:
        raise
    except Exception as error:  # whatever the user's code may raise
        raise UserError(
            f"the dataset {name}: load({split!r}) fails in {raised_at(error)} ({type(error).__name__}: {error})"
        ) from error


def _fault(task: Task, domain: Domain) -> str:
    """What a task lacks that every later step takes for granted, in words; "" for nothing."""
    if task.domain != domain:
        return f"has the domain {task.domain!r}, the dataset {domain!r}; make a dataset for each"
    texts = {"id": task.id, "problem": task.problem, **{f"answers[{n}]": one for n, one in enumerate(task.answers)}}
    for field, text in texts.items():
        if not isinstance(text, str):
            return f"has {text!r} as {field}; it must be text"
    if not task.answers:
        return 'has no answers; give it a gold, or ("",) where there is none'
    try:
        json.dumps(task.metadata)
    except (TypeError, ValueError) as error:
        return f"has metadata that JSON cannot say ({error}); give numbers, texts, lists and tables of them"
    return ""
