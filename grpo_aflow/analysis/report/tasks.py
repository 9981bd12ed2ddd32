"""The tasks of a run's rollouts, with their golds, and what the policy was shown of them.

A run keeps its tasks in `tasks.jsonl`. One from before it did has them read again from where it had them, as far as
that needs no network: those that come with the package, and files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_aflow.analysis.report.lines import Line, read_lines
from grpo_aflow.config.parsing import build
from grpo_aflow.protocols import TaskPrompt
from grpo_aflow.tasks import load_tasks
from grpo_aflow.types import Message, Task, UserError

FILE = "tasks.jsonl"
TUPLES = ("answers", "public_tests", "hidden_tests")
FIELDS = frozenset(field.name for field in dataclasses.fields(Task))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tasks:
    """The tasks that were found, by id, and what is missing, in words."""

    tasks: Mapping[str, Task]
    notices: Sequence[str] = ()


def find_tasks(folder: Path, config: Mapping[str, Any], wanted: Collection[str]) -> Tasks:
    """The tasks with the ids `wanted`. config: the run's own, nested."""
    read = read_lines(folder / FILE)
    found = {line["id"]: task for line in read.lines if (task := _task(line)) is not None and line["id"] in wanted}
    for group in ("data_mix", "eval"):
        if len(found) < len(wanted):
            found |= {task.id: task for task in _loaded(config.get(group) or {}) if task.id in wanted}
    missing = len(set(wanted) - set(found))
    told = (f"{missing} tasks cannot be found any more: no gold and no prompt is shown for them",) if missing else ()
    return Tasks(tasks=found, notices=(*read.notices, *told))


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompts:
    """Task id -> the messages that the policy was shown, and why there are none, in words."""

    prompts: Mapping[str, Sequence[Message]]
    notices: Sequence[str] = ()


def find_prompts(config: Mapping[str, Any], tasks: Mapping[str, Task]) -> Prompts:
    """What the policy was shown of each task, made again by the run's own config."""
    try:
        prompt: TaskPrompt = build(config.get("prompt") or {}, "prompt")
        return Prompts(prompts={name: prompt.messages(task) for name, task in tasks.items()})
    except UserError as error:
        return Prompts(prompts={}, notices=(f"the policy's prompts cannot be made again: {error}",) if tasks else ())


def _task(line: Line) -> Task | None:
    known: dict[str, Any] = {
        key: tuple(value) if key in TUPLES else value for key, value in line.items() if key in FIELDS
    }
    try:
        return Task(**known)
    except TypeError:
        return None


def _loaded(group: Mapping[str, Any]) -> Iterator[Task]:
    """The tasks of a config group that names datasets, where they lie on this machine."""
    source = group.get("source")
    if source != "bundled" and not (source and Path(str(source)).expanduser().exists()):
        return
    for name in group.get("datasets") or ():
        try:
            yield from load_tasks(name, split=str(group.get("split")), source=str(source))
        except UserError:
            continue
