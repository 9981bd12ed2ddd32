"""One sandbox for the tests of the sandbox, and the real code problems where they are at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sandbox_cases import DATA, LIMITS, Problem, humaneval_problems, mbpp_problems

from grpo_aflow.sandbox import Sandlock
from grpo_aflow.sandbox.pool import SandboxPool


@pytest.fixture(scope="session")
def runner() -> Iterator[SandboxPool]:
    pool = Sandlock(**LIMITS).open()
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def humaneval() -> list[Problem]:
    if not DATA.exists():
        pytest.skip("the benchmark files are not at hand")
    return humaneval_problems()


@pytest.fixture(scope="session")
def mbpp() -> list[Problem]:
    if not DATA.exists():
        pytest.skip("the benchmark files are not at hand")
    return mbpp_problems()


@pytest.fixture(scope="session")
def sanitised_mbpp(mbpp: list[Problem]) -> list[Problem]:
    """The 427 problems of the sanitised set, by the ids in AFlow's split of it."""
    ids = set()
    for part in ("validate", "test"):
        text = (DATA / "mbpp" / f"aflow_{part}.jsonl").read_text()
        ids |= {f"MBPP/{json.loads(line)['task_id']}" for line in text.splitlines()}
    return [problem for problem in mbpp if problem.name in ids]
