"""Costs of the paths through statements and loops, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from grpo_aflow.workflow.checking.paths import NEVER, PathCosts, loop_paths, most
from grpo_aflow.workflow.program import FREE, Cost


def cost(calls: int, least: int | None = None) -> Cost:
    return Cost(calls, 2 * calls, calls if least is None else least)


def test_where_two_paths_meet() -> None:
    assert most(cost(3), cost(1)) == Cost(3, 6, 1)
    assert most(None, cost(1)) == most(cost(1), None) == cost(1)
    assert most(None, None) is None


def test_the_worst_of_all_paths() -> None:
    assert PathCosts(cost(1), cost(3), cost(2)).worst == Cost(3, 6, 1)
    assert PathCosts(None, None, cost(2)).worst == cost(2)
    assert PathCosts(None, None, None).worst == FREE


def test_one_statement_after_another() -> None:
    paths = PathCosts(cost(1), cost(2), cost(3)).then(PathCosts(cost(10), cost(20), cost(30)))
    assert paths == PathCosts(cost(11), Cost(21, 42, 2), Cost(31, 62, 3))
    assert PathCosts(None, cost(2), cost(3)).then(PathCosts(cost(10), None, cost(30))) == PathCosts(
        None, cost(2), cost(3)
    )
    assert PathCosts(cost(1)).then(PathCosts(None, cost(20), None)) == PathCosts(None, cost(21), None)


def test_branches_and_branches_that_no_task_takes() -> None:
    assert PathCosts(cost(1), None, cost(3)).or_(PathCosts(cost(2), cost(5), None)) == PathCosts(
        Cost(2, 4, 1), cost(5), cost(3)
    )
    assert PathCosts(cost(1), None, cost(3)).never() == PathCosts(Cost(1, 2, NEVER), None, Cost(3, 6, NEVER))


LOOP: dict[str, Any] = {
    "entry": cost(1), "entered_each_turn": False, "bound": 3, "least_turns": 0, "falls_through": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "through"),
    [
        ({}, Cost(3 * 2 + 1, 14, 1)),  # header once, three turns at most, none at least
        ({"least_turns": 3}, Cost(7, 14, 1 + 3 * 2)),
        ({"entered_each_turn": True}, Cost(3 * (2 + 1) + 1, 20, 1)),
        ({"falls_through": False}, None),
    ],
)
def test_loops(changes: dict[str, Any], through: Cost | None) -> None:
    assert loop_paths(PathCosts(cost(2)), PathCosts(), **LOOP | changes) == PathCosts(through, None, None)


def test_a_turn_ends_at_its_end_or_by_a_jump() -> None:
    jumping = loop_paths(PathCosts(cost(4), cost(2)), PathCosts(), **LOOP | {"least_turns": 1})
    assert jumping.through == Cost(3 * 4 + 1, 26, 1 + 2)
    only_jumps = loop_paths(PathCosts(None, cost(2)), PathCosts(), **LOOP | {"least_turns": 1})
    assert only_jumps.through == Cost(7, 14, 1 + 2)


def test_a_return_in_a_loop_may_come_in_its_first_turn() -> None:
    found = loop_paths(PathCosts(None, None, cost(2)), PathCosts(), **LOOP | {"least_turns": 1})
    assert found.returned == Cost(7, 14, 1 + 2)
    assert found.through is not None
    assert found.through.least >= NEVER  # no turn comes to its end


def test_what_stands_in_else_comes_behind_the_loop() -> None:
    rest = PathCosts(cost(10), cost(20), cost(30))
    found = loop_paths(PathCosts(cost(2), None, cost(1)), rest, **LOOP)
    assert found == PathCosts(Cost(17, 34, 1), Cost(27, 54, 21), Cost(37, 74, 2))
    without = loop_paths(PathCosts(cost(2)), rest, **LOOP)
    assert without.returned == Cost(37, 74, 31)
