"""Grades of short answers to questions: exact match and F1 by the published scorers (`qa_scoring`), then the tiers."""

from __future__ import annotations

from dataclasses import dataclass

from grpo_aflow.protocols import CodeRunner
from grpo_aflow.tasks.graders import qa_scoring
from grpo_aflow.tasks.graders.tiers import EXACT, Tiers
from grpo_aflow.tasks.reading.phrases import read_phrase
from grpo_aflow.types import Grade, Task

MAX_READ = 200  # characters of what was read that a grade keeps


@dataclass(frozen=True, slots=True)
class PhraseGrader:
    """Every question has an answer; F1 treats yes, no and noanswer as HotpotQA's scorer does."""

    def grade(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        declared = read_phrase(answer)
        em, f1 = qa_scoring.hotpotqa_scores(declared, task.answers)
        return _graded(em, f1, tiers, read=declared)

    def grade_as_aflow(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        f1 = max(qa_scoring.aflow_f1(answer, gold) for gold in task.answers)
        return Grade(exact=f1 == 1.0, score=f1, tier=f1, rule="aflow", read=answer[:MAX_READ])

    def vote_key(self, answer: str, task: Task) -> str:
        declared = read_phrase(answer)
        return "" if qa_scoring.is_no_answer(declared) else qa_scoring.normalise_answer(declared)


@dataclass(frozen=True, slots=True)
class SpanGrader(PhraseGrader):
    """Questions that may be unanswerable (the gold is then ""), scored as SQuAD 2.0.

    A phrase for "no answer" is read as one, unless it is literally a gold ("None" is, in SQuAD 2.0).
    """

    def grade(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        declared = read_phrase(answer)
        em, f1 = qa_scoring.squad_scores(declared, task.answers)
        if em == 1.0 or not qa_scoring.is_no_answer(declared):
            return _graded(em, f1, tiers, read=declared)
        em, f1 = qa_scoring.squad_scores("", task.answers)
        return _graded(em, f1, tiers, read="", rule="no_answer")


def _graded(em: float, f1: float, tiers: Tiers, *, read: str, rule: str = "") -> Grade:
    """The grade of a score; `rule` names the way of reading where that, not the score, decided."""
    if em == 1.0:
        return Grade(exact=True, score=f1, tier=EXACT, rule=rule or "exact", read=read[:MAX_READ])
    tier, by_f1 = tiers.of_f1(f1)
    return Grade(exact=False, score=f1, tier=tier, rule=rule or by_f1, read=read[:MAX_READ])
