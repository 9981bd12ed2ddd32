"""A parser of final answers in LaTeX or plain notation: the whole text becomes a tree, or it is not read at all.

`latex_equality` compares the trees. Nothing is skipped and nothing guessed: a parser that falls back to the first
number that it can find makes 4\\sqrt(2) equal to 4.

    answer   = item {("," | ";" | "and" | "or") item}
    item     = relation [words that name a unit] | words
    relation = side {("=" | "<" | "\\le" | "\\in" ...) side};  side = words | union {":" union}
    union    = sum {("\\cup" | "\\cap" | "\\setminus") sum};  sum = product {("+" | "-" | "\\pm") product}
    product  = factor {["\\cdot" | "/" ...] factor};  factor = ["-"] atom {"!" | "^" factor | "%" | "\\circ"}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from grpo_aflow.tasks.notation import plain_latex
from grpo_aflow.tasks.units import SHORT_UNITS, SHORT_WORDS, Unit, read_words

MAX_CHARS = 2_000  # a final answer longer than this is not read
_MAX_DEPTH = 40
_MAX_TOKENS = 400
_MAX_CHAIN = 120  # operations side by side, which make the tree as deep


class NotRead(Exception):
    """The text is no answer in this grammar."""


@dataclass(frozen=True, slots=True)
class Number:
    value: Fraction


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable, or a constant: pi, e, i, infinity."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operation on expressions: + - * / ^ neg pm, or a function by its name."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Based:
    """Digits in a number system: 52_8."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words."""

    text: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with its unit; a percent sign counts as one."""

    value: Node
    unit: Unit


@dataclass(frozen=True, slots=True)
class Group:
    """Values in order: a point, an interval, a ratio (opening ":"), a set (opening "{"), or a list (opening "")."""

    opening: str
    items: tuple[Node, ...]
    closing: str


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain such as a < x <= b; `sides` has one more entry than `signs`."""

    signs: tuple[str, ...]
    sides: tuple[Node, ...]


Node = Number | Symbol | Call | Based | Words | Quantity | Group | Matrix | Relation

