"""What of a returned value is the answer: the first of a tuple, and in a dict what stands under an answer's name.

AFlow's graphs return `(answer, cost)`, others more behind it; models return an operator's whole result. A dict without
such a key, or with several, is no answer: its text would be graded in place of one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

ANSWER_KEYS = frozenset(("response", "answer", "solution", "output"))
MAX_NESTED = 4  # dicts within dicts that are looked into: one can hold itself


def answer_key(keys: Iterable[object]) -> str | None:
    """The one key that names an answer; None where there is none, or several."""
    found = [key for key in keys if isinstance(key, str) and key in ANSWER_KEYS]
    return found[0] if len(found) == 1 else None


def answer_of(value: Any) -> Any:  # a value of the interpreted language
    """The answer in what a workflow returned; None where there is none."""
    if isinstance(value, tuple) and value:
        value = value[0]
    for _ in range(MAX_NESTED):
        if not isinstance(value, dict):
            return value
        key = answer_key(value)
        value = None if key is None else value[key]
    return None


def answer_in(node: ast.expr) -> ast.expr:
    """The part of a returned expression that is the answer, as far as its form says."""
    if isinstance(node, ast.Tuple) and node.elts:
        node = node.elts[0]
    for _ in range(MAX_NESTED):
        items = literal_items(node) or {}
        key = answer_key(items)
        node = node if key is None else items[key]
    return node


def literal_items(node: ast.expr) -> dict[object, ast.expr] | None:
    """The items of a dict that is written out; None where it is no such dict, or a key is not literal."""
    if not isinstance(node, ast.Dict):
        return None
    keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
    return dict(zip(keys, node.values, strict=True)) if len(keys) == len(node.keys) else None
