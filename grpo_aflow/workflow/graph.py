"""A workflow's operator graph: which operator's result goes into which, and which into the answer. Pure.

Two workflows with the same graph are the same composition, whatever their variables, instructions, order of independent
lines and number of repetitions; this is how a policy's workflows are compared with those that it was shown. A value
depends on every operator call that may have gone into it, through assignments, lists, loops and the conditions on the
way; a call on which the answer does not depend is not part of the graph.
"""

from __future__ import annotations

import ast
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from grpo_aflow.workflow.answers import answer_in
from grpo_aflow.workflow.language import MUTATORS
from grpo_aflow.workflow.program import Workflow

Calls = frozenset[int]
"""Operator calls, by their place in the source."""
NONE: Calls = frozenset()
Origins = dict[str, Calls]
"""Name -> the calls whose results it may hold; under CONDITIONS, those that decide whether this point is reached."""
CONDITIONS = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorGraph:
    """Example: draft, review, revise: operators ("custom", "review", "revise"), feeds ({}, {0}, {0, 1}), answer {2}."""

    operators: tuple[str, ...]  # canonical slots in source order; one that is called in a loop ends with "*"
    feeds: tuple[Calls, ...]  # the calls whose results go into each one
    answer: Calls

    def key(self) -> str:
        """Equal for graphs that differ in the order of their nodes alone (colour refinement, Weisfeiler and Leman)."""
        count = len(self.operators)
        feeds = [*self.feeds, self.answer]
        fed = [[place for place in range(count + 1) if node in feeds[place]] for node in range(count + 1)]
        colours = [_digest(operator) for operator in (*self.operators, "answer")]
        for _ in range(count + 1):
            colours = [
                _digest(colours[node], sorted(colours[n] for n in feeds[node]), sorted(colours[n] for n in fed[node]))
                for node in range(count + 1)
            ]
        return _digest(sorted(colours))


def operator_graph(workflow: Workflow) -> OperatorGraph:
    """The graph of a valid workflow."""
    reader = _Reader(workflow)
    reader.block(workflow.body, {CONDITIONS: NONE})
    live, reached = set(reader.answer), list(reader.answer)
    while reached:
        new = reader.feeds[reached.pop()] - live
        live |= new
        reached += new
    order = sorted(live)
    place = {call: index for index, call in enumerate(order)}
    return OperatorGraph(
        operators=tuple(reader.operators[call] for call in order),
        feeds=tuple(frozenset(place[source] for source in reader.feeds[call]) for call in order),
        answer=frozenset(place[call] for call in reader.answer),
    )


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def _merged(flows: Iterable[Origins | None]) -> Origins | None:
    """What holds where several paths meet; None where none of them arrives."""
    arriving = [flow for flow in flows if flow is not None]
    names = {name for flow in arriving for name in flow}
    return {name: frozenset().union(*(flow.get(name, NONE) for flow in arriving)) for name in names} or None


