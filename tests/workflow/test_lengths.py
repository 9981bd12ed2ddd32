"""How often a loop turns at most: literal lengths, what loops have filled, and counting `while`s."""

from __future__ import annotations

import ast

import pytest
from scripted_executor import workflow_text

from grpo_aflow.workflow.checking.facts import gather_facts
from grpo_aflow.workflow.checking.header import read
from grpo_aflow.workflow.checking.lengths import MAX_FOLLOWED, Lengths
from grpo_aflow.workflow.rules import default_rules


def lengths(body: str) -> tuple[Lengths, list[ast.stmt]]:
    outline = read(ast.parse(workflow_text(body)), default_rules().operator_set)
    assert outline.call is not None
    facts = gather_facts(outline, outline.call, max_depth=100)
    return Lengths(facts=facts, parameters=frozenset({"problem"})), outline.call.body


def of(expression: str, before: str = "") -> tuple[Lengths, ast.expr]:
    """The last line is the expression whose length is asked."""
    made, statements = lengths(f"{before}\n{expression}".strip())
    assert isinstance(statements[-1], ast.Expr)
    return made, statements[-1].value


@pytest.mark.parametrize(
    ("expression", "before", "length"),
    [
        ("[1, 2]", "", 2),
        ("(1, 2, 3)", "", 3),
        ("{1}", "", 1),
        ("[]", "", 0),
        ("[1, *x]", "", None),
        ("'abcd'", "", 4),
        ("12", "", None),
        ("range(3)", "", 3),
        ("range(2, 8)", "", 6),
        ("range(2, 8, 2)", "", 3),
        ("range(8, 2, -1)", "", None),
        ("range(2, 8, 0)", "", None),
        ("range(2, 8, 1, 1)", "", None),
        ("range()", "", None),
        ("range(3.5)", "", None),
        ("range(x)", "", None),
        ("range(x, 3)", "", None),
        ("range(n)", "n = 4", 4),
        ("range(n)", "n = 4\nn = 5", None),
        ("range(stop=3)", "", None),
        ("range(10 ** 9)", "", None),
        ("range(1152921504606846975)", "", 2**60 - 1),
        ("range(1152921504606846976)", "", 2**31),
        ("range(99999999999999999999999)", "", 2**31),
        ("range(600000000000000000, 1000000000000000000)", "", 2**31),
        ("enumerate([1, 2])", "", 2),
        ("enumerate([1, 2], 1)", "", 2),
        ("list(range(3))", "", 3),
        ("reversed((1, 2))", "", 2),
        ("sorted('abc')", "", 3),
        ("set([1, 1])", "", None),
        ("tuple([1, 1])", "", None),
        ("xs", "xs = [1, 2]", 2),
        ("xs", "xs = (1, 2)", 2),
        ("xs", "xs = 'ab'", None),
        ("xs", "xs = [1]\nxs = [2]", None),
        ("xs", "xs = [1]\nxs.append(2)", None),
        ("problem", "problem = [1]", None),
        ("unknown", "", None),
    ],
)
def test_what_the_source_alone_says(expression: str, before: str, length: int | None) -> None:
    made, node = of(expression, before)
    assert made.literal(node) == length


@pytest.mark.parametrize(
    ("expression", "before", "most"),
    [
        ("[x for x in range(3)]", "", 3),
        ("[x for x in range(3) for y in 'ab']", "", 6),
        ("[x for x in range(3) for y in problem]", "", None),
        ("xs", "xs = [i for i in 'abc']", 3),
        ("xs", "ys = [1, 2]\nxs = ys", 2),
        ("list(xs)", "xs = [i for i in 'ab']", 2),
        ("enumerate(xs)", "xs = [i for i in 'ab']", 2),
        ("reversed(xs)", "xs = [i for i in 'ab']", 2),
        ("sorted(xs)", "xs = [i for i in 'ab']", 2),
        ("set(xs)", "xs = [i for i in 'ab']", 2),
        ("zip(xs, problem)", "xs = [i for i in 'ab']", 2),
        ("tuple(xs)", "xs = [i for i in 'ab']", None),
        ("await asyncio.gather(self.custom(problem, ''), self.custom(problem, ''))", "", 2),
        ("await asyncio.gather(*[self.custom(problem, i) for i in 'abc'])", "", 3),
        ("await asyncio.gather(self.custom(problem, ''), *xs)", "xs = [1]", None),
        ("await self.custom(problem, '')", "", None),
        ("problem.split()", "", None),
    ],
)
def test_what_literal_loops_have_filled(expression: str, before: str, most: int | None) -> None:
    made, node = of(expression, before)
    assert made.at_most(node) == most


