"""The self-test passes in the real sandbox, and says why when something is wrong with golds, grader or sandbox."""

import dataclasses

import pytest

from grpo_aflow.tasks import bundled
from grpo_aflow.tasks.selftest import quick as selftest
from grpo_aflow.types import CheckResult, CodeResult, CodeStatus, SelfTestFailed


class Runner:
    """A checker that gives everything the same verdict."""

    def __init__(self, status, *, passed):
        self.result = CheckResult(status=status, passed=passed, defined=True)

    def run(self, source, *, call="", timeout_s=5.0):
        return CodeResult(status=CodeStatus.OK)

    def check(self, candidate, test, *, entry_point, setup="", setup_after=False, timeout_s=5.0):
        return self.result

    def close(self):
        pass


def test_it_passes_in_the_sandbox_of_this_machine():
    from grpo_aflow.sandbox import open_default

    report = selftest.self_test(open_default(), bundled("test"))
    assert report.num_golds == 36  # three of each dataset, given and bundled
    assert report.num_attacks > 60


def test_a_checker_that_passes_everything_is_found_out():
    with pytest.raises(
        SelfTestFailed, match=r"the grader was fooled: system_exit attack .* passes bundled/humaneval/100"
    ):
        selftest.self_test(Runner(CodeStatus.OK, passed=True), ())


def test_a_sandbox_that_fails_every_gold_is_found_out():
    with pytest.raises(SelfTestFailed, match="the gold of bundled/humaneval/0 does not grade exact"):
        selftest.self_test(Runner(CodeStatus.ERROR, passed=False), ())


def test_a_broken_sandbox_is_named():
    with pytest.raises(SelfTestFailed, match="the sandbox failed on the gold of bundled/humaneval/0"):
        selftest.self_test(Runner(CodeStatus.INFRASTRUCTURE, passed=False), ())


def test_a_broken_gold_is_named():
    task = next(task for task in bundled("train") if task.dataset == "math")
    broken = dataclasses.replace(task, id="own/1", answers=("",))
    with pytest.raises(SelfTestFailed, match="the gold of own/1 does not grade exact"):
        selftest.self_test(Runner(CodeStatus.OK, passed=True), [broken])
