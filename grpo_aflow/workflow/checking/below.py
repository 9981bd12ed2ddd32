"""Finds what stands below the class and does nothing to it: an example of its use, a helper that nothing calls."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable

from grpo_aflow.workflow.language import MUTATORS


def idle_statements(workflow: ast.ClassDef, below: list[ast.stmt], prompt_modules: Collection[str]) -> list[ast.stmt]:
    """The statements that neither bind nor change a name that the class uses, itself or by a constant that it uses."""
    if not below:
        return []
    used = _used_by(workflow, prompt_modules)
    found: list[ast.stmt] = []
    for node in reversed(below):  # a constant's value can only use what stands above it
        if _changed_by(node) & used:
            used |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        else:
            found.append(node)
    return found


def _used_by(workflow: ast.ClassDef, prompt_modules: Collection[str]) -> set[str]:
    """The names of the module that a class looks up: what its functions bind themselves is theirs."""
    used = {"Workflow"}
    for part in workflow.body:
        loaded, own = set[str](), set[str]()
        for node in ast.walk(part):
            match node:
                case ast.Name(id=name, ctx=ast.Load()):
                    loaded.add(name)
                case ast.Name(id=name) | ast.arg(arg=name):
                    own.add(name)
                case ast.Attribute(value=ast.Name(id=module), attr=name) if module in prompt_modules:
                    used.add(name)
        used |= loaded - own
    return used


def _changed_by(node: ast.stmt) -> set[str]:
    """Names that a statement binds, or whose object it changes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    changed: list[ast.expr] = []
    for inner in ast.walk(node):
        match inner:
            case ast.Name(ctx=ast.Store() | ast.Del()):
                changed.append(inner)
            case ast.Attribute(value=value, ctx=ast.Store() | ast.Del()):
                changed.append(value)
            case ast.Subscript(value=value, ctx=ast.Store() | ast.Del()):
                changed.append(value)
            case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in MUTATORS:
                changed.append(value)
    return set(_roots(changed))


def _roots(nodes: Iterable[ast.expr]) -> Iterable[str]:
    """The names that hold what is changed: STEPS in `STEPS["a"].append(x)`."""
    for node in nodes:
        root = node
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if isinstance(root, ast.Name):
            yield root.id
