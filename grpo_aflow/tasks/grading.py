"""`grade`: the one way from a task and an answer to a `Grade`, for training, evaluation and the tests alike.

It finds the grader of the task's dataset (`datasets.registry.grader_of`) and sees to it that no answer, however odd,
ends a run.
"""

from __future__ import annotations

import logging
from typing import Literal

from grpo_aflow.protocols import CodeRunner
from grpo_aflow.tasks.datasets.registry import grader_of
from grpo_aflow.tasks.graders.grader import MASKED
from grpo_aflow.tasks.graders.tiers import Tiers, configured_tiers
from grpo_aflow.tasks.reading.code_answer import question_of, read_code
from grpo_aflow.types import Grade, InfrastructureError, Task, UserError

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
    processes gives a masked grade: see `is_masked`. Raises UserError for what is wrong whatever the answer: no sandbox,
    no config, a dataset of one's own that cannot be imported or gives no grade.
    """
    thresholds = tiers or configured_tiers()
    grader = grader_of(task)
    if runner is None and task.domain == "code":
        runner = _default_runner()
    graded = grader.grade if profile == "official" else grader.grade_as_aflow
    try:
        return graded(task, clean(answer), runner=runner, tiers=thresholds)
    except InfrastructureError as error:
        _log.error("the answer to %s could not be graded: %s", task.id, error)
        return MASKED
    except UserError:
        raise
    except Exception:  # noqa: BLE001 - an answer must never end a run; the fault is logged with its traceback
        _log.exception("the grader failed on an answer to %s", task.id)
        return Grade(exact=False, score=0.0, tier=0.0, rule="grader_error")


class GraderReading:
    """`protocols.AnswerReader`: a workflow's votes and test runs read answers as the grader does."""

    def vote_key(self, answer: str, task: Task) -> str:
        return grader_of(task).vote_key(clean(answer), task)

    def program(self, answer: str, task: Task) -> str:
        return read_code(clean(answer), question_of(task.problem, task.entry_point)).code.strip("\n")


def clean(answer: str) -> str:
    """Any value as text that can be encoded: at most `MAX_CHARS`, no lone surrogates, no NUL."""
    text = answer if isinstance(answer, str) else str(answer)
    return text[:MAX_CHARS].encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def _default_runner() -> CodeRunner:
    # An import of another package's parts, since whoever grades code by hand should not have to open a sandbox first.
    from grpo_aflow.sandbox import open_default

    return open_default()
