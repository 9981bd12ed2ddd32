"""The workflow's own computation on plain data: operators, comparisons, text, methods; its time and size are bounded.

Nothing here awaits anything or knows of executors. What a workflow does wrong is raised as `Failed` (with the name of
Python's exception), what it does too much of as `Exceeded`. A value's size is known *before* it is made, so that
`"x" * 10**9` is refused rather than computed. The builtins are in `builtins`.
"""

from __future__ import annotations

import ast
import operator
import re
import string
from collections.abc import Callable, Mapping
from typing import TypeVar

from grpo_aflow.workflow.language import FORMAT_SPEC, METHODS, MUTATORS
from grpo_aflow.workflow.rules import WorkflowRules
from grpo_aflow.workflow.running.data import CONTAINERS, ITEM_SIZE, SIZE_PER_STEP, Value, plain, size_of
from grpo_aflow.workflow.running.faults import Exceeded, Failed

R = TypeVar("R")

MAX_INT_BITS = 65_536
MAX_REVERSE_SEARCH = 10_000_000  # searching from the right takes len(text) * len(part) in the worst case
MAX_STRIPPED = 200  # distinct characters of strip()
_PERCENT = re.compile(r"%(?:\(\w+\))?[-+ 0#]*\d{0,3}(?:\.\d{1,2})?[sdifgGeExXr%]")


