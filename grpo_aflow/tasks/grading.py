"""`grade`: the one way from a task and an answer to a `Grade`, for training, evaluation and the tests alike."""

from __future__ import annotations

import logging
import math
from typing import Literal

from grpo_aflow.protocols import CodeRunner
from grpo_aflow.tasks.datasets.dataset import OwnDataset
from grpo_aflow.tasks.datasets.registry import own_dataset
from grpo_aflow.tasks.graders import qa_scoring
from grpo_aflow.tasks.graders.code_grading import MASKED, grade_code, normalise_code
from grpo_aflow.tasks.graders.math_grading import (
    grade_latex,
    grade_latex_aflow,
    grade_number,
    grade_number_aflow,
    normalise_math,
)
from grpo_aflow.tasks.graders.tiers import EXACT, Tiers, configured_tiers
from grpo_aflow.tasks.reading.code_answer import question_of, read_code
from grpo_aflow.types import Domain, Grade, InfrastructureError, Task

Profile = Literal["official", "aflow"]
MAX_CHARS = 1_000_000
_log = logging.getLogger(__name__)


def grade(
    task: Task,
    answer: str,
    *,
    runner: CodeRunner | None = None,
    tiers: Tiers | None = None,
    profile: Profile = "official",
) -> Grade:
    """Grades one answer. Never raises on any answer, from any thread; within 5 s where a core is free.

    `runner` runs code answers; without one the probed default sandbox is opened. `tiers` are the thresholds of
    `conf/reward/five_tier.yaml` unless given. The `aflow` profile follows AFlow's scorers, for comparison with its
    published tables (code has one checker in both); rewards use `official`. A fault of the sandbox or of the comparing
    processes gives a masked grade: see `is_masked`. Raises UserError only before it looks at the answer: no sandbox, no
    config.
    """
    thresholds = tiers or configured_tiers()
    if runner is None and task.domain == "code" and ":" not in task.dataset:
        runner = _default_runner()
    try:
        text = _clean(answer)
        if ":" in task.dataset:
            return _grade_own(own_dataset(task.dataset), task, text, runner, thresholds)
        if task.domain == "qa":
            return _grade_qa(task, text, thresholds, profile)
        if task.domain == "math":
            return _grade_math(task, text, thresholds, profile)
        assert runner is not None
        return grade_code(task, text, runner=runner, tiers=thresholds)
    except InfrastructureError as error:
        _log.error("the answer to %s could not be graded: %s", task.id, error)
        return MASKED
    except Exception:  # noqa: BLE001 - an answer must never end a run; the fault is logged with its traceback
        _log.exception("the grader failed on an answer to %s", task.id)
        return Grade(exact=False, score=0.0, tier=0.0, rule="grader_error")


def is_masked(graded: Grade) -> bool:
    """Whether infrastructure failed: neither right nor wrong, to be left out of every mean."""
    return math.isnan(graded.tier)


class GraderReading:
    """`protocols.AnswerReader`: a workflow's votes and test runs read answers as the grader does."""

    def vote_key(self, answer: str, task: Task) -> str:
        return normalise(answer, task.domain, entry_point=task.entry_point, problem=task.problem)

    def program(self, answer: str, task: Task) -> str:
        return read_code(_clean(answer), question_of(task.problem, task.entry_point)).code.strip("\n")


def normalise(text: str, domain: Domain, *, entry_point: str = "", problem: str = "") -> str:
    """The grader's own normaliser: two answers with the same result count as the same vote.

    `entry_point` and `problem`, where they are known, are those of a code task.
    """
    cleaned = _clean(text)
    if domain == "math":
        return normalise_math(cleaned)
    if domain == "code":
        return normalise_code(cleaned, entry_point, problem)
    cleaned = qa_scoring.declared_answer(cleaned)
    return "" if qa_scoring.is_no_answer(cleaned) else qa_scoring.normalise_answer(cleaned)


def _clean(answer: str) -> str:
    """Any value as text that can be encoded: at most `MAX_CHARS`, no lone surrogates, no NUL."""
    text = answer if isinstance(answer, str) else str(answer)
    return text[:MAX_CHARS].encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def _grade_qa(task: Task, answer: str, tiers: Tiers, profile: Profile) -> Grade:
    if profile == "aflow":
        f1 = max(qa_scoring.aflow_f1(answer, gold) for gold in task.answers)
        return Grade(exact=f1 == 1.0, score=f1, tier=f1, rule="aflow")
    answer = qa_scoring.declared_answer(answer)
    if task.dataset == "hotpotqa":
        em, f1 = qa_scoring.hotpotqa_scores(answer, task.answers)
        return _qa_grade(em, f1, tiers, "exact")
    # A phrase for "no answer" is read as one, unless it is literally a gold ("None" is, in SQuAD v2).
    em, f1 = qa_scoring.squad_scores(answer, task.answers)
    if em == 1.0 or not qa_scoring.is_no_answer(answer):
        return _qa_grade(em, f1, tiers, "exact")
    em, f1 = qa_scoring.squad_scores("", task.answers)
    return _qa_grade(em, f1, tiers, "no_answer")


def _qa_grade(em: float, f1: float, tiers: Tiers, exact_rule: str) -> Grade:
    if em == 1.0:
        return Grade(exact=True, score=f1, tier=EXACT, rule=exact_rule)
    tier, rule = tiers.of_f1(f1)
    return Grade(exact=False, score=f1, tier=tier, rule="no_answer" if exact_rule == "no_answer" else rule)


def _grade_math(task: Task, answer: str, tiers: Tiers, profile: Profile) -> Grade:
    gold = task.answers[0]
    if task.dataset == "gsm8k":
        return grade_number_aflow(gold, answer) if profile == "aflow" else grade_number(gold, answer, tiers)
    if profile == "aflow":
        return grade_latex_aflow(gold, str(task.metadata.get("solution", "")), answer)
    return grade_latex(gold, answer, tiers)


def _grade_own(dataset: OwnDataset, task: Task, answer: str, runner: CodeRunner | None, tiers: Tiers) -> Grade:
    return dataset.grade(task, answer, runner=runner, tiers=tiers)


def _default_runner() -> CodeRunner:
    # The one arrow between rooms: whoever grades code by hand should not have to open a sandbox first.
    from grpo_aflow.sandbox import open_default

    return open_default()
