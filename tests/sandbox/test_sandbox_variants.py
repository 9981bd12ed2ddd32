"""Golds that are wrapped to return another kind of value: our verdict is that of the unmodified test in one process.

Some wraps are still right (a tuple for an unpacking test, a numpy number for a number), most are not; which, the one
process says. The problems are the project's own bundled ones.
"""

from __future__ import annotations

import pytest
from test_sandbox_values import passes_in_one_process

from grpo_aflow.sandbox.pool import SandboxPool
from grpo_aflow.tasks import load_tasks
from grpo_aflow.types import Task

WRAPS = {
    "generator": "(v for v in r) if isinstance(r, list) else r",
    "tuple": "tuple(r) if isinstance(r, list) else r",
    "subclass": "type('Own', (type(r),), {})(r) if type(r) in (list, dict, str, int, float, tuple) else r",
    "named": "type('Named', (tuple,), {'a': property(lambda s: s[0])})(r) if isinstance(r, tuple) else r",
    "fraction": "__import__('fractions').Fraction(r) if type(r) in (int, float) and r == r else r",
    "decimal": "__import__('decimal').Decimal(r) if type(r) is int else r",
    "number": "__import__('numpy').asarray(r)[()] if type(r) in (int, float) else r",
    "array": "__import__('numpy').array(r) if isinstance(r, list) and r and type(r[0]) is int else r",
    "ordered": "__import__('collections').OrderedDict(r) if isinstance(r, dict) else r",
    "deque": "__import__('collections').deque(r) if isinstance(r, list) else r",
}


def bundled(dataset: str) -> list[Task]:
    return [task for split in ("train", "test") for task in load_tasks(dataset, split=split, source="bundled")]


@pytest.mark.parametrize("wrap", WRAPS)
def test_verdict_on_a_wrapped_gold_is_that_of_one_process(runner: SandboxPool, wrap: str) -> None:
    wrong: list[str] = []
    for task in [*bundled("humaneval")[:8], *bundled("mbpp")[:8]]:
        source = f"{task.answers[0]}\ndef wrapped(g):\n    def h(*a, **k):\n        r = g(*a, **k)\n        return {WRAPS[wrap]}\n    return h\n"  # noqa: E501
        source += f"{task.entry_point} = wrapped({task.entry_point})\n"
        test = "\n".join(task.hidden_tests)
        call = f"\ncheck({task.entry_point})" if "def check(" in test else ""
        official = passes_in_one_process(f"{task.setup}\n{source}", test + call)
        result = runner.check(source, test, entry_point=task.entry_point, setup=task.setup, timeout_s=20.0)
        if result.passed is not official:
            wrong.append(f"{task.id}: {official} in one process; {result}")
    assert wrong == []
