"""Which operators of a workflow feed which, found in its source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_executor import valid, workflow_text

from grpo_aflow.workflow.graph import OperatorGraph, operator_graph

DRAFT = "s = (await self.custom(input=problem, instruction='x'))['response']\n"
REVIEW = "r = await self.review(problem=problem, solution=s)\n"
REVISE = "s = (await self.revise(problem=problem, solution=s, feedback=r['feedback']))['solution']\n"
FORMAT = "s = (await self.format(problem=problem, solution=s))['solution']\n"
ONE = "(await self.custom(problem, 'x'))['response']"
VOTE = "s = (await self.sc_ensemble(solutions=xs, problem=problem))['response']\n"


def graph(body: str) -> OperatorGraph:
    return operator_graph(valid(workflow_text(body)))


# body -> operators (* = in a loop), what feeds each, what the answer is made of
GRAPHS = {
    "one call": (f"{DRAFT}return s", ["custom"], [[]], [0]),
    "a chain": (f"{DRAFT}{FORMAT}return s", ["custom", "format"], [[], [0]], [1]),
    "review and revise": (
        f"{DRAFT}{REVIEW}{REVISE}return s",
        ["custom", "review", "revise"],
        [[], [0], [0, 1]],
        [2],
    ),
    "a call for nothing": (f"{DRAFT}t = s\n{FORMAT}return t", ["custom"], [[]], [0]),
    "overwritten": (f"{DRAFT}{DRAFT}return s", ["custom"], [[]], [0]),
    "a loop that collects": (
        f"xs = []\nfor _ in range(3):\n    xs.append({ONE})\n{VOTE}return s",
        ["custom*", "sc_ensemble"],
        [[], [0]],
        [1],
    ),
    "a comprehension that collects": (
        "rs = await asyncio.gather(*[self.custom(problem, 'x') for _ in range(5)])\n"
        f"xs = [r['response'] for r in rs]\n{VOTE}return s",
        ["custom*", "sc_ensemble"],
        [[], [0]],
        [1],
    ),
    "a loop that refines": (
        f"{DRAFT}for _ in range(2):\n    {REVIEW}    {REVISE}return s",
        ["custom", "review*", "revise*"],
        [[], [0, 2], [0, 1, 2]],
        [0, 2],
    ),
    "only if rejected": (
        f"{DRAFT}{REVIEW}if not r['review_result']:\n    {REVISE}return s",
        ["custom", "review", "revise"],
        [[], [0], [0, 1]],
        [0, 1, 2],
    ),
    "an early return": (
        f"{DRAFT}{REVIEW}if r['review_result']:\n    return s\n{FORMAT}return s",
        ["custom", "review", "format"],
        [[], [0], [0, 1]],
        [0, 1, 2],
    ),
    "a branch that matters not": (
        f"{DRAFT}{REVIEW}if r['review_result']:\n    t = 1\n{FORMAT}return s",
        ["custom", "format"],
        [[], [0]],
        [1],
    ),
    "a break": (
        f"s = ''\nfor _ in range(3):\n    {DRAFT}    if s:\n        break\nreturn s",
        ["custom*"],
        [[0]],
        [0],
    ),
    "two at once": (
        "a, b = await asyncio.gather(self.custom(problem, 'x'), self.answer_generate(problem))\nreturn b['answer']",
        ["answer_generate"],
        [[]],
        [0],
    ),
    "a choice": (
        f"{DRAFT}t = (await self.format(problem, s))['solution'] if s else problem\nreturn t",
        ["custom", "format"],
        [[], [0]],
        [0, 1],
    ),
    "items and sums": (
        f"d = {{}}\nd['a'] = {ONE}\nt = ''\nt += d['a']\nreturn t",
        ["custom"],
        [[]],
        [0],
    ),
    "answer and cost": (f"{DRAFT}return s, self.llm.get_usage_summary()['total_cost']", ["custom"], [[]], [0]),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name: str) -> None:
    body, operators, feeds, answer = GRAPHS[name]
    found = graph(body)
    assert list(found.operators) == operators
    assert [sorted(calls) for calls in found.feeds] == feeds
    assert sorted(found.answer) == answer


SAME = {
    "names and instructions": (
        f"{DRAFT}return s",
        "text = (await self.custom(problem, 'other'))['response']\nreturn text",
    ),
    "the number of repetitions": (
        f"xs = []\nfor _ in range(3):\n    xs.append({ONE})\n{VOTE}return s",
        f"xs = [{ONE} for _ in range(5)]\n{VOTE}return s",
    ),
    "the order of independent calls": (
        f"a = {ONE}\nb = (await self.answer_generate(problem))['answer']\nxs = [a, b]\n{VOTE}return s",
        f"b = (await self.answer_generate(problem))['answer']\na = {ONE}\nxs = [a, b]\n{VOTE}return s",
    ),
}
DIFFERENT = {
    "another operator": (f"{DRAFT}return s", "return (await self.answer_generate(problem))['answer']"),
    "one more": (f"{DRAFT}return s", f"{DRAFT}{FORMAT}return s"),
    "repeated or once": (f"xs = [{ONE}]\n{VOTE}return s", f"xs = [{ONE} for _ in range(5)]\n{VOTE}return s"),
    "another order": (f"{DRAFT}{REVIEW}{REVISE}{FORMAT}return s", f"{DRAFT}{FORMAT}{REVIEW}{REVISE}return s"),
    "fed by another": (
        f"{DRAFT}{REVIEW}{REVISE}return s",
        f"{DRAFT}{REVIEW}s = (await self.revise(problem=problem, solution=s, feedback='x'))['solution']\nreturn s",
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_what_makes_no_difference(name: str) -> None:
    first, second = SAME[name]
    assert graph(first).key() == graph(second).key()


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_makes_a_difference(name: str) -> None:
    first, second = DIFFERENT[name]
    assert graph(first).key() != graph(second).key()


@given(st.data())
def test_the_key_does_not_depend_on_the_order_of_the_nodes(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    places = st.frozensets(st.integers(0, count - 1))
    operators = data.draw(st.lists(st.sampled_from(["custom", "review", "format*"]), min_size=count, max_size=count))
    feeds, answer = data.draw(st.lists(places, min_size=count, max_size=count)), data.draw(places)
    order = data.draw(st.permutations(range(count)))
    given_order = OperatorGraph(operators=tuple(operators), feeds=tuple(feeds), answer=answer)
    shuffled = OperatorGraph(
        operators=tuple(operators[place] for place in order),
        feeds=tuple(frozenset(order.index(call) for call in feeds[place]) for place in order),
        answer=frozenset(order.index(call) for call in answer),
    )
    assert given_order.key() == shuffled.key()