_TOKEN = re.compile(
    r"\\text\{[^{}]*\}|\\begin\s?\{[a-z]*matrix\}|\\end\s?\{[a-z]*matrix\}|\\begin\s?\{array\}\s?(?:\{[^{}]*\})?|"
    r"\\end\s?\{array\}|\\operatorname\*?\s?\{[A-Za-z]+\}|\\[A-Za-z]+|\\.|(?:\d+(?:\.\d+)?|\.\d+)|[A-Za-z]+|\*\*|<=|>=|!=|''|\S"
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_IN_BASE = re.compile(r"(\d)\s?(?:\\text\{\s*)?\(?\s?(?:in )?base\s?-?(\d+|[a-z]+)\s?\)?\s?\}?", re.I)
_BASES = dict(
    zip(
        ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"],
        range(2, 13),
        strict=True,
    )
)
_CONSTANTS = {
    "\\pi": "pi",
    "\\infty": "infinity",
    "pi": "pi",
    "infinity": "infinity",
    "inf": "infinity",
    "oo": "infinity",
}
_FUNCTION_NAMES = "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh exp ln log gcd lcm max min"
FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "lg": "log"}
_GREEK = re.compile(
    r"\\(?:var)?(?:alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|upsilon|phi|"
    r"chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Sigma|Phi|Psi|Omega|ell)"
)
_RELATIONS = {
    "=": "=", "<": "<", ">": ">", "\\lt": "<", "\\gt": ">", "\\le": "<=", "\\leq": "<=", "\\leqslant": "<=", "<=": "<=",
    "\\ge": ">=", "\\geq": ">=", "\\geqslant": ">=", ">=": ">=", "\\ne": "!=", "\\neq": "!=", "!=": "!=", "\\in": "in",
    "\\approx": "approx", "\\equiv": "equiv", "\\to": "to", "\\sim": "approx",
}  # fmt: skip
_TIMES = frozenset({"\\cdot", "\\times", "*", "\\ast"})
_OVER = frozenset({"/", "\\div"})
_SETS = {"\\cup": "cup", "\\cap": "cap", "\\setminus": "setminus", "\\backslash": "setminus"}
_OPENING = {"(": ")", "[": "]", "\\{": "\\}", "\\langle": "\\rangle", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
_CLOSING = frozenset({")", "]", "\\}", "\\rangle", "\\rfloor", "\\rceil", "}", "|", "&", "\\\\", "\\end"})
_SEPARATORS = frozenset({",", ";", "and", "or", "\\lor", "\\land", "\\vee"})
_CONNECTOR = re.compile(r"\s*,?\s*(?:and|or)\s*,?\s*", re.I)


def read_latex(text: str) -> list[Node]:
    """The readings of a final answer, none where it cannot be parsed whole.

    There are two readings where a comma may separate thousands or list items: "1,234".
    """
    plain = plain_latex(text).strip(" .,") if len(text) <= MAX_CHARS else ""
    if plain.startswith("{\\text{") and plain.endswith("}}"):
        plain = plain[1:-1].strip()
    if not plain:
        return []
    plain = _IN_BASE.sub(_in_base, plain)
    texts = [plain]
    if joined := _THOUSANDS.search(plain):
        together = _THOUSANDS.sub(lambda match: match.group().replace(",", ""), plain)
        texts = [together, plain] if joined.group() != plain or plain.count(",") == 1 else [together]
    readings: list[Node] = []
    for candidate in texts:
        try:
            readings.append(_Parser(candidate).answer())
        except (NotRead, RecursionError, ZeroDivisionError):
            continue
    return readings


def words_of(text: str) -> str:
    """A text answer in one spelling: lower case, without LaTeX commands, punctuation and articles; words sorted."""
    bare = re.sub(r"\\[A-Za-z]+", " ", re.sub(r"\\text\s?\{([^{}]*)\}", r" \1 ", text)).lower()
    words = re.findall(r"[a-z0-9.]*[a-z0-9]", bare)
    return " ".join(sorted(word for word in words if len(words) == 1 or word not in ("a", "an", "the")))


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        if len(self.tokens) > _MAX_TOKENS:
            raise NotRead("too long")
        self.place = 0
        self.depth = 0
        self.num_operations = 0

    # --- answers and items --------------------------------------------------------------------------------------------

    def answer(self) -> Node:
        node = self.listing()
        if self.place < len(self.tokens):
            raise NotRead(self.peek())
        return node

    def listing(self) -> Node:
        items = [self.item()]
        while self.peek() in _SEPARATORS:
            while self.peek() in _SEPARATORS:  # ", and"
                self.place += 1
            items.append(self.item())
        return items[0] if len(items) == 1 else Group("", tuple(items), "")

    def item(self) -> Node:
        start = self.place
        try:
            node = self.relation()
            if isinstance(node, Words):  # there may be more to it
                raise NotRead(node.text)
        except NotRead:
            self.place = start
            return self.words(start)
        if not self.at_end_of_item():
            return self.quantity(node, start)
        return node

    def words(self, start: int) -> Node:
        """An item that is all words (and numbers among them): "June 20"; not one that merely has some."""
        while not self.at_end_of_item():
            self.place += 1
        piece = self.tokens[start : self.place]
        is_plain = all(_is_text(token) or token.isalnum() or token in "()-'." for token in piece)
        if not any(map(_is_text, piece)) or not is_plain or piece[0] == "-":
            raise NotRead(" ".join(piece))
        inner = " ".join(_text_of(token) for token in piece)
        if len(piece) == 1 and "," in inner:
            return _Parser(inner).answer()
        return Words(words_of(inner))

    def quantity(self, node: Node, start: int) -> Node:
        """A value followed by words: its unit, a factor such as "million", or a reason not to read it."""
        first = self.place
        while not self.at_end_of_item():
            self.place += 1
        piece = self.tokens[first : self.place]
        if not all(
            _is_text(token) or token in ("^", "/", "'", "''", '"', "2", "3", "{", "}", "(", ")", ".") for token in piece
        ):
            raise NotRead(" ".join(piece))
        beside = read_words(" ".join(_text_of(token) for token in piece))
        if beside is None or isinstance(node, Words):
            raise NotRead(" ".join(self.tokens[start : self.place]))
        if beside.factor != 1:
            node = Call("*", (node, Number(Fraction(beside.factor))))
        return Quantity(node, beside.unit)

    def at_end_of_item(self) -> bool:
        token = self.peek()
        return not token or token in _SEPARATORS or token in _CLOSING or token.startswith("\\end")

    # --- expressions --------------------------------------------------------------------------------------------------

    def relation(self) -> Node:
        signs: list[str] = []
        sides = [self.side()] if self.peek() not in _RELATIONS else []
        while self.peek() in _RELATIONS:
            signs.append(_RELATIONS[self.take()])
            sides.append(self.side())
        if not signs:
            return sides[0]
        if len(sides) == 1 and signs == ["approx"]:
            return sides[0]
        return Relation(tuple(signs), tuple(sides))

    def side(self) -> Node:
        """One side of a relation: Area = 5, or x = Friday."""
        if not _is_text(self.peek()):
            return self.ratio()
        start = self.place
        while _is_text(self.peek()):
            self.place += 1
        return Words(words_of(" ".join(map(_text_of, self.tokens[start : self.place]))))

    def ratio(self) -> Node:
        sides = [self.union()]
        while self.peek() == ":":
            self.place += 1
            sides.append(self.union())
        return sides[0] if len(sides) == 1 else Group(":", tuple(sides), "")

    def union(self) -> Node:
        node = self.sum()
        while self.peek() in _SETS:
            node = Call(_SETS[self.take()], (node, self.sum()))
        return node

    def sum(self) -> Node:
        node = Call("pm", (Number(Fraction(0)), self.product())) if self.accept("\\pm") else self.product()
        while self.peek() in ("+", "-", "\\pm", "\\mp"):
            sign = self.take()
            right = self.product()
            if sign == "-":
                right = Call("neg", (right,))
            node = Call({"\\pm": "pm", "\\mp": "mp"}.get(sign, "+"), (node, right))
        return node

    def product(self) -> Node:
        node = self.factor()
        while True:
            token = self.peek()
            if token in _TIMES or token in _OVER:
                self.place += 1
                node = Call("*" if token in _TIMES else "/", (node, self.factor()))
            elif self.starts_atom():
                node = self.joined(node)
            else:
                return node

    def joined(self, left: Node) -> Node:
        """Two factors side by side: a product, or a mixed number such as 4 1/2 and 11\\frac12."""
        is_integer = isinstance(left, Number) and left.value.denominator == 1 and self.tokens[self.place - 1].isdigit()
        if is_integer and self.peek() == "\\frac":
            part = self.factor()
            if isinstance(part, Call) and all(isinstance(side, Number) for side in part.arguments):
                return Call("+", (left, part))
            return Call("*", (left, part))
        if is_integer and self.peek().isdigit() and self.peek(1) == "/" and self.peek(2).isdigit():
            above, below = Fraction(self.take()), Fraction(self.tokens[self.place + 1])
            self.place += 2
            assert isinstance(left, Number)
            return Number(left.value + above / below)
        if self.peek()[0].isdigit() or self.peek()[0] == ".":
            raise NotRead("two numbers side by side")
        return Call("*", (left, self.factor()))

    def starts_atom(self) -> bool:
        token = self.peek()
        if not token or _is_text(token) or token.startswith("\\end"):
            return False
        if token in _SEPARATORS or token in _RELATIONS or token in _CLOSING or token in _SETS:
            return False
        return token not in ("+", "-", "\\pm", "\\mp", ":", "^", "_", "!", "'", "''", '"', "\\%", "%", "\\circ")

    def factor(self) -> Node:
        self.depth += 1
        self.num_operations += 1
        if self.depth > _MAX_DEPTH or self.num_operations > _MAX_CHAIN:
            raise NotRead("nested too deeply")
        if self.peek() in ("-", "+"):
            sign = self.take()
            inner = self.factor()
            node = Call("neg", (inner,)) if sign == "-" else inner
        else:
            node = self.powered(self.atom())
        self.depth -= 1
        return node

    def powered(self, node: Node) -> Node:
        while True:
            if self.accept("!"):
                node = Call("factorial", (node,))
            elif self.peek() in ("^", "**"):
                self.place += 1
                node = Call("^", (node, self.script()))
            elif self.peek() in ("\\%", "%"):
                self.place += 1
                node = Quantity(node, Unit(known=("%",)))
            elif self.accept("\\circ"):
                node = Quantity(node, Unit(known=("deg",)))
            elif self.peek() in ("'", "''", '"') and isinstance(node, Number):
                node = Quantity(node, Unit(known=("ft" if self.take() == "'" else "in",)))
            else:
                return node

    def atom(self) -> Node:
        token = self.take()
        if not token:
            raise NotRead("ends early")
        if token[0].isdigit() or (token[0] == "." and len(token) > 1):
            return self.number(token)
        if token in _OPENING:
            return self.bracket(token)
        if token == "{":
            node = self.listing()
            self.expect("}")
            return node
        if token == "|" or token in ("\\lvert", "\\vert"):
            node = self.sum()
            self.expect(*{"|": ("|",), "\\lvert": ("\\rvert",), "\\vert": ("\\vert",)}[token])
            return Call("abs", (node,))
        if token.startswith("\\begin"):
            return self.matrix()
        if token in _CONSTANTS:
            return Symbol(_CONSTANTS[token])
        if token in ("\\emptyset", "\\varnothing"):
            return Group("{", (), "}")
        if _GREEK.fullmatch(token):
            return self.subscripted(token.lstrip("\\"))
        return self.named(token)

    def number(self, token: str) -> Node:
        if self.peek() == "_":
            self.place += 1
            base = self.script()
            if not isinstance(base, Number) or base.value.denominator != 1 or not 2 <= base.value <= 36:
                raise NotRead("no number system")
            return Based(token.lstrip("0") or "0", int(base.value))
        if self.peek() == "." and self.peek(1) == "\\overline" and self.peek(2) == "{":  # 0.\\overline{3}
            self.place += 1
            return self.repeating(token)
        if self.peek() == "\\overline" and "." in token and self.peek(1) == "{":
            return self.repeating(token)
        if len(token) > 400:
            raise NotRead("too many digits")
        return Number(Fraction(token))

    def repeating(self, token: str) -> Node:
        """0.1\\overline{6} as an exact fraction."""
        self.place += 2
        digits = self.take()
        self.expect("}")
        if not digits.isdigit() or len(digits) > 40:
            raise NotRead("no repeating digits")
        places = len(token.partition(".")[2])
        return Number(Fraction(token) + Fraction(int(digits), 10**places * (10 ** len(digits) - 1)))

    def bracket(self, opening: str) -> Node:
        self.depth += 1
        items = [self.item()] if self.peek() != _OPENING[opening] else []
        while self.peek() in _SEPARATORS:
            self.place += 1
            items.append(self.item())
        closing = self.expect(")", "]") if opening in "([" else self.expect(_OPENING[opening])
        self.depth -= 1
        if opening in ("\\lfloor", "\\lceil"):
            return Call(opening[2:], tuple(items))
        if opening == "(" and closing == ")" and len(items) == 1:
            return items[0]
        if opening == "[" and closing == "]" and len(items) == 1:
            return items[0]
        return Group(opening.strip("\\"), tuple(items), closing.strip("\\"))

    def matrix(self) -> Node:
        rows: list[tuple[Node, ...]] = []
        row: list[Node] = []
        self.depth += 1
        while not self.peek().startswith("\\end"):
            if not self.peek():
                raise NotRead("an open matrix")
            row.append(self.item())
            if self.accept("&"):
                continue
            rows.append(tuple(row))
            row = []
            if not self.accept("\\\\") and not self.peek().startswith("\\end"):
                raise NotRead("no matrix")
        self.place += 1
        self.depth -= 1
        if row or not rows or len({len(r) for r in rows}) != 1:
            raise NotRead("rows of different lengths")
        return Matrix(tuple(rows))

    def named(self, token: str) -> Node:
        name = token.lstrip("\\").removeprefix("operatorname").strip("*{} ") if token[0] == "\\" else token
        name = _ALIASES.get(name, name)
        if name == "frac":
            above, below = self.argument(), self.argument()
            return Call("/", (above, below))
        if name == "sqrt":
            return self.root()
        if name in ("binom", "dbinom", "tbinom"):
            return Call("binomial", (self.argument(), self.argument()))
        if name in FUNCTIONS:
            return self.function(name)
        if name in ("overline", "mathbb", "mathcal", "vec", "hat", "bar") or token[0] == "\\":
            raise NotRead(token)
        if len(token) == 1 and token.isalpha():
            return self.subscripted(token)
        raise NotRead(token)

    def root(self) -> Node:
        degree: Node = Number(Fraction(2))
        if self.accept("["):
            self.depth += 1
            degree = self.sum()
            self.depth -= 1
            self.expect("]")
        return Call("root", (self.argument(whole_number=True), degree))

    def function(self, name: str) -> Node:
        base: tuple[Node, ...] = ()
        power: Node | None = None
        while self.peek() in ("_", "^"):
            if self.take() == "_":
                base = (self.script(),)
            else:
                power = self.script()
        if self.peek() in _OPENING:
            argument = self.atom()
            arguments = argument.items if isinstance(argument, Group) and argument.opening == "(" else (argument,)
        else:
            arguments = (self.simple_product(),)
        node: Node = Call(name, (*arguments, *base))
        if isinstance(power, Call) and power == Call("neg", (Number(Fraction(1)),)) and not name.startswith("arc"):
            return Call(f"arc{name}", arguments)
        return node if power is None else Call("^", (node, power))

    def simple_product(self) -> Node:
        """The argument of a function without brackets: sin 2x, but not the second factor of sin x cos x."""
        node = self.factor()
        while (
            self.starts_atom()
            and self.peek().lstrip("\\") not in FUNCTIONS
            and self.peek() not in _TIMES | _OVER
            and self.peek() not in _OPENING
        ):
            node = self.joined(node)
        return node

    def subscripted(self, name: str) -> Node:
        if self.peek() != "_":
            return Symbol(name)
        self.place += 1
        start = self.place
        self.script()
        return Symbol(f"{name}_{''.join(self.tokens[start : self.place]).strip('{}')}")

    def argument(self, *, whole_number: bool = False) -> Node:
        """A TeX argument: a group, or one token (of a number its first digit: \\frac12)."""
        token = self.peek()
        if token == "{" or token in _OPENING or not token[:1].isdigit() or whole_number:
            return self.atom()
        self.tokens[self.place : self.place + 1] = [token[0], token[1:]] if len(token) > 1 else [token]
        return self.number(self.take())

    def script(self) -> Node:
        """What follows ^ or _: a group, or one atom (2^10 is a thousand and 24, as it is meant in plain text)."""
        if self.peek() in ("-", "+"):
            sign = self.take()
            return Call("neg", (self.atom(),)) if sign == "-" else self.atom()
        return self.atom()

    # --- tokens -------------------------------------------------------------------------------------------------------

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


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    for token in _TOKEN.findall(text):
        if _is_text(token):
            inner = _text_of(token).strip()
            if _CONNECTOR.fullmatch(inner):
                tokens.append("and")
            elif inner in ("e", "i", "d") or inner in FUNCTIONS or inner.isdigit():
                tokens.append(inner)
            elif inner.strip(",."):
                tokens.append(token)
        elif token.isalpha() and len(token) > 1:
            tokens += _letters(token)
        elif token != " ":
            tokens.append(token)
    return tokens


def _in_base(match: re.Match[str]) -> str:
    """52 (base 8) as 52_{8}."""
    base = _BASES.get(match[2].lower(), match[2])
    return f"{match[1]}_{{{base}}}"


def _letters(run: str) -> list[str]:
    """A run of letters: a connector, a function, a unit or a word as one token, else variables side by side."""
    lower = run.lower()
    if lower in ("and", "or"):
        return ["and"]
    if lower in ("pi", "sqrt", "infinity", "inf") or _ALIASES.get(lower, lower) in FUNCTIONS:
        return [lower]
    if len(run) > 3 or lower in SHORT_UNITS or lower in SHORT_WORDS:
        return [f"\\text{{{run}}}"]
    return list(run)


def _is_text(token: str) -> bool:
    return token.startswith("\\text{")


def _text_of(token: str) -> str:
    return token[token.index("{") + 1 : -1] if _is_text(token) else token
