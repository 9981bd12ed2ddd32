"""A dataset of one's own, and the form in which prepared tasks are stored: one JSON object per line, one per task.

    {"id": "trivia/0", "domain": "qa", "problem": "Who wrote Emma?", "answers": ["Jane Austen"]}

domain is math, qa or code; answers are the golds ([""] = unanswerable). Code also has entry_point, hidden_tests (a list
of assertions that name it, or one text that defines `check(candidate)`), and optionally setup and public_tests; its
answers[0] is a solution that passes. Optional everywhere: dataset, split (rows of other splits are skipped), metadata
(an object; its `timeout_s` is the processor time, in seconds, that an answer to a code task may take). Other columns
are refused, since one of them may be a misspelt name. Use it as `load_tasks("path/to/own.jsonl", split="train")`, or as
a key of `data_mix.datasets`. A task is graded by its domain: math as MATH, qa as SQuAD v2, code by the two-process
checker.
"""

from __future__ import annotations

import difflib
import json
import keyword
import math
import reprlib
from collections.abc import Mapping
from pathlib import Path

from grpo_aflow.tasks.datasets.rows import DataRow
from grpo_aflow.tasks.reading.code_answer import question_of, read_code
from grpo_aflow.tasks.reading.source_code import needed_names, parse_source
from grpo_aflow.types import DOMAINS, Task

SCHEMA = "id, domain, problem, answers [, dataset, entry_point, setup, public_tests, hidden_tests, split, metadata]"
COLUMNS = frozenset(SCHEMA.translate(str.maketrans("[]", "  ")).replace(",", " ").split())
MAX_TIMEOUT_S = 600.0


def to_task(row: DataRow, dataset: str) -> Task:
    """One row of the own schema as a task. Raises UserError for anything that could not be graded later."""
    for column in row.values:
        if column not in COLUMNS:
            near = difflib.get_close_matches(column, COLUMNS, 1)
            fix = f"did you mean {near[0]!r}?" if near else "put values of your own into 'metadata'"
            raise row.refusal(f"column {column!r} is unknown: {fix}")
    domain = row.text("domain")
    if domain not in DOMAINS:
        raise row.refusal(f"column 'domain' is {domain!r}; it must be math, qa or code")
    answers = row.texts("answers")
    if not answers or (domain != "qa" and not answers[0].strip()):
        raise row.refusal("column 'answers' holds no gold")
    task = Task(
        id=row.text("id"),
        dataset=row.text("dataset") if row.has("dataset") else dataset,
        domain=next(known for known in DOMAINS if known == domain),
        problem=row.text("problem"),
        answers=answers,
        entry_point=row.text("entry_point") if domain == "code" else "",
        setup=row.text("setup", may_be_empty=True) if row.has("setup") else "",
        public_tests=row.texts("public_tests") if row.has("public_tests") else (),
        hidden_tests=row.texts("hidden_tests") if domain == "code" else (),
        metadata=_metadata(row),
    )
    if domain == "code":
        _check_code(row, task)
    return task


def _metadata(row: DataRow) -> Mapping[str, object]:
    """The object in `metadata`, which a parquet file holds as JSON text."""
    metadata = row.values.get("metadata")
    if isinstance(metadata, str) and metadata:
        try:
            metadata = json.loads(metadata)
        except (ValueError, RecursionError):
            raise row.refusal("column 'metadata' is text; it must be an object such as {\"level\": 5}") from None
    metadata = {} if metadata in (None, "") else metadata
    if not isinstance(metadata, dict):
        raise row.refusal("column 'metadata' must be an object such as {\"level\": 5}")
    timeout_s = metadata.get("timeout_s", 1.0)
    number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if not number or not 0 < timeout_s <= MAX_TIMEOUT_S or math.isnan(timeout_s):
        raise row.refusal(
            f"'timeout_s' in column 'metadata' is {reprlib.repr(timeout_s)}; it must be a number of seconds above 0 "
            f"and at most {MAX_TIMEOUT_S:g}, without quotes"
        )
    return metadata


def _check_code(row: DataRow, task: Task) -> None:
    """Refuses a code task whose parts are no Python, or whose tests do not test the entry point."""
    name = task.entry_point
    if not name.isidentifier() or keyword.iskeyword(name):
        raise row.refusal(f"column 'entry_point' is {name!r}; it must be the name of a function")
    if not task.hidden_tests:
        raise row.refusal("column 'hidden_tests' is empty: the task cannot be graded")
    if task.setup.strip() and parse_source(task.setup) is None:
        raise row.refusal("column 'setup' is not valid Python")
    for column, tests in (("public_tests", task.public_tests), ("hidden_tests", task.hidden_tests)):
        for number, test in enumerate(tests, start=1):
            if parse_source(test) is None:
                raise row.refusal(f"column {column!r}, entry {number} is not valid Python")
            if column == "public_tests" and name not in needed_names(test):
                raise row.refusal(f"column {column!r}, entry {number} never uses the entry point {name!r}")
    together = parse_source("\n".join(task.hidden_tests))
    has_check = together is not None and any(getattr(node, "name", "") == "check" for node in together.body)
    if not has_check and name not in needed_names("\n".join(task.hidden_tests)):
        raise row.refusal(f"column 'hidden_tests' never uses the entry point {name!r}, nor defines check(candidate)")
    if read_code(task.answers[0], question_of(task.problem, name)).rule == "text":
        raise row.refusal(f"column 'answers': the first gold is no program that defines the entry point {name!r}")


def to_record(task: Task) -> dict[str, object]:
    """A task as a row of this schema; `to_task` reads it back unchanged."""
    record: dict[str, object] = {
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
    return path.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".parquet")
