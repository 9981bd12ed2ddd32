"""The verdict of the two-process check is the one that the unmodified test gives in one process."""

from __future__ import annotations

import os
import sys
import types

import pytest
from object_cases import OBJECTS
from value_cases import RIGHT, WRONG

from grpo_aflow.sandbox.pool import SandboxPool

PASSING = RIGHT | OBJECTS
CASES = PASSING | WRONG


def passes_in_one_process(source: str, test: str) -> bool:
    """The official verdict. For our own cases only: it runs them here, with nothing around them."""
    module = types.ModuleType("one_process")
    argv, sys.argv = sys.argv, ["test"]
    sys.modules["one_process"] = module
    exit_now, os._exit = os._exit, sys.exit  # type: ignore[assignment]
    try:
        exec(compile(source, "<source>", "exec", dont_inherit=True), module.__dict__)
        exec(compile(test, "<test>", "exec", dont_inherit=True), module.__dict__)
    except BaseException:  # noqa: BLE001  whatever the test raises, it has not passed
        return False
    finally:
        sys.argv, os._exit = argv, exit_now
        del sys.modules["one_process"]
    return True


@pytest.mark.parametrize("name", CASES)
def test_verdict_is_that_of_one_process(runner: SandboxPool, name: str) -> None:
    source, test = CASES[name]
    assert passes_in_one_process(source, test) is (name in PASSING)
    result = runner.check(source, test, entry_point="f", timeout_s=20.0)
    assert result.passed is (name in PASSING), result.error
