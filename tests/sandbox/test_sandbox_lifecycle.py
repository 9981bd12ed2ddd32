"""Servers that die, owners that die, escapees, many callers: what is left afterwards, and what callers see."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import psutil
import pytest
from sandbox_cases import LIMITS, footprint

from grpo_aflow.protocols import CodeRunner
from grpo_aflow.sandbox import Bubblewrap, Sandlock, UnsafeSubprocess
from grpo_aflow.sandbox.inside.messages import CallReport
from grpo_aflow.sandbox.pool import SandboxPool
from grpo_aflow.sandbox.probe import find_leaks
from grpo_aflow.types import CodeResult, CodeStatus, InfrastructureError

pytestmark = pytest.mark.slow

LIGHT = LIMITS | {"num_servers": 1, "packages": []}


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    """One for all tests here: whatever a test ends, the pool has to come back by itself."""
    opened = Sandlock(**LIGHT).open()
    yield opened
    opened.close()


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def wait_until_gone(processes: list[psutil.Process], seconds: float = 20.0) -> list[psutil.Process]:
    return psutil.wait_procs(processes, timeout=seconds)[1]


def processor_s(processes: list[psutil.Process]) -> float:
    return sum(process.cpu_times().user for process in processes)


def test_it_is_a_code_runner(pool: SandboxPool) -> None:
    assert isinstance(pool, CodeRunner)
    assert pool.name == "sandlock"


def test_closing_ends_a_call_that_is_under_way() -> None:
    """As of a run that is interrupted: nobody waits for the program, and the thread that did is free again."""
    pool = Sandlock(**LIGHT).open()
    [launcher] = (server.launcher_pid for server in pool._programs)
    assert launcher is not None
    before_s = processor_s(family(launcher))
    results: SimpleQueue[CodeResult] = SimpleQueue()

    def call() -> None:
        results.put(pool.run("while True: pass", timeout_s=600))

    Thread(target=call, daemon=True).start()  # one that never ends is to fail this test, not to keep the others waiting
    while processor_s(running := family(launcher)) < before_s + 0.2:  # it runs
        time.sleep(0.01)
    pool.close()
    result = results.get(timeout=60)
    assert (result.status, result.error) == (CodeStatus.INFRASTRUCTURE, "the sandbox is closed")
    assert wait_until_gone(running) == []


def test_a_dead_server_is_replaced_and_the_call_repeated(pool: SandboxPool) -> None:
    for server, call in ((pool._programs[0], "run"), (pool._checks[0], "check")):
        assert server.launcher_pid is not None
        doomed = [psutil.Process(server.launcher_pid), *family(server.launcher_pid)]
        for process in doomed:
            process.kill()
        assert wait_until_gone(doomed) == []
        if call == "run":
            assert pool.run("def solve(): return 1", call="solve").value == "1"
        else:
            assert pool.check("def f(): return 1", "assert f() == 1", entry_point="f").passed


def test_a_server_killed_during_a_call_is_replaced(pool: SandboxPool) -> None:
    with ThreadPoolExecutor(1) as thread:
        pending = thread.submit(pool.run, "import time\ndef solve():\n    time.sleep(1)\n    return 5", call="solve")
        time.sleep(0.3)
        launcher = pool._programs[0].launcher_pid
        assert launcher is not None
        for process in psutil.Process(launcher).children():
            process.kill()
        assert pending.result().value == "5"


def test_a_sandbox_that_cannot_be_restarted_is_an_infrastructure_fault_and_closing_leaves_nothing() -> None:
    opened = Sandlock(**LIGHT).open()
    bases = [server._base for server in opened._servers]
    # Of this pool alone: the other one forks a child for its next call at any moment.
    launchers = [psutil.Process(server.launcher_pid) for server in opened._servers]
    started = [process for launcher in launchers for process in (launcher, *family(launcher.pid))]
    assert len(started) >= 4
    server = opened._programs[0]
    server.close()
    server.spec = dataclasses.replace(server.spec, packages=("no_such_package",))
    result = opened.run("1")
    assert result.status is CodeStatus.INFRASTRUCTURE
    assert "no_such_package" in result.error
    opened.close()
    assert wait_until_gone(started) == []
    assert not any(base is not None and base.exists() for base in bases)
    assert opened.run("1").status is CodeStatus.INFRASTRUCTURE


def test_a_full_disk_is_an_infrastructure_fault(
    pool: SandboxPool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No folder for a new server, and a server that has none for its child: the code ran in neither case."""
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
        pool._programs[0].close()
        result = pool.run("def solve(): return 1", call="solve")
        assert result.status is CodeStatus.INFRASTRUCTURE
        assert "missing" in result.error
        with pytest.raises(InfrastructureError, match="does not start: .*missing"):
            Sandlock(**LIGHT).open()
    with monkeypatch.context() as patch:
        full = CallReport(ended=(), clean=True, failure="no space left")
        patch.setattr("grpo_aflow.sandbox.server_client._collect", lambda *_: (None, full))
        checked = pool.check("def f(): return 1", "assert f() == 1", entry_point="f")
        assert checked.status is CodeStatus.INFRASTRUCTURE
        assert "no space left" in checked.error
    assert pool.run("def solve(): return 1", call="solve").value == "1"
    assert pool.check("def f(): return 1", "assert f() == 1", entry_point="f").passed


