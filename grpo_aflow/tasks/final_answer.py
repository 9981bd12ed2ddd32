"""Finding the final answer in a text and reading a number from it.

Both math datasets start here. The rule that fired is kept and ends up in `Grade.rule`, because a grader's reading rule
can move accuracy by more than a method does. Order: declared field, `\\boxed`, `####`, "the answer is", then what is
left: a bare short answer, the last formula of the last line, the last number.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from fractions import Fraction

from grpo_aflow.syntax import parse_expression

_TAIL = 20_000  # characters; a final answer stands at the end, and every pattern below stays fast on this much
_BARE = 200  # longest text that counts as an answer by itself
_MAX_DIGITS = 400

_TAG = re.compile(r"<answer>(.{0,2000}?)</answer>", re.IGNORECASE | re.DOTALL)
_FIELD = re.compile(
    r"^[ \t*_#>\"']{0,8}(?:final[ _]answer|answer)[*_\"']{0,3}[ \t]?[:=][ \t*]{0,4}(\S[^\n]*)$", re.I | re.M
)
_ANSWER_IS = re.compile(r"\banswer\s{0,3}(?:is|equals|=)\s{0,3}:?\s{0,3}(\S[^\n]*)", re.IGNORECASE)
_FORMULA = re.compile(r"\$([^$\n]{1,500})\$|\\\(([^\n]{1,500}?)\\\)|\\\[([^\n]{1,500}?)\\\]")

# Digits with correct thousands separators, or plain; a sign only where it cannot be a minus between two operands.
_UNSIGNED = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,3}(?![\w.]))?"
_NUMBER = re.compile(rf"(?<![\w.,)\]])(?:(?<![\d)])[+-])?\$?{_UNSIGNED}(?!,\d)(?:\s?/\s?\d+(?![\d.,]*\d))?")
_RESULT_WORDS = re.compile(r"=|\b(?:is|are|equals?|makes?|gives?|totals?|leaves?|left|so|therefore)\b", re.IGNORECASE)
_ARITHMETIC = re.compile(r"[\d\s+\-*/().,]{1,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalAnswer:
    """What a text declares as its answer, and by which rule it was found."""

    text: str
    rule: str  # declared, boxed, ####, answer_is, bare, last_formula, last_number, none

    @property
    def is_declared(self) -> bool:
        """Whether the writer marked it as the answer, rather than its being the last number in sight."""
        return self.rule not in ("last_number", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A number that was read from text; `clean` says that nothing but formatting had to be dropped."""

    value: Fraction
    clean: bool


def find_final_answer(text: str) -> FinalAnswer:
    """The final answer of a model's text; an empty one with rule "none" where there is none."""
    tail = text[-_TAIL:].strip()
    if not tail:
        return FinalAnswer(text="", rule="none")
    for rule, found in (("declared", _declared(tail)), ("boxed", _boxed(tail)), ("####", _after_hashes(tail))):
        if found:
            return FinalAnswer(text=_unwrap(found), rule=rule)
    if matches := _ANSWER_IS.findall(tail):
        return FinalAnswer(text=_unwrap(_first_sentence(matches[-1])), rule="answer_is")
    formulas = list(_FORMULA.finditer(tail.splitlines()[-1]))
    has_words_before = bool(formulas) and bool(re.search(r"[A-Za-z]", tail[: tail.rfind(formulas[-1].group())]))
    if "\n" not in tail and len(tail) <= _BARE and not has_words_before and not _is_prose(tail):
        return FinalAnswer(text=_unwrap(tail), rule="bare")
    if formulas:
        return FinalAnswer(text=next(part for part in formulas[-1].groups() if part).strip(), rule="last_formula")
    numbers = _NUMBER.findall(tail)
    return FinalAnswer(text=numbers[-1], rule="last_number") if numbers else FinalAnswer(text="", rule="none")


