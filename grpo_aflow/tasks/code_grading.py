"""Grades of code answers: the candidate is cut out of the answer and handed to the two-process checker of the sandbox.

The verdict is the checker's alone; nothing that the candidate prints, returns or exits with is read here.
"""

from __future__ import annotations

import ast
import math
import re

from grpo_aflow.tasks.source_code import parse_source
from grpo_aflow.tasks.tiers import EXACT, NOTHING, Tiers
from grpo_aflow.types import CodeRunner, CodeStatus, Grade, Task

TIMEOUT_S = 3.0  # of processor time; HumanEval's own limit for one problem
_MAX_PARSED = 64_000  # characters; beyond it two programs are compared as plain text
MASKED = Grade(exact=False, score=math.nan, tier=math.nan, rule="infrastructure")


def extract_code(answer: str, entry_point: str) -> str:
    """The last code fence that defines the entry point, else the whole text."""
    pieces = answer.split("```")
    for fence in reversed(pieces[1::2]):
        language, newline, body = fence.partition("\n")
        code = body if newline and len(language.split()) <= 1 else fence
        if defines(code, entry_point):
            return code
    return answer


def defines(code: str, entry_point: str) -> bool:
    """Whether a line of `code` defines or assigns the name at the top level."""
    name = re.escape(entry_point)
    return (
        re.search(rf"^(?:(?:async[ \t]+)?def[ \t]+{name}\b|class[ \t]+{name}\b|{name}[ \t]*[=:])", code, re.M)
        is not None
    )


def grade_code(task: Task, answer: str, *, runner: CodeRunner, tiers: Tiers) -> Grade:
    """Runs the hidden tests; MASKED (NaN) when the sandbox itself failed."""
    candidate = extract_code(answer, task.entry_point)
    if not candidate.strip():
        return Grade(exact=False, score=0.0, tier=NOTHING, rule="no_code")
    result = runner.check(
        candidate,
        "\n".join(task.hidden_tests),
        entry_point=task.entry_point,
        setup=task.setup,
        timeout_s=float(task.metadata.get("timeout_s", TIMEOUT_S)),
    )
    if result.status is CodeStatus.INFRASTRUCTURE:
        return MASKED
    if result.status is CodeStatus.OK and result.passed:
        return Grade(exact=True, score=1.0, tier=EXACT, rule="tests")
    rate = result.num_passed / result.num_assertions if result.num_assertions else 0.0
    tier, rule = tiers.of_pass_rate(rate, defined=result.defined)
    return Grade(exact=False, score=min(rate, 1.0), tier=tier, rule=rule)


def normalise_code(text: str) -> str:
    """One spelling for programs that differ in layout and comments only."""
    fences = text.split("```")[1::2]
    code = fences[-1].partition("\n")[2] if fences else text
    if len(code) > _MAX_PARSED:
        return code.strip()
    tree = parse_source(code)
    try:
        return code.strip() if tree is None else ast.unparse(tree)
    except RecursionError:
        return code.strip()
