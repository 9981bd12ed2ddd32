"""Reads operator slots: `self.custom = operator.Custom(self.llm)` in `__init__`, or the like in `__call__`."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from grpo_aflow.workflow.checking.diagnosis import Edit, Repair
from grpo_aflow.workflow.checking.outline import CREATE_LLM, UNKNOWN, Outline
from grpo_aflow.workflow.language import BUILTINS


def is_self_attribute(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def set_slot(outline: Outline, name: str, found: str, value: ast.Call, llm_variables: set[str]) -> None:
    """Note the operator that `self.<name>` holds, and check what it is constructed with."""
    known = outline.operators.by_class
    if found in known:
        outline.slots[name] = known[found]
    else:
        outline.report(value, "E207", f"there is no operator {found}; known are {', '.join(known)}")
        outline.slots[name] = UNKNOWN
    given = value.args[0] if value.args else next((k.value for k in value.keywords if k.arg == "llm"), None)
    match given:
        case ast.Name(id=variable) if variable in llm_variables:
            pass
        case ast.Attribute(value=ast.Name(id="self"), attr=attribute):
            if attribute not in outline.llm_names:
                outline.misspelt_llm(given, attribute)
        case None:
            _report_no_llm(outline, value, found)
        case _:
            outline.report(value, "E208", f"{found} takes the language model; write {found}(self.llm)")


def _report_no_llm(outline: Outline, value: ast.Call, found: str) -> None:
    """`operator.Custom()`: the language model is put in, where there is exactly one."""
    repair = None
    if len(outline.llm_names) == 1 and not value.args and not value.keywords:
        (llm,) = outline.llm_names
        line, column = value.end_lineno or value.lineno, (value.end_col_offset or 1) - 1
        edit = Edit(line=line, column=column, end_column=column, text=f"self.{llm}")
        repair = Repair(name="misspelt_llm", edits=(edit,))
    message = f"{found} needs the language model; write {found}(self.llm)"
    outline.report(value, "E205", message, repair)


def operator_class(outline: Outline, value: ast.expr) -> str | None:
    """The operator class that a call constructs, known or not; None if the call is something else."""
    match value:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)) if module in outline.operator_modules:
            return name
        case ast.Call(func=ast.Name(id=name)):
            if name in outline.class_names:
                return outline.class_names[name]
            if name in outline.operators.by_class or (
                name[:1].isupper() and name not in outline.constant_names | BUILTINS
            ):
                return name
    return None


def slots_within(outline: Outline, call: ast.AsyncFunctionDef) -> None:
    """Understand `custom = operator.Custom(self.llm)` in `__call__`: as if `__init__` had set it.

    The statement becomes `pass`, a call of the local name a call of the slot. A name that is assigned twice is none.
    A language model that `__call__` makes for itself is taken for one of `__init__`, too.
    """
    models = _models_within(outline, call)
    made: dict[str, str] = {}
    for block in _blocks(call.body):
        for i, node in enumerate(block):
            match node:
                case ast.Assign(targets=[target], value=ast.Call() as value):
                    pass
                case _:
                    continue
            found = operator_class(outline, value)
            if found is None or found not in outline.operators.by_class:
                continue
            if isinstance(target, ast.Name):
                slot = made.setdefault(target.id, _free_slot(outline, target.id, found))
            elif isinstance(target, ast.Attribute) and is_self_attribute(target):
                slot = target.attr
            else:
                continue
            if outline.slots.get(slot, outline.operators.by_class[found]).class_name != found:
                continue  # two operators under one name: `flow` refuses the assignment
            set_slot(outline, slot, found, value, set(models))
            block[i] = ast.copy_location(ast.Pass(), node)
    if made or models:
        _LocalNames(made, models).visit(call)


def _models_within(outline: Outline, call: ast.AsyncFunctionDef) -> dict[str, str]:
    """Understand `llm = create_llm_instance(self.llm_config)` in `__call__`: local name -> attribute."""
    stored = Counter(
        node.id for node in ast.walk(call) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )
    models: dict[str, str] = {}
    for block in _blocks(call.body):
        for i, node in enumerate(block):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id=function))) if (
                    function == CREATE_LLM and stored[name] == 1
                ):
                    free = name not in outline.slots.keys() | outline.data_names
                    models[name] = name if free else f"{name}_in_call"
                    outline.llm_names.add(models[name])
                    block[i] = ast.copy_location(ast.Pass(), node)
    return models


def _blocks(body: list[ast.stmt]) -> Iterator[list[ast.stmt]]:
    """The block and all blocks within it."""
    yield body
    for node in body:
        for name in ("body", "orelse", "finalbody"):
            inner = getattr(node, name, None)
            if isinstance(inner, list) and inner:
                yield from _blocks(inner)
        for handler in getattr(node, "handlers", ()):
            yield from _blocks(handler.body)


def _free_slot(outline: Outline, name: str, class_name: str) -> str:
    """The slot for an operator that `__call__` keeps in a variable: the variable's name, where that is free."""
    taken = outline.slots.get(name)
    free = name not in outline.llm_names | outline.data_names
    return name if free and (taken is None or taken.class_name == class_name) else f"{name}_in_call"


class _LocalNames(ast.NodeTransformer):
    """Writes `self.custom(…)` for the call of a local name that holds an operator, `self.llm` for a model's name."""

    def __init__(self, made: dict[str, str], models: dict[str, str]) -> None:
        self.made, self.models = made, models

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in self.made:
            node.func = _attribute(node.func, self.made[node.func.id])
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return _attribute(node, self.models[node.id]) if node.id in self.models else node


def _attribute(node: ast.Name, name: str) -> ast.Attribute:
    """`self.<name>` in the place of a node."""
    base = ast.copy_location(ast.Name(id="self", ctx=ast.Load()), node)
    return ast.copy_location(ast.Attribute(value=base, attr=name, ctx=ast.Load()), node)
