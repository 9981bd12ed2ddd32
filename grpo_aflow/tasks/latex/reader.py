"""A parser of final answers in LaTeX or plain notation: the whole text becomes a tree, or it is not read at all.

`equality` compares the trees. Nothing is skipped and nothing guessed: a parser that falls back to the first number
that it can find makes 4\\sqrt(2) equal to 4.

    answer   = item {("," | ";" | "and" | "or") item}
    item     = relation [words that name a unit] | words
    relation = side {("=" | "<" | "\\le" | "\\in" ...) side};  side = words | union {":" union} [unit]
    union    is an expression: see `expressions`

What Python and sympy print is read as well, by `python_values`: a list of two values looks like an interval.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce

from grpo_aflow.tasks.latex.brackets import without_asides
from grpo_aflow.tasks.latex.expressions import ExpressionParser
from grpo_aflow.tasks.latex.nodes import (
    REALS,
    Group,
    Node,
    NotRead,
    Number,
    Operation,
    Quantity,
    Relation,
    Words,
    words_of,
)
from grpo_aflow.tasks.latex.python_values import read_python
from grpo_aflow.tasks.latex.relations import names_of, unknowns_of
from grpo_aflow.tasks.latex.tokens import CLOSING, RELATIONS, SEPARATORS, is_text, set_operation, text_of
from grpo_aflow.tasks.latex.values import NoValue, is_within, value_of
from grpo_aflow.tasks.reading.notation import plain_latex
from grpo_aflow.tasks.reading.units import is_label, read_words

MAX_CHARS = 2_000  # a final answer longer than this is not read
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_IN_BASE = re.compile(r"(\d)\s?(?:\\text\{\s*)?\(?\s?(?:in )?base\s?-?(\d+|[a-z]+)\s?\)?\s?\}?", re.I)
_LEADING_MARKS = re.compile(r"\A(?:[ ,]|\.(?!\d))+")  # .25 begins with a point
_PLAIN_LABEL = re.compile(r"([A-Za-z(][A-Za-z,'()\s-]*?(?::|\)|\.(?=\s)|\s(?:is|are)(?=\s)))\s*(?=\S)")
_IN_UNITS = frozenset({"^", "/", "'", "''", '"', "2", "3", "{", "}", "(", ")", "."})
_DECIMAL = re.compile(r"[-+]?\d*(?:\.(\d+))?")
_REAL_NUMBERS = frozenset(
    words_of(f"{all_of} {name}")
    for all_of in ("", "all", "any", "every", "the set of", "the set of all")
    for name in ("real numbers", "real number", "reals", "real values")
)
_BASES = dict(
    zip(
        ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"],
        range(2, 13),
        strict=True,
    )
)


def read_latex(text: str) -> list[Node]:
    """The readings of a final answer, none where it cannot be parsed whole.

    There are two readings where a comma may separate thousands or list items ("1,234"), and where Python means
    something else by the same text ("[1, 2]").
    """
    from_python = read_python(text)
    return read_gold(text) + ([] if from_python is None else [from_python])


def read_gold(text: str) -> list[Node]:
    """The readings of a gold: as `read_latex`, but a gold is never what a program printed."""
    plain = _LEADING_MARKS.sub("", plain_latex(text)).rstrip(" .,") if len(text) <= MAX_CHARS else ""
    if plain.startswith("{\\text{") and plain.endswith("}}"):
        plain = plain[1:-1].strip()
    if not plain:
        return []
    plain = without_asides(_IN_BASE.sub(_in_base, plain))
    texts = [plain]
    if joined := _THOUSANDS.search(plain):
        together = _THOUSANDS.sub(lambda match: match.group().replace(",", ""), plain)
        texts = [together, plain] if joined.group() != plain or plain.count(",") == 1 else [together]
    readings = [node for candidate in texts if (node := _read(candidate)) is not None]
    label = _PLAIN_LABEL.match(plain)
    if label and is_label(label[1]) and all(isinstance(node, Words) for node in readings):
        value = _read(plain[label.end() :])
        readings += [] if value is None else [value]
    return readings


def _read(text: str) -> Node | None:
    try:
        return _Answer(text).answer()
    except (NotRead, RecursionError, ZeroDivisionError):
        return None


def _in_base(match: re.Match[str]) -> str:
    """52 (base 8) as 52_{8}."""
    base = _BASES.get(match[2].lower(), match[2])
    return f"{match[1]}_{{{base}}}"


class _Answer(ExpressionParser):
    """The grammar of this module over the tokens of one text."""

    def answer(self) -> Node:
        node = self.infix(self.listing())
        if self.place < len(self.tokens):
            raise NotRead(self.peek())
        return node

    def listing(self) -> Node:
        items, joints = [self.item()], []
        while self.peek() in SEPARATORS:
            joints.append("")
            while self.peek() in SEPARATORS:  # ", and"
                joints[-1] = set_operation(self.take())
            items.append(self.item())
        return items[0] if len(items) == 1 else _joined(items, joints)

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
        is_plain = all(is_text(token) or token.isalnum() or token in "()-'." for token in piece)
        if not any(map(is_text, piece)) or not is_plain or piece[0] == "-":
            raise NotRead(" ".join(piece))
        inner = " ".join(text_of(token) for token in piece)
        if len(piece) == 1 and "," in inner:
            return _Answer(inner).answer()
        text = words_of(inner)
        return REALS if text in _REAL_NUMBERS else Words(text)

    def quantity(self, node: Node, start: int) -> Node:
        """A value followed by words: its unit, a factor such as "million", or a reason not to read it."""
        first = self.place
        while not self.at_end_of_item():
            self.place += 1
        piece = self.tokens[first : self.place]
        if not all(is_text(token) or token in _IN_UNITS for token in piece):
            raise NotRead(" ".join(piece))
        if isinstance(node, Words):
            raise NotRead(" ".join(self.tokens[start : self.place]))
        return _with_words(node, piece)

    def at_end_of_item(self) -> bool:
        token = self.peek()
        return not token or token in SEPARATORS or token in CLOSING or token.startswith("\\end")

    def relation(self) -> Node:
        self.accept("=")  # "= 5", cut from an equation
        signs: list[str] = []
        sides: list[Node] = [] if self.peek() in RELATIONS else [self.side()]
        while self.peek() in RELATIONS:
            sign = RELATIONS[self.take()]
            start = self.place
            side = self.side(takes_unit=sign == "approx")
            if sign == "approx" and self.is_rounded(sides[-1:], side, self.tokens[start : self.place]):
                if isinstance(side, Quantity) and not isinstance(sides[-1], Quantity):
                    sides[-1] = Quantity(sides[-1], side.unit)
                continue  # 5\sqrt{2} \approx 7.07 is 5\sqrt{2}
            signs.append(sign)
            sides.append(side)
        if not signs or (signs == ["approx"] and len(sides) == 1):
            return sides[0]
        if signs[0] == "=" and len(sides) == len(signs):
            raise NotRead("an equation without its left side")
        return Relation(tuple(signs), tuple(sides))

    def is_rounded(self, before: Sequence[Node], side: Node, tokens: Sequence[str]) -> bool:
        """Whether what stands behind \\approx only repeats the exact value before it, to so many decimals.

        Alone, or behind a name, it is the answer, and must be a decimal: of "about 5" the exact value is not known.
        """
        number = itertools.takewhile(lambda token: not is_text(token), tokens)
        decimal = _DECIMAL.fullmatch("".join(number))
        is_name = not before or isinstance(before[0], Words) or bool(names_of(before[0]))
        if decimal is None or (is_name and not decimal[1]):
            raise NotRead("an approximation")
        if is_name:
            return False
        units = [node.unit for node in (before[0], side) if isinstance(node, Quantity)]
        try:
            exact, rounded = value_of(before[0], {}), value_of(side, {})
        except NoValue as error:
            raise NotRead("an approximation") from error
        is_near = is_within(exact, rounded, Fraction(1, 10 ** len(decimal[1] or "")))
        if not is_near or not all(units[0].agrees_with(unit) for unit in units):
            raise NotRead("another value")
        return True

    def side(self, *, takes_unit: bool = False) -> Node:
        """One side of a relation: Area = 5, or x = Friday, or 5 cm in a longer chain."""
        start = self.place
        if is_text(self.peek()):
            while is_text(self.peek()):
                self.place += 1
            return Words(words_of(" ".join(map(text_of, self.tokens[start : self.place]))))
        node = self.ratio()
        first = self.place
        if is_text(self.peek()):
            while is_text(self.peek()) or self.peek() in _IN_UNITS:
                self.place += 1
        if self.place > first and (takes_unit or self.peek() in RELATIONS):
            return _with_words(node, self.tokens[first : self.place])
        self.place = first
        return node

    def ratio(self) -> Node:
        sides = [self.union()]
        while self.peek() == ":":
            self.place += 1
            sides.append(self.union())
        return sides[0] if len(sides) == 1 else Group(":", tuple(sides), "")


def _joined(items: Sequence[Node], joints: Sequence[str]) -> Node:
    """A list; conditions on one variable with "or" (or "and") between them as the union (or intersection) they mean."""
    relations = [item for item in items if isinstance(item, Relation)]
    operations = set(joints[-1:]) | {joint for joint in joints if joint}
    if (
        len(relations) == len(items)
        and any(set(relation.signs) != {"="} for relation in relations)
        and len(set().union(*map(unknowns_of, relations))) == 1
        and len(operations) == 1
        and (operation := operations.pop())
    ):
        return reduce(lambda left, right: Operation(operation, (left, right)), items)
    return Group("", tuple(items), "")


def _with_words(node: Node, piece: Sequence[str]) -> Quantity:
    beside = read_words(" ".join(text_of(token) for token in piece))
    if beside is None:
        raise NotRead(" ".join(piece))
    if beside.factor != 1:
        node = Operation("*", (node, Number(Fraction(beside.factor))))
    return Quantity(node, beside.unit)
