"""The validator's view of one expression: names, awaits, arguments, result keys, and how many calls it can make.

`visit` checks an expression and returns the most calls that evaluating it once can make. `flow` walks the statements
around it and keeps `assigned` up to date.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from grpo_aflow.types import Domain
from grpo_aflow.workflow.checking import calls
from grpo_aflow.workflow.checking.facts import Facts
from grpo_aflow.workflow.checking.lengths import Lengths
from grpo_aflow.workflow.checking.reader import Reading, nearest, replace
from grpo_aflow.workflow.language import BINARY_OPERATORS, BUILTINS, FORMAT_SPEC, USAGE_KEYS, Repair
from grpo_aflow.workflow.program import FREE, Cost, Position
from grpo_aflow.workflow.rules import WorkflowRules


@dataclass(slots=True)
class Expressions:
    """Checks expressions against the language, the slots and what is assigned so far."""

    reading: Reading
    facts: Facts
    rules: WorkflowRules
    domain: Domain | None
    lengths: Lengths
    parameters: frozenset[str] = frozenset()
    assigned: set[str] | None = field(default_factory=set)  # None: this point cannot be reached
    inner: list[set[str]] = field(default_factory=list)  # variables of comprehensions around
    deferring: bool = False  # an operator call need not be awaited here
    writes: dict[str, int] = field(default_factory=dict)  # name -> how often it has been changed so far
    loop_bounds: dict[Position, int] = field(default_factory=dict)
    called: list[tuple[Position, str]] = field(default_factory=list)
    attributes: set[str] = field(default_factory=set)  # self.x assigned in __call__, too
    module_level: bool = False
    reported: set[str] = field(default_factory=set)

    def visit(self, node: ast.expr) -> Cost:
        check = _CHECKS.get(type(node))
        if check is None:
            self.reading.refuse(node)
            return FREE
        return check(self, node)

    def visit_all(self, nodes: list[ast.expr]) -> Cost:
        cost = FREE
        for node in nodes:
            cost = cost.plus(self.visit(node))
        return cost

    def plainly(self, node: ast.expr) -> Cost:
        """Visit where a call that is not awaited would be a mistake."""
        before, self.deferring = self.deferring, False
        cost = self.visit(node)
        self.deferring = before
        return cost

    def wrote(self, name: str) -> None:
        self.writes[name] = self.writes.get(name, 0) + 1

    # --- names and attributes -----------------------------------------------------------------------------------------

    def name(self, node: ast.Name) -> Cost:
        name = node.id
        if any(name in scope for scope in self.inner) or (
            name in self.reading.constant_names and (name not in self.facts.assigned)
        ):
            return FREE
        if name in self.parameters or name in self.facts.assigned:
            if self.assigned is not None and name not in self.assigned and not self.module_level:
                self.reading.report(node, "E302", f"{name} is used before it is assigned; assign it above")
                self.assigned.add(name)  # once is enough
            return FREE
        if name in self.reading.imported or name in self.reading.operator_modules | self.reading.asyncio_names:
            self.reading.report(node, "E503", f"{name} is imported, but the language does not have it; leave it out")
        elif name == "self":
            self.reading.report(node, "E504", "self is no value; use self.<slot>(...)")
        elif name in BUILTINS:
            self.reading.report(node, "E503", f"{name} is a function here, not a value; call it")
        elif name not in self.reported:
            self.reported.add(name)
            self.reading.report(node, "E201", f"{name} is not defined")
        return FREE

    def attribute(self, node: ast.Attribute) -> Cost:
        base = node.value
        if isinstance(base, ast.Name) and base.id in ("self", "Workflow") and base.id not in self.facts.assigned:
            self.self_attribute(node)
            return FREE
        if isinstance(base, ast.Name) and base.id in self.reading.prompt_modules:
            if node.attr not in self.reading.constant_names:
                self.reading.report(node, "E201", f"{base.id}.{node.attr} is not defined; write it above the class")
            return FREE
        if self.is_llm(base):
            if node.attr == "cost_manager":
                return FREE
            self.reading.report(node, "E504", f"the language model has no {node.attr}; call an operator instead")
            return FREE
        if node.attr == "total_cost" and isinstance(base, ast.Attribute) and base.attr == "cost_manager":
            return self.visit(base)
        self.reading.report(node, "E504", f"the language does not have the attribute .{node.attr}; leave it out")
        return FREE

    def self_attribute(self, node: ast.Attribute) -> None:
        reading, name = self.reading, node.attr
        if name in reading.data_names or name in reading.class_constants or name in self.attributes:
            return
        if name in reading.slots:
            reading.report(node, "E203", f"self.{name} is an operator; call it: await self.{name}(...)")
        elif name in reading.llm_names:
            reading.report(node, "E504", f"self.{name} is no value; use self.{name}.get_usage_summary() or an operator")
        elif name.startswith("__"):
            reading.report(node, "E504", f"the language does not have the attribute .{name}; leave it out")
        else:
            near = nearest(name, {*reading.data_names, *reading.class_constants, *self.attributes})
            reading.report(
                node, "E202", f"self.{name} is not set in __init__" + (f"; did you mean self.{near}?" if near else "")
            )

    def is_llm(self, node: ast.expr) -> bool:
        """Whether the node is the language model; a misspelt name is reported and counts."""
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                if name in self.reading.llm_names:
                    return True
                known = self.reading.slots.keys() | self.reading.data_names | self.attributes
                near = None if name in known else nearest(name, self.reading.llm_names)
                if near:
                    edit = replace(node, name, near)
                    repair = Repair(name="misspelt_llm", edits=(edit,))
                    self.reading.report(
                        node, "E208", f"self.{name} is not the language model; write self.{near}", repair
                    )
                return near is not None
        return False

    # --- the rest -----------------------------------------------------------------------------------------------------

    def subscript(self, node: ast.Subscript) -> Cost:
        cost = self.plainly(node.value)
        index = node.slice
        if isinstance(index, ast.Slice):
            return cost.plus(self.visit_all([part for part in (index.lower, index.upper, index.step) if part]))
        keys = self._keys(node.value)
        if keys is not None and isinstance(index, ast.Constant):
            if index.value not in keys:
                self.reading.report(
                    node, "E206", f"there is no key {index.value!r} here; keys are {', '.join(sorted(keys))}"
                )
            return cost
        return cost.plus(self.plainly(index))

    def _keys(self, node: ast.expr) -> frozenset[str] | None:
        """The keys of the dict that the expression gives, if it is an operator's result or the usage summary."""
        if isinstance(node, ast.Name):
            if any(node.id in scope for scope in self.inner) or node.id in self.parameters:
                return None
            values = [] if node.id in self.facts.mutated else self.facts.values.get(node.id, [])
            found = [None if value is None or isinstance(value, ast.Name) else self._keys(value) for value in values]
            known = [keys for keys in found if keys is not None]
            return frozenset().union(*known) if known and len(known) == len(found) else None
        match node:
            case ast.Await(value=ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name))):
                spec = self.reading.slots.get(name) or self.reading.operators.specs.get(name)
                return frozenset(spec.results) if spec and f"self.{name}" not in self.reading.imported else None
            case ast.Call(func=ast.Attribute(attr="get_usage_summary")):
                return USAGE_KEYS
        return None

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Cost:
        turns_around = self.lengths.turns
        before = FREE  # the first iterable is evaluated once, each further one per turn of those before it
        turns: list[tuple[ast.comprehension, int]] = []
        self.inner.append(set())
        opened = len(self.called)
        cost, surely = FREE, True
        for generator in node.generators:
            if generator.is_async:
                self.reading.report(
                    node, "E502", "the language does not have `async for`: use `for` with `await` inside"
                )
            bound, once = self.iterable(generator.iter)
            before = before.plus(once.times(_product(turns)) if not turns else once.times(_product(turns)).at_least(0))
            surely = surely and not generator.ifs and self.lengths.literal(generator.iter) is not None
            turns.append((generator, bound))
            self.lengths.turns *= bound
            self._bind(generator.target)
            for condition in generator.ifs:
                cost = cost.plus(self.plainly(condition))
        if isinstance(node, ast.DictComp):
            cost = cost.plus(self.plainly(node.key)).plus(self.plainly(node.value))
        else:
            cost = cost.plus(self.visit(node.elt))
        self.inner.pop()
        self.lengths.turns = turns_around
        if len(self.called) > opened:
            for generator, bound in turns:
                self.loop_bounds[generator.iter.lineno, generator.iter.col_offset] = bound
        total = cost.times(_product(turns))
        return before.plus(total if surely else total.at_least(0))

    def _bind(self, target: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.inner[-1].add(target.id)
        elif isinstance(target, ast.Tuple | ast.List):
            for item in target.elts:
                self._bind(item)
        else:
            self.reading.report(target, "E502", "a loop runs over names; write `for x in …`")

    def iterable(self, node: ast.expr) -> tuple[int, Cost]:
        """What a loop runs over: the most turns, and the calls that evaluating it makes."""
        cost = self.plainly(node)
        length = self.lengths.literal(node)
        if length is not None:
            return length, cost
        most, limit = self.lengths.at_most(node), self.rules.max_loop_iterations
        return (limit if most is None else min(most, limit)), cost

    def formatted(self, node: ast.FormattedValue) -> Cost:
        spec = node.format_spec
        if isinstance(spec, ast.JoinedStr):
            text = "".join(v.value for v in spec.values if isinstance(v, ast.Constant) and isinstance(v.value, str))
            if any(not isinstance(v, ast.Constant) for v in spec.values) or not FORMAT_SPEC.fullmatch(text):
                self.reading.report(node, "E505", "a format specification is short and literal, like {x:.2f}")
        return self.plainly(node.value)

    def binary(self, node: ast.BinOp) -> Cost:
        if not isinstance(node.op, BINARY_OPERATORS):
            self.reading.report(node, "E502", f"the language does not have the operator {type(node.op).__name__}")
        return self.plainly(node.left).plus(self.plainly(node.right))

    def boolean(self, node: ast.BoolOp) -> Cost:
        """Only the first part is evaluated for certain."""
        first, *others = [self.plainly(part) for part in node.values]
        for other in others:
            first = first.plus(other.at_least(0))
        return first

    def display(self, node: ast.List | ast.Tuple | ast.Set) -> Cost:
        cost = FREE
        for item in node.elts:
            cost = cost.plus(self.visit(item.value if isinstance(item, ast.Starred) else item))
        return cost

    def dictionary(self, node: ast.Dict) -> Cost:
        cost = FREE
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None:
                cost = cost.plus(self.plainly(key))
            cost = cost.plus(self.visit(value))
        return cost

    def conditional(self, node: ast.IfExp) -> Cost:
        branches = self.visit(node.body).or_(self.visit(node.orelse))
        return self.plainly(node.test).plus(branches)

    def constant(self, node: ast.Constant) -> Cost:
        if not isinstance(node.value, str | int | float | bool | None):
            self.reading.report(node, "E502", f"the language does not have {type(node.value).__name__} literals")
        return FREE


def _product(turns: list[tuple[ast.comprehension, int]]) -> int:
    total = 1
    for _, bound in turns:
        total *= bound
    return total


def _each(*fields: str) -> Callable[[Expressions, ast.expr], Cost]:
    """The check of a node whose named fields are expressions or lists of them."""

    def check(self: Expressions, node: ast.expr) -> Cost:
        cost = FREE
        for name in fields:
            value = getattr(node, name)
            for item in value if isinstance(value, list) else [value]:
                cost = cost.plus(self.plainly(item))
        return cost

    return check


_CHECKS: Mapping[type[ast.AST], Callable[[Expressions, Any], Cost]] = {
    ast.Name: Expressions.name,
    ast.Attribute: Expressions.attribute,
    ast.Await: calls.awaiting,
    ast.Call: calls.call,
    ast.Subscript: Expressions.subscript,
    ast.ListComp: Expressions.comprehension,
    ast.SetComp: Expressions.comprehension,
    ast.GeneratorExp: Expressions.comprehension,
    ast.DictComp: Expressions.comprehension,
    ast.FormattedValue: Expressions.formatted,
    ast.JoinedStr: _each("values"),
    ast.BinOp: Expressions.binary,
    ast.BoolOp: Expressions.boolean,
    ast.UnaryOp: _each("operand"),
    ast.Compare: _each("left", "comparators"),
    ast.IfExp: Expressions.conditional,
    ast.List: Expressions.display,
    ast.Tuple: Expressions.display,
    ast.Set: Expressions.display,
    ast.Dict: Expressions.dictionary,
    ast.Constant: Expressions.constant,
}
