"""The grader's self-test, seconds long, at the start of every training and evaluation run.

Golds of a sample must grade exact and the attack battery must grade nothing, inside the very sandbox that the run
will use: a sandbox that cannot read the standard library fails every gold, and one that leaks passes an attack.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from grpo_aflow.protocols import CodeRunner
from grpo_aflow.tasks.datasets.registry import has_broken_gold
from grpo_aflow.tasks.graders.grader import is_masked
from grpo_aflow.tasks.grading import grade
from grpo_aflow.tasks.loading import bundled
from grpo_aflow.tasks.selftest.attacks import QUICK_CODE_ATTACKS, TEXT_ATTACKS, code_attack, text_task
from grpo_aflow.types import SelfTestFailed, Task

SAMPLE = 3  # golds of each dataset
ATTACKED = 2  # code tasks that take the whole battery
NUM_THREADS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTestReport:
    """What was tried; that there is a report means that all of it went well."""

    num_golds: int
    num_attacks: int
    duration_s: float


def self_test(runner: CodeRunner, tasks: Sequence[Task]) -> SelfTestReport:
    """Grades golds of a sample of `tasks` and of the bundled ones, then the battery. Raises SelfTestFailed."""
    started = time.monotonic()
    golds = _sample(tasks) + _sample(bundled("train"))
    code_tasks = [task for task in _sample(bundled("test")) if task.domain == "code"][::SAMPLE][:ATTACKED]
    attacks = [(text_task(dataset, gold), answer, "text") for dataset, gold, answer in TEXT_ATTACKS]
    for name, source in QUICK_CODE_ATTACKS.items():
        attacks += [(task, code_attack(task, source), name) for task in code_tasks]
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        for _ in threads.map(lambda task: _must_be_exact(runner, task), golds):
            pass
        for _ in threads.map(lambda attack: _must_fail(runner, *attack), attacks):
            pass
    return SelfTestReport(
        num_golds=len(golds), num_attacks=len(attacks), duration_s=round(time.monotonic() - started, 3)
    )


def _sample(tasks: Sequence[Task]) -> list[Task]:
    """The first few of each dataset."""
    taken: dict[str, list[Task]] = {}
    for task in tasks:
        group = taken.setdefault(task.dataset, [])
        if len(group) < SAMPLE and not has_broken_gold(task):
            group.append(task)
    return [task for group in taken.values() for task in group]


def _must_be_exact(runner: CodeRunner, task: Task) -> None:
    graded = grade(task, task.answers[0], runner=runner)
    if is_masked(graded):
        raise SelfTestFailed(f"the sandbox failed on the gold of {task.id}; try another one with sandbox=bubblewrap")
    if not graded.exact:
        raise SelfTestFailed(
            f"the gold of {task.id} does not grade exact (rule {graded.rule!r}); correct it, or choose another sandbox="
        )


def _must_fail(runner: CodeRunner, task: Task, answer: str, name: str) -> None:
    graded = grade(task, answer, runner=runner)
    if graded.exact:
        raise SelfTestFailed(
            f"the grader was fooled: {name} attack {answer[:60]!r} passes {task.id}; choose another sandbox="
        )
