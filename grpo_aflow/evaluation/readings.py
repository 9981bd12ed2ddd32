"""How an evaluation's answers were read: which rule found how many, and where AFlow's scorers say something else.

A reading rule can move accuracy by more than a method does, so both tables stand beside every accuracy that is printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from grpo_aflow.types import Grade, Rollout

AflowGrades = Mapping[tuple[str, int], Grade]  # (task id, member) -> the same answer's grade by AFlow's scorers
MAX_SHOWN = 80  # characters of an answer in a table


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleCount:
    """One way of reading and how often it was used."""

    dataset: str
    rule: str
    num_answers: int
    num_exact: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Disagreement:
    """An answer on which the official verdict and AFlow's differ."""

    task_id: str
    gold: str
    read: str  # what was read as the answer
    rule: str
    exact: bool
    aflow_read: str
    aflow_score: float


def rule_counts(rollouts: Iterable[Rollout]) -> list[RuleCount]:
    """By dataset, the most frequent rule first."""
    answers: Counter[tuple[str, str]] = Counter()
    exact: Counter[tuple[str, str]] = Counter()
    for rollout in rollouts:
        if rollout.grade is not None:
            key = (rollout.task.dataset, rollout.grade.rule)
            answers[key] += 1
            exact[key] += rollout.grade.exact
    order = sorted(answers, key=lambda key: (key[0], -answers[key], key[1]))
    return [RuleCount(dataset=key[0], rule=key[1], num_answers=answers[key], num_exact=exact[key]) for key in order]


def disagreements(rollouts: Iterable[Rollout], aflow: AflowGrades) -> list[Disagreement]:
    """The answers that one of the two calls right and the other wrong, in the order of the rollouts."""
    found: list[Disagreement] = []
    for rollout in rollouts:
        other = aflow.get((rollout.task.id, rollout.member))
        if rollout.grade is None or other is None or rollout.grade.exact == other.exact:
            continue
        found.append(
            Disagreement(
                task_id=rollout.task.id,
                gold=_short(rollout.task.answers[0]),
                read=_short(rollout.grade.read),
                rule=rollout.grade.rule,
                exact=rollout.grade.exact,
                aflow_read=_short(other.read),
                aflow_score=other.score,
            )
        )
    return found


def disagreement_lines(found: Sequence[Disagreement], most: int = 12) -> list[str]:
    """The first of them for a terminal; the whole list stands in `evaluation.json`."""
    lines = [
        f"{one.task_id}: gold {one.gold!r}, read {one.read!r} ({one.rule}): "
        f"{'exact' if one.exact else 'not exact'}; AFlow reads {one.aflow_read!r}: {one.aflow_score:g}"
        for one in found[:most]
    ]
    return lines + ([f"... and {len(found) - most} more"] if len(found) > most else [])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 3] + "..."
