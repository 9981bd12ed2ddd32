"""What stands between brackets in a final answer: a point, interval, set, condition, matrix, or one expression.

    bracket = ("(" | "[" | "\\{" | ...) [item {"," item}] (")" | "]" | "\\}" | ...) | "\\{" variable "|" listing "\\}"
    matrix  = "\\begin{...matrix}" item {"&" item} {"\\\\" ...} "\\end{...matrix}"

`expressions` comes here for every opening bracket, and has the grammar of what an item is made of.
"""

from __future__ import annotations

from grpo_aflow.tasks.latex.nodes import Group, Matrix, Node, NotRead, Operation, Relation, Symbol
from grpo_aflow.tasks.latex.tokens import OPENING, SEPARATORS, SETS, Cursor, set_operation

_TRANSPOSED = frozenset({"T", "\\top", "\\intercal", "\\text{T}"})
_GIVEN = frozenset({"|", "\\mid", "\\vert"})
_SUCH_THAT = frozenset({"|", "\\mid", "\\vert", ":", "\\colon"})


class EnclosedParser(Cursor):
    """The brackets of a recursive descent; `item` and `listing` are what may stand in them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0

    def listing(self) -> Node:
        """What may stand between braces."""
        raise NotImplementedError

    def item(self) -> Node:
        """What may stand between brackets and commas."""
        raise NotImplementedError

    def bracket(self, opening: str) -> Node:
        self.depth += 1
        if opening == "\\{" and (condition := self.condition()) is not None:
            self.depth -= 1
            return condition
        items = [self.item()] if self.peek() != OPENING[opening] else []
        has_choice = False
        separators = SEPARATORS | _GIVEN if opening == "(" else SEPARATORS  # P(A | B)
        while self.peek() in separators:
            has_choice |= set_operation(self.take()) == "cup"
            items.append(self.item())
        closing = self.expect(")", "]") if opening in "([" else self.expect(OPENING[opening])
        self.depth -= 1
        if opening in ("\\lfloor", "\\lceil"):
            if len(items) != 1:
                raise NotRead("no value is rounded")
            return Operation(opening[2:], tuple(items))
        if opening == "(" and closing == ")" and len(items) == 1:
            return items[0]
        if opening == "[" and closing == "]" and len(items) == 1:
            return items[0]
        if has_choice and (opening, closing) == ("(", ")"):
            return Group("", tuple(items), "")  # (2 or 3) is no point
        return Group(opening.strip("\\"), tuple(items), closing.strip("\\"))

    def condition(self) -> Node | None:
        """What stands behind the bar of {x | x > 2} or {x in R : x > 2}; None where these braces hold a list."""
        start, depth = self.place, self.depth
        is_variable = len(name := self.take()) == 1 and name.isalpha()
        if self.peek() == "\\in" and self.peek(1) == "\\R":
            self.place += 2
        if is_variable and self.take() in _SUCH_THAT:
            try:
                node = self.listing()
            except NotRead:
                node = Symbol(name)
            is_condition = isinstance(node, Relation) or (isinstance(node, Operation) and node.name in SETS.values())
            lists_some = isinstance(node, Group) and node.items and isinstance(node.items[0], Relation)
            if (is_condition or lists_some) and self.accept("\\}"):
                return node
        self.place, self.depth = start, depth
        return None

    def transposes(self) -> bool:
        """Takes the ^T, ^{T} or ^\\top behind a matrix or vector."""
        braced = self.peek(1) == "{" and self.peek(3) == "}"
        found = self.peek(1 + braced) in _TRANSPOSED
        self.place += (4 if braced else 2) if found else 0
        return found

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
