"""How often a loop turns at most, as far as the source says it: the static bounds rest on this.

A bound may be too high, and even too low in contrived cases: the interpreter ends a loop at its bound either way.
"""

from __future__ import annotations

import ast
import math
from collections import Counter
from dataclasses import dataclass, field

from grpo_aflow.workflow.checking.counters import TEST, turns_counted
from grpo_aflow.workflow.checking.entry import Known, holds, literal_before
from grpo_aflow.workflow.checking.facts import Facts

MAX_FOLLOWED = 8  # names followed to their values


@dataclass(slots=True)
class Lengths:
    """Lengths of expressions at the point that the walk through the statements has reached."""

    facts: Facts
    parameters: frozenset[str]
    turns: int = 1  # how often the present point can be passed: the product of the loops around it
    bodies: list[list[ast.stmt]] = field(default_factory=list)  # of the loops around it, the innermost last
    appended: Counter[str] = field(default_factory=Counter)  # items that `name.append` can have added so far

    def literal(self, node: ast.expr) -> int | None:
        """The number of items, where the source alone says it."""
        match node:
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                return None if any(isinstance(item, ast.Starred) for item in items) else len(items)
            case ast.Constant(value=str() as text):
                return len(text)
            case ast.Call(func=ast.Name(id="range"), args=arguments, keywords=[]):
                limits = [self.facts.constant(argument) for argument in arguments]
                numbers = [limit for limit in limits if isinstance(limit, int)]
                if 0 < len(numbers) == len(limits) <= 3 and numbers[2:] != [0]:
                    span = range(*numbers)
                    return len(span) if abs(span.start) + abs(span.stop) < 2**60 else 2**31
            case ast.Call(func=ast.Name(id="enumerate" | "list" | "reversed" | "sorted"), args=[first, *_]):
                return self.literal(first)
            case ast.Name(id=name) if name not in self.facts.mutated:
                value = self._only_value(name)
                return self.literal(value) if isinstance(value, ast.Tuple | ast.List) else None
        return None

    def at_most(self, node: ast.expr, followed: int = 0) -> int | None:
        """The most items of what literal loops have filled: a list appended to, a comprehension, gathered results."""
        length = self.literal(node)
        if length is not None or followed > MAX_FOLLOWED:
            return length
        match node:
            case ast.Name(id=name):
                return self._of_name(name, followed + 1)
            case ast.ListComp(generators=generators) | ast.GeneratorExp(generators=generators):
                bounds = [self.at_most(generator.iter, followed + 1) for generator in generators]
                known = [bound for bound in bounds if bound is not None]
                return math.prod(known) if len(known) == len(bounds) else None
            case ast.Await(value=ast.Call(args=[ast.Starred(value=gathered)])):
                return self.at_most(gathered, followed + 1)
            case ast.Await(value=ast.Call(func=ast.Attribute(attr="gather"), args=arguments)):
                return None if any(isinstance(argument, ast.Starred) for argument in arguments) else len(arguments)
            case ast.Call(
                func=ast.Name(id="enumerate" | "list" | "reversed" | "sorted" | "set" | "zip"), args=[first, *_]
            ):
                return self.at_most(first, followed + 1)
        return None

    def counted(self, node: ast.While) -> int | None:
        """The most turns of a `while` that a counter ends."""
        return min(turns_counted(self.facts, node, entered_once=self.turns == 1).values(), default=None)

    def surely_counted(self, node: ast.While) -> bool:
        """Whether a `while` that nothing leaves makes the turns of its counter each time that it is reached."""
        turns = turns_counted(self.facts, node, entered_once=self.turns == 1).get(TEST, 0)
        match node.test:
            case ast.Compare(left=ast.Name(id=counter)) if turns > 0:  # with `and …` it may not even begin
                return self.turns == 1 or self._set_in_each_turn(counter, before=node)
        return False

    def surely_begins(self, node: ast.While) -> bool:
        """Whether a `while` makes its first turn each time that it is reached, as literals above it say."""
        return holds(node.test, lambda value: self._known_at(node, value)) is True

    def _known_at(self, node: ast.While, value: ast.expr) -> Known | None:
        constant = self.facts.constant(value)
        if constant is not None or isinstance(value, ast.Constant):
            return Known(constant)
        if not isinstance(value, ast.Name) or value.id in self.parameters:
            return None
        again = self.turns == 1 or self._set_in_each_turn(value.id, before=node)
        return literal_before(self.facts, value.id, node) if again else None

    def _set_in_each_turn(self, name: str, *, before: ast.stmt) -> bool:
        """Whether every turn of the innermost loop around a statement sets the name to a literal before it."""
        for statement in self.bodies[-1] if self.bodies else []:
            if any(inner is before for inner in ast.walk(statement)):
                return False
            match statement:
                case ast.Assign(targets=[ast.Name(id=target)], value=ast.Constant()) if target == name:
                    return True
        return False

    def _of_name(self, name: str, followed: int) -> int | None:
        value = self._only_value(name)
        methods: set[str] = self.facts.mutated.get(name, set())
        if value is None or methods - {"append"} or (methods and self.turns != 1):
            return None  # within a loop, a list can still grow between two passes
        begun = self.literal(value) if methods else self.at_most(value, followed)
        return None if begun is None else begun + self.appended[name]

    def _only_value(self, name: str) -> ast.expr | None:
        values = self.facts.values.get(name, [])
        return values[0] if len(values) == 1 and name not in self.parameters else None
