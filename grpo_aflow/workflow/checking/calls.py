"""The validator's view of calls: operators, `asyncio.gather`, builtins, methods, and the awaits around them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from grpo_aflow.workflow.checking.reader import Reading, nearest, replace
from grpo_aflow.workflow.language import (
    ALL_METHODS,
    BUILTINS,
    IGNORED_KEYWORDS,
    KEY_FUNCTIONS,
    KEY_METHODS,
    MUTATORS,
    TYPE_NAMES,
    Edit,
    Repair,
)
from grpo_aflow.workflow.operators.spec import OperatorSpec
from grpo_aflow.workflow.program import FREE, Cost

if TYPE_CHECKING:
    from grpo_aflow.workflow.checking.expressions import Expressions


def awaiting(e: Expressions, node: ast.Await) -> Cost:
    value = node.value
    if isinstance(value, ast.Call):
        if _is_operator(e, value):
            return operator(e, value, awaited=True)
        if _is_asyncio(e, value, "gather"):
            return gather(e, value)
        if _is_asyncio(e, value, "create_task", "ensure_future"):
            return call(e, value)
    elif isinstance(value, ast.Name | ast.Subscript):
        return e.visit(value)
    e.reading.report(node, "E209", "only operator calls and asyncio.gather can be awaited; leave `await` out")
    return e.visit(value)


def call(e: Expressions, node: ast.Call) -> Cost:
    if _is_operator(e, node):
        return operator(e, node, awaited=False)
    if _is_asyncio(e, node, "gather"):
        _missing_await(e, node, "asyncio.gather")
        return gather(e, node)
    if _is_asyncio(e, node, "create_task", "ensure_future"):
        if len(node.args) != 1 or isinstance(node.args[0], ast.Starred):
            e.reading.report(node, "E205", "asyncio.create_task takes one operator call")
        before, e.deferring = e.deferring, True
        cost = e.visit_all(node.args)
        e.deferring = before
        return cost
    if isinstance(node.func, ast.Name):
        return builtin(e, node, node.func)
    if isinstance(node.func, ast.Attribute):
        return method(e, node, node.func)
    e.reading.report(node, "E503", "only operators, builtins and methods can be called")
    return FREE


def builtin(e: Expressions, node: ast.Call, function: ast.Name) -> Cost:
    name = function.id
    if name not in BUILTINS:
        known = name in e.reading.imported or name in e.facts.assigned or name in e.parameters
        why = "cannot be called here" if known else "is not a function of the language"
        e.reading.report(node, "E503", f"{name} {why}; the builtins are {', '.join(sorted(BUILTINS))}")
        return arguments(e, node)
    if name in e.facts.assigned or name in e.reading.constant_names or name in e.parameters:
        e.reading.report(
            node, "E506", f"{name} is a variable here and cannot be called; give the variable another name"
        )
    if name == "isinstance":
        if len(node.args) != 2 or node.keywords:
            e.reading.report(node, "E205", "isinstance takes a value and a type")
            return FREE
        _type_names(e, node.args[1])
        return e.plainly(node.args[0])
    if name == "map" and node.args and _is_key(e, node.args[0]):
        return arguments(e, node, skip=1)
    return arguments(e, node, keys=name in ("min", "max", "sorted"))


def arguments(e: Expressions, node: ast.Call, *, skip: int = 0, keys: bool = False) -> Cost:
    """Visit the arguments of a builtin or method; `keys`: key= may be a function of the closed list."""
    cost = FREE
    for argument in node.args[skip:]:
        cost = cost.plus(e.plainly(argument))
    for keyword in node.keywords:
        if keyword.arg is None:
            e.reading.report(node, "E502", "the language does not have `**`; write the arguments out")
        elif not (keys and keyword.arg == "key" and _is_key(e, keyword.value)):
            cost = cost.plus(e.plainly(keyword.value))
    return cost


def _is_key(e: Expressions, node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return node.id in KEY_FUNCTIONS and node.id not in e.facts.assigned
    if isinstance(node, ast.Attribute) and node.attr in KEY_METHODS and isinstance(node.value, ast.Name):
        if node.value.id == "str" and "str" not in e.facts.assigned:
            return node.attr in ("lower", "upper", "strip")
        e.name(node.value)
        return True
    return False


def _type_names(e: Expressions, node: ast.expr) -> None:
    for item in node.elts if isinstance(node, ast.Tuple) else [node]:
        if not (isinstance(item, ast.Name) and item.id in TYPE_NAMES):
            e.reading.report(node, "E503", f"isinstance knows {', '.join(sorted(TYPE_NAMES))}")


def method(e: Expressions, node: ast.Call, function: ast.Attribute) -> Cost:
    if e.is_llm(function.value):
        if function.attr != "get_usage_summary":
            e.reading.report(node, "E503", f"the language model cannot be called by .{function.attr}; use an operator")
        return arguments(e, node)
    if function.attr not in ALL_METHODS:
        e.reading.report(node, "E504", f"the language does not have the method .{function.attr}(); leave it out")
        _base(e, function.value)
        return arguments(e, node)
    cost = _base(e, function.value)
    if isinstance(function.value, ast.Name):
        name = function.value.id
        if function.attr in MUTATORS:
            e.wrote(name)
        if function.attr == "append":
            e.lengths.appended[name] += e.lengths.turns
        if function.attr == "append" and name in e.facts.awaited and len(node.args) == 1:
            before, e.deferring = e.deferring, True
            cost = cost.plus(e.visit(node.args[0]))
            e.deferring = before
            return cost
    return cost.plus(arguments(e, node, keys=function.attr == "sort"))


def _base(e: Expressions, node: ast.expr) -> Cost:
    if isinstance(node, ast.Name) and node.id in e.reading.imported | e.reading.operator_modules:
        return e.name(node)
    return e.plainly(node)


def _is_asyncio(e: Expressions, node: ast.Call, *names: str) -> bool:
    match node.func:
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return name in names and module in e.reading.asyncio_names
        case ast.Name(id=name):
            return name == "gather" in names and name in e.reading.gather_names
    return False


def gather(e: Expressions, node: ast.Call) -> Cost:
    before, e.deferring = e.deferring, True
    cost = FREE
    for argument in node.args:
        inner = argument.value if isinstance(argument, ast.Starred) else argument
        cost = cost.plus(e.visit(inner))
    e.deferring = before
    for keyword in node.keywords:
        if keyword.arg != "return_exceptions":
            e.reading.report(node, "E204", "asyncio.gather takes operator calls only")
    return cost


# --- operators ----------------------------------------------------------------------------------------------------


def _is_operator(e: Expressions, node: ast.Call) -> bool:
    """Whether the call is `self.<something>(...)`; what it is, `operator` says."""
    match node.func:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return not name.startswith("__")
    return False


def _missing_await(e: Expressions, node: ast.Call, shown: str) -> None:
    begin = Edit(line=node.lineno, column=node.col_offset, end_column=node.col_offset, text="(await ")
    line, column = node.end_lineno or node.lineno, node.end_col_offset or 0
    end = Edit(line=line, column=column, end_column=column, text=")")
    repair = Repair(name="missing_await", edits=(begin, end))  # in parentheses: `await f()["key"]` awaits the item
    e.reading.report(node, "E203", f"{shown}(...) is not awaited; write `await {shown}(...)`", repair)


def operator(e: Expressions, node: ast.Call, *, awaited: bool) -> Cost:
    assert isinstance(node.func, ast.Attribute)
    name, reading = node.func.attr, e.reading
    deferring = e.deferring
    spec = reading.slots.get(name) or _unknown_slot(e, node, node.func)
    if spec is None:
        return arguments(e, node)
    if not awaited and not deferring:
        _missing_await(e, node, f"self.{name}")
    if not e.rules.allows(spec, e.domain):
        message = f"{spec.class_name} is not allowed for {e.domain} tasks; use another operator"
        reading.report(node, "E601", message)
    e.called.append(((node.lineno, node.col_offset), spec.slot))
    cost = Cost(1, spec.max_calls, 1 if spec.min_calls else 0)
    if f"self.{name}" in reading.imported:  # an unknown class, reported where it is set
        return cost.plus(arguments(e, node))
    return cost.plus(_operator_arguments(e, node, name, spec))


def _operator_arguments(e: Expressions, node: ast.Call, name: str, spec: OperatorSpec) -> Cost:
    cost, given = FREE, set()
    names = [argument.name for argument in spec.arguments]
    shown = f"{name}{spec.arguments_text}"
    for i, value in enumerate(node.args):
        cost = cost.plus(e.plainly(value))
        if i < len(names):
            given.add(names[i])
        elif i == len(names):
            e.reading.report(node, "E204", f"too many arguments for {shown}")
    for keyword in node.keywords:
        cost = cost.plus(e.plainly(keyword.value))
        if keyword.arg is None:
            e.reading.report(node, "E502", "the language does not have `**`; write the arguments out")
            given.update(names)
        elif keyword.arg in given:
            e.reading.report(node, "E204", f"{keyword.arg} is given twice to {shown}")
        elif keyword.arg in names:
            given.add(keyword.arg)
        elif keyword.arg in spec.ignored or keyword.arg in IGNORED_KEYWORDS:
            e.reading.notes.append(f"line {node.lineno}: {keyword.arg}= of {name} is understood and has no effect")
        else:
            e.reading.report(node, "E204", f"{keyword.arg} is not an argument of {shown}")
    missing = [argument for argument in spec.required if argument not in given]
    if missing:
        e.reading.report(node, "E205", f"{', '.join(missing)} missing; the call is {shown}")
    return cost


def _unknown_slot(e: Expressions, node: ast.Call, function: ast.Attribute) -> OperatorSpec | None:
    """Report a slot that `__init__` does not set, with its repair where there is exactly one."""
    name, reading = function.attr, e.reading
    if name in reading.llm_names or name in reading.data_names:
        reading.report(node, "E503", f"self.{name} cannot be called; use an operator")
        return None
    known = reading.operators.specs
    spec, repair, mend = known.get(name), None, ""
    if spec is not None:
        repair = missing_slot(reading, name, spec)
        mend = f"; write `self.{name} = operator.{spec.class_name}(self.llm)` there"
    else:
        near = nearest(name, {*reading.slots, *known})
        if near:
            spec = reading.slots.get(near) or known[near]
            repair = Repair(name="misspelt_slot", edits=(replace(function, name, near),))
            mend = f"; did you mean self.{near}?"
    reading.report(node, "E202", f"self.{name} is not an operator slot set in __init__{mend}", repair)
    return spec


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
