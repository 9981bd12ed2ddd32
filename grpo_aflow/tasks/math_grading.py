"""Grades of maths answers: GSM8K by number, MATH by number where the gold is one and through math-verify otherwise.

Integers are compared exactly; a tolerance exists only in the training tier, and only for a gold that is a rounded
decimal.
"""

from __future__ import annotations

import math
import re

from grpo_aflow.tasks.final_answer import FinalAnswer, find_final_answer, last_boxed, parse_number, read_number
from grpo_aflow.tasks.latex_equality import latex_pool
from grpo_aflow.tasks.tiers import ATTEMPT, EXACT, NEAR, NOTHING, Tiers
from grpo_aflow.types import Grade

_ROUNDED_DECIMAL = re.compile(r"-?[\d,]*\.\d+")
_AFLOW_NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?|\d+\.\d+")
_AFLOW_BOXED = re.compile(r"\\boxed{((?:[^{}]|{[^{}]*})*)}")
_TEXT_COMMAND = re.compile(r"\\(?:text|mbox|textrm|mathrm)\s?\{([^{}]*)\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WITH_UNIT = re.compile(r"(\S+)((?: [A-Za-z]{2,20}){1,3})")
# Words after a number that are part of its value, or of another answer, and no unit.
_NO_UNITS = (
    "pi sqrt root squared cubed times plus minus over divided by factorial choose mod or and to sin cos tan log ln "
    "radians hundred hundreds thousand thousands million millions billion billions trillion dozen half halves third "
    "thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh eighth ninth tenth tenths hundredth "
    "hundredths thousandth thousandths"
)


def grade_number(gold: str, answer: str, tiers: Tiers) -> Grade:
    """GSM8K: the number that the answer states equals the gold's."""
    found = find_final_answer(answer)
    number = read_number(found.text)
    value = parse_number(gold)
    if number is None or value is None:
        return Grade(exact=False, score=0.0, tier=NOTHING, rule="no_number")
    if number.value == value and number.clean:
        return Grade(exact=True, score=1.0, tier=EXACT, rule=found.rule)
    if number.value == value:
        return Grade(exact=False, score=0.0, tier=NEAR, rule=f"{found.rule}:form")
    return _by_distance(gold, found, tiers)


def grade_latex(gold: str, answer: str, tiers: Tiers) -> Grade:
    """MATH: the declared answer equals the gold; a number that was merely the last in sight is never exact."""
    found = find_final_answer(answer)
    if not found.text:
        return Grade(exact=False, score=0.0, tier=NOTHING, rule="no_answer")
    equal = _equal(gold, found.text)
    if equal and found.is_declared and _same_units(gold, found.text):
        return Grade(exact=True, score=1.0, tier=EXACT, rule=found.rule)
    if equal:
        return Grade(exact=False, score=0.0, tier=NEAR, rule=f"{found.rule}:form")
    return _by_distance(gold, found, tiers)


def grade_number_aflow(gold: str, answer: str) -> Grade:
    """AFlow's GSM8K: the last number of the text within 1e-6."""
    matches = _AFLOW_NUMBER.findall(answer[-20_000:])
    value = parse_number(gold)
    exact = bool(matches) and value is not None and abs(float(matches[-1].replace(",", "")) - float(value)) <= 1e-6
    return Grade(exact=exact, score=float(exact), tier=float(exact), rule="aflow")


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
            exact = latex_pool().equal(expected, predicted, "aflow")
    return Grade(exact=exact, score=float(exact), tier=float(exact), rule="aflow")


def normalise_math(text: str) -> str:
    """One spelling for answers that are the same: numbers in lowest terms, LaTeX without spacing and style commands."""
    found = find_final_answer(text).text
    if (value := parse_number(found)) is not None:
        return str(value)
    found = re.sub(r"\\(?:left|right|displaystyle|[,;:! ])(?![A-Za-z])", "", found)
    found = re.sub(r"\\[dt]frac", r"\\frac", found)
    return re.sub(r"\s+", "", _TEXT_COMMAND.sub(r"\1", found)).strip("$.")


def _equal(gold: str, text: str) -> bool:
    if gold.strip() == text.strip() or normalise_math(f"\\boxed{{{gold}}}") == normalise_math(f"\\boxed{{{text}}}"):
        return True
    left, right = parse_number(gold), parse_number(_without_unit(text))
    if left is not None and right is not None:
        return left == right
    return latex_pool().equal(gold, text.replace("$", ""))


def _without_unit(text: str) -> str:
    """ "18 square feet" -> "18"; a unit in the gold is compared by `_same_units`."""
    match = _WITH_UNIT.fullmatch(text.strip())
    return match[1] if match and not set(_NO_UNITS.split()) & set(match[2].lower().split()) else text


def _same_units(gold: str, text: str) -> bool:
    """Words beside a number ("hours", "PM") must agree; math-verify drops them, which makes 3 hours of 3 minutes."""
    wanted, given = _words(gold), _words(text)
    return not wanted or not given or not re.search(r"\d", gold) or wanted == given


def _words(text: str) -> set[str]:
    bare = _COMMAND.sub(" ", _TEXT_COMMAND.sub(r" \1 ", text))
    return {word.lower().removesuffix("s") for word in re.findall(r"[A-Za-z]{2,}", bare)}


def _by_distance(gold: str, found: FinalAnswer, tiers: Tiers) -> Grade:
    number, value = read_number(found.text), parse_number(gold)
    tier, rule = (NOTHING, "no_number") if number is None else (ATTEMPT, "number")
    if number is not None and value and _ROUNDED_DECIMAL.fullmatch(gold.strip()):
        tier, rule = tiers.of_relative_error(float(abs(number.value - value) / abs(value)))
    return Grade(exact=False, score=0.0, tier=tier, rule=f"{found.rule}:{rule}")


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


def boxed_gold(solution: str) -> str:
    """The gold of a worked solution: what stands in its last box, with any depth of braces."""
    return last_boxed(solution)
