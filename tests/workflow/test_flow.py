"""Which names are assigned where, how often a path calls at least and at most, what is caught, how deep it nests."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_executor import FIRST_LINE, RULES, codes, valid, workflow_text

CALL = "r = await self.custom(problem, 'x')"


def found(body: str, **rules: int) -> list[tuple[str, int]]:
    """(code, line within the body) of each finding."""
    findings = codes(workflow_text(body), rules=replace(RULES, **rules))  # type: ignore[arg-type]
    return [(code, line - FIRST_LINE + 1) for code, line in findings]


UNASSIGNED = {
    "before its branch": ("if problem:\n    return a\na = 1\nreturn a", 2),
    "of the other branch": ("if problem:\n    a = 1\nelse:\n    return a\nreturn 'x'", 4),
    "in the handler after a body that cannot bind it": (
        "try:\n    a = int(problem)\nexcept ValueError:\n    return b\nb = 1\nreturn a",
        4,
    ),
    "in else of a loop": ("for i in [1, 2]:\n    pass\nelse:\n    return a\na = 1\nreturn a", 4),
    "in the header of a while": ("while a < 3:\n    b = 1\na = 1\nreturn a", 1),
    "augmented": ("a += 1\nreturn a", 1),
    "in finally": ("try:\n    x = 1\nfinally:\n    y = a\na = 1\nreturn a", 4),
    "the name of another handler": (
        "try:\n    x = int(problem)\nexcept ValueError as e:\n    x = 1\nexcept TypeError:\n    x = str(e)\nreturn x",
        6,
    ),
}


@pytest.mark.parametrize("name", UNASSIGNED)
def test_a_name_that_no_path_has_assigned(name: str) -> None:
    body, line = UNASSIGNED[name]
    assert [at for code, at in found(body) if code in ("E302", "E303")] == [line]


ASSIGNED = {
    "in one branch": "if problem:\n    a = 1\nelse:\n    b = 1\nreturn [a, b]",
    "before and after a branch": "a = 1\nif problem:\n    b = a\nelse:\n    c = a\nreturn [a, b, c]",
    "the turn before": "for i in [1, 2]:\n    if i == 2:\n        return a\n    a = i\nreturn 'x'",
    "in a loop": "for i in [1, 2]:\n    a = i\nreturn [a, i]",
    "before a break": "while True:\n    a = 1\n    break\nreturn a",
    "before each break": (
        "while True:\n    if problem:\n        a = 1\n        break\n    b = 1\n    break\nreturn [a, b]"
    ),
    "before a continue": "for i in [1, 2]:\n    if i == 1:\n        a = 1\n        continue\n    b = 2\nreturn [a, b]",
    "before each continue": (
        "for i in [1, 2]:\n    if i == 1:\n        a = 1\n        continue\n"
        "    if i == 2:\n        b = 1\n        continue\nreturn [a, b]"
    ),
    "in a body and in its handler": (
        "try:\n    a = int(problem)\nexcept ValueError as e:\n    b = str(e)\nreturn [a, b]"
    ),
    "in a body, for its handler": "try:\n    a = problem\n    b = int(a)\nexcept ValueError:\n    return a\nreturn b",
    "in a body that returns, for finally": (
        "try:\n    a = problem\n    return a\nexcept ValueError:\n    return 'x'\nfinally:\n    b = a"
    ),
    "in finally": "try:\n    a = problem\nfinally:\n    b = 1\nreturn [a, b]",
    "in the handler of a body that returns": ("try:\n    return int(problem)\nexcept ValueError:\n    a = 1\nreturn a"),
    "in else of try": "try:\n    a = problem\nexcept ValueError:\n    return 'x'\nelse:\n    b = a\nreturn b",
    "unpacked": "a, (b, *c) = 1, (2, 3)\nreturn [a, b, c]",
}


@pytest.mark.parametrize("name", ASSIGNED)
def test_a_name_that_some_path_has_assigned(name: str) -> None:
    assert found(ASSIGNED[name]) == []


LEAST = {
    "a loop that surely turns": (f"for i in range(3):\n    {CALL}\nreturn 'a'", 3),
    "a loop that may be left": (f"for i in range(3):\n    {CALL}\n    if problem:\n        break\nreturn 'a'", 1),
    "a loop of unknown length": (f"for i in problem.split():\n    {CALL}\nreturn 'a'", 0),
    "a counting while": (f"i = 0\nwhile i < 3:\n    {CALL}\n    i += 1\nreturn 'a'", 3),
    "a counting while that may be left": (
        f"i = 0\nwhile i < 3:\n    {CALL}\n    i += 1\n    if problem:\n        break\nreturn 'a'",
        1,
    ),
    "a counting while within a loop, whose counter is not set again": (
        f"i = 0\nfor k in range(3):\n    while i < 1:\n        {CALL}\n        i += 1\nreturn 'a'",
        0,
    ),
    "a counting while within a loop that sets its counter again": (
        f"for k in range(2):\n    i = 0\n    while i < 2:\n        {CALL}\n        i += 1\nreturn 'a'",
        4,
    ),
    "a counting while within a loop that may set its counter again": (
        f"for k in range(2):\n    if k == 0 or problem:\n        i = 0\n"
        f"    while i < 1:\n        {CALL}\n        i += 1\nreturn 'a'",
        0,
    ),
    "a counting while within a loop within the one that sets its counter": (
        f"for k in [1]:\n    i = 0\n    for m in range(2):\n"
        f"        while i < 1:\n            {CALL}\n            i += 1\nreturn 'a'",
        0,
    ),
    "a counting while within a loop of one turn": (
        f"i = 0\nfor k in [1]:\n    while i < 2:\n        {CALL}\n        i += 1\nreturn 'a'",
        2,
    ),
    "a counter that is set behind its while": (
        f"i = 0\nfor k in range(2):\n    while i < 1:\n        {CALL}\n        i += 1\n    j = 0\nreturn 'a'",
        0,
    ),
    "a counting while that never begins": (f"i = 5\nwhile i < 3:\n    {CALL}\n    i += 1\nreturn 'a'", 0),
    "a counting while with a condition": (
        f"i = 0\nwhile problem and i < 3:\n    {CALL}\n    i += 1\nreturn 'a'",
        0,
    ),
    "a while that its literals begin": (
        f"done = False\ni = 0\nwhile not done and i < 3:\n    {CALL}\n    done = 'ok' in r\n    i += 1\nreturn 'a'",
        1,
    ),
    "a while that literals side by side begin": (
        f"i, done = 0, False\nwhile not done and i < 3:\n    {CALL}\n    done = 'ok' in r\n    i += 1\nreturn 'a'",
        1,
    ),
    "a while of which one literal begins it": (
        f"s = ''\nwhile s == '' or problem == 'x':\n    {CALL}\n    s = r['response']\nreturn 'a'",
        1,
    ),
    "a while that a literal does not begin": (
        f"done = True\nwhile not done:\n    {CALL}\n    done = 'ok' in r\nreturn 'a'",
        0,
    ),
    "a while whose literal may have changed": (
        f"done = False\nif 'x' in problem:\n    done = True\n"
        f"while not done:\n    {CALL}\n    done = 'ok' in r\nreturn 'a'",
        0,
    ),
    "a while within a loop that does not set its literal again": (
        f"done = False\nfor k in range(2):\n    while not done:\n        {CALL}\n        done = True\nreturn 'a'",
        0,
    ),
    "a while within a loop that sets its literal again": (
        f"for k in range(2):\n    done = False\n    while not done:\n        {CALL}\n        done = True\nreturn 'a'",
        2,
    ),
    "for ever": (f"while True:\n    {CALL}\n    if problem:\n        return 'a'", 1),
    "a guard": (f"if not problem:\n    return ''\n{CALL}\nreturn 'a'", 1),
    "the other branch of a guard": (f"if problem:\n    {CALL}\n    return 'a'\nelse:\n    return ''", 1),
    "no guard": (f"if 'x' in problem:\n    return ''\n{CALL}\nreturn 'a'", 0),
    "no call before a failure": (
        f"try:\n    x = int(problem)\n    {CALL}\nexcept ValueError:\n    pass\nreturn 'a'",
        0,
    ),
    "calls before a failure": (
        f"try:\n    {CALL}\n    s = await self.custom(problem, 'y')\n    x = int(problem)\n"
        "except ValueError:\n    return 'b'\nreturn 'a'",
        2,
    ),
    "a constant and a call before a failure": (
        f"try:\n    k = 'x'\n    {CALL}\n    x = int(problem)\nexcept ValueError:\n    return 'b'\nreturn 'a'",
        1,
    ),
    "a call whose argument may fail": (
        "try:\n    r = await self.custom(problem, int(problem))\nexcept ValueError:\n    return 'b'\nreturn 'a'",
        0,
    ),
    "a call whose keyword may fail": (
        "try:\n    r = await self.custom(input=problem, instruction=str(int(problem)))\n"
        "except ValueError:\n    return 'b'\nreturn 'a'",
        0,
    ),
    "a free call before a failure": (
        "try:\n    r = await self.majority_vote(['a'])\n    x = int(problem)\n"
        "except ValueError:\n    return 'b'\nreturn 'a'",
        0,
    ),
    "a call in finally": (
        f"try:\n    x = int(problem)\nexcept ValueError:\n    x = 1\nfinally:\n    {CALL}\nreturn 'a'",
        1,
    ),
    "finally that returns": (f"try:\n    {CALL}\n    x = int(problem)\nfinally:\n    return 'a'", 1),
}


@pytest.mark.parametrize("name", LEAST)
def test_the_least_calls(name: str) -> None:
    body, least = LEAST[name]
    for wanted in (1, 2, 3, 4):
        codes_found = [code for code, _ in found(body, min_operator_calls=wanted)]
        assert codes_found == (["E406"] if least < wanted else []), wanted


BOUNDS = {
    "try and handler": (f"try:\n    {CALL}\nexcept ValueError:\n    {CALL}\n    {CALL}\nreturn 'a'", 3),
    "two handlers": (
        f"try:\n    {CALL}\nexcept ValueError:\n    {CALL}\nexcept TypeError:\n    {CALL}\n    {CALL}\nreturn 'a'",
        3,
    ),
    "else of try": (f"try:\n    {CALL}\nexcept ValueError:\n    return 'b'\nelse:\n    {CALL}\nreturn 'a'", 2),
    "finally": (f"try:\n    {CALL}\nexcept ValueError:\n    {CALL}\nfinally:\n    {CALL}\nreturn 'a'", 3),
    "finally that returns": (f"try:\n    {CALL}\n    return 'b'\nfinally:\n    {CALL}\n    return 'a'", 2),
    "a return in a body with finally": (
        f"try:\n    {CALL}\n    return 'b'\nexcept ValueError:\n    pass\nfinally:\n    {CALL}\nreturn 'a'",
        2,
    ),
    "else of a loop": (f"for i in [1, 2]:\n    {CALL}\nelse:\n    {CALL}\nreturn 'a'", 3),
    "elif": (f"if problem:\n    {CALL}\nelif problem == 'x':\n    {CALL}\n    {CALL}\nreturn 'a'", 2),
    "a list that a loop of the limit filled": (
        f"xs = []\nfor i in range(8):\n    xs.append(i)\nfor x in xs:\n    {CALL}\nreturn 'a'",
        8,
    ),
    "a loop beyond the limit without calls": ("i = 0\nwhile i < 30:\n    i += 1\nreturn 'a'", 0),
    "augmented": (f"{CALL}\ns = 'a'\ns += (await self.custom(problem, 'y'))['response']\nreturn s", 2),
    "item": (f"{CALL}\nd = {{}}\nd[(await self.custom(problem, 'y'))['response']] = 1\nreturn d", 2),
    "unpacked items": (
        f"{CALL}\nd = {{}}\nd[(await self.custom(problem, 'y'))['response']], *x = [1, 2]\nreturn d",
        2,
    ),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_the_most_calls(name: str) -> None:
    body, most = BOUNDS[name]
    assert valid(workflow_text(body)).max_operator_calls == most


def test_a_while_that_calls_nothing_has_a_bound_of_its_own() -> None:
    counted = valid(workflow_text("i = 0\nwhile i < 30:\n    i += 1\nreturn 'a'"))
    assert list(counted.loop_bounds.values()) == [30]
    free = valid(workflow_text("for i in range(30):\n    x = i\nreturn 'a'"))
    assert dict(free.loop_bounds) == {}
    calling = valid(workflow_text(f"for i in range(5):\n    {CALL}\nreturn 'a'"))
    assert list(calling.loop_bounds.values()) == [5]


REFUSED = {
    "an empty return": ("return", [("E301", 1)]),
    "a slice": ("a = [1]\na[0:1] = [2]\nreturn a", [("E502", 2)]),
    "an operator": ("self.custom = 1\nreturn 'a'", [("E504", 1)]),
    "the language model": ("self.llm = 1\nreturn 'a'", [("E504", 1)]),
    "a special attribute": ("self.__class__ = 1\nreturn 'a'", [("E504", 1)]),
    "another's attribute": ("problem.x = 1\nreturn 'a'", [("E504", 1)]),
    "an unknown exception": ("try:\n    x = 1\nexcept Foo:\n    x = 2\nreturn x", [("E503", 3)]),
    "a shadowed exception": ("ValueError = 1\ntry:\n    x = 1\nexcept ValueError:\n    x = 2\nreturn x", [("E503", 4)]),
    "one of several exceptions": (
        "try:\n    x = 1\nexcept (ValueError, Foo):\n    x = 2\nreturn x",
        [("E503", 3)],
    ),
    "a called exception": ("try:\n    x = 1\nexcept ValueError():\n    x = 2\nreturn x", [("E503", 3)]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    body, expected = REFUSED[name]
    assert found(body)[: len(expected)] == expected


@pytest.mark.parametrize(
    "caught",
    ["", " ValueError", " (KeyError, TypeError)", " Exception as e", " BaseException", " JSONDecodeError", " json.Foo"],
)
def test_what_may_be_caught(caught: str) -> None:
    body = f"try:\n    x = int(problem)\nexcept{caught}:\n    x = 2\nreturn x"
    assert [code for code, _ in found(body) if code == "E503"] == []


@pytest.mark.parametrize(
    ("body", "deepest"),
    [
        ("if problem:\n    x = 1\nreturn 'a'", 1),
        ("if problem:\n    x = 1\nelif problem == 'a':\n    x = 2\nelif problem == 'b':\n    x = 3\nreturn 'a'", 1),
        ("if problem:\n    x = 1\nelse:\n    for i in [1]:\n        x = 2\nreturn 'a'", 2),
        ("for i in [1]:\n    try:\n        x = 1\n    except ValueError:\n        x = 2\nreturn 'a'", 2),
        ("if problem:\n    x = 1\nif problem:\n    x = 1\nif problem:\n    x = 1\nreturn 'a'", 1),
        ("while problem:\n    if problem:\n        for i in [1]:\n            x = 1\nreturn 'a'", 3),
    ],
)
def test_nesting(body: str, deepest: int) -> None:
    assert found(body, max_nesting=deepest) == []
    if deepest > 1:
        assert [code for code, _ in found(body, max_nesting=deepest - 1)] == ["E402"]


def test_blocks_that_are_nested_too_deep_are_reported_once() -> None:
    body = "if problem:\n    if problem:\n        x = 1\n    if problem:\n        x = 1\nreturn 'a'"
    assert found(body, max_nesting=1) == [("E402", 3)]


@pytest.mark.parametrize("jump", ["break", "continue"])
def test_a_jump_outside_of_loops(jump: str) -> None:
    assert ("E101", 2) in found(f"a = 1\n{jump}\nreturn a")
