"""Leaks of hidden tests, and problems that are both trained on and evaluated."""

import dataclasses

import pytest

from grpo_aflow.tasks import bundled
from grpo_aflow.tasks.leaks import check_leaks, contaminated, fingerprint, leaked_tests
from grpo_aflow.types import Task, UserError

TASK = Task(
    id="c/0",
    dataset="humaneval",
    domain="code",
    problem='def f(x):\n    """Double.\n    >>> f(2)\n    4\n    """\n',
    answers=("def f(x): return 2 * x",),
    entry_point="f",
    hidden_tests=("def check(candidate):\n    assert candidate(2) == 4\n    assert candidate( 3 )==6\n",),
)


def test_equal_ids_of_two_datasets_are_two_tasks():
    mine, yours = (dataclasses.replace(TASK, id="0", dataset=name, problem=f"{name}?") for name in ("mine", "yours"))
    assert contaminated([mine], [yours]) == set()
    assert contaminated([mine], [dataclasses.replace(mine, problem="rewritten")]) == {"0"}


def test_a_hidden_assertion_in_the_prompt_is_no_leak():
    assert leaked_tests(dataclasses.replace(TASK, public_tests=("assert f(2) == 4",))) == []


def test_a_hidden_assertion_that_the_prompt_does_not_show_is_a_leak():
    leaky = dataclasses.replace(TASK, public_tests=("assert f(3) == 6",))
    assert leaked_tests(leaky) == ["assert f(3) == 6"]
    with pytest.raises(UserError, match=r"c/0: the public test 'assert f\(3\) == 6' is a hidden one"):
        check_leaks([leaky])


def test_another_public_test_is_no_leak():
    check_leaks([dataclasses.replace(TASK, public_tests=("assert f(5) == 10",))])


def test_near_identical_problems_have_one_fingerprint():
    other = dataclasses.replace(TASK, id="d/9", problem=TASK.problem.replace("Double.", " double !"))
    assert fingerprint(other) == fingerprint(TASK)
    assert contaminated([TASK], [other]) == {"c/0"}
    assert fingerprint(dataclasses.replace(TASK, entry_point="g")) != fingerprint(TASK)
    with pytest.raises(UserError, match="1 training tasks are evaluated as well, for example c/0"):
        check_leaks([TASK], [other])


def test_the_same_id_is_the_same_problem_even_reworded():
    assert contaminated([TASK], [dataclasses.replace(TASK, problem="something else")]) == {"c/0"}


def test_the_bundled_splits_are_apart_and_leak_nothing():
    check_leaks(bundled("train"), bundled("test"))
