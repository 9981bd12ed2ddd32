"""The watchdog against a real SIGKILL."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from grpo_aflow.run.watchdog import Watchdog, descendants, identity, mapped_segments

RUN = """
import os, subprocess, sys, time
from multiprocessing import resource_tracker
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from grpo_aflow.run.watchdog import Watchdog

watchdog = Watchdog.start()
folder = Path(sys.argv[1])
segment = SharedMemory(create=True, size=4096)
resource_tracker.unregister(segment._name, "shared_memory")  # or it would clean up itself
middle = "import subprocess, time; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", middle], stdout=subprocess.PIPE, start_new_session=True)
grandchild = int(child.stdout.readline())
holder = os.fork()  # a forked child that still holds the pipe's end
if holder == 0:
    time.sleep(600)
if sys.argv[2] == "children":
    watchdog.watch_children()
else:
    watchdog.watch_process(child.pid)
    watchdog.watch_process(holder)
    watchdog.watch_path(Path("/dev/shm") / segment.name)
watchdog.watch_path(folder)
if sys.argv[2] == "close":
    watchdog.close()
print(child.pid, grandchild, holder, watchdog.pid, segment.name, flush=True)
time.sleep(600)
"""


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def kill_a_run(folder: Path, mode: str) -> tuple[list[int], int, Path]:
    """Start a run, SIGKILL it; returns its other processes, its watchdog's id and its shared-memory segment."""
    folder.mkdir()
    (folder / "adapter.bin").write_text("weights")
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), mode], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert run.stdout is not None
    *pids, watchdog, segment = run.stdout.readline().split()
    assert all(identity(int(pid)) for pid in pids)
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    return [int(pid) for pid in pids], int(watchdog), Path("/dev/shm") / segment


def test_a_killed_run_leaves_nothing_behind(tmp_path: Path) -> None:
    for mode in ("children", "single"):
        folder = tmp_path / mode
        pids, watchdog, segment = kill_a_run(folder, mode)
        assert within(10, lambda: all(identity(pid) is None for pid in [*pids, watchdog])), mode  # noqa: B023
        assert not folder.exists()
        assert not segment.exists()


def test_after_a_normal_close_nothing_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    pids, watchdog, segment = kill_a_run(folder, "close")
    try:
        assert within(5, lambda: identity(watchdog) is None)
        assert all(identity(pid) for pid in pids)
        assert (folder / "adapter.bin").exists()
        assert segment.exists()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        segment.unlink(missing_ok=True)


def test_an_id_that_was_given_to_another_process_is_left_alone(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        watchdog = Watchdog.start()
        known = identity(bystander.pid)
        assert known is not None
        watchdog._send(processes=[[known[0], known[1] - 1]])  # as recorded of an older process with this id
        assert watchdog._process.stdin is not None
        watchdog._process.stdin.close()  # what it sees when the run dies
        watchdog._process.wait(timeout=10)
        assert identity(bystander.pid) == known
    finally:
        bystander.kill()
        bystander.wait()


def test_descendants_and_segments_are_seen() -> None:
    child = subprocess.Popen(["sleep", "600"])
    segment = SharedMemory(create=True, size=4096)
    before = mapped_segments(os.getpid())
    semaphore = get_context("spawn").Semaphore()
    try:
        assert child.pid in descendants(os.getpid())
        assert f"/dev/shm/{segment.name}" in before
        assert mapped_segments(os.getpid()) - before == {f"/dev/shm/sem.{semaphore._semlock.name.strip('/')}"}
    finally:
        child.kill()
        child.wait()
        segment.close()
        segment.unlink()


def test_a_machine_that_gives_the_watchdog_no_time_fails_no_run() -> None:
    class Starved:
        stdin = io.BytesIO()

        def wait(self, timeout: float) -> None:
            raise subprocess.TimeoutExpired("watchdog", timeout)

    Watchdog(Starved()).close()  # type: ignore[arg-type]
    assert Starved.stdin.closed
