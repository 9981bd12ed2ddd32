"""Grades of maths answers: by number (`NumberGrader`), or by what the LaTeX means (`LatexGrader`).

`reading.final_answer` finds the answer, `reading.quantities` or `latex.reader` read it, and it equals the gold or it
does not: values are compared exactly. A tolerance exists only in the training tier, and only for a gold that is a
rounded decimal.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from grpo_aflow.protocols import CodeRunner
from grpo_aflow.tasks.graders.tiers import ATTEMPT, EXACT, NEAR, NOTHING, Tiers
from grpo_aflow.tasks.latex.equality import equal, one_spelling
from grpo_aflow.tasks.latex.pool import latex_pool
from grpo_aflow.tasks.latex.python_values import read_python
from grpo_aflow.tasks.latex.reader import read_latex
from grpo_aflow.tasks.reading.final_answer import FinalAnswer, ValueKind, find_final_answer
from grpo_aflow.tasks.reading.quantities import parse_number, read_number
from grpo_aflow.types import Grade, Task

_ROUNDED_DECIMAL = re.compile(r"-?[\d,]*\.\d+")
_AFLOW_NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?|\d+\.\d+")
_AFLOW_BOXED = re.compile(r"\\boxed{((?:[^{}]|{[^{}]*})*)}")

_ASKS_FOR_DOZENS = re.compile(r"\bhow many (?:more |full |whole )?dozens?\b", re.I)
_MAX_WORDS = 3  # of plain words in an answer that is no sentence
_PLAIN_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![A-Za-z])")
_TEXT_COMMAND = re.compile(r"\\text[a-z]*\s?\{[^{}]*\}|\\m(?:box|athrm)\s?\{[^{}]*\}")
# Words that say something of an answer and are none.
_NO_VALUE = re.compile(
    r"\A\W*(?:(?:indeed|also|not|now|clearly|obviously|probably|therefore)\W+)*"
    r"(?:(?:correct|right|wrong|incorrect|reasonable|valid|verified|confirmed|consistent|clear|unique|simple|positive|"
    r"obvious|as|in|the|that|this|it|what|when|because|given|found|obtained|shown|simplified|exact|same|there|for|to|"
    r"of|at|on|we|you|they|he|she)(?:\W|\Z)|(?:an?|i) )",
    re.I,
)
_SENTENCE = re.compile(
    r"(?<![\\A-Za-z])(?:is|are|was|were|has|have|had|it|its|them|they|we|because|since|that|this|which|hope|can|will|get|"
    r"gives?|need|find|compute|so|then|but|not)(?![A-Za-z])",
    re.I,
)


def _states_latex(text: str) -> bool:
    if read_python(text) is not None:  # Union(Interval.open(...), ...): words that are none
        return True
    plain = _TEXT_COMMAND.sub("", text)
    if _NO_VALUE.match(text) or _SENTENCE.search(plain) or len(_PLAIN_WORD.findall(plain)) > _MAX_WORDS:
        return False
    return bool(read_latex(text))


def _states_number(text: str) -> bool:
    return read_number(text) is not None


NUMBER = ValueKind(states=_states_number)
LATEX = ValueKind(states=_states_latex)


@dataclass(frozen=True, slots=True)
class NumberGrader:
    """The gold is a number."""

    def grade(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        return grade_number(task.answers[0], answer, tiers, problem=task.problem)

    def grade_as_aflow(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        return grade_number_aflow(task.answers[0], answer)

    def vote_key(self, answer: str, task: Task) -> str:
        return normalise_math(answer)


@dataclass(frozen=True, slots=True)
class LatexGrader:
    """The gold is LaTeX. AFlow compares with the answer that it reads in the worked `solution`, where there is one."""

    def grade(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        return grade_latex(task.answers[0], answer, tiers)

    def grade_as_aflow(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        return grade_latex_aflow(task.answers[0], str(task.metadata.get("solution", "")), answer)

    def vote_key(self, answer: str, task: Task) -> str:
        return normalise_math(answer)


def grade_number(gold: str, answer: str, tiers: Tiers, *, problem: str = "") -> Grade:
    """The number that the answer states equals the gold's; "2 dozen" is 24, but 2 where the problem asks for dozens."""
    found = find_final_answer(answer, NUMBER)
    number, value = read_number(found.text), parse_number(gold)
    if number is None or value is None:
        return Grade(exact=False, score=0.0, tier=NOTHING, rule="no_number", read=found.text)
    values = [number.value]
    if number.is_percent:  # "60%" in a text may answer "what percentage"; alone it is a share
        values = [number.value / 100] if found.rule == "bare" else [number.value, number.value / 100]
    if number.is_dozens and _ASKS_FOR_DOZENS.search(problem):
        values = [number.value / 12]
    if value in values and number.is_plain:
        return Grade(exact=True, score=1.0, tier=EXACT, rule=found.rule, read=found.text)
    if value == number.value:
        return Grade(exact=False, score=0.0, tier=NEAR, rule=f"{found.rule}:form", read=found.text)
    return _by_distance(gold, found, tiers)