def test_a_candidate_does_not_fill_the_process_of_the_next_test(pool: SandboxPool) -> None:
    """The test's process serves many checks: one that the answers of a candidate filled is not used again."""
    forged = (
        "import gc\nn = 0\ndef answer(_):\n    global n\n    n += 1\n"
        "    return {'value': {'object': [n, str(n), [f'{n:010}' * 10 ** 6], '']}}\n"
        "def f(x):\n    for found in gc.get_objects():\n"
        "        if type(found).__name__ == 'CandidateSide': found.encode = answer\n"
    )
    test = "for _ in range(20): f(1)\nassert f(1) == 2"
    for n in range(3):
        assert not pool.check(f"{forged}n = {100 * n}", test, entry_point="f", timeout_s=30.0).passed
    for _ in range(2):
        large = "assert f(list(range(200000, 0, -1))) == list(range(1, 200001))"
        result = pool.check("def f(x): return sorted(x)", large, entry_point="f", timeout_s=30.0)
        assert result.passed, result


OWNER = """
import sys, threading, time
from grpo_aflow.sandbox import Sandlock
pool = Sandlock(**{limits!r}).open()
threading.Thread(target=pool.run, args=("while True: pass",), kwargs={{"timeout_s": 100}}, daemon=True).start()
threading.Thread(
    target=pool.check, args=("while True: pass", "f()"), kwargs={{"entry_point": "f", "timeout_s": 100}}, daemon=True
).start()
time.sleep(0.5)
print("busy", *[server._base for server in pool._servers], flush=True)
time.sleep(600)
"""


def test_servers_end_with_an_owner_that_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER.format(limits=LIGHT)], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    busy, *bases = owner.stdout.readline().decode().split()
    assert (busy, len(bases)) == ("busy", 2)
    processes = family(owner.pid)
    assert len(processes) >= 7  # two launchers, two servers, three children at work
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert wait_until_gone(processes) == []
    assert not any(Path(base).exists() for base in bases)


def test_a_call_left_half_way_does_not_spoil_the_next(pool: SandboxPool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("grpo_aflow.sandbox.server_client._collect", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.run("def solve(): return 'stale'", call="solve")
    assert pool.run("def solve(): return 'fresh'", call="solve").value == "fresh"


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_bubblewrap_holds(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    opened = Bubblewrap(**LIGHT).open()  # probes what must be denied, and refuses to open otherwise
    try:
        assert opened.check("def f(): return 1", "assert f() == 1", entry_point="f").passed
        assert opened.run(f"open({str(tmp_path / 'secret')!r})").status is CodeStatus.ERROR
    finally:
        opened.close()


def test_children_end_when_the_launcher_is_killed(pool: SandboxPool) -> None:
    launcher = pool._programs[0].launcher_pid
    assert launcher is not None
    below = family(launcher)
    pool._programs[0]._process.kill()  # type: ignore[union-attr]
    assert pool.run("def solve(): return 1", call="solve").value == "1"
    assert wait_until_gone(below) == []


def test_many_threads_share_few_servers(pool: SandboxPool) -> None:
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda n: pool.run(f"def solve(): return {n}", call="solve"), range(40)))
    assert [result.value for result in results] == [str(n) for n in range(40)]


def test_calls_leave_no_process_and_no_file(pool: SandboxPool) -> None:
    for _ in range(3):
        pool.run("print(1)")
        pool.check("def f(): return 1", "assert f() == 1", entry_point="f")
    before = footprint(pool)
    for _ in range(50):
        pool.run("open('x', 'w').write('x')")
        pool.check("def f(): return 1", "assert f() == 2", entry_point="f")
    assert footprint(pool) == before
    assert all(len(list((server._base / "work").iterdir())) <= 2 for server in pool._servers if server._base)


def test_unsafe_subprocess_runs_code_and_ends_escapees() -> None:
    opened = UnsafeSubprocess(**LIGHT).open()
    try:
        assert opened.name == "unsafe_subprocess"
        assert opened.run("def solve(): return 2", call="solve").value == "2"
        assert opened.check("def f(): return 1", "assert f() == 1", entry_point="f").passed
        assert find_leaks(opened, confined=True) != []  # the probe finds what is not confined
    finally:
        opened.close()
    unfiltered = UnsafeSubprocess(**LIGHT)._open("none", seccomp=False, instead="")
    try:
        before = footprint(unfiltered)
        escape = (
            "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n    os._exit(0)\nprint('left')"
        )
        assert unfiltered.run(escape).stdout == "left\n"
        assert footprint(unfiltered) == before
    finally:
        unfiltered.close()
