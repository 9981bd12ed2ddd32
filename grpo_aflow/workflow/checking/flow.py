"""Checks the statements of `__call__`: what is assigned along every path, returns, loops, and the bound on calls.

Each statement gives the costs of the paths through it; a block adds them up. A loop multiplies by its bound, which the
interpreter enforces: a static bound can be too high, never too low.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from grpo_aflow.workflow.checking.expressions import check_operator, iterable
from grpo_aflow.workflow.checking.header import read_import
from grpo_aflow.workflow.checking.paths import PathCosts, loop_paths
from grpo_aflow.workflow.checking.predicates import (
    always,
    assigned_in,
    calls_operator,
    cannot_fail,
    is_elif,
    is_guard,
)
from grpo_aflow.workflow.checking.returns import check_answer
from grpo_aflow.workflow.checking.walk import Walk
from grpo_aflow.workflow.language import EXCEPTIONS
from grpo_aflow.workflow.program import FREE, Cost

Names = set[str] | None  # the names assigned on some path to here; None: the point cannot be reached


def _either(a: Names, b: Names) -> Names:
    """What is assigned where two paths meet."""
    return b if a is None else a if b is None else a | b


def _copy(names: Names) -> Names:
    return None if names is None else set(names)


@dataclass(slots=True)
class _Loop:
    """What is assigned where a loop is left or goes on early."""

    breaks: Names = None
    broken: bool = False
    continues: Names = None


class Flow:
    """Walks statements; what it finds is reported to the walk."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.loops: list[_Loop] = []
        self.nesting = 0
        self.too_deep = False

    def block(self, statements: list[ast.stmt]) -> PathCosts:
        """Walk a block; statements that cannot be reached are checked for names, and cost nothing."""
        paths = PathCosts()
        for statement in statements:
            paths = paths.then(self.statement(statement))
        return paths

    def inner_block(self, statements: list[ast.stmt]) -> PathCosts:
        self.nesting += 1
        limit = self.walk.rules.max_nesting
        if self.nesting > limit and not self.too_deep:
            self.too_deep = True
            self.walk.report(statements[0], "E402", f"more than {limit} nested blocks; write them flatter")
        paths = self.block(statements)
        self.nesting -= 1
        return paths

    def statement(self, node: ast.stmt) -> PathCosts:
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                return PathCosts()
            case ast.Expr(value=value):
                return PathCosts(self.walk.visit(value))
            case ast.Assign(targets=targets, value=value):
                return self._assign(targets, value)
            case ast.AnnAssign(target=target, value=value):
                return self._assign([target], value) if value is not None else PathCosts()
            case ast.AugAssign():
                return self._augmented(node)
            case ast.Return(value=value):
                cost = self.walk.visit(value) if value is not None else FREE
                if value is None:
                    self.walk.report(node, "E301", "return gives no answer; write `return answer`")
                else:
                    check_answer(self.walk, value)
                self.walk.assigned = None
                return PathCosts(None, None, cost)
            case ast.If():
                return self._if(node)
            case ast.For() | ast.While():
                return self._loop(node)
            case ast.Try():
                return self._try(node)
            case ast.Import() | ast.ImportFrom():
                read_import(self.walk.outline, node)
                return PathCosts()
            case ast.Break() | ast.Continue():
                return self._jump(node)
        self.walk.outline.refuse(node)
        return PathCosts()

    # --- assignments --------------------------------------------------------------------------------------------------

    def _assign(self, targets: list[ast.expr], value: ast.expr) -> PathCosts:
        walk = self.walk
        only = targets[0] if len(targets) == 1 else None
        walk.deferring = isinstance(only, ast.Name) and only.id in walk.facts.awaited
        cost = walk.visit(value)
        walk.deferring = False
        for target in targets:
            cost = cost.plus(self.target(target))
        return PathCosts(cost)

    def target(self, node: ast.expr) -> Cost:
        """Check what is assigned to, and note it as assigned."""
        walk = self.walk
        match node:
            case ast.Name(id=name):
                if walk.assigned is not None:
                    walk.assigned.add(name)
                return FREE
            case ast.Tuple(elts=items) | ast.List(elts=items):
                cost = FREE
                for item in items:
                    cost = cost.plus(self.target(item.value if isinstance(item, ast.Starred) else item))
                return cost
            case ast.Subscript(value=base, slice=index):
                if isinstance(index, ast.Slice):
                    self.walk.report(node, "E502", "the language does not assign to slices; build a new list")
                    return FREE
                return walk.visit(base).plus(walk.visit(index))
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                if name in self.walk.outline.slots or name in self.walk.outline.llm_names or name.startswith("__"):
                    self.walk.report(node, "E504", f"self.{name} cannot be changed; use another name")
                return FREE
        self.walk.report(node, "E504", "only names, items and self.<name> can be assigned to")
        return FREE

    def _augmented(self, node: ast.AugAssign) -> PathCosts:
        walk = self.walk
        cost = walk.value(node.value)
        if isinstance(node.target, ast.Name):
            loaded = ast.copy_location(ast.Name(id=node.target.id, ctx=ast.Load()), node.target)
            cost = cost.plus(walk.visit(loaded))
            check_operator(walk, node)
        return PathCosts(cost.plus(self.target(node.target)))

    # --- branches -----------------------------------------------------------------------------------------------------

    def _if(self, node: ast.If) -> PathCosts:
        walk = self.walk
        tested = walk.value(node.test)
        before = walk.assigned
        walk.assigned = _copy(before)
        yes = self.inner_block(node.body)
        after_yes, walk.assigned = walk.assigned, _copy(before)
        no = (self.block if is_elif(node) else self.inner_block)(node.orelse) if node.orelse else PathCosts()
        walk.assigned = _either(after_yes, walk.assigned)
        if is_guard(node.test, walk.parameters):  # every task has a problem
            yes = yes.never()
        elif is_guard(ast.UnaryOp(op=ast.Not(), operand=node.test), walk.parameters):
            no = no.never()
        return yes.or_(no).after(tested)

    # --- try ----------------------------------------------------------------------------------------------------------

    def _try(self, node: ast.Try) -> PathCosts:
        """A handler begins anywhere in the body: below the calls that stand before what can fail."""
        walk = self.walk
        before = _copy(walk.assigned)
        tried = self.inner_block(node.body)
        entered = None if before is None else before | assigned_in(node.body)
        paths = tried.then(self.block(node.orelse))
        after = walk.assigned
        until = tried.worst.at_least(self._least_before_failure(node.body))
        for handler in node.handlers:
            self._check_handler(handler)
            walk.assigned = _copy(entered)
            if walk.assigned is not None and handler.name:
                walk.assigned.add(handler.name)
            paths = paths.or_(self.inner_block(handler.body).after(until))
            after = _either(after, walk.assigned)
        walk.assigned = after
        if not node.finalbody:
            return paths
        if after is None:
            walk.assigned = _copy(entered)  # checked once, for the ways that leave, too
        final = self.inner_block(node.finalbody)
        if after is None:
            walk.assigned = None
        if final.through is None:  # it returns or jumps itself, whatever came before
            return final.after(paths.worst.or_(until))
        return paths.after(final.worst)

    def _check_handler(self, handler: ast.ExceptHandler) -> None:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type] if handler.type else []
        for kind in kinds:
            name = kind.attr if isinstance(kind, ast.Attribute) else kind.id if isinstance(kind, ast.Name) else ""
            of_module = isinstance(kind, ast.Attribute) and isinstance(kind.value, ast.Name)
            shadowed = isinstance(kind, ast.Name) and name in self.walk.facts.assigned
            known = name in EXCEPTIONS or name in ("BaseException", "JSONDecodeError") or of_module
            if not known or shadowed:
                shown = ast.unparse(kind)[:40]
                self.walk.report(handler, "E503", f"except takes Python's own exceptions, like ValueError; got {shown}")

    def _least_before_failure(self, body: list[ast.stmt]) -> int:
        """Operator calls at the beginning of a block that surely happen before anything in it can fail."""
        least = 0
        for statement in body:
            match statement:
                case ast.Assign(
                    targets=[ast.Name()], value=ast.Await(value=ast.Call(func=ast.Attribute(attr=name)) as call)
                ) if all(map(cannot_fail, [*call.args, *(k.value for k in call.keywords)])):
                    spec = self.walk.outline.slots.get(name)
                    least += bool(spec and spec.min_calls)
                case ast.Assign(targets=[ast.Name()], value=value) if cannot_fail(value):
                    pass
                case _:
                    return least
        return least

    # --- loops --------------------------------------------------------------------------------------------------------

    def _jump(self, node: ast.Break | ast.Continue) -> PathCosts:
        if not self.loops:  # only reachable for broken input: Python's own compiler checks this, its parser does not
            self.walk.report(node, "E101", "break and continue stand in loops only")
            return PathCosts()
        loop, names = self.loops[-1], self.walk.assigned
        if isinstance(node, ast.Break):
            loop.broken = True
            loop.breaks = _either(loop.breaks, _copy(names))
        else:
            loop.continues = _either(loop.continues, _copy(names))
        self.walk.assigned = None
        return PathCosts(None, FREE, None)

    def _loop(self, node: ast.For | ast.While) -> PathCosts:
        walk = self.walk
        calls_before = len(walk.called)
        bound, literal, entry = self._loop_header(node)
        if walk.assigned is not None:
            walk.assigned |= assigned_in(node.body) & walk.facts.assigned  # by the turn before
        before = _copy(walk.assigned)
        if isinstance(node, ast.For):
            entry = entry.plus(self.target(node.target))
        body, loop = self._loop_body(node, bound)
        turned = _either(walk.assigned, loop.continues)
        forever = isinstance(node, ast.While) and always(node.test)
        begins = isinstance(node, ast.While) and walk.lengths.surely_begins(node)
        at_least_once = begins or (literal and bound > 0)
        walk.assigned = None if forever else turned if at_least_once else before
        rest = self.block(node.orelse)
        falls_through = walk.assigned is not None or loop.broken
        walk.assigned = _either(walk.assigned, loop.breaks) if loop.broken else walk.assigned
        if isinstance(node, ast.While) or len(walk.called) > calls_before:
            walk.loop_bounds[node.lineno, node.col_offset] = bound
        once = loop.broken or not literal
        return loop_paths(
            body,
            rest,
            entry=entry,
            entered_each_turn=isinstance(node, ast.While),
            bound=bound,
            least_turns=0 if not at_least_once else 1 if once else bound,
            falls_through=falls_through,
        )

    def _loop_body(self, node: ast.For | ast.While, bound: int) -> tuple[PathCosts, _Loop]:
        """One turn, and what its `break` and `continue` leave behind."""
        lengths = self.walk.lengths
        self.loops.append(_Loop())
        lengths.bodies.append(node.body)
        turns, lengths.turns = lengths.turns, lengths.turns * bound
        body = self.inner_block(node.body)
        lengths.turns = turns
        lengths.bodies.pop()
        return body, self.loops.pop()

    def _loop_header(self, node: ast.For | ast.While) -> tuple[int, bool, Cost]:
        """The most turns, whether the source alone makes them, and the calls of the header (while: of one test)."""
        walk = self.walk
        if isinstance(node, ast.For):
            bound, cost = iterable(walk, node.iter)
            return bound, walk.lengths.literal(node.iter) is not None, cost
        counted, limit = walk.lengths.counted(node), walk.rules.max_loop_iterations
        bound = limit if counted is None else counted
        if any(map(calls_operator, node.body)):
            bound = min(bound, limit)
            if counted is None:
                walk.uncounted.append(node.lineno)
        return bound, walk.lengths.surely_counted(node), walk.value(node.test)
