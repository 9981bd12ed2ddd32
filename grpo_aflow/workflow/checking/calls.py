"""Checks calls and awaits: operators, `asyncio.gather`, builtins, methods."""

from __future__ import annotations

import ast

from grpo_aflow.workflow.checking import names
from grpo_aflow.workflow.checking.diagnosis import Edit, Repair, rename
from grpo_aflow.workflow.checking.outline import UNKNOWN, Outline
from grpo_aflow.workflow.checking.predicates import calls_operator, changes_something
from grpo_aflow.workflow.checking.spelling import nearest
from grpo_aflow.workflow.checking.walk import Walk
from grpo_aflow.workflow.language import (
    ALL_METHODS,
    BUILTINS,
    EXCEPTIONS,
    IGNORED_KEYWORDS,
    KEY_FUNCTIONS,
    KEY_METHODS,
    LOG_METHODS,
    TYPES,
)
from grpo_aflow.workflow.operators.spec import OperatorSpec
from grpo_aflow.workflow.program import FREE, Cost


def awaiting(walk: Walk, node: ast.Await) -> Cost:
    value = node.value
    if isinstance(value, ast.Call):
        if _is_operator(walk, value):
            return _operator(walk, value, awaited=True)
        if _is_asyncio(walk, value, "gather"):
            return _gather(walk, value)
        if _is_asyncio(walk, value, "create_task", "ensure_future"):
            return call(walk, value)
        if _is_asyncio(walk, value, "wait_for") and value.args:
            return _timed(walk, value, awaiting(walk, ast.copy_location(ast.Await(value=value.args[0]), value)))
        match value.func:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in walk.outline.asyncio_names:
                walk.report(node, "E209", f"the language does not have asyncio.{name}; leave it out")
                return FREE
    elif isinstance(value, ast.Name | ast.Subscript):
        return walk.visit(value)
    walk.report(node, "E209", "only operator calls and asyncio.gather can be awaited; leave `await` out")
    return walk.visit(value)


def call(walk: Walk, node: ast.Call) -> Cost:
    match node.func:
        case ast.Attribute(value=ast.Name(id="collections"), attr="Counter") if "collections" in walk.outline.imported:
            node.func = ast.copy_location(ast.Name(id="Counter", ctx=ast.Load()), node.func)
        case ast.Attribute(value=logger, attr=method) if method in LOG_METHODS and walk.outline.is_logger(logger):
            node.func = ast.copy_location(ast.Name(id="print", ctx=ast.Load()), node.func)
    if _is_operator(walk, node):
        return _operator(walk, node, awaited=False)
    if _is_asyncio(walk, node, "gather"):
        _missing_await(walk, node, "asyncio.gather")
        return _gather(walk, node)
    if _is_asyncio(walk, node, "create_task", "ensure_future"):
        if len(node.args) != 1 or isinstance(node.args[0], ast.Starred):
            walk.report(node, "E205", "asyncio.create_task takes one operator call")
        cost = FREE
        for argument in node.args:
            cost = cost.plus(walk.deferred(argument))
        return cost
    if _is_asyncio(walk, node, "wait_for") and node.args:
        if not walk.deferring:
            _missing_await(walk, node, "asyncio.wait_for")
        return _timed(walk, node, walk.deferred(node.args[0]))
    if isinstance(node.func, ast.Name):
        return _builtin(walk, node, node.func)
    if isinstance(node.func, ast.Attribute):
        return _method(walk, node, node.func)
    walk.report(node, "E503", "only operators, builtins and methods can be called")
    return FREE


def _builtin(walk: Walk, node: ast.Call, function: ast.Name) -> Cost:
    name = function.id
    if name not in BUILTINS:
        known = name in walk.outline.imported or name in walk.facts.assigned or name in walk.parameters
        why = "cannot be called here" if known else "is not a function of the language"
        walk.report(node, "E503", f"{name} {why}; the builtins are {', '.join(sorted(BUILTINS))}")
        return _arguments(walk, node)
    if name in walk.facts.assigned or name in walk.outline.constant_names or name in walk.parameters:
        walk.report(node, "E506", f"{name} is a variable here and cannot be called; give the variable another name")
    if name == "isinstance":
        if len(node.args) != 2 or node.keywords:
            walk.report(node, "E205", "isinstance takes a value and a type")
            return FREE
        _type_names(walk, node.args[0], node.args[1])
        return walk.value(node.args[0])
    if name == "map" and node.args and _is_key(walk, node.args[0]):
        return _arguments(walk, node, skip=1)
    cost = _arguments(walk, node, keys=name in ("min", "max", "sorted"))
    ends_early = name in ("any", "all") and any(isinstance(argument, ast.GeneratorExp) for argument in node.args)
    return cost.at_least(min(cost.least, 1)) if ends_early else cost


