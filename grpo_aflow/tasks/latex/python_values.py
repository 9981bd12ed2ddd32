"""What Python and sympy print as an answer: Matrix([[1, 2], [3, 4]]), FiniteSet(2, 3), 1 + 2*I, [1, 2], {x: 6}.

The text is parsed and never run. What is no such value, down to the last name in it, is not read. A list is the list of
the answers here, not the interval that the same text is in LaTeX; `reader` offers both.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import reduce

from grpo_aflow.syntax import parse_expression
from grpo_aflow.tasks.latex.nodes import (
    INFINITY,
    REALS,
    Group,
    Matrix,
    Node,
    NotRead,
    Number,
    Operation,
    Relation,
    Symbol,
)
from grpo_aflow.tasks.latex.real_sets import is_set
from grpo_aflow.tasks.latex.relations import by_name
from grpo_aflow.tasks.latex.tokens import ALIASES, FUNCTIONS

_MAX_CHARS = 1_000
_MAX_DEPTH = 40
_NUMBER = re.compile(r"(?=.?\d)\d{0,400}(?:\.\d{0,400})?(?:[eE][+-]?\d{1,3})?j?")  # no more: 1e999999 is a long number
# Without one of these LaTeX says the same, or Python says nothing.
_MARKS = re.compile(r"[\[{]|\b[A-Z]\w*[.(]|\b(?:I|oo|array|set|frozenset)\b|\dj\b|[&|]")
_NAMES: Mapping[str, Node] = {
    "oo": INFINITY,
    "inf": INFINITY,
    "pi": Symbol("pi"),
    "I": Symbol("i"),
    "E": Symbol("e"),
    "EmptySet": Group("{", (), "}"),
    "Reals": REALS,
}
_BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "^", ast.BitAnd: "cap", ast.BitOr: "cup"}
_COMPARED = {ast.Eq: "=", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_RELATIONAL = {"Eq": "=", "Ne": "!=", "Lt": "<", "Le": "<=", "Gt": ">", "Ge": ">="}


def read_python(text: str) -> Node | None:
    """The value that Python or sympy has printed; None where the text is none, or says nothing that LaTeX does not."""
    text = text.strip()
    if len(text) > _MAX_CHARS or "\\" in text or not _MARKS.search(text) or text in ("E", "pi"):
        return None
    try:
        node = _Reader(text).read(parse_expression(text))
    except (SyntaxError, ValueError, TypeError, NotRead, ArithmeticError, RecursionError, MemoryError):
        return None
    return node.items[0] if isinstance(node, Group) and node.opening == "{" and len(node.items) == 1 else node


class _Reader:
    """One walk over the tree of one text; numbers are read from the text, since a float has lost digits."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.depth = 0

    def read(self, node: ast.expr) -> Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise NotRead("nested too deeply")
        value = self._read(node)
        self.depth -= 1
        return value

    def all(self, nodes: Sequence[ast.expr]) -> tuple[Node, ...]:
        return tuple(map(self.read, nodes))

    def _read(self, node: ast.expr) -> Node:
        if isinstance(node, ast.Constant):
            return self.number(node)
        if isinstance(node, ast.Name):
            return _named(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
            inner = self.read(node.operand)
            return Operation("neg", (inner,)) if isinstance(node.op, ast.USub) else inner
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return _operation(_BINARY[type(node.op)], self.read(node.left), self.read(node.right))
        if isinstance(node, ast.Compare) and all(type(sign) in _COMPARED for sign in node.ops):
            return Relation(tuple(_COMPARED[type(sign)] for sign in node.ops), self.all([node.left, *node.comparators]))
        if isinstance(node, ast.List | ast.Set):
            return self.listed(node.elts)
        if isinstance(node, ast.Tuple):
            return _point(self.all(node.elts))
        if isinstance(node, ast.Dict):
            return self.assignments(node)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "S":
            return _named(node.attr)
        if isinstance(node, ast.Call) and not any(isinstance(argument, ast.Starred) for argument in node.args):
            return self.call(node)
        raise NotRead(type(node).__name__)

    def number(self, node: ast.Constant) -> Node:
        written = ast.get_source_segment(self.text, node) or ""
        if not _NUMBER.fullmatch(written):
            raise NotRead("no number")
        number = Number(Fraction(written.removesuffix("j")))
        return Operation("*", (number, Symbol("i"))) if isinstance(node.value, complex) else number

    def listed(self, elements: Sequence[ast.expr]) -> Node:
        """A list of answers, which have no order; a list of lists is a matrix, and one value in brackets that value."""
        if elements and all(isinstance(element, ast.List) for element in elements):
            return self.matrix(elements)
        items = self.all(elements)
        return items[0] if len(items) == 1 else Group("{", items, "}")

    def matrix(self, elements: Sequence[ast.expr]) -> Node:
        """Rows, or the numbers of a column."""
        rows = [
            self.all(element.elts) if isinstance(element, ast.List) else (self.read(element),) for element in elements
        ]
        if not rows or not rows[0] or len({len(row) for row in rows}) != 1:
            raise NotRead("rows of different lengths")
        return Matrix(tuple(rows))

    def assignments(self, node: ast.Dict) -> Node:
        """{x: 6} as x = 6, several as a point."""
        names = self.all([key for key in node.keys if isinstance(key, ast.Name)])
        if not names or len(names) != len(node.keys):
            raise NotRead("no solutions")
        relations = [Relation(("=",), pair) for pair in zip(names, self.all(node.values), strict=True)]
        values = tuple(item.sides[1] for item in by_name(relations) if isinstance(item, Relation))
        return relations[0] if len(relations) == 1 else Group("(", values, ")")

    def call(self, node: ast.Call) -> Node:
        name = ast.unparse(node.func).removeprefix("sympy.").removeprefix("sp.").removeprefix("np.")
        arguments = node.args
        if (
            name in ("Matrix", "ImmutableMatrix", "array")
            and len(arguments) == 1
            and isinstance(arguments[0], ast.List)
        ):
            return self.matrix(arguments[0].elts)
        if name in ("set", "frozenset") and len(arguments) == 1 and isinstance(arguments[0], ast.List | ast.Set):
            return self.listed(arguments[0].elts)
        if name in ("Symbol", "Decimal") and len(arguments) == 1 and isinstance(arguments[0], ast.Constant):
            return self.of_text(name, arguments[0])
        if name == "Interval" and len(arguments) in (3, 4):
            return self.interval(arguments)
        if node.keywords or name not in _CALLS:
            raise NotRead(name)
        return _CALLS[name](*self.all(arguments))

    def of_text(self, name: str, argument: ast.Constant) -> Node:
        text = argument.value if isinstance(argument.value, str) else ""
        if name == "Symbol":
            return _named(text)
        if not _NUMBER.fullmatch(text):
            raise NotRead("no number")
        return Number(Fraction(text))

    def interval(self, arguments: Sequence[ast.expr]) -> Node:
        """Interval(1, 2, True, False): whether it is open on the left, on the right."""
        low, high = self.all(arguments[:2])
        is_open = [isinstance(flag, ast.Constant) and flag.value is True for flag in arguments[2:]] + [False]
        return _interval(is_open[0], is_open[1])(low, high)


def _named(name: str) -> Node:
    if name in _NAMES:
        return _NAMES[name]
    if len(name) == 1 and name.isalpha():
        return Symbol(name)
    raise NotRead(name)


def _operation(name: str, left: Node, right: Node) -> Node:
    if name == "-":
        name, right = "+", Operation("neg", (right,))
    if name in ("cap", "cup") and not all(isinstance(side, Group) or is_set(side) for side in (left, right)):
        raise NotRead("bits of numbers")
    return Operation(name, (left, right))


def _point(items: tuple[Node, ...]) -> Node:
    return items[0] if len(items) == 1 else Group("(", items, ")")


def _interval(left_open: bool, right_open: bool) -> Callable[[Node, Node], Node]:
    def between(low: Node, high: Node) -> Node:
        """Python prints an interval to infinity as a closed one."""
        is_unbounded = (low == Operation("neg", (INFINITY,)), high == INFINITY)
        opening = "(" if left_open or is_unbounded[0] else "["
        return Group(opening, (low, high), ")" if right_open or is_unbounded[1] else "]")

    return between


def _folded(name: str) -> Callable[..., Node]:
    return lambda *items: reduce(lambda left, right: Operation(name, (left, right)), items)


def _fraction(above: Node, below: Node) -> Node:
    return Operation("/", (above, below))


def _function(name: str) -> Callable[..., Node]:
    return lambda first, *others: Operation(name, (first, *others))


_CALLS: Mapping[str, Callable[..., Node]] = {
    **{name: _function(ALIASES.get(name, name)) for name in (FUNCTIONS | set(ALIASES)) - {"log", "lg", "max", "min"}},
    **{name: (lambda left, right, sign=sign: Relation((sign,), (left, right))) for name, sign in _RELATIONAL.items()},
    "sqrt": lambda value: Operation("root", (value, Number(Fraction(2)))),
    "cbrt": lambda value: Operation("root", (value, Number(Fraction(3)))),
    "Abs": lambda value: Operation("abs", (value,)),
    "abs": lambda value: Operation("abs", (value,)),
    "factorial": lambda value: Operation("factorial", (value,)),
    "binomial": lambda above, below: Operation("binomial", (above, below)),
    "Integer": lambda value: value,
    "Rational": _fraction,
    "Fraction": _fraction,
    "Tuple": lambda *items: _point(items),
    "Point": lambda *items: _point(items),
    "Point2D": lambda *items: _point(items),
    "FiniteSet": lambda *items: Group("{", items, "}"),
    "Interval": _interval(False, False),
    "Interval.open": _interval(True, True),
    "Interval.Lopen": _interval(True, False),
    "Interval.Ropen": _interval(False, True),
    "Union": _folded("cup"),
    "Intersection": _folded("cap"),
    "And": _folded("cap"),
    "Or": _folded("cup"),
    "Complement": lambda whole, part: Operation("setminus", (whole, part)),
}
