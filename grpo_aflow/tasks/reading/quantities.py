"""The number that a short answer states, exact in fractions.

Works on one candidate that `final_answer` has found; `graders.math_grading` compares the value with the gold. "18
clips", "$1,234.00", "4 1/2" and "-5 degrees" state a number outright; of "12/4" and "10-5" the value is known though
not worked out; "4 pairs", "5 or more", "10-20", "1,2" and "3:1" state none.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from fractions import Fraction

from grpo_aflow.syntax import parse_expression
from grpo_aflow.tasks.reading.notation import plain_latex
from grpo_aflow.tasks.reading.units import is_unit, read_words

_MAX_CHARS = 300  # of a statement that is read
_MAX_DIGITS = 400

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,3}(?![\w.]))?"
_PLAIN = re.compile(rf"[+-]?\s?{_DIGITS}(?:\s?/\s?\d+)?")
_LATEX_FRACTION = re.compile(r"([+-]?)\s?\\frac\s?(?:\{(\d+)\}|(\d))\s?(?:\{(\d+)\}|(\d))")
_MIXED = re.compile(r"([+-]?)\s?(\d+)(?:\s+(?:and )?|\s?(?=\\))(?:(\d+)\s?/\s?(\d+)|\\frac\{(\d+)\}\{(\d+)\})")
_POWER_OF_TEN = re.compile(rf"([+-]?{_DIGITS})\s?(?:\\times|\*|x)\s?10\s?\^\s?\{{?(-?\d{{1,3}})\}}?")
# A number in a sentence: a sign only where it cannot be a minus between two operands.
_IN_TEXT = re.compile(
    rf"(?<![A-Za-z0-9_.,:)\]])(?<!\d[-/])(?:(?<![\d)])[+-]\s?)?{_DIGITS}(?!,\d)(?:\s?/\s?\d+(?![\d.,]*\d))?"
)
_ARITHMETIC = re.compile(r"[\d\s+\-*/().,]{1,64}")
_SIDE_REMARK = re.compile(
    r"\s*(?:\(|\[|,\s(?!\d)|;|\bbecause\b|\bsince\b|\bas\b|\bi\.\s?e\.|\be\.\s?g\.|\bfrom\b|\bwhich\b|\bso\b|\bthat\b|"
    r"\bthan\b|\b(?:to|and|but|if|when|while|unless|with|without|at|on|until|before|not)\b(?!\s*\$?[+-]?\d)|"
    r"\.\s|\.$|\n|!|\bwhere\b|\bafter\b|\bfor\b|\bby\b|\bin\b(?=\s*\w)|\bout of\b)"
)
_DRESS = "*_`\"' "
_LATEX_TEXT = re.compile(r"\\text\s?\{([^{}]*)\}")
_SENTENCE_END = re.compile(r"\n|(?<=[.!?])\s+(?=[^a-z])")
_NAMED_BY_NUMBER = re.compile(r"(?<!#)#\d+")  # "16 people think that horse #12 will win"
_ASIDE = re.compile(r"\W*(?:note|confidence|remark|disclaimer|p\.?\s?s)\b", re.I)
_REASON = re.compile(r",?\s\b(?:because|since)\b", re.I)
_BOUND = re.compile(
    r"(?:at (?:least|most)|(?:more|less|fewer|greater) than|up to|[<>]|\\[lg]e(?:q|qslant)?|\\ne)\s*$", re.I
)
_LIST = re.compile(r"\s*(?:,|:|-|to|or|and then|and)\s*(?:\\\$|\$)?[+-]?\d", re.I)

_CONTINUES = re.compile(r"\s?(?:[\^*+_]|!(?=\w)|[/:](?=\s?\d)|\()(?<!\s\()\s?\S")
_LIST_BEFORE = re.compile(
    r"\d(?:\s?(?:,|-|to|,?\s?\(?or(?: (?:maybe|possibly|perhaps|else|even))?|and then|,?\s?and)\s?|:)\$?$", re.I
)
_OR_ELSE = re.compile(rf"([^(]*)\(\s*or,?\s+(?:equivalently,?\s+)?({_DIGITS}(?:\s?/\s?\d+)?)([^()\d]*)\)")
# "5, not 7", "5 instead of 7", "not 7 but 5"
_DENIED = re.compile(rf",?\s*\b(?:(?:and|but)\s+)?(?:not|instead of|rather than)\s+\$?{_DIGITS}(?![\d.]*\d)", re.I)


@dataclass(frozen=True, kw_only=True, slots=True)
class StatedNumber:
    """A number that was read from text."""

    value: Fraction
    is_plain: bool = True  # nothing but formatting and a unit had to be dropped; False: 12/4, 10-5
    is_percent: bool = False
    is_dozens: bool = False  # "2 dozen", the value of which is 24


def read_number(text: str) -> StatedNumber | None:
    """The number that a short answer states: as a whole, at its beginning, or after its last "="; or None."""
    statement = _undressed(text[:_MAX_CHARS])
    if (whole := _whole(statement)) is not None:
        return whole
    return _leading(statement.rpartition("=")[2])


def parse_number(text: str) -> Fraction | None:
    """A plain number, and nothing else, as an exact fraction: 1,234  -5  .5  1.5e3  3/4  \\frac{3}{4}  4 1/2."""
    plain = _undressed(text) if len(text) <= 2 * _MAX_DIGITS else ""
    if not 0 < len(plain) <= _MAX_DIGITS:
        return None
    try:
        if match := _LATEX_FRACTION.fullmatch(plain):
            return Fraction(f"{match[1]}{match[2] or match[3]}/{match[4] or match[5]}")
        if match := _MIXED.fullmatch(plain):
            part = Fraction(int(match[3] or match[5]), int(match[4] or match[6]))
            return (int(match[2]) + part) * (-1 if match[1] == "-" else 1)
        if match := _POWER_OF_TEN.fullmatch(plain):
            return Fraction(match[1].replace(",", "")) * Fraction(10) ** int(match[2])
        if _PLAIN.fullmatch(plain):
            return Fraction(plain.replace(",", "").replace(" ", ""))
    except (ZeroDivisionError, ValueError):
        return None
    return None


def number_in(sentence: str) -> str:
    """The number at which the first clause of a sentence arrives, with its words: "He has 5 apples left, from 8."

    "" where it states none: "10 or 20", "at least 5", "3:1".
    """
    if names_two_numbers(sentence):
        return ""
    clause = _SIDE_REMARK.split(_undressed(sentence), maxsplit=1)[0]
    return last_number(clause) or last_number(sentence)


def names_two_numbers(sentence: str) -> bool:
    """Whether it leaves open which of two numbers it states, the second in brackets: "5 apples (or 6 apples)"."""
    plain = _undressed(sentence)
    return "(or" in plain and any(
        (value := parse_number(match.group())) is not None and _says_another(value, plain[match.end() :])
        for match in _IN_TEXT.finditer(plain)
    )


def last_number(text: str) -> str:
    """The number at which the last sentence with a number arrives, with its words; "" where it states none.

    That is what stands behind its last "=", else its last number: "It takes 120/24 = 5 hours to read 120 pages", "She
    has 4 left because 10 - 6 = 4".
    """
    sentences = _SENTENCE_END.split(text)
    for sentence in reversed([s for s in sentences if not _ASIDE.match(s)] or sentences):
        plain = _NAMED_BY_NUMBER.sub("#", _DENIED.sub("", _undressed(sentence)))
        if not re.search(r"\d", plain):
            continue
        if names_two_numbers(plain):
            return ""
        because = _REASON.search(plain)
        before = plain[: because.start()] if because else ""
        clause = before if re.search(r"\d", before) else plain
        result = clause.rpartition("=")[2].strip()
        if (
            "=" in clause and "round" not in result and (match := _IN_TEXT.match(result))
        ):  # "= 5 hours to read 120 pages"
            return _with_its_words(result, match)
        *_, match = [None, *_IN_TEXT.finditer(clause)]
        return _with_its_words(clause, match) if match and not re.search(r"\d", clause[match.end() :]) else ""
    return ""


def _with_its_words(text: str, match: re.Match[str]) -> str:
    if _with_words(text, match.start(), match.end()) is None:
        return ""
    return match.group() + _SIDE_REMARK.split(text[match.end() :], maxsplit=1)[0]


def _undressed(text: str) -> str:
    plain = (
        _LATEX_TEXT.sub(r" \1", plain_latex(text.replace("**", ""))).replace("\\%", "%").replace("\\circ", "degrees")
    )
    plain = plain.strip(_DRESS).removesuffix(".").strip(_DRESS)
    return plain[1:-1].strip() if plain[:1] == "{" and plain[-1:] == "}" else plain


def _whole(statement: str) -> StatedNumber | None:
    """The statement as a number and nothing else, or as arithmetic with numbers."""
    is_percent = statement.endswith("%")
    if (value := parse_number(statement.removesuffix("%"))) is not None:
        return StatedNumber(value=value, is_plain=_is_plain(statement), is_percent=is_percent)
    if _ARITHMETIC.fullmatch(statement) and (value := _work_out(statement)) is not None:
        return StatedNumber(value=value, is_plain=False)
    return None


def _leading(statement: str) -> StatedNumber | None:
    """ "18 clips (in 2 days)" states its first number, unless the words after it make another value of it."""
    statement = statement.lstrip(_DRESS)
    match = _MIXED.match(statement) or _POWER_OF_TEN.match(statement) or _IN_TEXT.match(statement)
    return _with_words(statement, match.start(), match.end()) if match else None


def _with_words(statement: str, start: int, end: int) -> StatedNumber | None:
    rest = statement[end:]
    value = parse_number(statement[start:end])
    if value is None or _BOUND.search(statement[:start]) or _LIST.match(rest) or _CONTINUES.match(rest):
        return None
    attached = re.match(r"[A-Za-z]+", rest)
    if attached and not is_unit(attached.group()):
        return None
    if _LIST_BEFORE.search(statement[:start]):
        return None
    is_percent = bool(re.match(r"\s?%", rest))
    words = _SIDE_REMARK.split(rest, maxsplit=1)[0]
    beside = read_words(words.replace("%", ""), in_prose=True)
    if beside is None or "\\" in words or _says_another(value, rest):
        return None
    return StatedNumber(
        value=value * beside.factor,
        is_plain=_is_plain(statement[start:end]),
        is_percent=is_percent,
        is_dozens=beside.is_dozens,
    )


def _says_another(value: Fraction, rest: str) -> bool:
    """Whether another value of the same unit follows a number in brackets: 5 (or 6), not 90 minutes (or 1.5 hours)."""
    match = _OR_ELSE.match(rest)
    other = parse_number(match[2]) if match else None
    if match is None or other in (None, value) or "%" in match[1] + match[3]:
        return False
    units = [beside.unit for words in (match[1], match[3]) if (beside := read_words(words, in_prose=True))]
    return len(units) == 2 and units[0].agrees_with(units[1])


def _is_plain(number: str) -> bool:
    """Whether it is written as GSM8K's golds are: digits, or a mixed number, but no fraction."""
    return not re.search(r"/|frac", number) or bool(_MIXED.fullmatch(number.strip()))


def _work_out(text: str) -> Fraction | None:
    """The value of an arithmetic expression of numbers, + - * / and brackets; None when it is anything else."""
    try:
        return _value(parse_expression(text.strip()))
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
    raise ValueError("not plain arithmetic")
