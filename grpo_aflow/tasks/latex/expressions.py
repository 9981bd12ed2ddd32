"""The grammar of expressions in a final answer: sums, products, powers, fractions, functions.

    union   = sum {("\\\\cup" | "\\\\cap" | "\\\\setminus") sum};  sum = product {("+" | "-" | "\\\\pm") product}
    product = factor {["\\\\cdot" | "/" ...] factor};  factor = ["-"] atom {"!" | "^" factor | "%" | "\\\\circ"}

`enclosed` reads what stands between brackets, and matrices; `reader` adds what stands around expressions: relations,
words, units and lists.
"""

from __future__ import annotations

import re
from fractions import Fraction

from grpo_aflow.tasks.latex.enclosed import EnclosedParser
from grpo_aflow.tasks.latex.nodes import REALS, Based, Group, Matrix, Node, NotRead, Number, Operation, Quantity, Symbol
from grpo_aflow.tasks.latex.tokens import (
    ALIASES,
    CLOSING,
    CONSTANTS,
    FUNCTIONS,
    INFIX,
    NORMS,
    OPENING,
    RELATIONS,
    SEPARATORS,
    SETS,
    is_text,
)
from grpo_aflow.tasks.latex.vectors import negated, times, transposed
from grpo_aflow.tasks.reading.units import Unit

_MAX_DEPTH = 40
_MAX_CHAIN = 120  # operations side by side, which make the tree as deep
_GREEK = re.compile(
    r"\\(?:var)?(?:alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|upsilon|phi|"
    r"chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Sigma|Phi|Psi|Omega|ell)"
)
_NAMING = frozenset(
    {"angle", "measuredangle", "triangle", "overline", "overrightarrow", "widehat", "vec", "hat", "bar"}
)
_OF_ANGLES = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})
_TIMES = frozenset({"\\cdot", "\\times", "*", "\\ast"})
_OVER = frozenset({"/", "\\div"})


def _in_radians(angle: Node) -> Node:
    """The argument of a sine: 30^\\circ is \\pi/6 there, and 30 is 30."""
    if not isinstance(angle, Quantity) or angle.unit.known != ("deg",):
        return angle
    return Operation("*", (angle.value, Operation("/", (Symbol("pi"), Number(Fraction(180))))))


