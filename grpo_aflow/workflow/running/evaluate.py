"""Evaluates the expressions of a workflow: names, plain data, operator calls and `asyncio.gather`."""

from __future__ import annotations

import ast
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from grpo_aflow.types import OperatorCall
from grpo_aflow.workflow.language import BUILTINS
from grpo_aflow.workflow.operators.spec import Kind, OperatorSpec
from grpo_aflow.workflow.program import Workflow
from grpo_aflow.workflow.rules import WorkflowRules
from grpo_aflow.workflow.running.builtin import TYPES, call_builtin
from grpo_aflow.workflow.running.environment import Environment, Pending
from grpo_aflow.workflow.running.limits import Exceeded, Failed
from grpo_aflow.workflow.running.operate import Call, Exhausted, Operating, Spent, all_of
from grpo_aflow.workflow.running.values import Values


class Evaluator:
    """Evaluates expressions of one execution, and numbers its operator calls in program order."""

    def __init__(self, workflow: Workflow, rules: WorkflowRules, operating: Operating) -> None:
        self.workflow = workflow
        self.operating = operating
        self.values = Values(rules)
        self.environment = Environment()
        self.calls: list[Call] = []

    def trace(self) -> tuple[OperatorCall, ...]:
        return tuple(call.entry() for call in self.calls if call.started)

    def spent(self) -> Spent:
        """What all calls so far have spent."""
        total = Spent()
        for call in self.calls:
            total.calls += call.spent.calls
            total.tokens += call.spent.tokens
            total.usd += call.spent.usd
        return total

    def check_bound(self, turns: int, bound: int | None) -> None:
        if bound is not None and turns >= bound:
            raise Exceeded("loop")

    async def value(self, node: ast.expr) -> Any:
        self.values.step()
        return await _EVALUATE[type(node)](self, node)

    async def all_values(self, nodes: list[ast.expr]) -> list[Any]:
        """The values of a display or of arguments, `*` written out."""
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found += self.values.items(await self.value(node.value))
            else:
                found.append(await self.value(node))
        return found

    async def assign(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name(id=name):
                self.environment.locals[name] = value
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                await self._unpack(targets, self.values.items(value))
            case ast.Subscript(value=base, slice=index):
                container = await self.value(base)
                self.values.set_item(container, await self.index(index), value)
            case ast.Attribute(attr=name):
                self.environment.attributes[name] = value
            case _:
                raise AssertionError(f"the validator let {type(target).__name__} through")

    async def _unpack(self, targets: list[ast.expr], items: list[Any]) -> None:
        stars = [i for i, target in enumerate(targets) if isinstance(target, ast.Starred)]
        if len(stars) > 1 or (len(items) < len(targets) - 1 if stars else len(items) != len(targets)):
            raise Failed("ValueError", f"{len(items)} values for {len(targets)} names")
        if stars:
            after = len(targets) - stars[0] - 1
            middle = items[stars[0] : len(items) - after]
            items = [*items[: stars[0]], middle, *items[len(items) - after :]]
        for target, item in zip(targets, items, strict=True):
            await self.assign(target.value if isinstance(target, ast.Starred) else target, item)

    # --- names and plain data -----------------------------------------------------------------------------------------

    async def constant(self, node: ast.Constant) -> Any:
        return node.value

    async def name(self, node: ast.Name) -> Any:
        return self.environment.look_up(node.id)

    async def attribute(self, node: ast.Attribute) -> Any:
        base = node.value
        if isinstance(base, ast.Name) and base.id in ("self", "Workflow"):
            found = self.environment.attributes.get(node.attr, self.environment.globals.get(node.attr, _ABSENT))
            if found is _ABSENT:
                raise Failed("AttributeError", node.attr)
            return found
        if isinstance(base, ast.Name) and base.id in self.workflow.prompt_modules:
            return self.environment.globals[node.attr]
        if node.attr == "total_cost":
            return self.spent().usd
        return None

    async def index(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Slice):
            parts = [await self.value(part) if part else None for part in (node.lower, node.upper, node.step)]
            return slice(*parts)
        return await self.value(node)

    async def subscript(self, node: ast.Subscript) -> Any:
        value = await self.value(node.value)
        return self.values.item(value, await self.index(node.slice))

    async def list_(self, node: ast.List) -> Any:
        return self.values.collect(list, await self.all_values(node.elts))

    async def tuple_(self, node: ast.Tuple) -> Any:
        return self.values.collect(tuple, await self.all_values(node.elts))

    async def set_(self, node: ast.Set) -> Any:
        return self.values.collect(set, await self.all_values(node.elts))

    async def dict_(self, node: ast.Dict) -> Any:
        pairs: list[tuple[Any, Any]] = []
        for key, value in zip(node.keys, node.values, strict=True):
            found = await self.value(value)
            if key is None:
                pairs += self.values.method(found, "items", [], {})
            else:
                pairs.append((await self.value(key), found))
        return self.values.mapping(pairs)

    async def joined(self, node: ast.JoinedStr) -> Any:
        return self.values.joined([await self.value(part) for part in node.values])

    async def formatted(self, node: ast.FormattedValue) -> Any:
        conversion = chr(node.conversion) if node.conversion > 0 else None
        spec = await self.value(node.format_spec) if node.format_spec else ""
        return self.values.formatted(await self.value(node.value), conversion, spec)

    # --- operators ----------------------------------------------------------------------------------------------------

    async def binary(self, node: ast.BinOp) -> Any:
        left = await self.value(node.left)
        return self.values.binary(type(node.op), left, await self.value(node.right))

    async def unary(self, node: ast.UnaryOp) -> Any:
        return self.values.unary(type(node.op), await self.value(node.operand))

    async def boolean(self, node: ast.BoolOp) -> Any:
        value: Any = None
        for part in node.values:
            value = await self.value(part)
            if bool(value) is isinstance(node.op, ast.Or):
                return value
        return value

    async def compare(self, node: ast.Compare) -> Any:
        left = await self.value(node.left)
        for kind, part in zip(node.ops, node.comparators, strict=True):
            right = await self.value(part)
            if not self.values.compare(type(kind), left, right):
                return False
            left = right
        return True

    async def conditional(self, node: ast.IfExp) -> Any:
        return await self.value(node.body if await self.value(node.test) else node.orelse)

    # --- comprehensions -----------------------------------------------------------------------------------------------

    async def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Any:
        found: list[Any] = []
        self.environment.inner.append({})
        try:
            await self._turns(node, node.generators, found)
        finally:
            self.environment.inner.pop()
        if isinstance(node, ast.DictComp):
            return self.values.mapping(found)
        return self.values.collect(set if isinstance(node, ast.SetComp) else list, found)

    async def _turns(self, node: Any, generators: list[ast.comprehension], found: list[Any]) -> None:
        if not generators:
            self.values.reserve(64)
            if isinstance(node, ast.DictComp):
                found.append((await self.value(node.key), await self.value(node.value)))
            else:
                found.append(await self.value(node.elt))
            return
        first = generators[0]
        bound = self.workflow.loop_bounds.get((first.iter.lineno, first.iter.col_offset))
        for number, item in enumerate(self.values.items(await self.value(first.iter))):
            self.check_bound(number, bound)
            await self._bind(first.target, item)
            for condition in first.ifs:
                if not await self.value(condition):
                    break
            else:
                await self._turns(node, generators[1:], found)

    async def _bind(self, target: ast.expr, item: Any) -> None:
        environment = self.environment
        outside, environment.locals = environment.locals, environment.inner[-1]
        try:
            await self.assign(target, item)
        finally:
            environment.locals = outside

    # --- calls --------------------------------------------------------------------------------------------------------

    async def awaiting(self, node: ast.Await) -> Any:
        value = await self.value(node.value)
        if isinstance(value, list) and isinstance(node.value, ast.Call):
            return value  # asyncio.gather has run its calls already
        return (await self.finish_all([value]))[0]

    async def finish_all(self, pending: list[Any]) -> list[Any]:
        """Run calls side by side. Each sees what was spent before them, never what the others spend."""
        if not all(isinstance(item, Pending) and not item.done for item in pending):
            raise Failed("TypeError", "only operator calls can be awaited, each once")
        for item in pending:
            item.done = True
        before = self.spent()
        run = self.operating.run
        return await all_of([run(item.call, Spent(before.calls, before.tokens, before.usd)) for item in pending])

    async def call(self, node: ast.Call) -> Any:
        function = node.func
        if isinstance(function, ast.Name):
            if function.id in BUILTINS:
                return await self._builtin(node, function.id)
            return await self.finish_all(await self.all_values(node.args))  # `from asyncio import gather`
        assert isinstance(function, ast.Attribute)
        base = function.value
        if isinstance(base, ast.Name) and base.id == "self":
            return await self._operator(node, self.workflow.slots[function.attr])
        if function.attr == "gather":
            return await self.finish_all(await self.all_values(node.args))
        if function.attr in ("create_task", "ensure_future"):
            return (await self.all_values(node.args))[0]
        if function.attr == "get_usage_summary":
            return self._usage()
        return await self._method(node, function)

    async def _builtin(self, node: ast.Call, name: str) -> Any:
        if name == "isinstance":
            kinds = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
            types = tuple(TYPES[kind.id] for kind in kinds if isinstance(kind, ast.Name))
            return isinstance(await self.value(node.args[0]), types)
        if name == "map" and node.args:
            function = await self._function(node.args[0])
            return call_builtin(self.values, name, [function, *await self.all_values(node.args[1:])], {})
        return call_builtin(
            self.values, name, await self.all_values(node.args), await self._keywords(node, keys=name != "dict")
        )

    async def _keywords(self, node: ast.Call, *, keys: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for keyword in node.keywords:
            assert keyword.arg is not None
            is_key = keyword.arg == "key" and keys and isinstance(keyword.value, ast.Name | ast.Attribute)
            found[keyword.arg] = await (self._function if is_key else self.value)(keyword.value)
        return found

    async def _function(self, node: ast.expr) -> Callable[[Any], Any]:
        """A function of the closed list that is handed over: key=len, key=answers.count, map(str.strip, …)."""
        if isinstance(node, ast.Name) and node.id in BUILTINS:
            name = node.id
            return lambda item: call_builtin(self.values, name, [item], {})
        if isinstance(node, ast.Attribute):
            method = node.attr
            if isinstance(node.value, ast.Name) and node.value.id == "str":
                return lambda item: self.values.method(item, method, [], {})
            base = await self.value(node.value)
            return lambda item: self.values.method(base, method, [item], {})
        raise Failed("TypeError", "this cannot be called")

    async def _method(self, node: ast.Call, function: ast.Attribute) -> Any:
        base = await self.value(function.value)
        args = await self.all_values(node.args)
        keywords = await self._keywords(node, keys=function.attr == "sort")
        return self.values.method(base, function.attr, args, keywords)

    async def _operator(self, node: ast.Call, spec: OperatorSpec) -> Pending:
        """Number the call once its arguments are known; it runs when it is awaited."""
        names = [argument.name for argument in spec.arguments]
        given: dict[str, Any] = dict(zip(names, await self.all_values(node.args), strict=False))
        for keyword in node.keywords:
            assert keyword.arg is not None
            given[keyword.arg] = await self.value(keyword.value)
        if len(self.calls) >= self.workflow.max_operator_calls:
            raise Exhausted("operator_calls")
        arguments = {a.name: self._argument(a.kind, given.get(a.name, a.default)) for a in spec.arguments}
        call = Call(spec=spec, ordinal=len(self.calls) + 1, arguments=arguments)
        self.calls.append(call)
        return Pending(call)

    def _argument(self, kind: Kind, value: Any) -> Any:
        """Whatever is handed over becomes text, as AFlow's prompts do; None is no text."""
        if kind is Kind.TEXTS:
            items = [value] if isinstance(value, str | dict) else self.values.items(value)
            return [self._argument(Kind.TEXT, item) for item in items]
        return "" if value is None else self.values.text(value)

    def _usage(self) -> dict[str, Any]:
        prompt = sum(call.prompt_tokens for call in self.calls)
        completion = sum(call.completion_tokens for call in self.calls)
        return {
            "total_input_tokens": prompt,
            "total_output_tokens": completion,
            "total_tokens": prompt + completion,
            "total_cost": self.spent().usd,
            "call_count": self.spent().calls,
            "history": [],
        }


_ABSENT = object()

_EVALUATE: Mapping[type[ast.AST], Callable[[Evaluator, Any], Awaitable[Any]]] = {
    ast.Constant: Evaluator.constant,
    ast.Name: Evaluator.name,
    ast.Attribute: Evaluator.attribute,
    ast.Subscript: Evaluator.subscript,
    ast.List: Evaluator.list_,
    ast.Tuple: Evaluator.tuple_,
    ast.Set: Evaluator.set_,
    ast.Dict: Evaluator.dict_,
    ast.JoinedStr: Evaluator.joined,
    ast.FormattedValue: Evaluator.formatted,
    ast.BinOp: Evaluator.binary,
    ast.UnaryOp: Evaluator.unary,
    ast.BoolOp: Evaluator.boolean,
    ast.Compare: Evaluator.compare,
    ast.IfExp: Evaluator.conditional,
    ast.ListComp: Evaluator.comprehension,
    ast.SetComp: Evaluator.comprehension,
    ast.GeneratorExp: Evaluator.comprehension,
    ast.DictComp: Evaluator.comprehension,
    ast.Await: Evaluator.awaiting,
    ast.Call: Evaluator.call,
}
