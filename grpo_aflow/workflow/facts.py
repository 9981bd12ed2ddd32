"""What is known of a function's names before it is walked: one pass, whatever the order of its statements.

Constants that are assigned once, names that hold an operator's result, names that hold calls not awaited yet
(`tasks = [self.custom(...) for ...]` before `asyncio.gather(*tasks)`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from grpo_aflow.workflow.language import MUTATORS
from grpo_aflow.workflow.reader import Reading


@dataclass(slots=True)
class Facts:
    assigned: set[str] = field(default_factory=set)  # every local name that is assigned anywhere
    values: dict[str, list[ast.expr | None]] = field(default_factory=dict)  # None: not by a plain assignment
    attributes: dict[str, list[ast.expr | None]] = field(default_factory=dict)  # the same for self.name
    awaited: set[str] = field(default_factory=set)  # names whose content is awaited or gathered
    steps: dict[str, list[ast.AugAssign]] = field(default_factory=dict)
    mutated: set[str] = field(default_factory=set)  # names whose object a method changes

    def constant(self, node: ast.expr) -> object:
        """The value of a literal, or of a name or self attribute assigned exactly once, to a literal; else None."""
        if isinstance(node, ast.Constant):
            return node.value
        values: list[ast.expr | None] = []
        if isinstance(node, ast.Name):
            values = self.values.get(node.id, [])
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            values = self.attributes.get(node.attr, [])
        only = values[0] if len(values) == 1 else None
        return only.value if isinstance(only, ast.Constant) else None


def gather_facts(reading: Reading, function: ast.AsyncFunctionDef) -> Facts:
    """Walk constants, `__init__` and `__call__` once."""
    facts = Facts()
    for statement in (*reading.constants, *reading.init_body):
        for target, value in _targets(statement):
            _note(facts, target, value, local=False)
    uses: list[tuple[ast.expr, ast.expr]] = []  # (loop variable, what it runs over)
    # The walk is a plain stack: it is the hottest part of checking, and recursion depth is not checked yet.
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        kind = type(node)
        if kind is ast.Assign or kind is ast.AnnAssign or kind is ast.AugAssign:
            for target, value in _targets(node):  # type: ignore[arg-type]
                _note(facts, target, value)
            if kind is ast.AugAssign and isinstance(node.target, ast.Name):  # type: ignore[attr-defined]
                facts.steps.setdefault(node.target.id, []).append(node)  # type: ignore[attr-defined,arg-type]
        elif kind is ast.For:
            _note(facts, node.target, None)  # type: ignore[attr-defined]
            uses.append((node.target, node.iter))  # type: ignore[attr-defined]
        elif kind is ast.comprehension:
            uses.append((node.target, node.iter))  # type: ignore[attr-defined]
        elif kind is ast.Await:
            facts.awaited.update(_awaited(node.value))  # type: ignore[attr-defined]
        elif kind is ast.Call and isinstance(node.func, ast.Attribute):  # type: ignore[attr-defined]
            if isinstance(node.func.value, ast.Name) and node.func.attr in MUTATORS:  # type: ignore[attr-defined]
                facts.mutated.add(node.func.value.id)  # type: ignore[attr-defined]
        elif kind is ast.Constant or kind is ast.Name:
            continue
        stack.extend(ast.iter_child_nodes(node))
    for target, source in uses:
        if isinstance(target, ast.Name) and target.id in facts.awaited and isinstance(source, ast.Name):
            facts.awaited.add(source.id)
    return facts


def _targets(node: ast.stmt) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield target, node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield node.target, node.value
    elif isinstance(node, ast.AugAssign):
        yield node.target, None


def _note(facts: Facts, target: ast.expr, value: ast.expr | None, *, local: bool = True) -> None:
    if isinstance(target, ast.Name):
        facts.values.setdefault(target.id, []).append(value)
        if local:
            facts.assigned.add(target.id)
    elif isinstance(target, ast.Attribute):
        facts.attributes.setdefault(target.attr, []).append(value)
    elif isinstance(target, ast.Tuple | ast.List):
        for item in target.elts:
            _note(facts, item, None, local=local)
    elif isinstance(target, ast.Starred):
        _note(facts, target.value, None, local=local)


def _awaited(value: ast.expr) -> Iterator[str]:
    """Names awaited by `await name` or `await asyncio.gather(name, *names)`."""
    if isinstance(value, ast.Name):
        yield value.id
    elif isinstance(value, ast.Call):
        for argument in value.args:
            inner = argument.value if isinstance(argument, ast.Starred) else argument
            if isinstance(inner, ast.Name):
                yield inner.id