def _arguments(walk: Walk, node: ast.Call, *, skip: int = 0, keys: bool = False) -> Cost:
    """Visit the arguments of a builtin or method; `keys`: key= may be a function of the closed list."""
    cost = FREE
    for argument in node.args[skip:]:
        cost = cost.plus(walk.value(argument))
    for keyword in node.keywords:
        if keyword.arg is None:
            walk.report(node, "E502", "the language does not have `**`; write the arguments out")
        elif keys and keyword.arg == "key" and isinstance(keyword.value, ast.Lambda):
            _key_lambda(walk, keyword.value)
        elif not (keys and keyword.arg == "key" and _is_key(walk, keyword.value)):
            cost = cost.plus(walk.value(keyword.value))
    return cost


def _key_lambda(walk: Walk, node: ast.Lambda) -> None:
    """`key=lambda item: …`: one name, and an expression that calls no operator and changes nothing."""
    match node.args:
        case ast.arguments(
            posonlyargs=[], args=[ast.arg(arg=name)], vararg=None, kwonlyargs=[], kwarg=None, defaults=[]
        ):
            walk.inner.append({name})
            cost = walk.value(node.body)
            walk.inner.pop()
            if cost == FREE and not calls_operator(node.body) and not changes_something(node.body):
                return
    walk.report(node, "E502", "a key is `lambda item: …` of one name, which calls no operator and changes nothing")