class Values:
    """Plain-data operations under one meter of steps and sizes."""

    def __init__(self, rules: WorkflowRules) -> None:
        self.max_steps = rules.max_steps
        self.max_size = rules.max_value_size
        self.max_total = rules.max_total_size
        self.steps = 0
        self.total = 0

    # --- the meter ----------------------------------------------------------------------------------------------------

    def step(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > self.max_steps:
            raise Exceeded("steps")

    def reserve(self, size: int) -> None:
        """Account for a value that is about to be made."""
        self.total += size
        if size > self.max_size or self.total > self.max_total:
            raise Exceeded("memory")
        self.step(size // SIZE_PER_STEP)

    def made(self, value: R) -> R:
        self.reserve(size_of(value))
        return value

    def weigh(self, *values: Value) -> int:
        """The size of values with all that they refer to, counted as often as it is reached."""
        weight, stack = 0, list(values)
        while stack:
            value = stack.pop()
            weight += size_of(value) + 1
            if weight > self.max_size:
                raise Exceeded("memory")
            if isinstance(value, dict):
                stack.extend(value.keys())
                stack.extend(value.values())
            elif isinstance(value, list | tuple | set):
                stack.extend(value)
        self.step(weight // SIZE_PER_STEP)
        return weight

    # --- operators ----------------------------------------------------------------------------------------------------

    @plain
    def binary(self, kind: type[ast.operator], a: Value, b: Value) -> Value:
        if kind is ast.Mult:
            self._reserve_product(a, b)
        elif kind is ast.Pow:
            self._check_power(a, b)
        elif kind is ast.Add:
            self.reserve(size_of(a) + size_of(b))
        elif kind is ast.Mod and isinstance(a, str):
            self._check_percent(a, b)
        result = _BINARY[kind](a, b)
        if isinstance(result, complex):
            raise Failed("TypeError", "complex numbers are no plain data")
        return result if kind is ast.Add else self.made(result)

    @plain
    def augmented(self, kind: type[ast.operator], a: Value, b: Value) -> Value:
        """`a += b` and the like: a list, dict or set stays the object that other names hold, too."""
        if isinstance(a, list) and kind is ast.Add:
            self.method(a, "extend", [b], {})
            return a
        result = self.binary(kind, a, b)  # beside its value: whether there is room for it
        return _IN_PLACE[kind](a, b) if isinstance(a, list | dict | set) else result

    def _reserve_product(self, a: Value, b: Value) -> None:
        for many, count in ((a, b), (b, a)):
            if isinstance(many, str | list | tuple) and isinstance(count, int):
                self.reserve(size_of(many) * max(count, 0))
        if isinstance(a, int) and isinstance(b, int) and a.bit_length() + b.bit_length() > MAX_INT_BITS:
            raise Exceeded("memory")

    def _check_power(self, a: Value, b: Value) -> None:
        if isinstance(a, int) and isinstance(b, int) and b > 0 and a.bit_length() * b > MAX_INT_BITS:
            raise Exceeded("memory")

    def _check_percent(self, text: str, values: Value) -> None:
        if "%" in _PERCENT.sub("", text):
            raise Failed("ValueError", "this % format is not in the language")
        fields = text.count("%")
        repeats = fields if isinstance(values, dict) else 1  # %(name)s may write the same value again and again
        self.reserve(len(text) + fields * 1000 + repeats * self.weigh(values))

    @plain
    def unary(self, kind: type[ast.unaryop], value: Value) -> Value:
        return _UNARY[kind](value)

    @plain
    def compare(self, kind: type[ast.cmpop], a: Value, b: Value) -> bool:
        if kind is not ast.Is and kind is not ast.IsNot:
            for value in (a, b):
                if isinstance(value, CONTAINERS):
                    self.weigh(value)
                else:
                    self.step(size_of(value) // SIZE_PER_STEP)
        return bool(_COMPARE[kind](a, b))

    @plain
    def item(self, value: Value, index: Value) -> Value:
        if not isinstance(value, str | list | tuple | dict):
            raise TypeError(f"{type(value).__name__} has no items")
        if isinstance(index, slice):
            return self.made(value[index])
        self.key(index)
        return value[index]

    @plain
    def set_item(self, value: Value, index: Value, new: Value) -> None:
        if not isinstance(value, list | dict):
            raise TypeError(f"items of {type(value).__name__} cannot be assigned")
        self.key(index)
        value[index] = new
        self.grown(value)

    def key(self, key: Value) -> Value:
        """A value about to be hashed: a nested tuple may be large."""
        if isinstance(key, tuple):
            self.weigh(key)
        return key

    def grown(self, value: Value) -> None:
        """A container took an item."""
        self.reserve(ITEM_SIZE)
        if size_of(value) > self.max_size:
            raise Exceeded("memory")

    @plain
    def items(self, value: Value) -> list[Value]:
        """What a loop over the value runs over: always a copy."""
        if not isinstance(value, str | list | tuple | dict | set):
            raise TypeError(f"{type(value).__name__} cannot be looped over")
        if isinstance(value, set):  # the order of a set of texts differs from process to process
            self.weigh(value)
            return self.made(sorted(value, key=lambda item: (type(item).__name__, repr(item))))
        return self.made(list(value))

    @plain
    def collect(self, kind: type, items: list[Value]) -> Value:
        """A list, tuple or set of items."""
        self.reserve(ITEM_SIZE * len(items))
        if kind is set:
            for item in items:
                self.key(item)
        return kind(items)

    @plain
    def mapping(self, pairs: list[tuple[Value, Value]]) -> dict[Value, Value]:
        self.reserve(ITEM_SIZE * len(pairs))
        return {self.key(key): value for key, value in pairs}

    # --- text ---------------------------------------------------------------------------------------------------------

    @plain
    def text(self, value: Value) -> str:
        """str(value)."""
        if isinstance(value, str):
            return value
        if isinstance(value, set):
            return "{" + ", ".join(repr(item) for item in self.items(value)) + "}" if value else "set()"
        self.weigh(value)
        return self.made(str(value))

    @plain
    def repr(self, value: Value) -> str:
        if isinstance(value, set):
            return self.text(value)
        self.weigh(value)
        return self.made(repr(value))

    @plain
    def formatted(self, value: Value, conversion: str | None, spec: str) -> str:
        """One `{…}` of an f-string or of `.format`."""
        if conversion:
            value = self.repr(value) if conversion in "ra" else self.text(value)
        if not spec:
            return self.text(value)
        if not FORMAT_SPEC.fullmatch(spec):
            raise Failed("ValueError", "a format specification is short, like .2f")
        if not isinstance(value, str | int | float):
            raise TypeError(f"{type(value).__name__} takes no format specification")
        return self.made(format(value, spec))

    @plain
    def joined(self, parts: list[str], separator: str = "") -> str:
        if not all(isinstance(part, str) for part in parts):
            raise TypeError("join takes texts only")
        self.reserve(sum(map(len, parts)) + len(separator) * max(len(parts) - 1, 0))
        return separator.join(parts)

    def _format(self, template: str, args: list[Value], kwargs: Mapping[str, Value]) -> str:
        """`str.format` with plain fields only: no attributes, no items, no nested specification."""
        parts: list[str] = []
        number = 0
        for literal, name, spec, conversion in string.Formatter().parse(template):
            parts.append(literal)
            if name is None:
                continue
            if name == "":
                name, number = str(number), number + 1
            value = args[int(name)] if name.isdecimal() and len(name) < 5 else kwargs[name]
            parts.append(self.formatted(value, conversion, spec or ""))
        return self.joined(parts)

    # --- methods ------------------------------------------------------------------------------------------------------

    @plain
    def method(self, value: Value, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        """Call a method of the closed list on a plain value."""
        if name not in METHODS.get(type(value), ()):
            raise AttributeError(f"{type(value).__name__} has no method {name}")
        self.step(size_of(value) // SIZE_PER_STEP)
        if isinstance(value, str):
            return self._text_method(value, name, args, kwargs)
        if isinstance(value, CONTAINERS):
            return self._container_method(value, name, args, kwargs)
        return getattr(value, name)()

    def _text_method(self, value: str, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        if name == "format":
            return self._format(value, args, kwargs)
        if name == "join":
            (parts,) = args
            return self.joined(self.items(parts), value)
        if name == "replace" and len(args) >= 2:
            old, new = args[0], args[1]
            self.reserve(len(value) + value.count(old) * max(len(new) - len(old), 0))
        elif name in ("rfind", "rindex", "rpartition", "rsplit"):
            parts = [part for part in (*args, *kwargs.values()) if isinstance(part, str)]
            if any(len(value) * len(part) > MAX_REVERSE_SEARCH for part in parts):
                raise Exceeded("steps")
        elif name in ("strip", "lstrip", "rstrip") and args and isinstance(args[0], str):
            args = ["".join(dict.fromkeys(args[0]))]
            if len(args[0]) > MAX_STRIPPED:
                raise Exceeded("steps")
        result = getattr(value, name)(*args, **kwargs)
        if isinstance(result, list):
            self.reserve(len(value))
        return self.made(result)

    def _container_method(self, value: Value, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        if name in ("index", "count", "remove", "sort", "symmetric_difference", "most_common", "total"):
            self.weigh(value, *args)
        if name == "sort":
            value[:] = self.sorted(value, **kwargs)
            return None
        if isinstance(value, set) and name == "pop" and value and not args:
            first, *_ = self.items(value)  # the same one in every process
            value.remove(first)
            return first
        if isinstance(value, dict | set) and args:
            self.key(args[0])
        if name == "append" or name == "insert" or name == "add" or name == "setdefault":
            self.grown(value)
        elif name in ("extend", "update") or (isinstance(value, set) and args and name not in MUTATORS):
            kept = dict | set if isinstance(value, set) else dict  # the order of a set is that of `items`
            args = [argument if isinstance(argument, kept) else self.items(argument) for argument in args]
            self.reserve(sum(map(size_of, args)) + ITEM_SIZE * len(kwargs) + size_of(value))
        result = getattr(value, name)(*args, **kwargs)
        if isinstance(value, dict) and name in ("keys", "values", "items"):
            result = list(result)
        return self.made(result) if name not in ("get", "pop", "setdefault") else result

    def sorted(self, value: Value, key: Callable[[Value], Value] | None = None, reverse: bool = False) -> list[Value]:
        items = self.items(value)
        self.weigh(items)
        self.step(len(items))
        return sorted(items, key=key, reverse=bool(reverse))


_BINARY: Mapping[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
}
_IN_PLACE: Mapping[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: operator.iadd,
    ast.Sub: operator.isub,
    ast.Mult: operator.imul,
    ast.BitOr: operator.ior,
    ast.BitAnd: operator.iand,
    ast.BitXor: operator.ixor,
}  # what a list, dict or set has
_UNARY: Mapping[type[ast.unaryop], Callable[[Value], Value]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Value, Value], Value]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: operator.contains(b, a),
    ast.NotIn: lambda a, b: not operator.contains(b, a),
}
