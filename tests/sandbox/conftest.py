"""One sandbox for the tests of this room, and the real code problems where they are at hand."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from grpo_aflow.sandbox import Sandlock
from grpo_aflow.sandbox.pool import SandboxPool

DATA = Path(__file__).parents[2].parent / "shared" / "data"
LIMITS = {
    "num_servers": 2,
    "memory_mb": 512,
    "disk_mb": 8,
    "max_output_bytes": 1 << 20,
    "max_timeout_s": 120.0,
    "packages": ["numpy", "mpmath", "sympy"],
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A code problem of a public benchmark, as a checker takes it."""

    name: str
    gold: str
    test: str
    entry_point: str
    setup: str


def footprint() -> tuple[int, int]:
    """Processes below this one and files open in all, once the servers have made their next children ready."""
    seen: list[tuple[int, int]] = []
    for _ in range(200):
        family = psutil.Process().children(recursive=True)
        try:
            seen.append((len(family), sum(process.num_fds() for process in [psutil.Process(), *family])))
        except psutil.Error:
            seen.append((-1, -1))
        if len(seen) > 6 and len(set(seen[-6:])) == 1:
            break
        time.sleep(0.05)
    return seen[-1]


@pytest.fixture(scope="session")
def runner() -> Iterator[SandboxPool]:
    pool = Sandlock(**LIMITS).open()
    yield pool
    pool.close()


def _humaneval() -> list[Problem]:
    with gzip.open(DATA / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    return [
        Problem(
            name=row["task_id"],
            gold=row["prompt"] + row["canonical_solution"],
            test=row["test"],
            entry_point=row["entry_point"],
            # The prompt's imports and helpers (encode_cyclic, poly ...), which some tests use.
            setup=row["prompt"].rpartition(f"def {row['entry_point']}")[0],
        )
        for row in rows
    ]


def _mbpp() -> list[Problem]:
    rows = json.loads((DATA / "mbpp" / "mbpp_full.json").read_text())
    problems = []
    for row in rows:
        test = "\n".join(row["test_list"])
        defined = [line.split("def ")[1].split("(")[0].strip() for line in row["code"].splitlines() if "def " in line]
        # The function that the assertions call; helpers that the gold defines besides are not it.
        entry_point = next((name for name in reversed(defined) if f"{name}(" in test), defined[-1])
        problems.append(
            Problem(
                name=f"MBPP/{row['task_id']}",
                gold=row["code"],
                test=test,
                entry_point=entry_point,
                setup=row["test_setup_code"],
            )
        )
    return problems


@pytest.fixture(scope="session")
def humaneval() -> list[Problem]:
    if not DATA.exists():
        pytest.skip("the benchmark files are not at hand")
    return _humaneval()


@pytest.fixture(scope="session")
def mbpp() -> list[Problem]:
    if not DATA.exists():
        pytest.skip("the benchmark files are not at hand")
    return _mbpp()


@pytest.fixture(scope="session")
def sanitised_mbpp(mbpp: list[Problem]) -> list[Problem]:
    """The 427 problems of the sanitised set, by the ids in AFlow's split of it."""
    ids = set()
    for part in ("validate", "test"):
        text = (DATA / "mbpp" / f"aflow_{part}.jsonl").read_text()
        ids |= {f"MBPP/{json.loads(line)['task_id']}" for line in text.splitlines()}
    return [problem for problem in mbpp if problem.name in ids]
