"""Leaks between what grades a task, what the workflow sees, and what the run is evaluated on.

`check_leaks` runs whenever tasks are loaded for training and in the tests; it raises, so a leak stops the build.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Sequence

from grpo_aflow.tasks.reading.source_code import parse_source
from grpo_aflow.types import Task, UserError

_NOT_WORDS = re.compile(r"[\W_]+")


def fingerprint(task: Task) -> str:
    """Equal for near-identical problems: words and numbers of the text, without case, layout and punctuation, and the
    entry point."""
    words = _NOT_WORDS.sub(" ", task.problem.lower()).strip()
    return hashlib.sha256(f"{task.entry_point}\n{words}".encode("utf-8", "replace")).hexdigest()


def contaminated(train: Iterable[Task], evaluated: Iterable[Task]) -> set[str]:
    """The ids of the training tasks that are also evaluated, by id or by fingerprint.

    The id finds MBPP's sanitised problems, whose text was rewritten, in the official train split.
    """
    ids, prints = set(), set()
    for task in evaluated:
        ids.add((task.dataset, task.id))
        prints.add(fingerprint(task))
    if not ids:
        return set()
    return {task.id for task in train if (task.dataset, task.id) in ids or fingerprint(task) in prints}


def leaked_tests(task: Task) -> list[str]:
    """Public tests that equal a hidden assertion and are not visible in the prompt."""
    hidden = {_spelling(test, task) for test in task.hidden_tests for test in _assertions(test)}
    shown = _shown(task.problem)
    return [test for test in task.public_tests if _spelling(test, task) in hidden and _call(test) not in shown]


def check_leaks(train: Sequence[Task], evaluated: Sequence[Task] = ()) -> None:
    """Raises UserError, naming the tasks, for a leaked hidden test or a training task that is evaluated as well."""
    for task in (*train, *evaluated):
        if tests := leaked_tests(task):
            raise UserError(f"{task.id}: the public test {tests[0]!r} is a hidden one; take it out of public_tests")
    if both := contaminated(train, evaluated):
        raise UserError(f"{len(both)} training tasks are evaluated as well, for example {min(both)}; exclude them")


def _assertions(test: str) -> list[str]:
    """The single assertions of a hidden test, which may be one function with many."""
    tree = parse_source(test)
    if tree is None:
        return [test]
    return [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Assert)]


def _spelling(test: str, task: Task) -> str:
    """One spelling per assertion: the entry point is called `candidate`, `is` counts as `==`."""
    tree = parse_source(test.strip())
    text = test if tree is None else ast.unparse(tree)
    return (
        re.sub(rf"\b{re.escape(task.entry_point)}\b", "candidate", text).replace(" is ", " == ")
        if task.entry_point
        else text
    )


def _call(test: str) -> str:
    """The call in an assertion, without white space."""
    return re.sub(r"\s", "", test.removeprefix("assert").partition("==")[0])


def _shown(problem: str) -> str:
    return re.sub(r"\s", "", problem)