class ExpressionParser(EnclosedParser):
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.num_operations = 0

    def union(self) -> Node:
        node = self.sum()
        while self.peek() in SETS:
            node = Operation(SETS[self.take()], (node, self.sum()))
        return node

    def sum(self) -> Node:
        node = Operation("pm", (Number(Fraction(0)), self.product())) if self.accept("\\pm") else self.product()
        while self.peek() in ("+", "-", "\\pm", "\\mp"):
            sign = self.take()
            right = self.product()
            if sign == "-":
                right = Operation("neg", (right,))
            node = Operation({"\\pm": "pm", "\\mp": "mp"}.get(sign, "+"), (node, right))
        return node

    def product(self) -> Node:
        node = self.factor()
        while True:
            token = self.peek()
            if token in _TIMES or token in _OVER:
                self.place += 1
                right = self.factor()
                node = times(node, right) if token in _TIMES else Operation("/", (node, right))
            elif self.starts_atom():
                node = self.joined(node)
            else:
                return node

    def joined(self, left: Node) -> Node:
        """Two factors side by side: a product, or a mixed number such as 4 1/2 and 11\\frac12."""
        is_integer = isinstance(left, Number) and left.value.denominator == 1 and self.tokens[self.place - 1].isdigit()
        if is_integer and self.peek() == "\\frac":
            part = self.factor()
            if isinstance(part, Operation) and all(isinstance(side, Number) for side in part.arguments):
                return Operation("+", (left, part))
            return Operation("*", (left, part))
        if is_integer and self.peek().isdigit() and self.peek(1) == "/" and self.peek(2).isdigit():
            above, below = Fraction(self.take()), Fraction(self.tokens[self.place + 1])
            self.place += 2
            assert isinstance(left, Number)
            return Number(left.value + above / below)
        if self.peek()[0].isdigit() or self.peek()[0] == ".":
            raise NotRead("two numbers side by side")
        return times(left, self.factor())

    def starts_atom(self) -> bool:
        token = self.peek()
        if not token or is_text(token) or token.startswith("\\end"):
            return False
        if token in SEPARATORS or token in RELATIONS or token in CLOSING or token in SETS:
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
            node = inner if sign == "+" else negated(inner)
        else:
            node = self.powered(self.atom())
        self.depth -= 1
        return node

    def powered(self, node: Node) -> Node:
        while True:
            if self.accept("!"):
                node = Operation("factorial", (node,))
            elif self.peek() == "^" and isinstance(node, Group | Matrix) and self.transposes():
                node = transposed(node)
            elif self.peek() in ("^", "**"):
                self.place += 1
                node = Operation("^", (node, self.script()))
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
        if token in OPENING:
            return self.bracket(token)
        if token == "{":
            node = self.infix(self.listing())
            self.expect("}")
            return node
        if token in NORMS:
            node = self.union()
            self.expect(NORMS[token])
            return Operation("abs", (node,))
        if token.startswith("\\begin"):
            return self.matrix()
        if token in CONSTANTS:
            return Symbol(CONSTANTS[token])
        if token == "\\R":
            return REALS
        if token in ("\\emptyset", "\\varnothing"):
            return Group("{", (), "}")
        if _GREEK.fullmatch(token):
            return self.subscripted(token.lstrip("\\"))
        return self.named(token)

    def infix(self, above: Node) -> Node:
        """What TeX's {1 \\over 2} and {n \\choose k} make of what stands before the command."""
        return Operation(INFIX[self.take()], (above, self.listing())) if self.peek() in INFIX else above

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

    def named(self, token: str) -> Node:
        name = token.lstrip("\\").removeprefix("operatorname").strip("*{} ") if token[0] == "\\" else token
        name = ALIASES.get(name, name)
        if name == "frac":
            above, below = self.argument(), self.argument()
            return Operation("/", (above, below))
        if name == "sqrt":
            return self.root()
        if name in ("binom", "dbinom", "tbinom"):
            return Operation("binomial", (self.argument(), self.argument()))
        if name in FUNCTIONS:
            return self.function(name)
        if name in _NAMING:
            return self.figure(name)
        if token[0] == "\\":
            raise NotRead(token)
        if len(token) == 1 and token.isalpha():
            return self.subscripted(token)
        raise NotRead(token)

    def figure(self, name: str) -> Node:
        """\\angle ABC, \\overline{AB}, \\vec{v}: a name of several letters."""
        is_braced = self.accept("{")
        start = self.place
        while len(self.peek()) == 1 and self.peek().isalpha():
            self.place += 1
        letters = "".join(self.tokens[start : self.place])
        if is_braced:
            self.expect("}")
        if not letters:
            raise NotRead(name)
        return Symbol(f"{name} {letters}")

    def root(self) -> Node:
        degree: Node = Number(Fraction(2))
        if self.accept("["):
            self.depth += 1
            degree = self.sum()
            self.depth -= 1
            self.expect("]")
        return Operation("root", (self.argument(whole_number=True), degree))

    def function(self, name: str) -> Node:
        base: tuple[Node, ...] = ()
        power: Node | None = None
        while self.peek() in ("_", "^"):
            if self.take() == "_":
                base = (self.script(),)
            else:
                power = self.script()
        if self.peek() in OPENING:
            argument = self.atom()
            arguments = argument.items if isinstance(argument, Group) and argument.opening == "(" else (argument,)
        else:
            arguments = (self.simple_product(),)
        if name in _OF_ANGLES:
            arguments = tuple(map(_in_radians, arguments))
        node: Node = Operation(name, (*arguments, *base))
        if (
            isinstance(power, Operation)
            and power == Operation("neg", (Number(Fraction(1)),))
            and not name.startswith("arc")
        ):
            return Operation(f"arc{name}", arguments)
        return node if power is None else Operation("^", (node, power))

    def simple_product(self) -> Node:
        """The argument of a function without brackets: sin 2x, but not the second factor of sin x cos x."""
        node = self.factor()
        while (
            self.starts_atom()
            and self.peek().lstrip("\\") not in FUNCTIONS
            and self.peek() not in _TIMES | _OVER
            and self.peek() not in OPENING
        ):
            node = self.joined(node)
        return node

    def subscripted(self, name: str) -> Node:
        if self.peek() != "_":
            return Symbol(name)
        self.place += 1
        start = self.place
        is_word = is_text(self.peek(1)) or self.peek(1) in FUNCTIONS
        if is_word and self.peek() == "{" and self.peek(2) == "}":  # n_{\\text{new}}
            self.place += 3
        else:
            self.script()
        return Symbol(f"{name}_{''.join(self.tokens[start : self.place]).strip('{}')}")

    def argument(self, *, whole_number: bool = False) -> Node:
        """A TeX argument: a group, or one token (of a number its first digit: \\frac12)."""
        token = self.peek()
        if token == "{" or token in OPENING or not token[:1].isdigit() or whole_number:
            return self.atom()
        self.tokens[self.place : self.place + 1] = [token[0], token[1:]] if len(token) > 1 else [token]
        return self.number(self.take())

    def script(self) -> Node:
        """What follows ^ or _: a group, or one atom (2^10 is a thousand and 24, as it is meant in plain text)."""
        if self.peek() in ("-", "+"):
            sign = self.take()
            return Operation("neg", (self.atom(),)) if sign == "-" else self.atom()
        return self.atom()
