"""The validator's walk through the statements of `__call__`: assignments along every path, returns, loops and bounds.

Each statement gives back the most calls of the paths that go on below it, leave the loop around it, or return; a block
adds them up. A loop multiplies by its bound, which the interpreter enforces: a static bound can be too high, never
too low.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import NamedTuple

from grpo_aflow.workflow.expressions import Expressions
from grpo_aflow.workflow.program import FREE, Cost

Names = set[str] | None  # the names assigned for certain; None: the point cannot be reached


class Paths(NamedTuple):
    """The most calls on each kind of path through a statement; None where there is no such path."""

    through: Cost | None = FREE
    jumped: Cost | None = None  # break, continue
    returned: Cost | None = None

    @property
    def worst(self) -> Cost:
        return _most(_most(self.through, self.jumped), self.returned) or FREE


def _most(a: Cost | None, b: Cost | None) -> Cost | None:
    return b if a is None else a if b is None else a.or_(b)


def _both(a: Names, b: Names) -> Names:
    return b if a is None else a if b is None else a & b


def _copy(names: Names) -> Names:
    return None if names is None else set(names)


@dataclass(slots=True)
class _Loop:
    breaks: Names = None
    broken: bool = False
    continues: Names = None


@dataclass(frozen=True, slots=True)
class _Given:
    """What is assigned besides where a condition holds, as long as none of its names has changed."""

    names: frozenset[str]
    writes: dict[str, int]


class Flow:
    """Walks statements; what it finds is reported to the reading of its expressions."""

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions
        self.reading = expressions.reading
        self.loops: list[_Loop] = []
        self.given: dict[str, _Given] = {}
        self.nesting = 0
        self.too_deep = False

    def block(self, statements: list[ast.stmt]) -> Paths:
        """Walk a block; statements that cannot be reached are checked for names, and cost nothing."""
        through: Cost | None = FREE
        jumped: Cost | None = None
        returned: Cost | None = None
        for statement in statements:
            paths = self.statement(statement)
            if through is None:
                continue
            jumped = _most(jumped, paths.jumped and through.plus(paths.jumped))
            returned = _most(returned, paths.returned and through.plus(paths.returned))
            through = None if paths.through is None else through.plus(paths.through)
        return Paths(through, jumped, returned)

    def inner_block(self, statements: list[ast.stmt]) -> Paths:
        self.nesting += 1
        limit = self.expressions.rules.max_nesting
        if self.nesting > limit and not self.too_deep:
            self.too_deep = True
            self.reading.report(statements[0], "E402", f"more than {limit} nested blocks; write them flatter")
        paths = self.block(statements)
        self.nesting -= 1
        return paths

    def statement(self, node: ast.stmt) -> Paths:
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                return Paths()
            case ast.Expr(value=value):
                return Paths(self.expressions.visit(value))
            case ast.Assign(targets=targets, value=value):
                return self._assign(targets, value)
            case ast.AnnAssign(target=target, value=value):
                return self._assign([target], value) if value is not None else Paths()
            case ast.AugAssign():
                return self._augmented(node)
            case ast.Return(value=value):
                cost = self.expressions.visit(value) if value is not None else FREE
                if value is None:
                    self.reading.report(node, "E301", "return gives no answer; write `return answer`")
                self.expressions.assigned = None
                return Paths(None, None, cost)
            case ast.If():
                return self._if(node)
            case ast.For() | ast.While():
                return self._loop(node)
            case ast.Break() | ast.Continue():
                return self._jump(node)
        self.reading.refuse(node)
        return Paths()

    # --- assignments --------------------------------------------------------------------------------------------------

    def _assign(self, targets: list[ast.expr], value: ast.expr) -> Paths:
        expressions = self.expressions
        only = targets[0] if len(targets) == 1 else None
        expressions.deferring = isinstance(only, ast.Name) and only.id in expressions.facts.awaited
        cost = expressions.visit(value)
        expressions.deferring = False
        for target in targets:
            cost = cost.plus(self.target(target))
        return Paths(cost)

    def target(self, node: ast.expr) -> Cost:
        """Check what is assigned to, and note it as assigned."""
        expressions = self.expressions
        match node:
            case ast.Name(id=name):
                if expressions.assigned is not None:
                    expressions.assigned.add(name)
                expressions.wrote(name)
                return FREE
            case ast.Tuple(elts=items) | ast.List(elts=items):
                cost = FREE
                for item in items:
                    cost = cost.plus(self.target(item.value if isinstance(item, ast.Starred) else item))
                return cost
            case ast.Subscript(value=base, slice=index):
                if isinstance(base, ast.Name):
                    expressions.wrote(base.id)
                if isinstance(index, ast.Slice):
                    self.reading.report(node, "E502", "the language does not assign to slices; build a new list")
                    return FREE
                return expressions.visit(base).plus(expressions.visit(index))
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                if name in self.reading.slots or name in self.reading.llm_names or name.startswith("__"):
                    self.reading.report(node, "E504", f"self.{name} cannot be changed; use another name")
                return FREE
        self.reading.report(node, "E504", "only names, items and self.<name> can be assigned to")
        return FREE

    def _augmented(self, node: ast.AugAssign) -> Paths:
        expressions = self.expressions
        cost = expressions.plainly(node.value)
        if isinstance(node.target, ast.Name):
            loaded = ast.copy_location(ast.Name(id=node.target.id, ctx=ast.Load()), node.target)
            cost = cost.plus(expressions.visit(loaded))
            expressions.binary(ast.BinOp(left=ast.Constant(0), op=node.op, right=ast.Constant(0), lineno=node.lineno))
            return Paths(cost.plus(self.target(node.target)))
        return Paths(cost.plus(self.target(node.target)))

    # --- branches -----------------------------------------------------------------------------------------------------

    def _if(self, node: ast.If) -> Paths:
        expressions = self.expressions
        tested = expressions.plainly(node.test)
        key = ast.dump(node.test) if len(node.body) and not isinstance(node.test, ast.Constant) else ""
        watched = {name.id for name in ast.walk(node.test) if isinstance(name, ast.Name)}
        writes = {name: expressions.writes.get(name, 0) for name in watched}
        before = expressions.assigned
        expressions.assigned = self._with_given(_copy(before), key, writes)
        yes = self.inner_block(node.body)
        after_yes = expressions.assigned
        expressions.assigned = self._with_given(_copy(before), "not " + key, writes)
        no = (self.block if _is_elif(node) else self.inner_block)(node.orelse) if node.orelse else Paths()
        after_no = expressions.assigned
        after = _both(after_yes, after_no)
        expressions.assigned = after
        unchanged = all(expressions.writes.get(name, 0) == count for name, count in writes.items())
        if key and unchanged and after is not None:
            if after_yes is not None:
                self.given[key] = _Given(frozenset(after_yes - after), writes)
            if after_no is not None:
                self.given["not " + key] = _Given(frozenset(after_no - after), writes)
        through = _most(yes.through, no.through)
        jumped, returned = _most(yes.jumped, no.jumped), _most(yes.returned, no.returned)
        return Paths(
            None if through is None else tested.plus(through),
            None if jumped is None else tested.plus(jumped),
            None if returned is None else tested.plus(returned),
        )

    def _with_given(self, names: Names, key: str, writes: dict[str, int]) -> Names:
        """The names assigned where the condition holds: it may have been tested above, with assignments below it."""
        given = self.given.get(key)
        if names is not None and given is not None and given.writes == writes:
            names |= given.names
        return names

    # --- loops --------------------------------------------------------------------------------------------------------

    def _jump(self, node: ast.Break | ast.Continue) -> Paths:
        if not self.loops:  # only reachable for broken input: Python's own compiler checks this, its parser does not
            self.reading.report(node, "E101", "break and continue stand in loops only")
            return Paths()
        loop, names = self.loops[-1], self.expressions.assigned
        if isinstance(node, ast.Break):
            loop.broken = True
            loop.breaks = _both(loop.breaks, _copy(names))
        else:
            loop.continues = _both(loop.continues, _copy(names))
        self.expressions.assigned = None
        return Paths(None, FREE, None)

    def _loop(self, node: ast.For | ast.While) -> Paths:
        expressions = self.expressions
        calls_before = len(expressions.called)
        bound, literal, entry = self._loop_header(node)
        before = _copy(expressions.assigned)
        if isinstance(node, ast.For):
            entry = entry.plus(self.target(node.target))
        self.given.clear()  # a second turn sees what the first one changed
        self.loops.append(_Loop())
        turns, expressions.lengths.turns = expressions.lengths.turns, expressions.lengths.turns * bound
        body = self.inner_block(node.body)
        expressions.lengths.turns = turns
        loop = self.loops.pop()
        self.given.clear()
        turned = _both(expressions.assigned, loop.continues)
        forever = isinstance(node, ast.While) and _always(node.test)
        at_least_once = forever or (literal and bound > 0)
        ended = turned if at_least_once else before
        expressions.assigned = None if forever else ended
        if at_least_once and not forever and turned is None:
            expressions.assigned = None  # every turn leaves: the loop never comes to its own end
        rest = self.block(node.orelse) if node.orelse else Paths()
        falls_through = expressions.assigned is not None or loop.broken
        expressions.assigned = _both(expressions.assigned, loop.breaks) if loop.broken else expressions.assigned
        if isinstance(node, ast.While) or len(expressions.called) > calls_before:
            expressions.loop_bounds[node.lineno, node.col_offset] = bound
        per_turn = body.worst if isinstance(node, ast.For) else body.worst.plus(entry)
        total = per_turn.times(bound).plus(entry)
        through = _most(total if falls_through else None, rest.through and total.plus(rest.through))
        if not falls_through:
            through = None
        returned = _most(body.returned and total, rest.returned and total.plus(rest.returned))
        jumped = rest.jumped and total.plus(rest.jumped)
        return Paths(through, jumped, returned)

    def _loop_header(self, node: ast.For | ast.While) -> tuple[int, bool, Cost]:
        """The most turns, whether the source alone gives them, and the calls of the header (while: of one test)."""
        expressions = self.expressions
        if isinstance(node, ast.For):
            bound, cost = expressions.iterable(node.iter)
            return bound, expressions.lengths.literal(node.iter) is not None, cost
        counted = self._counted(node)
        limit = expressions.rules.max_loop_iterations
        bound = limit if counted is None else counted
        if bound > limit and any(map(calls_operator, node.body)):
            bound = limit
        return bound, False, expressions.plainly(node.test)

    def _counted(self, node: ast.While) -> int | None:
        """The turns of `i = 0; while i < 3 [and …]: …; i += 1`, where i changes nowhere else."""
        facts = self.expressions.facts
        tests = (
            node.test.values if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.And) else [node.test]
        )
        for test in tests:
            match test:
                case ast.Compare(left=ast.Name(id=name), ops=[ast.Lt() | ast.LtE() as order], comparators=[limit]):
                    steps = facts.steps.get(name, [])
                    values = facts.values.get(name, [])
                    if len(steps) != 1 or len(values) != 2 or not isinstance(steps[0].op, ast.Add):
                        continue
                    start = next((v.value for v in values if isinstance(v, ast.Constant)), None)
                    stop, step = facts.constant(limit), facts.constant(steps[0].value)
                    inside = any(item is steps[0] for item in node.body)
                    if inside and type(start) is int and type(stop) is int and type(step) is int and step > 0:
                        return max(0, -((start - stop - isinstance(order, ast.LtE)) // step))
        return None


def calls_operator(node: ast.AST) -> bool:
    """Whether an operator call stands below the node, as far as its form shows."""
    return any(isinstance(inner, ast.Await) for inner in ast.walk(node))


def _is_elif(node: ast.If) -> bool:
    return len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)


def _always(test: ast.expr) -> bool:
    return isinstance(test, ast.Constant) and bool(test.value)
