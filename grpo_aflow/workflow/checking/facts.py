"""What is known of a workflow's names before it is walked: one pass, whatever the order of its statements.

What each name is assigned, which names hold calls that are awaited later (`tasks = [self.custom(...) for ...]` before
`asyncio.gather(*tasks)`), which objects are changed.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grpo_aflow.workflow.checking.outline import Outline
from grpo_aflow.workflow.language import MUTATORS


@dataclass(slots=True)
class Facts:
    """By name: of the constants, `__init__` and `__call__` together."""

    assigned: set[str] = field(default_factory=set)  # every local name that is assigned anywhere
    values: dict[str, list[ast.expr | None]] = field(default_factory=dict)  # None: not by a plain assignment
    attributes: dict[str, list[ast.expr | None]] = field(default_factory=dict)  # the same for self.name
    awaited: set[str] = field(default_factory=set)  # names whose content is awaited or gathered
    loops: list[ast.For | ast.comprehension] = field(default_factory=list)
    caught: set[str] = field(default_factory=set)  # names of `except … as name`
    mutated: dict[str, set[str]] = field(default_factory=dict)  # name -> methods that change its object

    def constant(self, node: ast.expr) -> object:
        """The value of a literal, or of a name or self attribute assigned exactly once, to a literal; else None."""
        if isinstance(node, ast.Constant):
            return node.value
        values: list[ast.expr | None] = []
        if isinstance(node, ast.Name):
            values = self.values.get(node.id, [])
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            values = self.attributes.get(node.attr) or self.values.get(node.attr, [])  # of __init__, or of the class
        only = values[0] if len(values) == 1 else None
        return only.value if isinstance(only, ast.Constant) else None


class TooDeep(Exception):
    """The syntax tree is deeper than allowed; found here, where no recursion is needed yet."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def gather_facts(outline: Outline, function: ast.AsyncFunctionDef, *, max_depth: int) -> Facts:
    """Walk constants, `__init__` and `__call__` once, level by level. Raises TooDeep."""
    facts = Facts()
    for statement in outline.assignments:
        for target, value in _targets(statement):
            _note(facts, target, value, local=False)
    for node in _levels(list(outline.assignments), max_depth):
        if isinstance(node, ast.Call):
            _note_call(facts, node)
    for node in _levels(list(function.body), max_depth):
        note = _NOTES.get(type(node))
        if note is not None:
            note(facts, node)
    for loop in facts.loops:
        if isinstance(loop.target, ast.Name) and loop.target.id in facts.awaited and isinstance(loop.iter, ast.Name):
            facts.awaited.add(loop.iter.id)
    return facts


def _levels(level: list[ast.AST], max_depth: int) -> Iterator[ast.AST]:
    """Every node that is not a leaf, breadth first. The hottest part of checking: fields without nodes are skipped."""
    for _ in range(max_depth):
        below: list[ast.AST] = []
        for node in level:
            yield node
            for name in _CHILDREN[type(node)]:
                value = getattr(node, name, None)
                if type(value) is list:
                    below += [child for child in value if type(child) not in _LEAVES]
                elif value is not None and type(value) not in _LEAVES:
                    below.append(value)
        if not below:
            return
        level = below
    raise TooDeep(max(getattr(node, "lineno", 1) for node in level))


_LEAVES = frozenset((ast.Name, ast.Constant, str, int, type(None), ast.arguments))
_NO_NODES = frozenset(("ctx", "op", "ops", "attr", "arg", "id", "kind", "conversion", "annotation", "type_comment"))
_CHILDREN: Mapping[type[ast.AST], tuple[str, ...]] = {
    kind: tuple(name for name in kind._fields if name not in _NO_NODES)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
"""Node type -> its fields that can hold nodes that matter here."""


def _note_assignment(facts: Facts, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> None:
    for target, value in _targets(node):
        _note(facts, target, value)


def _note_loop(facts: Facts, node: ast.For | ast.comprehension) -> None:
    if isinstance(node, ast.For):
        _note(facts, node.target, None)
    facts.loops.append(node)


def _note_handler(facts: Facts, node: ast.ExceptHandler) -> None:
    if node.name:
        facts.values.setdefault(node.name, []).append(None)
        facts.assigned.add(node.name)
        facts.caught.add(node.name)


def _note_call(facts: Facts, node: ast.Call) -> None:
    function = node.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.attr in MUTATORS:
        facts.mutated.setdefault(function.value.id, set()).add(function.attr)


def _note_await(facts: Facts, node: ast.Await) -> None:
    facts.awaited.update(_awaited(node.value))


_NOTES: Mapping[type[ast.AST], Callable[[Facts, Any], None]] = {  # Any: each takes the type that is its key
    ast.Assign: _note_assignment,
    ast.AnnAssign: _note_assignment,
    ast.AugAssign: _note_assignment,
    ast.For: _note_loop,
    ast.comprehension: _note_loop,
    ast.ExceptHandler: _note_handler,
    ast.Call: _note_call,
    ast.Await: _note_await,
}


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
    elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
        facts.mutated.setdefault(target.value.id, set()).add("[]")
    elif isinstance(target, ast.Attribute):
        facts.attributes.setdefault(target.attr, []).append(value)
    elif isinstance(target, ast.Tuple | ast.List):
        for item, part in zip(target.elts, _parts(target.elts, value), strict=True):
            _note(facts, item, part, local=local)
    elif isinstance(target, ast.Starred):
        _note(facts, target.value, None, local=local)


def _parts(targets: list[ast.expr], value: ast.expr | None) -> Sequence[ast.expr | None]:
    """What each target of `i, done = 0, False` is assigned; of any other unpacking nothing is known."""
    if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(targets):
        starred = any(isinstance(item, ast.Starred) for item in (*targets, *value.elts))
        return [None] * len(targets) if starred else value.elts
    return [None] * len(targets)


def _awaited(value: ast.expr) -> Iterator[str]:
    """Names awaited by `await name` or `await asyncio.gather(name, *names)`."""
    if isinstance(value, ast.Name):
        yield value.id
    elif isinstance(value, ast.Call):
        for argument in value.args:
            inner = argument.value if isinstance(argument, ast.Starred) else argument
            if isinstance(inner, ast.Name):
                yield inner.id
