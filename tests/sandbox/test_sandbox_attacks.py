"""No attack passes, every gold does: on the real problems, inside the real sandbox."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from attack_battery import BLOCKING, QUICK, candidate
from sandbox_cases import Problem

from grpo_aflow.sandbox.pool import SandboxPool
from grpo_aflow.types import CheckResult, CodeStatus

pytestmark = pytest.mark.slow

ADD = Problem(
    name="add",
    gold="def add(a, b):\n    return a + b",
    test="def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate([1], [2]) == [1, 2]",
    entry_point="add",
    setup="",
)
# Golds that need a class which this copy of the benchmark does not define.
# Of the quick ones, those that vary another: they are tried on ten problems, for time's sake.
VARIANTS = (
    "os_exit_at_import",
    "raise_inside",
    "raise_keyboard_interrupt",
    "always_equal_in_list",
    "forge_done",
    "not_a_number",
    "recursion",
    "replace_itself",
    "nothing",
    "defines_check",
)


def check_all(
    runner: SandboxPool, problems: list[Problem], attack: str | None = None, timeout_s: float = 10.0
) -> dict[str, CheckResult]:
    """Check the golds, or one attack, on every problem; one result per problem's name."""

    def check(problem: Problem) -> CheckResult:
        source = problem.gold if attack is None else candidate(attack, problem.entry_point)
        return runner.check(
            source, problem.test, entry_point=problem.entry_point, setup=problem.setup, timeout_s=timeout_s
        )

    with ThreadPoolExecutor(2) as threads:
        return dict(zip([problem.name for problem in problems], threads.map(check, problems), strict=True))


def passed(results: dict[str, CheckResult]) -> set[str]:
    assert not [name for name, result in results.items() if result.status is CodeStatus.INFRASTRUCTURE]
    return {name for name, result in results.items() if result.passed}


@pytest.mark.parametrize("name", [*QUICK, *BLOCKING])
def test_attack_fails_on_a_simple_problem(runner: SandboxPool, name: str) -> None:
    attack = (QUICK | BLOCKING)[name]
    assert passed(check_all(runner, [ADD], attack, timeout_s=0.5)) == set()
    assert passed(check_all(runner, [ADD])) == {"add"}  # and the sandbox still works


def test_gold_passes_after_every_attack_in_one_go(runner: SandboxPool) -> None:
    for attack in QUICK.values():
        check_all(runner, [ADD], attack, timeout_s=0.5)
    result = check_all(runner, [ADD])["add"]
    assert (result.passed, result.num_passed, result.num_assertions, result.defined) == (True, 2, 2, True)


@pytest.mark.slow
def test_every_humaneval_gold_passes(runner: SandboxPool, humaneval: list[Problem]) -> None:
    assert len(humaneval) == 164
    assert len(passed(check_all(runner, humaneval))) == 164


@pytest.mark.slow
def test_mbpp_golds_pass(runner: SandboxPool, mbpp: list[Problem]) -> None:
    assert len(mbpp) == 974
    results = check_all(runner, mbpp, timeout_s=120.0)  # 123 computes for 5 s on an idle core
    assert set(results) - passed(results) <= {"MBPP/367", "MBPP/927"}  # their set-up must run after the code


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in QUICK if name not in VARIANTS])
def test_quick_attack_passes_no_real_problem(
    runner: SandboxPool, humaneval: list[Problem], sanitised_mbpp: list[Problem], name: str
) -> None:
    problems = humaneval + sanitised_mbpp
    assert len(problems) == 164 + 427
    assert passed(check_all(runner, problems, QUICK[name], timeout_s=2.0)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BLOCKING, *VARIANTS])
def test_other_attack_passes_no_real_problem(
    runner: SandboxPool, humaneval: list[Problem], sanitised_mbpp: list[Problem], name: str
) -> None:
    problems = humaneval[:5] + sanitised_mbpp[:5]
    assert passed(check_all(runner, problems, (QUICK | BLOCKING)[name], timeout_s=0.4)) == set()
