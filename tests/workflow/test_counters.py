"""Counters that end a `while`: what is recognised turns no more often in Python, and what may go wrong is not."""

# ruff: noqa: E501 - a row is a case

from __future__ import annotations

import ast
from itertools import product

import pytest
from scripted_executor import RULES, ScriptedChat, run, valid, workflow_text
from test_lengths import lengths

from grpo_aflow.workflow import check_text

MANY = 40  # turns after which a loop is taken for endless


def counted(body: str) -> int | None:
    """The bound of the one `while` at the body's top."""
    made, statements = lengths(body)
    (node,) = [statement for statement in statements if isinstance(statement, ast.While)]
    return made.counted(node)


def turns_in_python(body: str) -> int:
    """How often the loop turns when nothing but its counter ends it; `turn()` stands in its first line."""
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if turns > MANY:
            raise StopIteration

    names: dict[str, object] = {"turn": turn}
    lines = "\n".join(f"    {line}" for line in body.split("\n"))
    exec(f"def f(done):\n{lines}", names)  # our own few lines below
    try:
        names["f"](False)  # type: ignore[operator]
    except StopIteration:
        return MANY
    return turns


STEPS = ("n += 1", "n -= 1", "n += 2", "n = n + 1", "n = n - 2")
TESTS = ("True", "not done", "n < 3", "n > 0", "not done and n >= 1", "n != 4")
GUARDS = (
    "if n >= 3:\n    break",
    "if done or n == 4:\n    return 'a'",
    "if done:\n    break\nelif n > 2:\n    return 'a'",
    "if not done and n < 3:\n    pass\nelse:\n    break",
    "if n <= 0:\n    return 'a'",
    "if done and n >= 3:\n    break",
    "pass",
)


@pytest.mark.parametrize("start", [0, 1, 5])
def test_what_is_recognised_turns_so_often(start: int) -> None:
    known = exact = 0
    for step, test, guard, before in product(STEPS, TESTS, GUARDS, (True, False)):
        inner = f"{step}\n{guard}" if before else f"{guard}\n{step}"
        loop = f"n = {start}\nwhile {test}:\n    turn()\n" + "\n".join(f"    {line}" for line in inner.split("\n"))
        bound = counted(f"{loop}\nreturn 'a'".replace("turn()", "pass"))
        real = turns_in_python(loop)
        assert bound is None or real <= bound, loop
        known += bound is not None
        exact += bound == real
    assert known > 200
    assert exact > 0.7 * known  # not where a comparison holds from the beginning


BOUNDED = {
    "a guard with return": ("n = 0\nwhile True:\n    n += 1\n    if problem or n == 3:\n        return 'a'", 3),
    "a guard above the step": ("n = 0\nwhile True:\n    if n >= 2:\n        break\n    n += 1\nreturn 'a'", 3),
    "a guard in else of one that leaves": (
        "n = 0\nwhile True:\n    if problem:\n        break\n    else:\n        n += 1\n        if n > 4:\n"
        "            break\nreturn 'a'",
        5,
    ),
    "the smaller of two": ("n = 0\nwhile n < 9:\n    n += 1\n    if n >= 4:\n        break\nreturn 'a'", 4),
    "a guard that does more": ("n = 0\nwhile True:\n    n += 1\n    if n > 2:\n        x = 1\n        break\nreturn x", 3),
    "counting down": ("n = 3\nwhile not problem and n > 0:\n    n -= 1\nreturn 'a'", 3),
    "counting down to a constant": ("k = 1\nn = 7\nwhile n >= k:\n    n -= 2\nreturn 'a'", 4),
    "continue behind the step": (
        "n = 0\nwhile n < 3:\n    n += 1\n    if problem:\n        continue\n    x = 1\nreturn 'a'",
        3,
    ),
    "continue before the step": (
        "n = 0\nwhile n < 3:\n    if problem:\n        continue\n    n += 1\nreturn 'a'",
        None,
    ),
    "continue between step and guard": (
        "n = 0\nwhile True:\n    n += 1\n    if problem:\n        continue\n    if n >= 3:\n        break\nreturn 'a'",
        None,
    ),
    "continue in the guard": (
        "n = 0\nwhile True:\n    n += 1\n    if n >= 3:\n        if problem:\n            continue\n        break\nreturn 'a'",
        None,
    ),
    "begun anew": ("n = 0\nwhile n < 3:\n    n += 1\n    if problem:\n        n = 0\nreturn 'a'", None),
    "begun in the loop": ("while True:\n    n = 0\n    n += 1\n    if n > 3:\n        break\nreturn 'a'", None),
    "a step in a branch": ("n = 0\nwhile n < 3:\n    if problem:\n        n += 1\nreturn 'a'", None),
    "a step in a try": (
        "n = 0\nwhile n < 3:\n    try:\n        n += 1\n    except ValueError:\n        pass\nreturn 'a'",
        None,
    ),
    "a guard in a branch": (
        "n = 0\nwhile True:\n    n += 1\n    if problem:\n        x = 1\n        if n > 3:\n            break\nreturn 'a'",
        None,
    ),
    "a guard that may not leave": ("n = 0\nwhile True:\n    n += 1\n    if n > 3 and problem:\n        break\nreturn 'a'", None),
    "a value that is jumped over": ("n = 0\nwhile True:\n    n += 2\n    if n == 3:\n        break\nreturn 'a'", None),
    "the wrong way": ("n = 0\nwhile True:\n    n -= 1\n    if n >= 3:\n        break\nreturn 'a'", None),
    "a step of another": ("n = 0\nm = 0\nwhile n < 3:\n    n = m + 1\nreturn 'a'", None),
    "a step by a factor": ("n = 1\nwhile n < 3:\n    n *= 2\nreturn 'a'", None),
    "a comparison turned round": ("n = 0\nwhile 3 > n:\n    n += 1\nreturn 'a'", None),
}  # fmt: skip


