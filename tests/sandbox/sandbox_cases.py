"""What the sandbox's tests share: limits, a count of what is open, the real code problems where they are at hand."""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

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


def footprint(pool: SandboxPool) -> tuple[int, int]:
    """Processes of a pool, and files that they and this process have open, once all next children are ready."""
    ready = sum(2 + len(server.spec.roles) for server in pool._servers)  # its launcher, itself, a child for each role
    seen: list[tuple[int, int]] = []
    for _ in range(400):
        try:
            launchers = [psutil.Process(server.launcher_pid) for server in pool._servers]
            family = [process for one in launchers for process in (one, *one.children(recursive=True))]
            seen.append((len(family), sum(process.num_fds() for process in [psutil.Process(), *family])))
        except psutil.Error:
            seen.append((-1, -1))
        if seen[-1][0] == ready and len(seen) > 6 and len(set(seen[-6:])) == 1:
            break
        time.sleep(0.05)
    return seen[-1]


def humaneval_problems() -> list[Problem]:
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


def mbpp_problems() -> list[Problem]:
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
