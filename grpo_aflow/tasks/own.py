"""A dataset of one's own, and the form in which prepared tasks are stored: one JSON object per line, one per task.

    {"id": "trivia/0", "domain": "qa", "problem": "Who wrote Emma?", "answers": ["Jane Austen"]}

domain is math, qa or code; answers are the golds ([""] = unanswerable). Code also has entry_point, hidden_tests (a list
of assertions that name it, or one text that defines `check(candidate)`), and optionally setup and public_tests; its
answers[0] is a solution that passes. Optional everywhere: dataset, split (rows of other splits are skipped), metadata
(an object). Use it as `load_tasks("path/to/own.jsonl", split="train")`, or as a key of `data_mix.datasets`. A task is
graded by its domain: math as MATH, qa as SQuAD v2, code by the two-process checker.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grpo_aflow.tasks.rows import Row
from grpo_aflow.types import DOMAINS, Task

SCHEMA = "id, domain, problem, answers [, dataset, entry_point, setup, public_tests, hidden_tests, split, metadata]"


def to_task(row: Row, dataset: str) -> Task:
    """One row of the own schema as a task."""
    domain = row.text("domain")
    if domain not in DOMAINS:
        raise row.refusal(f"column 'domain' is {domain!r}; it must be math, qa or code")
    answers = row.texts("answers")
    if not answers or (domain != "qa" and not answers[0].strip()):
        raise row.refusal("column 'answers' holds no gold")
    hidden = row.texts("hidden_tests") if domain == "code" else ()
    if domain == "code" and not hidden:
        raise row.refusal("column 'hidden_tests' is empty: the task cannot be graded")
    return Task(
        id=row.text("id"),
        dataset=row.text("dataset") if row.has("dataset") else dataset,
        domain=next(known for known in DOMAINS if known == domain),
        problem=row.text("problem"),
        answers=answers,
        entry_point=row.text("entry_point") if domain == "code" else "",
        setup=row.text("setup", may_be_empty=True) if row.has("setup") else "",
        public_tests=row.texts("public_tests") if row.has("public_tests") else (),
        hidden_tests=hidden,
        metadata=row.values.get("metadata") or {},
    )


def to_record(task: Task) -> dict[str, Any]:
    """A task as a row of this schema; `to_task` reads it back unchanged."""
    record: dict[str, Any] = {
        "id": task.id,
        "dataset": task.dataset,
        "domain": task.domain,
        "problem": task.problem,
        "answers": list(task.answers),
        "metadata": dict(task.metadata),
    }
    if task.domain == "code":
        record |= {"entry_point": task.entry_point, "setup": task.setup}
        record |= {"public_tests": list(task.public_tests), "hidden_tests": list(task.hidden_tests)}
    return record


def own_name(path: Path) -> str:
    """The dataset's name for tasks of a file that names none."""
    return path.name.removesuffix(".gz").removesuffix(".jsonl")
