"""Grades of code answers: the program is read out of the answer and handed to the two-process checker of the sandbox.

The verdict is the checker's alone; nothing that the candidate prints, returns or exits with is read here.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache

from grpo_aflow.protocols import CodeRunner
from grpo_aflow.tasks.graders.grader import MASKED
from grpo_aflow.tasks.graders.tiers import EXACT, NOTHING, Tiers
from grpo_aflow.tasks.reading.code_answer import CodeReading, Question, question_of, read_code
from grpo_aflow.tasks.reading.source_code import needed_names, parse_source
from grpo_aflow.types import CodeStatus, Grade, Task

TIMEOUT_S = 3.0  # of processor time; HumanEval's own limit for one problem
_MAX_PARSED = 64_000  # characters; beyond it two programs are compared as plain text
_MAX_READ = 4_000  # characters of the program that a grade keeps


def read_answer(task: Task, answer: str) -> CodeReading:
    """The program that an answer to a code task is read as."""
    return read_code(
        answer, _question(task.problem, task.entry_point, f"{task.setup}\n" + "\n".join(task.hidden_tests))
    )


@lru_cache(maxsize=4096)
def _question(problem: str, entry_point: str, tests: str) -> Question:
    return question_of(problem, entry_point, frozenset(needed_names(tests)))


@lru_cache(maxsize=4096)
def _needs_the_code(setup: str) -> bool:
    """Whether a setup builds on names of the candidate, and so runs between the code and the tests."""
    return bool(needed_names(setup))


@dataclass(frozen=True, slots=True)
class ProgramGrader:
    """The hidden tests decide, in the sandbox's checker; AFlow's own scorer would pass `raise SystemExit`."""

    def grade(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        assert runner is not None, "code is graded in a sandbox"
        return grade_code(task, answer, runner=runner, tiers=tiers)

    def grade_as_aflow(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        return self.grade(task, answer, runner=runner, tiers=tiers)

    def vote_key(self, answer: str, task: Task) -> str:
        return normalise_code(answer, task.entry_point, task.problem)


def grade_code(task: Task, answer: str, *, runner: CodeRunner, tiers: Tiers) -> Grade:
    """Runs the hidden tests; MASKED (NaN) when the sandbox itself failed."""
    reading = read_answer(task, answer)
    read = reading.code[:_MAX_READ]
    if not reading.code.strip():
        return Grade(exact=False, score=0.0, tier=NOTHING, rule="no_code")
    result = runner.check(
        reading.code,
        "\n".join(task.hidden_tests),
        entry_point=task.entry_point,
        setup=task.setup,
        setup_after=_needs_the_code(task.setup),
        timeout_s=float(task.metadata.get("timeout_s", TIMEOUT_S)),
    )
    if result.status is CodeStatus.INFRASTRUCTURE:
        return MASKED
    if result.status is CodeStatus.OK and result.passed:
        return Grade(exact=True, score=1.0, tier=EXACT, rule=reading.rule, read=read)
    rate = result.num_passed / result.num_assertions if result.num_assertions else 0.0
    tier, rule = tiers.of_pass_rate(rate, defined=result.defined)
    return Grade(exact=False, score=min(rate, 1.0), tier=tier, rule=f"{reading.rule}:{rule}", read=read)


def normalise_code(text: str, entry_point: str = "", problem: str = "") -> str:
    """One spelling for answers whose programs, as the grader reads them, differ in layout and comments only.

    Without an entry point, the last block that defines any function or class is read.
    """
    code = read_code(text, question_of(problem, entry_point)).code
    if len(code) > _MAX_PARSED:
        return code.strip()
    tree = parse_source(code)
    try:
        return code.strip() if tree is None else ast.unparse(tree)
    except RecursionError:
        return code.strip()