def _is_key(walk: Walk, node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return node.id in KEY_FUNCTIONS and node.id not in walk.facts.assigned
    if isinstance(node, ast.Attribute) and node.attr in KEY_METHODS and isinstance(node.value, ast.Name):
        if node.value.id == "str" and "str" not in walk.facts.assigned:
            return node.attr in ("lower", "upper", "strip")
        names.name(walk, node.value)
        return True
    return False


def _type_names(walk: Walk, value: ast.expr, node: ast.expr) -> None:
    """The types of isinstance: of what `gather` gives, models ask whether it is an exception. No value is one."""
    caught = isinstance(value, ast.Name) and value.id in walk.facts.caught
    for item in node.elts if isinstance(node, ast.Tuple) else [node]:
        known = isinstance(item, ast.Name) and (item.id in TYPES or item.id in EXCEPTIONS)
        if not known:
            walk.report(node, "E503", f"isinstance knows {', '.join(sorted(TYPES))}, and Python's own exceptions")
        elif caught and isinstance(item, ast.Name) and item.id in EXCEPTIONS:
            walk.report(node, "E503", f"what is caught is text here; write `except {item.id}:` for it")


def _method(walk: Walk, node: ast.Call, function: ast.Attribute) -> Cost:
    if names.is_llm(walk, function.value):
        if function.attr != "get_usage_summary":
            walk.report(node, "E503", f"the language model cannot be called by .{function.attr}; use an operator")
        return _arguments(walk, node)
    if function.attr not in ALL_METHODS:
        walk.report(node, "E504", f"the language does not have the method .{function.attr}(); leave it out")
        _base(walk, function.value)
        return _arguments(walk, node)
    cost = _base(walk, function.value)
    if isinstance(function.value, ast.Name):
        name = function.value.id
        if function.attr == "append":
            walk.lengths.appended[name] += walk.lengths.turns
        if function.attr == "append" and name in walk.facts.awaited and len(node.args) == 1:
            return cost.plus(walk.deferred(node.args[0]))
    return cost.plus(_arguments(walk, node, keys=function.attr == "sort"))


def _base(walk: Walk, node: ast.expr) -> Cost:
    if isinstance(node, ast.Name) and node.id in walk.outline.imported | walk.outline.operator_modules:
        return names.name(walk, node)
    return walk.value(node)


def _is_asyncio(walk: Walk, node: ast.Call, *functions: str) -> bool:
    """Whether one of these functions of asyncio is called; `gather` may have been imported by itself."""
    match node.func:
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return name in functions and module in walk.outline.asyncio_names
        case ast.Name(id=name):
            return "gather" in functions and name in walk.outline.gather_names
    return False


def _gather(walk: Walk, node: ast.Call) -> Cost:
    cost = FREE
    for argument in node.args:
        cost = cost.plus(walk.deferred(argument.value if isinstance(argument, ast.Starred) else argument))
    for keyword in node.keywords:
        if keyword.arg != "return_exceptions":
            walk.report(node, "E204", "asyncio.gather takes operator calls only")
    return cost


def _timed(walk: Walk, node: ast.Call, cost: Cost) -> Cost:
    """`asyncio.wait_for(call, seconds)` is the call: a run's deadlines are the interpreter's."""
    walk.outline.notes.append(f"line {node.lineno}: the time limit of asyncio.wait_for has no effect")
    return cost.plus(_arguments(walk, node, skip=1))


# --- operators ----------------------------------------------------------------------------------------------------


def _is_operator(walk: Walk, node: ast.Call) -> bool:
    """Whether the call is `self.<something>(...)`; what it is, `_operator` says."""
    match node.func:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return not name.startswith("__")
    return False


def _missing_await(walk: Walk, node: ast.Call, shown: str) -> None:
    begin = Edit(line=node.lineno, column=node.col_offset, end_column=node.col_offset, text="(await ")
    line, column = node.end_lineno or node.lineno, node.end_col_offset or 0
    end = Edit(line=line, column=column, end_column=column, text=")")
    repair = Repair(name="missing_await", edits=(begin, end))  # in parentheses: `await f()["key"]` awaits the item
    walk.report(node, "E203", f"{shown}(...) is not awaited; write `await {shown}(...)`", repair)


def _operator(walk: Walk, node: ast.Call, *, awaited: bool) -> Cost:
    assert isinstance(node.func, ast.Attribute)
    name, outline = node.func.attr, walk.outline
    spec = outline.slots.get(name) or _unknown_slot(walk, node, node.func)
    if spec is None:
        return _arguments(walk, node)
    if not awaited and not walk.deferring:
        _missing_await(walk, node, f"self.{name}")
    if not walk.rules.allows(spec, walk.domain):
        message = f"{spec.class_name} is not allowed for {walk.domain} tasks; use another operator"
        outline.report(node, "E601", message)
    walk.called.append(((node.lineno, node.col_offset), spec.slot))
    cost = Cost(1, spec.max_calls, 1 if spec.min_calls else 0)
    if spec is UNKNOWN:
        return cost.plus(_arguments(walk, node))
    return cost.plus(_operator_arguments(walk, node, name, spec))


def _operator_arguments(walk: Walk, node: ast.Call, name: str, spec: OperatorSpec) -> Cost:
    cost, given = FREE, set[str]()
    known = [argument.name for argument in spec.arguments]
    shown = f"{name}{spec.arguments_text}"
    for i, value in enumerate(node.args):
        cost = cost.plus(walk.value(value))
        if i < len(known):
            given.add(known[i])
        elif i == len(known):
            walk.report(node, "E204", f"too many arguments for {shown}")
    for keyword in node.keywords:
        cost = cost.plus(walk.value(keyword.value))
        if keyword.arg is None:
            walk.report(node, "E502", "the language does not have `**`; write the arguments out")
            given.update(known)
        elif keyword.arg in given:
            walk.report(node, "E204", f"{keyword.arg} is given twice to {shown}")
        elif keyword.arg in known:
            given.add(keyword.arg)
        elif keyword.arg in spec.ignored or keyword.arg in IGNORED_KEYWORDS:
            walk.outline.notes.append(f"line {node.lineno}: {keyword.arg}= of {name} is understood and has no effect")
        else:
            walk.report(node, "E204", f"{keyword.arg} is not an argument of {shown}")
    missing = [argument for argument in spec.required if argument not in given]
    if missing:
        walk.report(node, "E205", f"{', '.join(missing)} missing; the call is {shown}")
    return cost


def _unknown_slot(walk: Walk, node: ast.Call, function: ast.Attribute) -> OperatorSpec | None:
    """Report a slot that `__init__` does not set, with its repair where there is exactly one."""
    name, outline = function.attr, walk.outline
    if name in outline.llm_names or name in outline.data_names:
        outline.report(node, "E503", f"self.{name} cannot be called; use an operator")
        return None
    known = outline.operators.specs
    spec, repair, fix = known.get(name), None, ""
    if spec is not None:
        repair = _missing_slot(outline, name, spec)
        fix = f"; write `self.{name} = operator.{spec.class_name}(self.llm)` there"
    else:
        near = nearest(name, {*outline.slots, *known})
        if near:
            spec = outline.slots.get(near) or known[near]
            repair = Repair(name="misspelt_slot", edits=(rename(function, name, near),))
            fix = f"; did you mean self.{near}?"
    outline.report(node, "E202", f"self.{name} is not an operator slot set in __init__{fix}", repair)
    return spec


def _missing_slot(outline: Outline, name: str, spec: OperatorSpec) -> Repair | None:
    """The repair that sets the slot at the end of `__init__`; None where there is no place or no language model."""
    if outline.init is None or len(outline.llm_names) != 1:
        return None
    last = outline.init.body[-1]
    if last.lineno == outline.init.lineno:
        return None
    (llm,) = outline.llm_names
    text = " " * last.col_offset + f"self.{name} = operator.{spec.class_name}(self.{llm})"
    edit = Edit(line=(last.end_lineno or last.lineno) + 1, column=0, end_column=0, text=text, whole_line=True)
    return Repair(name="missing_slot", edits=(edit,))
