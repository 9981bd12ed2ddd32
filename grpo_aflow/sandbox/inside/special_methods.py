"""Which special methods the test's side may ask of an object of the candidate. Both sides import these names.

Never on the list: `__eq__`, `__ne__`, `__contains__`, `__hash__`. They decide assertions, so the test's side answers
them itself (`proxies`).
"""

from __future__ import annotations

import itertools
import types

# Answered with a value that the test's side then compares itself; `__bool__` is a truth that only `assert` looks at.
UNARY = (
    "__next__", "__len__", "__str__", "__repr__", "__int__", "__float__", "__complex__", "__index__", "__abs__",
    "__neg__", "__pos__", "__invert__", "__bool__", "__reversed__", "__bytes__", "__trunc__", "__floor__",
    "__ceil__", "__fspath__", "__enter__", "__iter__", "__aiter__", "__anext__", "__aenter__",
)  # fmt: skip
WITH_ARGUMENTS = (
    "__getitem__", "__setitem__", "__delitem__", "__format__", "__round__", "__missing__",
)  # fmt: skip
# Asked only where both operands are objects of the candidate: an operand from the test would tell it what is expected.
BINARY = (
    "__add__", "__sub__", "__mul__", "__truediv__", "__floordiv__", "__mod__", "__matmul__", "__pow__", "__and__",
    "__or__", "__xor__", "__lt__", "__le__", "__gt__", "__ge__",
)  # fmt: skip
CLAIMABLE = ("__call__", "__await__", "__exit__", "__aexit__", *UNARY, *WITH_ARGUMENTS, *BINARY)
# Attributes that `getattr` asks for by a special name; all other special names belong to the test's side alone, because
# libraries there trust them (numpy reads memory at the address in `__array_interface__`).
ATTRIBUTES = frozenset(
    ("__dict__", "__name__", "__qualname__", "__doc__", "__module__", "__annotations__", "__wrapped__", "__members__")
)

# Objects that the test's side stands in for by one of the same type.
SORTS: dict[type, str] = {
    types.GeneratorType: "generator",
    types.CoroutineType: "coroutine",
    types.AsyncGeneratorType: "async_generator",
    map: "map",
    filter: "filter",
    zip: "zip",
    itertools.chain: "chain",
    types.FunctionType: "function",
}
