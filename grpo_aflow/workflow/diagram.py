"""A picture of a workflow: its operator calls and control flow as Mermaid text, for the report."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from grpo_aflow.workflow.program import Workflow

MAX_LABEL = 60

Ends = list[tuple[str, str]]
"""Nodes from which the next one is reached, each with the label of that edge."""


def mermaid(workflow: Workflow) -> str:
    """The workflow as a Mermaid flowchart: operators are boxes, conditions rhombs, loops hexagons.

    Example: a single call of custom gives `start --> n1 --> answer`.
    """
    chart = _Chart(workflow=workflow)
    ends = chart.block(list(workflow.body), [("start", "")])
    chart.join(ends, "answer")
    return "\n".join(["flowchart TD", '    start(["problem"])', *chart.lines, '    answer(["answer"])']) + "\n"


@dataclass(slots=True)
class _Loop:
    head: str
    breaks: Ends = field(default_factory=list)


@dataclass(slots=True)
class _Chart:
    workflow: Workflow
    lines: list[str] = field(default_factory=list)
    loops: list[_Loop] = field(default_factory=list)
    num_nodes: int = 0

    def node(self, opening: str, label: str, closing: str) -> str:
        self.num_nodes += 1
        name = f"n{self.num_nodes}"
        self.lines.append(f'    {name}{opening}"{_escaped(label)}"{closing}')
        return name

    def join(self, ends: Ends, target: str) -> None:
        for source, label in ends:
            arrow = f'-- "{_escaped(label)}" -->' if label else "-->"
            self.lines.append(f"    {source} {arrow} {target}")

    def block(self, statements: list[ast.stmt], ends: Ends) -> Ends:
        for statement in statements:
            if not ends:
                break  # cannot be reached
            ends = self.statement(statement, ends)
        return ends

    def statement(self, node: ast.stmt, ends: Ends) -> Ends:
        match node:
            case ast.If(test=test, body=body, orelse=orelse):
                return self._if(test, body, orelse, self.calls(test, ends))
            case ast.For(target=target, iter=source, body=body, orelse=orelse):
                label = f"for {ast.unparse(target)} in {ast.unparse(source)}"
                return self._loop(label, body, orelse, self.calls(source, ends))
            case ast.While(test=test, body=body, orelse=orelse):
                return self._loop(f"while {ast.unparse(test)}", body, orelse, ends, test)
            case ast.Return():
                self.join(self.calls(node, ends), "answer")
                return []
            case ast.Break():
                self.loops[-1].breaks += ends
                return []
            case ast.Continue():
                self.join(ends, self.loops[-1].head)
                return []
        return self.calls(node, ends)

    def _if(self, test: ast.expr, body: list[ast.stmt], orelse: list[ast.stmt], ends: Ends) -> Ends:
        if not any(_matters(statement) for statement in (*body, *orelse)):
            return ends  # a branch that only computes is no picture of the operators
        head = self.node("{", ast.unparse(test), "}")
        self.join(ends, head)
        return self.block(body, [(head, "yes")]) + self.block(orelse, [(head, "no")])

    def _loop(
        self, label: str, body: list[ast.stmt], orelse: list[ast.stmt], ends: Ends, test: ast.expr | None = None
    ) -> Ends:
        if not any(_matters(statement) for statement in body) and (test is None or not _matters(test)):
            return ends
        head = self.node("{{", label, "}}")
        self.join(ends, head)
        self.loops.append(_Loop(head))
        entered = self.calls(test, [(head, "")]) if test is not None else [(head, "each")]
        self.join(self.block(body, entered), head)
        loop = self.loops.pop()
        forever = isinstance(test, ast.Constant) and bool(test.value)
        return self.block(orelse, [] if forever else [(head, "done")]) + loop.breaks

    def calls(self, node: ast.AST, ends: Ends) -> Ends:
        """The operator calls of an expression or a simple statement, in order; gathered ones side by side."""
        for gathered, call, times in _operator_calls(node):
            if gathered:
                names = [self._call(inner, n) for _, inner, n in _operator_calls(call, inside=True)]
                for name in names:
                    self.join(ends, name)
                ends = [(name, "") for name in names] or ends
            else:
                name = self._call(call, times)
                self.join(ends, name)
                ends = [(name, "")]
        return ends

    def _call(self, node: ast.Call, times: str) -> str:
        assert isinstance(node.func, ast.Attribute)
        spec = self.workflow.slots[node.func.attr]
        return self.node("[", spec.class_name + (f" × {times}" if times else ""), "]")


def _operator_calls(node: ast.AST, *, inside: bool = False, times: str = "") -> Iterator[tuple[bool, ast.Call, str]]:
    """(gathered, call, how often) of the operator calls below a node, inner ones first."""
    if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
        times = ast.unparse(node.generators[0].iter)
    if isinstance(node, ast.Call) and not inside and _is_gather(node):
        if any(True for _ in _operator_calls(node, inside=True)):
            yield True, node, ""
        return
    for child in ast.iter_child_nodes(node):
        yield from _operator_calls(child, inside=inside, times=times)
    if isinstance(node, ast.Call) and _is_operator(node):
        yield False, node, times


def _is_gather(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr == "gather"


def _is_operator(node: ast.Call) -> bool:
    return (
        isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and node.func.value.id == "self"
    )


def _matters(node: ast.AST) -> bool:
    """Whether operator calls, or ways out, are below a node."""
    ways_out = ast.Return | ast.Break | ast.Continue
    return any(
        isinstance(inner, ways_out) or (isinstance(inner, ast.Call) and _is_operator(inner)) for inner in ast.walk(node)
    )


def _escaped(label: str) -> str:
    label = label if len(label) <= MAX_LABEL else label[: MAX_LABEL - 1] + "…"
    return (
        label.replace("\n", " ").replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
    )
