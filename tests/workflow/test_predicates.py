"""What the form of an expression says, by examples of both answers."""

from __future__ import annotations

import ast

import pytest

from grpo_aflow.workflow.checking.predicates import (
    always,
    assigned_in,
    calls_operator,
    cannot_fail,
    changes_something,
    is_elif,
    is_guard,
)


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize(
    "text",
    [
        "not problem",
        "not problem.strip()",
        "not isinstance(problem, str)",
        "problem is None",
        "problem == None",
        "problem == ''",
        "problem.strip() == ''",
        "len(problem) == 0",
        "len(problem.strip()) == 0",
        "not problem or problem is None",
    ],
)
def test_guards(text: str) -> None:
    assert is_guard(expression(text), frozenset({"problem", "entry_point"}))
    assert not is_guard(expression(text), frozenset({"entry_point"}))
    assert not is_guard(expression(text.replace("problem", "entry_point")), frozenset({"problem", "entry_point"}))


@pytest.mark.parametrize(
    "text",
    [
        "problem",
        "-problem",
        "not problem.lower()",
        "not strip(problem)",
        "not isinstance(problem, list)",
        "not isinstance(problem, str, str)",
        "not isinstance(problem)",
        "not isinstance(x, str)",
        "not isinstance(problem, typing.str)",
        "not issubclass(problem, str)",
        "not values.isinstance(problem, str)",
        "problem is not None",
        "problem == 'x'",
        "problem == 0",
        "x == ''",
        "None == problem",
        "problem == '' == x",
        "len(problem) == 1",
        "len(x) == 0",
        "len() == 0",
        "str(problem) == 0",
        "problem.len(problem) == 0",
        "len(problem) == ''",
        "problem is None or x",
        "not problem and x",
        "not problem and not problem",
    ],
)
def test_no_guards(text: str) -> None:
    assert not is_guard(expression(text), frozenset({"problem"}))


@pytest.mark.parametrize("text", ["x", "1", "self.x", "f'a{x}'", "f'{self.x!r}'", "[x, 1, [y]]", "('a', x)", "[]"])
def test_what_cannot_fail(text: str) -> None:
    assert cannot_fail(expression(text))


@pytest.mark.parametrize("text", ["x[0]", "f()", "self.x.y", "f'{x:>3}'", "f'{x[0]}'", "[x, y[0]]", "(x, f())", "-x"])
def test_what_can_fail(text: str) -> None:
    assert not cannot_fail(expression(text))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a = 1\nb = 2", {"a", "b"}),
        ("a = b = 1", {"a", "b"}),
        ("a, (b, *c) = x", {"a", "b", "c"}),
        ("a = a + b", set()),
        ("a = b\nb = a", {"a", "b"}),
        ("d['k'] = 1\nself.x = 2", set()),
        ("a: int = 1\nb: int\nc: int = 2", {"a", "c"}),
        ("for a, b in x:\n    c = 1\nfor d in y:\n    pass", {"a", "b", "c", "d"}),
        ("if x:\n    a = 1\nelse:\n    b = 1", {"a", "b"}),
        ("a += 1", set()),
    ],
)
def test_names_that_a_block_binds(text: str, names: set[str]) -> None:
    assert assigned_in(ast.parse(text).body) == names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("if a:\n    x\nelif b:\n    y", True),
        ("if a:\n    x\nelse:\n    if b:\n        y\n    z", False),
        ("if a:\n    x\nelse:\n    y", False),
        ("if a:\n    x", False),
    ],
)
def test_elif(text: str, expected: bool) -> None:
    [node] = ast.parse(text).body
    assert isinstance(node, ast.If)
    assert is_elif(node) is expected


@pytest.mark.parametrize(("text", "expected"), [("True", True), ("1", True), ("0", False), ("''", False), ("x", False)])
def test_always(text: str, expected: bool) -> None:
    assert always(expression(text)) is expected


@pytest.mark.parametrize(("text", "expected"), [("[await f()]", True), ("await f()", True), ("f()", False)])
def test_calls_operator(text: str, expected: bool) -> None:
    assert calls_operator(expression(text)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("xs.append(1)", True), ("[d.pop(x) for x in y]", True), ("x.count(1)", False), ("append(x)", False)],
)
def test_changes_something(text: str, expected: bool) -> None:
    assert changes_something(expression(text)) is expected