@dataclass(slots=True)
class _Reader:
    """Walks a workflow and notes which calls feed which; `flow` is what the names hold at the present point."""

    workflow: Workflow
    places: dict[ast.Call, int] = field(default_factory=dict)
    operators: dict[int, str] = field(default_factory=dict)
    feeds: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    answer: set[int] = field(default_factory=set)
    depth: int = 0  # of loops and comprehensions
    breaks: list[list[Origins]] = field(default_factory=list)  # of each loop around: what holds where it is left early

    # --- statements: each takes what holds before it, and gives what holds after it, or None where it leaves ----------

    def block(self, statements: Sequence[ast.stmt], flow: Origins | None) -> Origins | None:
        for statement in statements:
            if flow is None:
                return None
            flow = self.statement(statement, flow)
        return flow

    def statement(self, node: ast.stmt, flow: Origins) -> Origins | None:
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self.assign(target, value, flow)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self.assign(target, value, flow)
            case ast.AugAssign(target=target, value=value):
                self.add(target, self.calls(value, flow), flow)
            case ast.Return(value=value):
                self.answer |= flow[CONDITIONS] | (self.calls(answer_in(value), flow) if value else NONE)
                return None
            case ast.Break() | ast.Continue():
                self.breaks[-1].append(flow)
                return None
            case ast.If(test=test, body=body, orelse=orelse):
                tested = self.under(flow, self.calls(test, flow))
                after = _merged([self.block(body, dict(tested)), self.block(orelse, dict(tested))])
                return self.left(node, flow, after)
            case ast.For() | ast.While():
                return self.left(node, flow, self.loop(node, flow))
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=finalbody):
                tried = self.block(body, dict(flow))
                failed = _merged([flow, tried])
                ways = [self.block(orelse, tried), *(self.block(handler.body, failed) for handler in handlers)]
                return self.block(finalbody, _merged(ways))
            case _:
                self.calls(node, flow)
        return flow

    def loop(self, node: ast.For | ast.While, flow: Origins) -> Origins | None:
        """The body, again and again until no name holds anything new; what they hold only grows, so this ends."""
        before, flow = None, dict(flow)
        self.breaks.append([])
        while flow != before:
            before = flow
            with self.repeated():
                head = node.iter if isinstance(node, ast.For) else node.test
                tested = self.under(flow, self.calls(head, flow))
                if isinstance(node, ast.For):
                    self.bind(node.target, tested[CONDITIONS], tested)
                again = self.block(node.body, tested)
            flow = _merged([before, again, *self.breaks[-1]]) or {}
        self.breaks.pop()
        return self.block(node.orelse, flow)

    def under(self, flow: Origins, conditions: Calls) -> Origins:
        """What holds where these calls decide, too, whether the point is reached."""
        return flow | {CONDITIONS: flow[CONDITIONS] | conditions}

    def left(self, node: ast.stmt, before: Origins, after: Origins | None) -> Origins | None:
        """Below a branch or loop its conditions decide nothing any more, unless it can be left by a jump."""
        leaves = any(isinstance(inner, ast.Return | ast.Break | ast.Continue) for inner in ast.walk(node))
        return after if after is None or leaves else after | {CONDITIONS: before[CONDITIONS]}

    def assign(self, target: ast.expr, value: ast.expr, flow: Origins) -> None:
        """`a, b = x, y` is told apart by items; of any other value each target holds the whole."""
        parts = _parts(value)
        if isinstance(target, ast.Tuple | ast.List) and len(parts) == len(target.elts):
            found = [self.calls(part, flow) for part in parts]
            for one, calls in zip(target.elts, found, strict=True):
                self.bind(one, calls | flow[CONDITIONS], flow)
        else:
            self.bind(target, self.calls(value, flow) | flow[CONDITIONS], flow)

    def bind(self, target: ast.expr, calls: Calls, flow: Origins) -> None:
        """A target holds these results from now on."""
        match target:
            case ast.Name(id=name):
                flow[name] = calls
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                for one in targets:
                    self.bind(one, calls, flow)
            case ast.Starred(value=one):
                self.bind(one, calls, flow)
            case _:  # an item: the rest of what holds it stays
                self.add(target, calls, flow)

    def add(self, target: ast.expr, calls: Calls, flow: Origins) -> None:
        """What holds the target takes these results in, beside what it holds already."""
        name = _root(target)
        if name is not None:
            flow[name] = flow.get(name, NONE) | calls | flow[CONDITIONS]

    # --- expressions --------------------------------------------------------------------------------------------------

    def calls(self, node: ast.AST, flow: Origins) -> Calls:
        """The operator calls that go into a value; notes those that stand in the expression itself."""
        match node:
            case ast.Name(id=name):
                return flow.get(name, NONE)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=slot)) if slot in self.workflow.slots:
                return self.call(node, self.workflow.slots[slot].slot, self.below(node, flow) | flow[CONDITIONS])
            case ast.Call(func=ast.Attribute(value=changed, attr=method)) if method in MUTATORS:
                self.add(changed, self.all([*node.args, *node.keywords], flow), flow)
                return self.calls(changed, flow)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                conditions = self.calls(test, flow)
                return conditions | self.all([body, orelse], self.under(flow, conditions))
            case ast.Lambda(args=ast.arguments(args=[ast.arg(arg=name)]), body=body):
                return self.calls(body, flow | {name: NONE})
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self.comprehension(node, dict(flow))
        return self.below(node, flow)

    def below(self, node: ast.AST, flow: Origins) -> Calls:
        return self.all(ast.iter_child_nodes(node), flow)

    def all(self, nodes: Iterable[ast.AST], flow: Origins) -> Calls:
        return frozenset().union(*[self.calls(node, flow) for node in nodes])

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, flow: Origins) -> Calls:
        found = NONE
        with self.repeated():
            for generator in node.generators:
                source = self.calls(generator.iter, flow)
                self.bind(generator.target, source, flow)
                found |= source | self.all(generator.ifs, flow)
            made = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            return found | self.all(made, self.under(flow, found))

    def call(self, node: ast.Call, slot: str, inputs: Calls) -> Calls:
        """Note an operator call and what goes into it."""
        place = self.places.setdefault(node, len(self.places))
        self.operators[place] = f"{slot}*" if self.depth else slot
        self.feeds[place] |= inputs
        return frozenset({place})

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Around what runs more than once."""
        self.depth += 1
        yield
        self.depth -= 1


def _parts(value: ast.expr) -> list[ast.expr]:
    """The single values of a tuple, a list or a gather of operator calls."""
    match value:
        case ast.Await(value=ast.Call(func=ast.Attribute(attr="gather"), args=parts)):
            found = parts
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            found = parts
        case _:
            return []
    return [] if any(isinstance(part, ast.Starred) for part in found) else found


def _root(target: ast.expr) -> str | None:
    """The name that holds what is changed: d in `d["a"].append(x)`."""
    while isinstance(target, ast.Attribute | ast.Subscript | ast.Starred):
        target = target.value
    return target.id if isinstance(target, ast.Name) else None
