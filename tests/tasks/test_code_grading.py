"""Code: cutting the candidate out, tiers from a scripted checker, and the real sandbox on the bundled tasks."""

import dataclasses

import pytest

from grpo_aflow.tasks import GraderReading, bundled, grade, is_masked
from grpo_aflow.tasks.selftest.attacks import BLOCKING_CODE_ATTACKS, QUICK_CODE_ATTACKS, code_attack
from grpo_aflow.tasks.selftest.checks import thinned
from grpo_aflow.types import CheckResult, CodeResult, CodeStatus, Task

TASK = Task(
    id="c/0", dataset="mbpp", domain="code", problem="", answers=("def f(): pass",), entry_point="f", hidden_tests=("",)
)


def code_tasks(split):
    return [task for task in bundled(split) if task.domain == "code"]


class ScriptedRunner:
    """Answers every check with one result and remembers what it was asked."""

    def __init__(self, result):
        self.result = result
        self.asked = []

    def run(self, source, *, call="", timeout_s=5.0):
        return CodeResult(status=CodeStatus.OK)

    def check(self, candidate, test, *, entry_point, setup="", setup_after=False, timeout_s=5.0):
        self.asked.append((candidate, test, entry_point, setup, timeout_s))
        return self.result

    def close(self):
        pass


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (
            CheckResult(status=CodeStatus.OK, passed=True, num_passed=4, num_assertions=4, defined=True),
            (True, 1.0, 1.0),
        ),
        (CheckResult(status=CodeStatus.OK, num_passed=3, num_assertions=4, defined=True), (False, 0.75, 0.7)),
        (CheckResult(status=CodeStatus.OK, num_passed=2, num_assertions=4, defined=True), (False, 0.5, 0.4)),
        (CheckResult(status=CodeStatus.OK, num_passed=1, num_assertions=4, defined=True), (False, 0.25, 0.2)),
        (CheckResult(status=CodeStatus.ERROR, defined=True), (False, 0.0, 0.2)),
        (CheckResult(status=CodeStatus.ERROR), (False, 0.0, 0.0)),
        (CheckResult(status=CodeStatus.TIMEOUT, passed=True, defined=True), (False, 0.0, 0.2)),  # no verdict is a fail
    ],
)
def test_tiers_of_what_the_checker_says(result, expected):
    graded = grade(TASK, "def f(): return 1", runner=ScriptedRunner(result))
    assert (graded.exact, graded.score, graded.tier) == expected


def test_a_fault_of_the_sandbox_is_a_third_outcome():
    assert is_masked(grade(TASK, "def f(): 1", runner=ScriptedRunner(CheckResult(status=CodeStatus.INFRASTRUCTURE))))


def test_an_empty_answer_never_reaches_the_sandbox():
    runner = ScriptedRunner(CheckResult(status=CodeStatus.OK, passed=True))
    assert grade(TASK, " \n", runner=runner).tier == 0.0
    assert runner.asked == []


def test_setup_and_every_hidden_test_reach_the_checker():
    runner = ScriptedRunner(CheckResult(status=CodeStatus.OK, passed=True))
    grade(
        dataclasses.replace(TASK, setup="import re", hidden_tests=("assert f() == 1", "assert f() == 2")),
        "x",
        runner=runner,
    )
    assert runner.asked[0][1:4] == ("assert f() == 1\nassert f() == 2", "f", "import re")


@pytest.mark.parametrize("entry_point", ["f", ""])
def test_votes_ignore_layout_and_comments(entry_point):
    def vote(answer):
        return GraderReading().vote_key(answer, dataclasses.replace(TASK, entry_point=entry_point))

    assert vote("```python\ndef f( a ):\n    return a # x\n```") == vote("def f(a): return a")
    assert vote("def f(:") == "def f(:"


def test_a_grade_names_the_rule_that_read_the_program_and_keeps_it():
    passed = ScriptedRunner(CheckResult(status=CodeStatus.OK, passed=True, defined=True))
    graded = grade(TASK, "So:\n```python\ndef f(): return 1\n```", runner=passed)
    assert (graded.rule, graded.read.strip()) == ("fence", "def f(): return 1")
    failed = ScriptedRunner(CheckResult(status=CodeStatus.ERROR, defined=True))
    assert grade(TASK, "def f(): return 1", runner=failed).rule.startswith("program:")


def test_a_setup_that_builds_on_the_code_runs_after_it(runner):
    setup = "root = Node(1)\nroot.left = Node(2)"
    task = dataclasses.replace(TASK, setup=setup, hidden_tests=("assert f(root) == 3",))
    node = "class Node:\n    def __init__(self, value):\n        self.value, self.left = value, None\n"
    answer = f"First:\n```python\n{node}```\nThen:\n```python\ndef f(node): return node.value + {{}}\n```"
    assert grade(task, answer.format("node.left.value"), runner=runner).exact
    assert not grade(task, answer.format("7"), runner=runner).exact


def test_future_imports_stand_behind_a_setup(runner):
    task = dataclasses.replace(TASK, setup="import math", hidden_tests=("assert f() == 2",))
    answer = "from __future__ import annotations\ndef f() -> Any: return math.isqrt(4)"
    assert grade(task, answer, runner=runner).exact


@pytest.fixture(scope="module")
def runner():
    from grpo_aflow.sandbox import open_default

    return open_default()


def test_bundled_golds_pass_and_their_public_tests_too(runner):
    for task in (*code_tasks("train"), *code_tasks("test")):
        assert grade(task, f"Here:\n```python\n{task.answers[0]}\n```", runner=runner).exact, task.id
        for test in task.public_tests:
            result = runner.check(task.answers[0], test, entry_point=task.entry_point, setup=task.setup)
            assert result.passed, (task.id, test)


def test_a_gold_without_its_header_passes_because_setup_is_kept(runner):
    task = next(task for task in code_tasks("train") if task.setup)
    assert grade(task, task.answers[0].removeprefix(task.setup), runner=runner).exact


# Every attack on every fourth task, the next attack on other ones; `make selftest` tries all of them.
@pytest.mark.slow
@pytest.mark.parametrize(("name", "tasks"), list(thinned(QUICK_CODE_ATTACKS, code_tasks("test"), 4)))
def test_no_quick_attack_passes_a_bundled_task(runner, name, tasks):
    assert tasks
    for task in tasks:
        graded = grade(task, code_attack(task, QUICK_CODE_ATTACKS[name]), runner=runner)
        assert not graded.exact, task.id
        assert not is_masked(graded), task.id


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKING_CODE_ATTACKS)
def test_no_blocking_attack_passes(runner, name):
    task = dataclasses.replace(code_tasks("test")[0], metadata={"timeout_s": 0.5})
    assert not grade(task, code_attack(task, BLOCKING_CODE_ATTACKS[name]), runner=runner).exact
