"""Brackets that group nothing, taken out before an answer is parsed: asides, and the reversed brackets of an interval.

    5/2 (or 2.5)             ->  5/2 or 2.5             an aside says a value once more
    5\\sqrt2 (\\approx 7.07)  ->  5\\sqrt2 \\approx 7.07
    ]1,2]                    ->  (1,2]                  the notation of ISO 31-11

What an aside says is read like any other part of the answer: 5/2 (or 3) has two values, and 5/2 (= 3) none.
"""

from __future__ import annotations

import re

_NEAR = r"\\approx|\\sim|(?:approximately|approx|about|roughly)\b"
_SAME = r"=|(?:equivalently|i\.?\s?e|that is)\b"
_BEGIN = rf"(?P<choice>or\b(?:,?\s*(?:equivalently|simply|just)\b)?)|(?P<same>{_SAME})|(?P<near>{_NEAR})"
_OPEN_IN_TEXT = re.compile(rf"\\text\{{([^{{}}()]*)\(\s*((?:{_BEGIN})[^{{}}]*)\}}")
_CLOSE_IN_TEXT = re.compile(r"\\text\{([^{}()]*)\)([^{}()]*)\}")
_ASIDE = re.compile(rf"(?<=\S)\s*\(\s*(?:\\text\{{\s*)?(?:{_BEGIN})[.,:\s]*(?:\\text\{{\s*\}}|\}})?")
_INTERJECTED = re.compile(
    r"(?<=[^\s,({]),?\s*(?:\\text\{\s*,?\s*)?(?:(?P<choice>or)\s*,?\s*)?\b(?:equivalently|i\.\s?e|that is)\b[.,:\s]*"
    r"(?:\}|(?=[\d\\(-]))"
)
_BEFORE_INTERVAL = frozenset({"", "\\cup", "\\cap", "\\setminus", "\\in", "=", ",", ";", "or", "and", "(", "{"})
_OPEN, _CLOSE = frozenset({"(", "{", "\\{"}), frozenset({")", "}", "\\}"})


def without_asides(text: str) -> str:
    """LaTeX whose asides stand without their brackets; the text itself where one is not closed."""
    opened = _OPEN_IN_TEXT.sub(r"\\text{\1} (\2 ", text)
    if _ASIDE.search(opened):
        opened = _CLOSE_IN_TEXT.sub(r"\\text{\1})\\text{\2}", opened)
    else:
        opened = text
    while aside := _ASIDE.search(opened):
        end = _closing(opened, aside.end())
        if end is None or not opened[aside.end() : end].strip():  # "6 (approximately)" says no value again
            return text
        sign = "or" if aside["choice"] else "=" if aside["same"] else r"\approx"
        opened = f"{opened[: aside.start()]} {sign} {opened[aside.end() : end]} {opened[end + 1 :]}"
    return _INTERJECTED.sub(lambda said: " or " if said["choice"] else " = ", opened)


def _closing(text: str, start: int) -> int | None:
    """Where the bracket that is open at `start` closes."""
    depth = 1
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place
    return None


def with_usual_intervals(tokens: list[str]) -> list[str]:
    """The tokens with "(" and ")" for the reversed brackets of intervals; other brackets stay."""
    tokens = list(tokens)
    for start, token in enumerate(tokens):
        before = tokens[start - 1] if start else ""
        if token not in ("[", "]") or before not in _BEFORE_INTERVAL:
            continue
        end = _end_of_interval(tokens, start)
        if end is not None and (token, tokens[end]) != ("[", "]"):
            tokens[start] = "(" if token == "]" else "["
            tokens[end] = ")" if tokens[end] == "[" else "]"
    return tokens


def _end_of_interval(tokens: list[str], start: int) -> int | None:
    """The place of the square bracket behind two bounds that begin at `start`; None where there are not two."""
    depth, num_bounds, place = 0, 1, start + 1
    while place < len(tokens):
        token = tokens[place]
        if token == "[" and tokens[place - 1] == "\\sqrt":
            place = tokens.index("]", place) if "]" in tokens[place:] else len(tokens)
        elif token in ("[", "]") and depth == 0:
            return place if num_bounds == 2 and place > start + 3 else None
        depth += (token in _OPEN) - (token in _CLOSE)
        num_bounds += depth == 0 and token in (",", ";")
        place += 1
    return None
