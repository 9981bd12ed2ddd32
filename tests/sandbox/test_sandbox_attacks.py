"""No attack passes, every gold does: on the real problems, inside the real sandbox."""

from __future__ import annotations

import os
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
    assert passed(check_all(runner, [ADD], attack, timeout_s=0.3)) == set()
    result = check_all(runner, [ADD])["add"]  # and the sandbox still works
    assert (result.passed, result.num_passed, result.num_assertions, result.defined) == (True, 2, 2, True)


def test_the_forgers_find_what_they_forge(runner: SandboxPool) -> None:
    """Attacks that look for an object of ours by the name of its class are none once that has another name."""
    source = (
        "import gc\ndef f():\n"
        "    return sorted({type(found).__name__ for found in gc.get_objects()} & {'CandidateSide', 'Nothing'})"
    )
    assert any("'CandidateSide'" in attack for attack in QUICK.values())
    assert runner.check(source, "assert f() == ['CandidateSide']", entry_point="f").passed


def test_every_humaneval_gold_passes(runner: SandboxPool, humaneval: list[Problem]) -> None:
    assert len(humaneval) == 164
    assert len(passed(check_all(runner, humaneval))) == 164


def test_mbpp_golds_pass(runner: SandboxPool, mbpp: list[Problem]) -> None:
    assert len(mbpp) == 974
    results = check_all(runner, mbpp, timeout_s=120.0)  # 123 computes for 5 s on an idle core
    assert set(results) - passed(results) <= {"MBPP/367", "MBPP/927"}  # their set-up must run after the code


# Each attack has its share of the problems, and each problem some attacks; `make selftest` tries all on all.
SHARE = 1 if "WHOLE_BATTERY" in os.environ else 12


@pytest.mark.parametrize("number", range(len(QUICK)), ids=list(QUICK))
def test_quick_attack_passes_no_real_problem(
    runner: SandboxPool, humaneval: list[Problem], sanitised_mbpp: list[Problem], number: int
) -> None:
    problems = humaneval + sanitised_mbpp
    assert len(problems) == 164 + 427
    own = problems[number % SHARE :: SHARE]
    assert passed(check_all(runner, own, list(QUICK.values())[number], timeout_s=2.0)) == set()


@pytest.mark.parametrize("number", range(len(BLOCKING)), ids=list(BLOCKING))
def test_blocking_attack_passes_no_real_problem(
    runner: SandboxPool, humaneval: list[Problem], sanitised_mbpp: list[Problem], number: int
) -> None:
    own = [humaneval[number], sanitised_mbpp[number]]
    assert passed(check_all(runner, own, list(BLOCKING.values())[number], timeout_s=0.3)) == set()