def last_boxed(text: str) -> str:
    """The content of the last `\\boxed{...}` with any depth of braces, or of `\\boxed 5`; "" when there is none."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if start < 0:
        return ""
    rest = text[start:].split("boxed", 1)[-1].split("fbox", 1)[-1]
    if not rest.startswith("{"):
        words = rest.split()
        return words[0].strip("$.") if words else ""
    depth = 0
    for position, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:position].strip()
    return ""


def read_number(text: str) -> Number | None:
    """The number that a short answer states, or None.

    "1,234" and "$18" and "18 clips" are clean; "12/4", "10-5" (value right, not worked out) and "12%" are not.
    "18 (step 2 of 2)" is 18, and "1,2" is no number.
    """
    short = _plain(text[:_BARE])
    if (value := parse_number(short)) is not None:
        return Number(value=value, clean="/" not in short)
    if _ARITHMETIC.fullmatch(short) and (value := _work_out(short)) is not None:
        return Number(value=value, clean=False)
    matches = list(_NUMBER.finditer(short))
    if not matches:
        return None
    # "18 clips (in 2 days)" states its first number; "5 + 3 = 8" and "it is 8" state what follows.
    leads = matches[0].start() == 0 and not _RESULT_WORDS.search(short)
    match = matches[0] if leads else matches[-1]
    value = parse_number(match.group())
    rest = short[match.end() :].lstrip()
    return None if value is None else Number(value=value, clean="/" not in match.group() and not rest.startswith("%"))


def parse_number(text: str) -> Fraction | None:
    """A plain number, and nothing else, as an exact fraction: 1,234  -5  .5  1.5e3  3/4  \\frac{3}{4}."""
    plain = _plain(text)
    if not 0 < len(plain) <= _MAX_DIGITS:
        return None
    if match := re.fullmatch(r"([+-]?)\\[dt]?frac\{(\d+)\}\{(\d+)\}", plain):
        plain = f"{match[1]}{match[2]}/{match[3]}"
    if not re.fullmatch(rf"[+-]?(?:{_UNSIGNED}|\d+\s?/\s?\d+)", plain):
        return None
    try:
        return Fraction(plain.replace(",", "").replace(" ", ""))
    except ZeroDivisionError:
        return None


def _plain(text: str) -> str:
    text = text.replace("\u2212", "-").replace("\\$", "").replace("\\!", "").replace("{,}", ",").replace("\\,", "")
    return text.strip().strip("$").strip("*_` ").rstrip(".").replace("$", "").strip()


def _declared(tail: str) -> str:
    if matches := _TAG.findall(tail):
        return str(matches[-1]).strip()
    matches = _FIELD.findall(tail)
    return str(matches[-1]).strip() if matches else ""


def _boxed(tail: str) -> str:
    # Several boxes in the last line that has any are one answer with several values: "\boxed{1} and \boxed{2}".
    lines = [line for line in tail.splitlines() if "\\boxed" in line]
    if not lines or lines[-1].count("\\boxed") == 1 or lines[-1].count("\\boxed") > 20:
        return last_boxed(tail)
    pieces = lines[-1].split("\\boxed")[1:]
    return ", ".join(box for piece in pieces if (box := last_boxed("\\boxed" + piece)))


def _after_hashes(tail: str) -> str:
    _, mark, rest = tail.rpartition("####")
    return rest.strip().splitlines()[0].strip() if mark and rest.strip() else ""


def _first_sentence(text: str) -> str:
    return re.split(r"\.(?:\s|$)", text, maxsplit=1)[0].strip()


def _is_prose(text: str) -> bool:
    """A sentence rather than an answer: it has several words before its first number or formula."""
    head = re.split(r"[\d$\\]", text, maxsplit=1)
    return len(head) > 1 and len(head[0].split()) > 3


def _unwrap(text: str) -> str:
    """Takes off what only marks the answer: a box, dollar signs, bold, quotes, a full stop."""
    text = (last_boxed(text) or text).strip().strip("*_`\"' ")
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]")):
        text = text.removeprefix(opening).removesuffix(closing)
    if text.startswith("$") and text.endswith("$"):
        text = text[1:-1].strip("$")
    return text.strip().rstrip(".").strip()


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
