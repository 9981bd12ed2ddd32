"""The builtins of the language, on plain data and under the meter of `values`."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Mapping

from grpo_aflow.workflow.language import BUILTINS
from grpo_aflow.workflow.running.data import ITEM_SIZE, SIZE_PER_STEP, Value, plain, size_of
from grpo_aflow.workflow.running.faults import Exceeded, Failed
from grpo_aflow.workflow.running.values import Values

MAX_DIGITS = 100  # of round(x, n)


@plain
def call_builtin(values: Values, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
    """Call a builtin by name. Raises Failed and Exceeded."""
    for argument in args:
        values.step(size_of(argument) // SIZE_PER_STEP)
    return _BUILTINS[name](values, *args, **kwargs)


def _range(values: Values, *limits: Value) -> list[int]:
    span = range(*limits)
    if span and abs(span[-1] - span[0]) > 10**15:
        raise Exceeded("memory")
    values.reserve(ITEM_SIZE * len(span))
    return list(span)


def _round(values: Values, number: Value, ndigits: Value = None) -> Value:
    if isinstance(ndigits, int) and abs(ndigits) > MAX_DIGITS:
        raise Exceeded("steps")
    return round(number, ndigits)


def _sum(values: Values, items: Value, start: Value = 0) -> Value:
    for item in values.items(items):
        values.step()
        start = values.binary(ast.Add, start, item)
    return start


def _extreme(function: Callable[..., Value]) -> Callable[..., Value]:
    def call(values: Values, *args: Value, **kwargs: Value) -> Value:
        items = values.items(args[0]) if len(args) == 1 else list(args)
        values.weigh(items)
        values.step(len(items))
        return function(items, **kwargs)

    return call


def _enumerate(values: Values, items: Value, start: int = 0) -> list[Value]:
    found = values.items(items)
    values.reserve(2 * ITEM_SIZE * len(found))
    return list(enumerate(found, start))


def _zip(values: Values, *items: Value, strict: bool = False) -> list[Value]:
    found = [values.items(item) for item in items]
    values.reserve(ITEM_SIZE * sum(map(len, found)))
    return list(zip(*found, strict=bool(strict)))


def _map(values: Values, function: Callable[[Value], Value], items: Value) -> list[Value]:
    found = values.items(items)
    values.step(len(found))
    return [function(item) for item in found]


def _int(values: Values, value: Value = 0, base: Value = None) -> int:
    return int(value) if base is None else int(value, base)


def _dict(values: Values, items: Value = (), **kwargs: Value) -> dict[Value, Value]:
    pairs = list(items.items()) if isinstance(items, dict) else [tuple(pair) for pair in values.items(items)]
    if any(len(pair) != 2 for pair in pairs):
        raise Failed("ValueError", "dict takes pairs")
    return values.mapping([*pairs, *kwargs.items()])


def _counter(values: Values, items: Value = (), **kwargs: Value) -> Counter[Value]:
    found = items if isinstance(items, dict) else [values.key(item) for item in values.items(items)]
    values.reserve(ITEM_SIZE * (len(found) + len(kwargs)))
    return Counter(found, **kwargs)


_BUILTINS: Mapping[str, Callable[..., Value]] = {
    "abs": lambda values, x: abs(x),
    "all": lambda values, items: all(values.items(items)),
    "any": lambda values, items: any(values.items(items)),
    "bool": lambda values, x=False: bool(x),
    "dict": _dict,
    "enumerate": _enumerate,
    "float": lambda values, x=0.0: float(x),
    "int": _int,
    "len": lambda values, x: len(x),
    "list": lambda values, items=(): values.items(items),
    "map": _map,
    "max": _extreme(max),
    "min": _extreme(min),
    "print": lambda values, *args, **kwargs: None,
    "range": _range,
    "repr": lambda values, x: values.repr(x),
    "reversed": lambda values, items: values.items(items)[::-1],
    "round": _round,
    "set": lambda values, items=(): values.collect(set, values.items(items)),
    "sorted": lambda values, items, key=None, reverse=False: values.sorted(items, key, reverse),
    "str": lambda values, x="": values.text(x),
    "sum": _sum,
    "tuple": lambda values, items=(): values.collect(tuple, values.items(items)),
    "zip": _zip,
    "Counter": _counter,
}
assert (
    _BUILTINS.keys() | {"isinstance"} == BUILTINS
)  # what the validator lets through; types are no values, see `calls`
