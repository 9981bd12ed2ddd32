"""How fast is the sandbox, and does it leak? See README.md beside this file for the question and the results."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from ratios import compare

from grpo_aflow.sandbox import open_default
from grpo_aflow.types import CodeStatus

PROGRAM = "import sympy\nx = sympy.Symbol('x')\ndef solve():\n    return sympy.expand((x + 1) ** 2)"
EMPTY = "def solve():\n    return 1"
SOLUTION = "def add(a, b):\n    return a + b"
TEST = "assert add(1, 2) == 3\nassert add('a', 'b') == 'ab'\nassert add([1], [2]) == [1, 2]"


def run_program(runner, source: str = PROGRAM) -> None:
    """One call of a program, by default one that uses sympy."""
    result = runner.run(source, call="solve")
    if result.status is not CodeStatus.OK:
        raise RuntimeError(f"{result.status}: {result.error}")


def run_check(runner) -> None:
    """One check of three assertions."""
    result = runner.check(SOLUTION, TEST, entry_point="add")
    if not result.passed:
        raise RuntimeError(f"{result.status}: {result.error}")


def run_bare() -> None:
    """The yardstick: the same program in an interpreter of its own, with no confinement at all."""
    subprocess.run([sys.executable, "-c", f"{PROGRAM}\nsolve()"], check=True)


def by_turns(runner, rounds: int = 7) -> float:
    """CPU time of a bare interpreter over that of a confined program, a call of each by turns; the median."""
    ratios = []
    for _ in range(rounds):
        bare = measure(run_bare, 3, 1)["cpu_ms"]
        ratios.append(bare / measure(lambda: run_program(runner), 30, 1)["cpu_ms"])
    return statistics.median(ratios)


def cpu_s() -> float:
    """CPU time of this process and all below it, the ended ones included."""
    me = psutil.Process()
    times = [process.cpu_times() for process in [me, *me.children(recursive=True)]]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def measure(work: Callable[[], None], num_calls: int, num_threads: int) -> dict[str, float]:
    """Calls a second, latencies and CPU time per call in ms of `num_calls` calls from `num_threads` threads."""
    latencies: list[float] = []
    failures: list[BaseException] = []

    def loop(share: int) -> None:
        try:
            for _ in range(share):
                begin = time.perf_counter()
                work()
                latencies.append(1000 * (time.perf_counter() - begin))
        except RuntimeError as error:
            failures.append(error)

    threads = [threading.Thread(target=loop, args=(num_calls // num_threads,)) for _ in range(num_threads)]
    begin, used = time.perf_counter(), cpu_s()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed, used = time.perf_counter() - begin, cpu_s() - used
    if failures:
        raise failures[0]
    quantiles = statistics.quantiles(latencies, n=100)
    return {
        "calls_per_s": len(latencies) / elapsed,
        "median_ms": quantiles[49],
        "p95_ms": quantiles[94],
        "cpu_ms": 1000 * used / len(latencies),
    }


def footprint() -> dict[str, int]:
    """Processes, open files and resident memory of this process and all below it."""
    me = psutil.Process()
    family = [me, *me.children(recursive=True)]
    return {
        "processes": len(family),
        "files": sum(process.num_fds() for process in family),
        "rss_mb": sum(process.memory_info().rss for process in family) >> 20,
    }


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000, help="calls per measurement")
    parser.add_argument("--endurance", type=int, default=0, help="programs to run in a row while watching for leaks")
    options = parser.parse_args()
    runner = open_default()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    kinds = (("empty", lambda runner: run_program(runner, EMPTY)), ("sympy", run_program), ("check", run_check))
    for name, work in kinds:
        measure(lambda work=work: work(runner), 50, 2)  # type: ignore[misc]
        for num_threads in (1, 2):
            row = measure(lambda work=work: work(runner), options.calls, num_threads)  # type: ignore[misc]
            figures = "  ".join(f"{key} {value:.1f}" for key, value in row.items())
            print(f"{name:5} {num_threads} threads  {figures}", flush=True)
    compare("sandbox_speed", {"CPU time of a bare interpreter / of a confined program with sympy": by_turns(runner)})
    done = 0
    while done < options.endurance:
        print(f"after {done} programs: {footprint()}", flush=True)
        share = min(2000, options.endurance - done)
        measure(lambda: run_program(runner), share, 2)
        done += share
    if options.endurance:
        print(f"after {done} programs: {footprint()}")


if __name__ == "__main__":
    main()
