"""The tokens of a final answer in LaTeX or plain notation, and a cursor over them for the parser."""

from __future__ import annotations

import re

from grpo_aflow.tasks.latex.brackets import with_usual_intervals
from grpo_aflow.tasks.latex.nodes import NotRead
from grpo_aflow.tasks.reading.units import SHORT_UNITS, SHORT_WORDS

_MAX_TOKENS = 400
_TOKEN = re.compile(
    r"\\text\{[^{}]*\}|\\begin\s?\{[a-z]*matrix\}|\\end\s?\{[a-z]*matrix\}|\\begin\s?\{array\}\s?(?:\{[^{}]*\})?|"
    r"\\end\s?\{array\}|\\operatorname\*?\s?\{[A-Za-z]+\}|\\[A-Za-z]+|\\.|(?:\d+(?:\.\d+)?|\.\d+)|[A-Za-z]+|\*\*|==|<=|>=|!=|''|\S"
)
_FUNCTION_NAMES = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh exp ln log gcd lcm max min det dim arg"
FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "lg": "log"}
RELATIONS = {
    "=": "=", "==": "=", "<": "<", ">": ">", "\\lt": "<", "\\gt": ">", "\\le": "<=", "\\leq": "<=", "\\leqslant": "<=",
    "<=": "<=", "\\ge": ">=", "\\geq": ">=", "\\geqslant": ">=", ">=": ">=", "\\ne": "!=", "\\neq": "!=", "!=": "!=",
    "\\in": "in", "\\notin": "notin", "\\approx": "approx", "\\equiv": "equiv", "\\to": "to", "\\sim": "approx",
}  # fmt: skip
CONSTANTS = {
    **dict.fromkeys(("\\infty", "infinity", "inf", "oo"), "infinity"),
    **dict.fromkeys(("\\pi", "pi"), "pi"),
}
SETS = {"\\cup": "cup", "\\cap": "cap", "\\setminus": "setminus", "\\backslash": "setminus"}
OPENING = {"(": ")", "[": "]", "\\{": "\\}", "\\langle": "\\rangle", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
INFIX = {"\\over": "/", "\\choose": "binomial"}
NORMS = {"|": "|", "\\lvert": "\\rvert", "\\vert": "\\vert", "\\|": "\\|", "\\lVert": "\\rVert", "\\Vert": "\\Vert"}
CLOSING = frozenset({")", "]", "\\}", "\\rangle", "\\rfloor", "\\rceil", "}", "&", "\\\\", "\\end"}) | {
    *NORMS.values(),
    *INFIX,
}
_AND, _OR = frozenset({"and", "\\land", "\\wedge"}), frozenset({"or", "\\lor", "\\vee"})
SEPARATORS = frozenset({",", ";"}) | _AND | _OR
_CONNECTOR = re.compile(r"\s*,?\s*(and|or)\s*,?\s*", re.I)


class Cursor:
    """A place in the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.tokens = with_usual_intervals(tokens_of(text))
        self.place = 0
        if len(self.tokens) > _MAX_TOKENS:
            raise NotRead("too long")

    def peek(self, ahead: int = 0) -> str:
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.place += 1
        return token

    def accept(self, token: str) -> bool:
        if self.peek() != token:
            return False
        self.place += 1
        return True

    def expect(self, *tokens: str) -> str:
        token = self.take()
        if token not in tokens:
            raise NotRead(f"{tokens[0]} expected")
        return token


def tokens_of(text: str) -> list[str]:
    tokens: list[str] = []
    for token in _TOKEN.findall(text):
        if is_text(token):
            inner = text_of(token).strip()
            if connector := _CONNECTOR.fullmatch(inner):
                tokens.append(connector[1].lower())
            elif inner in ("e", "i", "d") or inner in FUNCTIONS or inner.isdigit():
                tokens.append(inner)
            elif inner.strip(",."):
                tokens.append(token)
        elif token.isalpha() and len(token) > 1:
            tokens += _letters(token)
        elif token != " ":
            tokens.append(token)
    return tokens


def _letters(run: str) -> list[str]:
    """A run of letters: a connector, a function, a unit or a word as one token, else variables side by side."""
    lower = run.lower()
    if lower in ("and", "or"):
        return [lower]
    if lower in ("pi", "sqrt", "infinity", "inf") or ALIASES.get(lower, lower) in FUNCTIONS:
        return [lower]
    if len(run) > 3 or lower in SHORT_UNITS or lower in SHORT_WORDS:
        return [f"\\text{{{run}}}"]
    return list(run)


def set_operation(separator: str) -> str:
    """What a word between two conditions makes of their solutions: "cup" for or, "cap" for and, "" for a comma."""
    return "cup" if separator in _OR else "cap" if separator in _AND else ""


def is_text(token: str) -> bool:
    return token.startswith("\\text{")


def text_of(token: str) -> str:
    return token[token.index("{") + 1 : -1] if is_text(token) else token