@pytest.mark.parametrize("name", BOUNDED)
def test_the_turns_of_a_while(name: str) -> None:
    body, turns = BOUNDED[name]
    assert counted(body) == turns


def test_an_equality_ends_only_a_loop_that_is_entered_once() -> None:
    """Entered again, the counter is past its limit already."""
    loop = "while True:\n    r = await self.custom(problem, '')\n    n += 1\n    if n {} 2:\n        break"
    inner = "\n".join(f"    {line}" for line in loop.split("\n"))
    text = f"n = 0\nfor i in [1, 2]:\n{inner}\nreturn 'a'"
    assert valid(workflow_text(text.format(">="))).max_operator_calls == 4
    assert valid(workflow_text(text.format("=="))).max_operator_calls == 16
    once = f"n = 0\n{loop.format('==')}\nreturn 'a'"
    assert valid(workflow_text(once)).max_operator_calls == 2


def test_a_comparison_that_is_no_counter_does_not_say_that_the_loop_begins() -> None:
    body = "n = 0\nwhile problem == 'x':\n    r = await self.custom(problem, '')\n    n += 1\n    if n >= 2:\n        break\nreturn 'a'"  # fmt: skip
    made, statements = lengths(body)
    assert isinstance(statements[1], ast.While)
    assert (made.counted(statements[1]), made.surely_counted(statements[1])) == (2, False)


REVIEWED = """
s = (await self.custom(input=problem, instruction='a'))['response']
{begin}
while {test}:
    v = await self.review(problem=problem, solution=s)
    {step}
    if v['review_result']{guard}:
        break
    s = (await self.revise(problem=problem, solution=s, feedback=v['feedback']))['solution']
return s
"""


@pytest.mark.parametrize(
    ("begin", "test", "step", "guard", "most", "made"),
    [
        ("n = 0", "True", "n += 1", " or n >= 3", 7, 6),
        ("tries = 3", "tries > 0", "tries -= 1", "", 7, 7),
        ("n = 1", "n <= 3", "n = n + 1", "", 7, 7),
    ],
)
async def test_reviewing_until_a_counter_ends_it(
    begin: str, test: str, step: str, guard: str, most: int, made: int
) -> None:
    workflow = valid(workflow_text(REVIEWED.format(begin=begin, test=test, step=step, guard=guard)))
    assert workflow.max_operator_calls == most
    chat = ScriptedChat()
    execution = await run(workflow, chat=chat)
    assert (execution.status, len(chat.calls)) == ("ok", made)


def test_the_while_that_is_not_counted_is_named() -> None:
    text = workflow_text(REVIEWED.format(begin="n = 0", test="True", step="pass", guard=""))
    (finding,) = check_text(text, domain=None, rules=RULES).findings
    line = text.split("\n").index("        while True:") + 1
    assert finding.code == "E401"
    assert f"the `while` of line {line} counts 8 turns" in finding.message
    assert "`if n >= 3: break`" in finding.message
    long = check_text(workflow_text("for i in range(17):\n    r = await self.custom(problem, '')\nreturn 'a'"), domain=None, rules=RULES)  # fmt: skip
    assert "while" not in long.findings[0].message
