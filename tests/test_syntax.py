"""The parser in company: finalisers that parse, too."""

import ast
import gc
import warnings

import pytest

from grpo_aflow.syntax import parse_expression, parse_module, symbol_table
from grpo_aflow.tasks.leaks import leaked_tests
from grpo_aflow.types import Task
from grpo_aflow.workflow.parsing import parse

SOURCE = "def check(candidate):\n" + "    assert candidate(2) == 4\n" * 100


class Loop:
    """Garbage in a cycle; that its finaliser parses, deeper on the stack, is what formatting a traceback does."""

    num_ended = 0

    def __init__(self):
        self.me = self

    def __del__(self):
        ast.parse("x = 1")
        Loop.num_ended += 1


@pytest.fixture
def collecting():
    """A garbage collection every few objects, so that some begin in the middle of a parse."""
    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(20, 2, 2)
    yield
    gc.set_threshold(*before)


def test_a_finaliser_that_parses_does_not_spoil_a_parse(collecting):
    for _ in range(50):
        Loop()
        assert len(parse_module(SOURCE).body[0].body) == 100
        Loop()
        assert isinstance(parse_expression("[" + "1 + 2, " * 100 + "]"), ast.List)
        Loop()
        assert isinstance(parse(SOURCE), ast.Module)
    assert Loop.num_ended > 100


def test_nor_does_it_hide_a_leak(collecting):
    task = Task(
        id="c/0", dataset="humaneval", domain="code", problem="def f(x): ...", answers=("",), entry_point="f",
        hidden_tests=(SOURCE,), public_tests=("assert f(2) == 4",),
    )  # fmt: skip
    for _ in range(20):
        Loop()
        assert leaked_tests(task) == ["assert f(2) == 4"]


def test_what_is_no_program_is_said():
    with pytest.raises(SyntaxError):
        parse_module("def")
    with pytest.raises(SyntaxError):
        parse_expression("x = 1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ast.unparse(parse_module("x = '\\d'")) == "x = '\\\\d'"
        assert symbol_table("x = '\\d' or 1or y").lookup("y").is_global()
