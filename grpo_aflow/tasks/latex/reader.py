"""A parser of final answers in LaTeX or plain notation: the whole text becomes a tree, or it is not read at all.

`equality` compares the trees. Nothing is skipped and nothing guessed: a parser that falls back to the first number
that it can find makes 4\\sqrt(2) equal to 4.

    answer   = item {("," | ";" | "and" | "or") item}
    item     = relation [words that name a unit] | words
    relation = side {("=" | "<" | "\\le" | "\\in" ...) side};  side = words | union {":" union}
    union    is an expression: see `expressions`
"""

from __future__ import annotations

import re
from fractions import Fraction

from grpo_aflow.tasks.latex.expressions import ExpressionParser
from grpo_aflow.tasks.latex.nodes import Group, Node, NotRead, Number, Operation, Quantity, Relation, Words, words_of
from grpo_aflow.tasks.latex.tokens import CLOSING, RELATIONS, SEPARATORS, is_text, text_of
from grpo_aflow.tasks.reading.notation import plain_latex
from grpo_aflow.tasks.reading.units import read_words

MAX_CHARS = 2_000  # a final answer longer than this is not read
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_IN_BASE = re.compile(r"(\d)\s?(?:\\text\{\s*)?\(?\s?(?:in )?base\s?-?(\d+|[a-z]+)\s?\)?\s?\}?", re.I)
_BASES = dict(
    zip(
        ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"],
        range(2, 13),
        strict=True,
    )
)


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
            readings.append(_Answer(candidate).answer())
        except (NotRead, RecursionError, ZeroDivisionError):
            continue
    return readings


def _in_base(match: re.Match[str]) -> str:
    """52 (base 8) as 52_{8}."""
    base = _BASES.get(match[2].lower(), match[2])
    return f"{match[1]}_{{{base}}}"


class _Answer(ExpressionParser):
    """The grammar of this module over the tokens of one text."""

    def answer(self) -> Node:
        node = self.listing()
        if self.place < len(self.tokens):
            raise NotRead(self.peek())
        return node

    def listing(self) -> Node:
        items = [self.item()]
        while self.peek() in SEPARATORS:
            while self.peek() in SEPARATORS:  # ", and"
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
        is_plain = all(is_text(token) or token.isalnum() or token in "()-'." for token in piece)
        if not any(map(is_text, piece)) or not is_plain or piece[0] == "-":
            raise NotRead(" ".join(piece))
        inner = " ".join(text_of(token) for token in piece)
        if len(piece) == 1 and "," in inner:
            return _Answer(inner).answer()
        return Words(words_of(inner))

    def quantity(self, node: Node, start: int) -> Node:
        """A value followed by words: its unit, a factor such as "million", or a reason not to read it."""
        first = self.place
        while not self.at_end_of_item():
            self.place += 1
        piece = self.tokens[first : self.place]
        if not all(
            is_text(token) or token in ("^", "/", "'", "''", '"', "2", "3", "{", "}", "(", ")", ".") for token in piece
        ):
            raise NotRead(" ".join(piece))
        beside = read_words(" ".join(text_of(token) for token in piece))
        if beside is None or isinstance(node, Words):
            raise NotRead(" ".join(self.tokens[start : self.place]))
        if beside.factor != 1:
            node = Operation("*", (node, Number(Fraction(beside.factor))))
        return Quantity(node, beside.unit)

    def at_end_of_item(self) -> bool:
        token = self.peek()
        return not token or token in SEPARATORS or token in CLOSING or token.startswith("\\end")

    def relation(self) -> Node:
        signs: list[str] = []
        sides = [self.side()] if self.peek() not in RELATIONS else []
        while self.peek() in RELATIONS:
            signs.append(RELATIONS[self.take()])
            sides.append(self.side())
        if not signs:
            return sides[0]
        if len(sides) == 1 and signs == ["approx"]:
            return sides[0]
        return Relation(tuple(signs), tuple(sides))

    def side(self) -> Node:
        """One side of a relation: Area = 5, or x = Friday."""
        if not is_text(self.peek()):
            return self.ratio()
        start = self.place
        while is_text(self.peek()):
            self.place += 1
        return Words(words_of(" ".join(map(text_of, self.tokens[start : self.place]))))

    def ratio(self) -> Node:
        sides = [self.union()]
        while self.peek() == ":":
            self.place += 1
            sides.append(self.union())
        return sides[0] if len(sides) == 1 else Group(":", tuple(sides), "")
