"""AFlow's own runs on its six benchmarks (gpt-4o-mini in workflows), with the score that its scorers gave.

Every row of every round counts once, however often it was written. DROP is no dataset of ours: its answers are graded
as HotpotQA's are, with every gold that "|" separates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from grpo_aflow.tasks import load_tasks
from grpo_aflow.tasks.reading.marks import last_boxed
from grpo_aflow.types import Task
from sources.published import Published, csv_rows, text_task

FOLDERS = {"AFLOW": "results", "workflow-generation": "workspace", "MermaidFlow": "workspace"}
NAMES = ("GSM8K", "MATH", "HotpotQA", "DROP", "HumanEval", "MBPP")


def aflow(clones: Path, data: Path) -> Iterator[Published]:
    tasks = code_tasks(data)
    for clone, folder in FOLDERS.items():
        for name in NAMES:
            for question, answer, expected, score in rows_of(clones / clone / folder / name):
                task = task_of(name, question, expected, tasks)
                if task is not None:
                    yield Published(f"{clone} {name}", task, answer, score == 1.0)


def rows_of(folder: Path) -> list[tuple[str, str, str, float]]:
    """(question, answer, expected output, score) of all tables in a folder, in order; rows without a score left out."""
    return sorted(
        {
            (row.get("question") or row["inputs"], row["prediction"], row["expected_output"], float(row["score"]))
            for file in folder.rglob("*.csv")
            for row in csv_rows(file)
            if row.get("score") not in (None, "", "None")
        }
    )


def task_of(name: str, question: str, expected: str, tasks: dict[str, Task]) -> Task | None:
    """The task of a row; None where it cannot be told."""
    if name == "GSM8K":
        return replace(text_task("gsm8k", (expected.rpartition("####")[2].strip(),)), problem=question)
    if name == "MATH":
        gold = last_boxed(expected)
        return text_task("math", (gold,)) if gold else None
    if name in ("HumanEval", "MBPP"):
        return tasks.get(key_of(question))
    return text_task("hotpotqa", tuple(expected.split("|")) if name == "DROP" else (expected,))


def code_tasks(data: Path) -> dict[str, Task]:
    """HumanEval's problems and AFlow's of MBPP, by what their prompts say."""
    found = load_tasks("humaneval", split="test", source=str(data / "humaneval"))
    for split in ("aflow_validate", "aflow_test"):
        found += load_tasks("mbpp", split=split, source=str(data / "mbpp"))
    return {key_of(task.problem): task for task in found}


def key_of(problem: str) -> str:
    """What two copies of a prompt share: HumanEval's code; of an MBPP prompt the text and the function's name."""
    name = re.search(r"\bdef\s+(\w+)", problem)
    is_code = problem.lstrip().startswith(("def ", "from ", "import "))
    text = problem if is_code or name is None else f"{problem[: name.start()]} {name[1]}"
    return re.sub(r"\s+", "", text)
