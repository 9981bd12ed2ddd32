"""What a published answer is, and how the files that hold them are read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_aflow.types import Task

csv.field_size_limit(2**30)


@dataclass(frozen=True)
class Published:
    """One answer of a model, and what its source says of it."""

    source: str
    task: Task
    answer: str
    is_right: bool


def text_task(dataset: str, golds: tuple[str, ...]) -> Task:
    """A task of which only the gold is known; nothing else is needed to grade maths and phrases."""
    domain = "math" if dataset in ("gsm8k", "math") else "qa"
    return Task(id="published", dataset=dataset, domain=domain, problem="", answers=golds)


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def csv_rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)