def grade_latex(gold: str, answer: str, tiers: Tiers) -> Grade:
    """The declared answer equals the gold; a number that was merely the last in sight is never exact."""
    found = find_final_answer(answer, LATEX)
    if not found.text:
        return Grade(exact=False, score=0.0, tier=NOTHING, rule="no_answer")
    is_equal = equal(gold, found.text)
    if is_equal and found.is_declared:
        return Grade(exact=True, score=1.0, tier=EXACT, rule=found.rule, read=found.text)
    if is_equal:
        return Grade(exact=False, score=0.0, tier=NEAR, rule=f"{found.rule}:form", read=found.text)
    return _by_distance(gold, found, tiers)


def grade_number_aflow(gold: str, answer: str) -> Grade:
    """AFlow's GSM8K: the last number of the text within 1e-6."""
    matches = _AFLOW_NUMBER.findall(answer[-20_000:])
    value = parse_number(gold)
    exact = bool(matches) and value is not None and abs(float(matches[-1].replace(",", "")) - float(value)) <= 1e-6
    return Grade(exact=exact, score=float(exact), tier=float(exact), rule="aflow", read=matches[-1] if matches else "")


def grade_latex_aflow(gold: str, solution: str, answer: str) -> Grade:
    """AFlow's MATH: last box with one inner level of braces (or the last sentence), text, number, then sympy."""
    expected = _aflow_extract(solution) if solution else gold
    predicted = _aflow_extract(answer[-20_000:])
    exact = predicted == expected
    if not exact:
        left, right = _aflow_number(predicted), _aflow_number(expected)
        if left is not None and right is not None:
            exact = math.isclose(left, right, abs_tol=1e-3)
        else:
            exact = latex_pool().equal(expected, predicted)
    return Grade(exact=exact, score=float(exact), tier=float(exact), rule="aflow", read=predicted[:200])


def normalise_math(text: str) -> str:
    """One spelling for answers that are the same, read as the grader reads them; for votes."""
    found = find_final_answer(text, LATEX).text
    return one_spelling(found) if found else ""


def _by_distance(gold: str, found: FinalAnswer, tiers: Tiers) -> Grade:
    number, value = read_number(found.text), parse_number(gold)
    tier, rule = (NOTHING, "no_number") if number is None else (ATTEMPT, "number")
    if number is not None and value and _ROUNDED_DECIMAL.fullmatch(gold.strip()):
        tier, rule = tiers.of_relative_error(float(abs(number.value - value) / abs(value)))
    return Grade(exact=False, score=0.0, tier=tier, rule=f"{found.rule}:{rule}", read=found.text)


def _aflow_extract(text: str) -> str:
    if boxes := _AFLOW_BOXED.findall(text):
        return str(boxes[-1]).strip()
    sentences = [sentence.strip() for sentence in re.split(r"(?<!\d)[.!?]\s+", text)]
    return sentences[-1] if sentences else ""


def _aflow_number(text: str) -> float | None:
    plain = text.replace(",", "")
    try:
        return float(plain[:-1].rstrip("\\")) / 100 if plain.endswith("%") else float(plain)
    except ValueError:
        return None
