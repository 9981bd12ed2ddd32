"""The validator's view of one expression: names, awaits, arguments, result keys, and how many calls it can make.

`visit` checks an expression and returns the most calls that evaluating it once can make. `flow` walks the statements
around it and keeps `assigned` up to date.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from grpo_aflow.types import Domain
from grpo_aflow.workflow.facts import Facts
from grpo_aflow.workflow.language import (
    ALL_METHODS,
    BINARY_OPERATORS,
    BUILTINS,
    FORMAT_SPEC,
    KEY_FUNCTIONS,
    KEY_METHODS,
    MUTATORS,
    TYPE_NAMES,
    USAGE_KEYS,
    Edit,
    Repair,
)
from grpo_aflow.workflow.operators import OPERATORS, OperatorSpec
from grpo_aflow.workflow.program import Position
from grpo_aflow.workflow.reader import Reading, nearest, replace
from grpo_aflow.workflow.rules import WorkflowRules


class Cost(NamedTuple):
    """The most calls that a piece of a workflow can make."""

    operators: int = 0
    llm: int = 0

    def plus(self, other: Cost) -> Cost:
        return Cost(self.operators + other.operators, self.llm + other.llm)

    def times(self, n: int) -> Cost:
        return Cost(self.operators * n, self.llm * n)

    def or_(self, other: Cost) -> Cost:
        return Cost(max(self.operators, other.operators), max(self.llm, other.llm))


FREE = Cost()


@dataclass(slots=True)
class Expressions:
    """Checks expressions against the language, the slots and what is assigned so far."""

    reading: Reading
    facts: Facts
    rules: WorkflowRules
    domain: Domain | None
    parameters: frozenset[str] = frozenset()
    assigned: set[str] | None = field(default_factory=set)  # None: this point cannot be reached
    inner: list[set[str]] = field(default_factory=list)  # variables of comprehensions around
    deferring: bool = False  # an operator call need not be awaited here
    writes: dict[str, int] = field(default_factory=dict)  # name -> how often it has been changed so far
    loop_bounds: dict[Position, int] = field(default_factory=dict)
    calls: list[tuple[Position, str]] = field(default_factory=list)
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
        if (
            any(name in scope for scope in self.inner)
            or name in self.reading.constant_names
            and (name not in self.facts.assigned)
        ):
            return FREE
        if name in self.parameters or name in self.facts.assigned:
            if self.assigned is not None and name not in self.assigned and not self.module_level:
                self.reading.report(node, "E302", f"{name} may be used before it is assigned; assign it on every path")
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
        if self._is_llm(base):
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

    def _is_llm(self, node: ast.expr) -> bool:
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

    # --- calls --------------------------------------------------------------------------------------------------------

    def awaiting(self, node: ast.Await) -> Cost:
        value = node.value
        if isinstance(value, ast.Call):
            if self._is_operator(value):
                return self.operator(value, awaited=True)
            if self._is_asyncio(value, "gather"):
                return self.gather(value)
            if self._is_asyncio(value, "create_task", "ensure_future"):
                return self.call(value)
        elif isinstance(value, ast.Name | ast.Subscript):
            return self.visit(value)
        self.reading.report(node, "E209", "only operator calls and asyncio.gather can be awaited; leave `await` out")
        return self.visit(value)

    def call(self, node: ast.Call) -> Cost:
        if self._is_operator(node):
            return self.operator(node, awaited=False)
        if self._is_asyncio(node, "gather"):
            self._missing_await(node, "asyncio.gather")
            return self.gather(node)
        if self._is_asyncio(node, "create_task", "ensure_future"):
            before, self.deferring = self.deferring, True
            cost = self.visit_all(node.args)
            self.deferring = before
            return cost
        if isinstance(node.func, ast.Name):
            return self.function(node, node.func)
        if isinstance(node.func, ast.Attribute):
            return self.method(node, node.func)
        self.reading.report(node, "E503", "only operators, builtins and methods can be called")
        return FREE

    def function(self, node: ast.Call, function: ast.Name) -> Cost:
        name = function.id
        if name not in BUILTINS:
            known = name in self.reading.imported or name in self.facts.assigned or name in self.parameters
            why = "cannot be called here" if known else "is not a function of the language"
            self.reading.report(node, "E503", f"{name} {why}; the builtins are {', '.join(sorted(BUILTINS))}")
            return self.arguments(node)
        if name in self.facts.assigned or name in self.reading.constant_names or name in self.parameters:
            self.reading.report(
                node, "E506", f"{name} is a variable here and cannot be called; give the variable another name"
            )
        if name == "isinstance" and len(node.args) == 2:
            self._type_names(node.args[1])
            return self.plainly(node.args[0])
        if name == "map" and node.args and self._is_key(node.args[0]):
            return self.arguments(node, skip=1)
        return self.arguments(node, keys=name in ("min", "max", "sorted"))

    def arguments(self, node: ast.Call, *, skip: int = 0, keys: bool = False) -> Cost:
        """Visit the arguments of a builtin or method; `keys`: key= may be a function of the closed list."""
        cost = FREE
        for argument in node.args[skip:]:
            cost = cost.plus(self.plainly(argument))
        for keyword in node.keywords:
            if keyword.arg is None:
                self.reading.report(node, "E502", "the language does not have `**`; write the arguments out")
            elif not (keys and keyword.arg == "key" and self._is_key(keyword.value)):
                cost = cost.plus(self.plainly(keyword.value))
        return cost

    def _is_key(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id in KEY_FUNCTIONS and node.id not in self.facts.assigned
        if isinstance(node, ast.Attribute) and node.attr in KEY_METHODS:
            if isinstance(node.value, ast.Name) and node.value.id == "str" and "str" not in self.facts.assigned:
                return node.attr in ("lower", "upper", "strip")
            self.visit(node.value)
            return True
        return False

    def _type_names(self, node: ast.expr) -> None:
        for item in node.elts if isinstance(node, ast.Tuple) else [node]:
            if not (isinstance(item, ast.Name) and item.id in TYPE_NAMES):
                self.reading.report(node, "E503", f"isinstance knows {', '.join(sorted(TYPE_NAMES))}")

    def method(self, node: ast.Call, function: ast.Attribute) -> Cost:
        if self._is_llm(function.value):
            if function.attr != "get_usage_summary":
                self.reading.report(
                    node, "E503", f"the language model cannot be called by .{function.attr}; use an operator"
                )
            return self.arguments(node)
        if function.attr not in ALL_METHODS:
            self.reading.report(node, "E504", f"the language does not have the method .{function.attr}(); leave it out")
            self._base(function.value)
            return self.arguments(node)
        cost = self._base(function.value)
        if isinstance(function.value, ast.Name):
            name = function.value.id
            if function.attr in MUTATORS:
                self.wrote(name)
            if function.attr == "append" and name in self.facts.awaited and len(node.args) == 1:
                before, self.deferring = self.deferring, True
                cost = cost.plus(self.visit(node.args[0]))
                self.deferring = before
                return cost
        return cost.plus(self.arguments(node, keys=function.attr == "sort"))

    def _base(self, node: ast.expr) -> Cost:
        if isinstance(node, ast.Name) and node.id in self.reading.imported | self.reading.operator_modules:
            return self.name(node)
        return self.plainly(node)

    def _is_asyncio(self, node: ast.Call, *names: str) -> bool:
        match node.func:
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                return name in names and module in self.reading.asyncio_names
            case ast.Name(id=name):
                return name == "gather" in names and name in self.reading.gather_names
        return False

    def gather(self, node: ast.Call) -> Cost:
        before, self.deferring = self.deferring, True
        cost = FREE
        for argument in node.args:
            inner = argument.value if isinstance(argument, ast.Starred) else argument
            cost = cost.plus(self.visit(inner))
        self.deferring = before
        for keyword in node.keywords:
            if keyword.arg != "return_exceptions":
                self.reading.report(node, "E204", "asyncio.gather takes operator calls only")
        return cost

    # --- operators ----------------------------------------------------------------------------------------------------

    def _is_operator(self, node: ast.Call) -> bool:
        """Whether the call is `self.<something>(...)`; what it is, `operator` says."""
        match node.func:
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                return not name.startswith("__")
        return False

    def _missing_await(self, node: ast.Call, shown: str) -> None:
        edit = Edit(line=node.lineno, column=node.col_offset, end_column=node.col_offset, text="await ")
        repair = Repair(name="missing_await", edits=(edit,))
        self.reading.report(node, "E203", f"{shown}(...) is not awaited; write `await {shown}(...)`", repair)

    def operator(self, node: ast.Call, *, awaited: bool) -> Cost:
        assert isinstance(node.func, ast.Attribute)
        name, reading = node.func.attr, self.reading
        deferring = self.deferring
        spec = reading.slots.get(name) or self._unknown_slot(node, node.func)
        if spec is None:
            return self.arguments(node)
        if not awaited and not deferring:
            self._missing_await(node, f"self.{name}")
        if not self.rules.allows(spec, self.domain):
            message = f"{spec.class_name} is not allowed for {self.domain} tasks; use another operator"
            reading.report(node, "E601", message)
        self.calls.append(((node.lineno, node.col_offset), spec.slot))
        cost = Cost(1, spec.max_calls)
        if f"self.{name}" in reading.imported:  # an unknown class, reported where it is set
            return cost.plus(self.arguments(node))
        return cost.plus(self._operator_arguments(node, name, spec))

    def _operator_arguments(self, node: ast.Call, name: str, spec: OperatorSpec) -> Cost:
        cost, given = FREE, set()
        names = [argument.name for argument in spec.arguments]
        shown = f"{name}{spec.arguments_text}"
        for i, value in enumerate(node.args):
            cost = cost.plus(self.plainly(value))
            if i < len(names):
                given.add(names[i])
            elif i == len(names):
                self.reading.report(node, "E204", f"too many arguments for {shown}")
        for keyword in node.keywords:
            cost = cost.plus(self.plainly(keyword.value))
            if keyword.arg is None:
                self.reading.report(node, "E502", "the language does not have `**`; write the arguments out")
                given.update(names)
            elif keyword.arg in given:
                self.reading.report(node, "E204", f"{keyword.arg} is given twice to {shown}")
            elif keyword.arg in names:
                given.add(keyword.arg)
            elif keyword.arg not in spec.ignored:
                self.reading.report(node, "E204", f"{keyword.arg} is not an argument of {shown}")
        missing = [argument for argument in spec.required if argument not in given]
        if missing:
            self.reading.report(node, "E205", f"{', '.join(missing)} missing; the call is {shown}")
        return cost

    def _unknown_slot(self, node: ast.Call, function: ast.Attribute) -> OperatorSpec | None:
        """Report a slot that `__init__` does not set, with its repair where there is exactly one."""
        name, reading = function.attr, self.reading
        if name in reading.llm_names or name in reading.data_names:
            reading.report(node, "E503", f"self.{name} cannot be called; use an operator")
            return None
        spec, repair, mend = OPERATORS.get(name), None, ""
        if spec is not None:
            repair = missing_slot(reading, name, spec)
            mend = f"; write `self.{name} = operator.{spec.class_name}(self.llm)` there"
        else:
            near = nearest(name, {*reading.slots, *OPERATORS})
            if near:
                spec = reading.slots.get(near) or OPERATORS[near]
                repair = Repair(name="misspelt_slot", edits=(replace(function, name, near),))
                mend = f"; did you mean self.{near}?"
        reading.report(node, "E202", f"self.{name} is not an operator slot set in __init__{mend}", repair)
        return spec

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
            values = self.facts.values.get(node.id, [])
            found = [None if value is None or isinstance(value, ast.Name) else self._keys(value) for value in values]
            known = [keys for keys in found if keys is not None]
            return frozenset().union(*known) if known and len(known) == len(found) else None
        match node:
            case ast.Await(value=ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name))):
                spec = self.reading.slots.get(name) or OPERATORS.get(name)
                return frozenset(spec.results) if spec and f"self.{name}" not in self.reading.imported else None
            case ast.Call(func=ast.Attribute(attr="get_usage_summary")):
                return USAGE_KEYS
        return None

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Cost:
        before = FREE  # the first iterable is evaluated once, each further one per turn of those before it
        turns: list[tuple[ast.comprehension, int]] = []
        self.inner.append(set())
        opened = len(self.calls)
        cost = FREE
        for generator in node.generators:
            if generator.is_async:
                self.reading.refuse(ast.AsyncFor(lineno=node.lineno))
            bound, once = self.iterable(generator.iter)
            before = before.plus(once.times(_product(turns)))
            turns.append((generator, bound))
            self._bind(generator.target)
            for condition in generator.ifs:
                cost = cost.plus(self.plainly(condition))
        if isinstance(node, ast.DictComp):
            cost = cost.plus(self.plainly(node.key)).plus(self.plainly(node.value))
        else:
            cost = cost.plus(self.visit(node.elt))
        self.inner.pop()
        if len(self.calls) > opened:
            for generator, bound in turns:
                self.loop_bounds[generator.iter.lineno, generator.iter.col_offset] = bound
        return before.plus(cost.times(_product(turns)))

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
        length = self.literal_length(node)
        return (self.rules.max_loop_iterations if length is None else length), cost

    def literal_length(self, node: ast.expr) -> int | None:
        """The number of items, where the source alone says it."""
        match node:
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                return None if any(isinstance(item, ast.Starred) for item in items) else len(items)
            case ast.Constant(value=str() as text):
                return len(text)
            case ast.Call(func=ast.Name(id="range"), args=arguments, keywords=[]):
                limits = [self.facts.constant(argument) for argument in arguments]
                if limits and len(limits) <= 3 and all(type(x) is int for x in limits) and limits[2:] != [0]:
                    span = range(*limits)  # type: ignore[arg-type]
                    return len(span) if abs(span.start) + abs(span.stop) < 2**60 else 2**31
            case ast.Call(func=ast.Name(id="enumerate" | "list" | "reversed" | "sorted"), args=[first, *_]):
                return self.literal_length(first)
            case ast.Name(id=name) if name not in self.parameters:
                values = self.facts.values.get(name, [])
                if len(values) == 1 and isinstance(values[0], ast.Tuple | ast.List) and name not in self.facts.mutated:
                    return self.literal_length(values[0])
        return None

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


def missing_slot(reading: Reading, name: str, spec: OperatorSpec) -> Repair | None:
    """The repair that sets the slot at the end of `__init__`; None where there is no place or no language model."""
    if reading.init is None or len(reading.llm_names) != 1:
        return None
    last = reading.init.body[-1]
    if last.lineno == reading.init.lineno:
        return None
    (llm,) = reading.llm_names
    text = " " * last.col_offset + f"self.{name} = operator.{spec.class_name}(self.{llm})"
    edit = Edit(line=(last.end_lineno or last.lineno) + 1, column=0, end_column=0, text=text, whole_line=True)
    return Repair(name="missing_slot", edits=(edit,))


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


_CHECKS: Mapping[type[ast.AST], Callable[[Expressions, ast.expr], Cost]] = {
    ast.Name: Expressions.name,
    ast.Attribute: Expressions.attribute,
    ast.Await: Expressions.awaiting,
    ast.Call: Expressions.call,
    ast.Subscript: Expressions.subscript,
    ast.ListComp: Expressions.comprehension,
    ast.SetComp: Expressions.comprehension,
    ast.GeneratorExp: Expressions.comprehension,
    ast.DictComp: Expressions.comprehension,
    ast.FormattedValue: Expressions.formatted,
    ast.JoinedStr: _each("values"),
    ast.BinOp: Expressions.binary,
    ast.BoolOp: _each("values"),
    ast.UnaryOp: _each("operand"),
    ast.Compare: _each("left", "comparators"),
    ast.IfExp: Expressions.conditional,
    ast.List: Expressions.display,
    ast.Tuple: Expressions.display,
    ast.Set: Expressions.display,
    ast.Dict: Expressions.dictionary,
    ast.Constant: Expressions.constant,
}  # type: ignore[assignment]
