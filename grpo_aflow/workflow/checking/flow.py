"""The validator's walk through the statements of `__call__`: assignments along every path, returns, loops and bounds.

Each statement gives back the most calls of the paths that go on below it, leave the loop around it, or return; a block
adds them up. A loop multiplies by its bound, which the interpreter enforces: a static bound can be too high, never
too low.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import NamedTuple

from grpo_aflow.workflow.checking.expressions import Expressions
from grpo_aflow.workflow.checking.reader import read_import
from grpo_aflow.workflow.language import EXCEPTIONS
from grpo_aflow.workflow.program import FREE, Cost

Names = set[str] | None  # the names assigned on some path to here; None: the point cannot be reached
NEVER = 1 << 20  # the least calls of a path that no task takes


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


def _either(a: Names, b: Names) -> Names:
    return b if a is None else a if b is None else a | b


def _copy(names: Names) -> Names:
    return None if names is None else set(names)


@dataclass(slots=True)
class _Loop:
    breaks: Names = None
    broken: bool = False
    continues: Names = None


class Flow:
    """Walks statements; what it finds is reported to the reading of its expressions."""

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions
        self.reading = expressions.reading
        self.loops: list[_Loop] = []
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
            case ast.Try():
                return self._try(node)
            case ast.Import() | ast.ImportFrom():
                read_import(self.reading, node)
                return Paths()
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
        before = expressions.assigned
        expressions.assigned = _copy(before)
        yes = self.inner_block(node.body)
        after_yes, expressions.assigned = expressions.assigned, _copy(before)
        no = (self.block if _is_elif(node) else self.inner_block)(node.orelse) if node.orelse else Paths()
        expressions.assigned = _either(after_yes, expressions.assigned)
        if is_guard(node.test, expressions.parameters):
            yes = _never(yes)
        elif is_guard(ast.UnaryOp(op=ast.Not(), operand=node.test), expressions.parameters):
            no = _never(no)
        through = _most(yes.through, no.through)
        jumped, returned = _most(yes.jumped, no.jumped), _most(yes.returned, no.returned)
        return Paths(
            None if through is None else tested.plus(through),
            None if jumped is None else tested.plus(jumped),
            None if returned is None else tested.plus(returned),
        )

    # --- try ----------------------------------------------------------------------------------------------------------

    def _try(self, node: ast.Try) -> Paths:
        """A handler begins anywhere in the body: below the calls that stand before what can fail."""
        expressions = self.expressions
        before = _copy(expressions.assigned)
        tried = self.inner_block(node.body)
        entered = None if before is None else before | assigned_in(node.body)
        whole = self.block(node.orelse) if node.orelse else Paths()
        through = tried.through and whole.through and tried.through.plus(whole.through)
        jumped = _most(tried.jumped, tried.through and whole.jumped and tried.through.plus(whole.jumped))
        returned = _most(tried.returned, tried.through and whole.returned and tried.through.plus(whole.returned))
        after = expressions.assigned
        until = tried.worst.at_least(self._least_before_failure(node.body))
        for handler in node.handlers:
            self._check_handler(handler)
            expressions.assigned = _copy(entered)
            if expressions.assigned is not None and handler.name:
                expressions.assigned.add(handler.name)
            paths = self.inner_block(handler.body)
            through = _most(through, paths.through and until.plus(paths.through))
            jumped = _most(jumped, paths.jumped and until.plus(paths.jumped))
            returned = _most(returned, paths.returned and until.plus(paths.returned))
            after = _either(after, expressions.assigned)
        expressions.assigned = after
        if not node.finalbody:
            return Paths(through, jumped, returned)
        if after is None:
            expressions.assigned = _copy(entered)  # checked once, for the ways that leave, too
        final = self.inner_block(node.finalbody)
        if after is None:
            expressions.assigned = None
        ways = [way.plus(final.worst) if way is not None else None for way in (through, jumped, returned)]
        if final.through is None:  # it returns or jumps itself, whatever came before
            worst = (_most(_most(through, jumped), returned) or FREE).or_(until.plus(FREE))
            return Paths(None, final.jumped and worst.plus(final.jumped), final.returned and worst.plus(final.returned))
        return Paths(*ways)

    def _check_handler(self, handler: ast.ExceptHandler) -> None:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type] if handler.type else []
        for kind in kinds:
            name = kind.attr if isinstance(kind, ast.Attribute) else kind.id if isinstance(kind, ast.Name) else ""
            of_module = isinstance(kind, ast.Attribute) and isinstance(kind.value, ast.Name)
            shadowed = isinstance(kind, ast.Name) and name in self.expressions.facts.assigned
            if (
                name not in EXCEPTIONS and name not in ("BaseException", "JSONDecodeError") and not of_module
            ) or shadowed:
                self.reading.report(
                    handler,
                    "E503",
                    f"except takes Python's own exceptions, like ValueError; got {ast.unparse(kind)[:40]}",
                )

    def _least_before_failure(self, body: list[ast.stmt]) -> int:
        """Operator calls at the beginning of a block that surely happen before anything in it can fail."""
        least = 0
        for statement in body:
            match statement:
                case ast.Assign(
                    targets=[ast.Name()], value=ast.Await(value=ast.Call(func=ast.Attribute(attr=name)) as call)
                ) if all(map(cannot_fail, [*call.args, *(k.value for k in call.keywords)])):
                    spec = self.reading.slots.get(name)
                    least += bool(spec and spec.min_calls)
                case ast.Assign(targets=[ast.Name()], value=value) if cannot_fail(value):
                    pass
                case _:
                    return least
        return least

    # --- loops --------------------------------------------------------------------------------------------------------

    def _jump(self, node: ast.Break | ast.Continue) -> Paths:
        if not self.loops:  # only reachable for broken input: Python's own compiler checks this, its parser does not
            self.reading.report(node, "E101", "break and continue stand in loops only")
            return Paths()
        loop, names = self.loops[-1], self.expressions.assigned
        if isinstance(node, ast.Break):
            loop.broken = True
            loop.breaks = _either(loop.breaks, _copy(names))
        else:
            loop.continues = _either(loop.continues, _copy(names))
        self.expressions.assigned = None
        return Paths(None, FREE, None)

    def _loop(self, node: ast.For | ast.While) -> Paths:
        expressions = self.expressions
        calls_before = len(expressions.called)
        bound, literal, entry = self._loop_header(node)
        if expressions.assigned is not None:
            expressions.assigned |= assigned_in(node.body) & expressions.facts.assigned  # by the turn before
        before = _copy(expressions.assigned)
        if isinstance(node, ast.For):
            entry = entry.plus(self.target(node.target))
        self.loops.append(_Loop())
        turns, expressions.lengths.turns = expressions.lengths.turns, expressions.lengths.turns * bound
        body = self.inner_block(node.body)
        expressions.lengths.turns = turns
        loop = self.loops.pop()
        turned = _either(expressions.assigned, loop.continues)
        forever = isinstance(node, ast.While) and _always(node.test)
        at_least_once = forever or (literal and bound > 0)
        turns_surely = (1 if loop.broken or isinstance(node, ast.While) else bound) if at_least_once else 0
        ended = turned if at_least_once else before
        expressions.assigned = None if forever else ended
        if at_least_once and not forever and turned is None:
            expressions.assigned = None  # every turn leaves: the loop never comes to its own end
        rest = self.block(node.orelse) if node.orelse else Paths()
        falls_through = expressions.assigned is not None or loop.broken
        expressions.assigned = _either(expressions.assigned, loop.breaks) if loop.broken else expressions.assigned
        if isinstance(node, ast.While) or len(expressions.called) > calls_before:
            expressions.loop_bounds[node.lineno, node.col_offset] = bound
        per_turn = body.worst if isinstance(node, ast.For) else body.worst.plus(entry)
        first_return = body.returned and entry.least + body.returned.least
        ended_turn = _most(body.through, body.jumped)
        total = per_turn.times(bound).plus(entry)
        total = total.at_least(entry.least + turns_surely * (ended_turn.least if ended_turn else NEVER))
        through = _most(total if falls_through else None, rest.through and total.plus(rest.through))
        if not falls_through:
            through = None
        returned = _most(
            None if first_return is None else total.at_least(first_return), rest.returned and total.plus(rest.returned)
        )
        jumped = rest.jumped and total.plus(rest.jumped)
        return Paths(through, jumped, returned)

    def _loop_header(self, node: ast.For | ast.While) -> tuple[int, bool, Cost]:
        """The most turns, whether the source alone gives them, and the calls of the header (while: of one test)."""
        expressions = self.expressions
        if isinstance(node, ast.For):
            bound, cost = expressions.iterable(node.iter)
            return bound, expressions.lengths.literal(node.iter) is not None, cost
        counted = self._counted(node)
        begins = bool(counted) and isinstance(node.test, ast.Compare)  # with `and …` it may not even begin
        limit = expressions.rules.max_loop_iterations
        bound = limit if counted is None else counted
        if bound > limit and any(map(calls_operator, node.body)):
            bound = limit
        return bound, begins, expressions.plainly(node.test)

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


def _never(paths: Paths) -> Paths:
    """The paths of a branch that is not taken, since every task has a problem: they do not lower the least calls."""
    return Paths(*(None if way is None else way.at_least(NEVER) for way in paths))


def assigned_in(body: list[ast.stmt]) -> set[str]:
    """Names that some statement of a block binds without needing them bound before."""
    names: set[str] = set()
    for outer in body:
        for node in ast.walk(outer):
            match node:
                case ast.Assign(targets=targets, value=value):
                    used = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
                    names |= {n for target in targets for n in _bound(target)} - used
                case ast.AnnAssign(target=target, value=value) if value is not None:
                    names |= _bound(target)
                case ast.For(target=target):
                    names |= _bound(target)
    return names


def _bound(target: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def cannot_fail(node: ast.expr) -> bool:
    """Whether evaluating an expression surely raises nothing: names, constants, texts of them."""
    match node:
        case ast.Constant() | ast.Name():
            return True
        case ast.Attribute(value=ast.Name()):
            return True
        case ast.JoinedStr(values=values):
            return all(map(cannot_fail, values))
        case ast.FormattedValue(value=value, format_spec=None):
            return cannot_fail(value)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return all(map(cannot_fail, items))
    return False


def is_guard(test: ast.expr, parameters: frozenset[str]) -> bool:
    """Whether a condition says that a parameter is missing: `not problem`, `problem is None`, `not problem.strip()`."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _is_parameter(operand, parameters) or (
                isinstance(operand, ast.Call)
                and isinstance(operand.func, ast.Name)
                and operand.func.id == "isinstance"
                and len(operand.args) == 2
                and _is_parameter(operand.args[0], parameters)
                and isinstance(operand.args[1], ast.Name)
                and operand.args[1].id == "str"
            )
        case ast.Compare(left=left, ops=[ast.Is() | ast.Eq()], comparators=[ast.Constant(value=value)]):
            empty = value is None or value == ""
            if isinstance(left, ast.Call) and isinstance(left.func, ast.Name) and left.func.id == "len" and left.args:
                return value == 0 and _is_parameter(left.args[0], parameters)
            return empty and _is_parameter(left, parameters)
        case ast.BoolOp(op=ast.Or(), values=values):
            return all(is_guard(value, parameters) for value in values)
    return False


def _is_parameter(node: ast.expr, parameters: frozenset[str]) -> bool:
    """`problem` or `problem.strip()`; the other parameters may well be empty."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "strip":
        node = node.func.value
    return isinstance(node, ast.Name) and node.id == "problem" and "problem" in parameters


def _is_elif(node: ast.If) -> bool:
    return len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)


def _always(test: ast.expr) -> bool:
    return isinstance(test, ast.Constant) and bool(test.value)