def test_a_list_appended_to_has_what_it_began_with_and_what_was_added() -> None:
    made, node = of("xs", "xs = [1, 2]\nxs.append(3)")
    made.appended["xs"] = 4
    assert made.at_most(node) == 2 + 4
    made.turns = 2
    assert made.at_most(node) is None  # it may grow between two turns of the loop around
    made, node = of("xs", "xs = [1, 2]\nxs.append(3)\nxs.extend([4])")
    assert made.at_most(node) is None
    made, node = of("xs", "xs = [i for i in 'ab']\nxs.append(3)")
    assert made.at_most(node) is None  # what it began with is no literal
    made, node = of("xs", "xs = [i for i in 'ab']")
    made.turns = 2
    assert made.at_most(node) == 2  # it does not grow


@pytest.mark.parametrize(("names", "followed"), [(MAX_FOLLOWED, True), (MAX_FOLLOWED + 1, False)])
def test_a_chain_of_names_is_followed_so_far(names: int, followed: bool) -> None:
    chain = ["x0 = [i for i in 'abc']", *(f"x{n} = x{n - 1}" for n in range(1, names))]
    made, node = of(f"x{names - 1}", "\n".join(chain))
    assert made.at_most(node) == (3 if followed else None)


def test_a_name_that_stands_for_itself_has_no_length() -> None:
    made, node = of("xs", "xs = sorted(xs)")
    assert made.at_most(node) is None


@pytest.mark.parametrize(
    ("start", "test", "turn", "turns"),
    [
        ("i = 0", "i < 3", "i += 1", 3),
        ("i = 0", "i <= 3", "i += 1", 4),
        ("i = 1", "i < 8", "i += 3", 3),
        ("i = 1", "i < 7", "i += 3", 2),
        ("i = 1", "i <= 7", "i += 3", 3),
        ("i = 5", "i < 3", "i += 1", 0),
        ("i = 0", "problem and i < 3", "i += 1", 3),
        ("i = 0", "i < n and problem", "i += 1", 6),
        ("i = 0", "i < 3", "i += n", 1),
        ("i = 0", "i < x and i < 4", "i += 1", 4),
        ("i = 0", "j < 2 and i < 4", "i += 1", 4),
        ("i = 0", "problem or i < 3", "i += 1", None),
        ("i = 0", "i > 3", "i += 1", None),
        ("i = 0", "i < 3", "i -= 1", None),
        ("i = 0", "i < 3", "i += 0", None),
        ("i = 0", "i < 3", "i += -1", None),
        ("i = 0", "i < 3", "i += 1\n    i += 1", None),
        ("i = 0\ni = 1", "i < 3", "i += 1", None),
        ("i = 0.5", "i < 3", "i += 1", None),
        ("i = 0", "i < 3.5", "i += 1", None),
        ("i = 0", "i < 3", "i += 0.5", None),
        ("i = False", "i < 3", "i += 1", None),
        ("i = problem", "i < 3", "i += 1", None),
        ("i = 0", "i < 3", "if problem:\n        i += 1", None),
        ("x = 0", "i < 3", "pass", None),
    ],
)
def test_counting_whiles(start: str, test: str, turn: str, turns: int | None) -> None:
    made, statements = lengths(f"n = 6\n{start}\nwhile {test}:\n    {turn}\nreturn 'a'")
    node = statements[-2]
    assert isinstance(node, ast.While)
    assert made.counted(node) == turns
