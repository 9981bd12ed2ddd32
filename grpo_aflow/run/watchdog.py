"""A small process that cleans up when the run is killed: it ends recorded processes and deletes recorded paths.

SIGKILL leaves the run no moment of its own: the engine's processes would live on, and its memory segments and the
adapters would stay in /dev/shm. The watchdog lives in a session of its own, learns of the run's end by a closed pipe
(and by its own change of parent, should a forked child still hold the pipe), and needs nothing but the standard
library: this very file is its program. After a normal `close` it does nothing.
"""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
SHARED_MEMORY = Path("/dev/shm")
POLL_S = 0.5  # how soon a parent's end is noticed when the pipe does not tell
DEADLINE_S = 8.0  # for ending the recorded processes, after which their files are deleted all the same

logger = logging.getLogger(__name__)

Identity = tuple[int, int]  # process id and start time: an id alone may have been given to another process


class Watchdog:
    """The run's end of the pipe. Make one with `start`; all methods are cheap and may be called from any thread."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._lock = threading.Lock()

    @classmethod
    def start(cls) -> Watchdog:
        """Start the process. `-I -S`: no site-packages, no environment, up in some 20 ms."""
        command = [sys.executable, "-I", "-S", __file__, str(os.getpid())]
        return cls(subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd="/"))

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch_process(self, pid: int) -> None:
        """End this process, and the descendants it has now or at that time, when the run dies."""
        family = [pid, *descendants(pid)]
        self._send(processes=[known for member in family if (known := identity(member))])

    def watch_path(self, path: Path) -> None:
        """Delete this file or folder when the run dies."""
        self._send(paths=[str(Path(path).absolute())])

    def watch_children(self) -> None:
        """Watch all present descendants of this process, and the shared-memory segments that any of them maps."""
        family = [pid for pid in descendants(os.getpid()) if pid != self.pid]
        segments = {segment for pid in (os.getpid(), *family) for segment in mapped_segments(pid)}
        self._send(processes=[known for pid in family if (known := identity(pid))], paths=sorted(segments))

    def close(self) -> None:
        """The run ends normally: nothing is killed, nothing deleted. May be called again."""
        if self._process.stdin is None or self._process.stdin.closed:
            return
        self._send(done=True)
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):  # a machine with no time for it: it has been told, and will end
            self._process.wait(timeout=5)

    def _send(self, **message: object) -> None:
        assert self._process.stdin is not None
        try:
            with self._lock:
                self._process.stdin.write(json.dumps(message).encode() + b"\n")
                self._process.stdin.flush()
        except BrokenPipeError:
            logger.warning("the watchdog has ended: should this run be killed, its processes may live on")


# --- what /proc says --------------------------------------------------------------------------------------------------


def identity(pid: int) -> Identity | None:
    """The process's id and start time; None when it has ended (a zombie has)."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in ("Z", "X") else (pid, int(fields[19]))


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, parents first."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        born = children.get(waiting.pop(0), [])
        found.extend(born)
        waiting.extend(born)
    return found


def name_of(pid: int) -> str:
    """What the process calls itself, its first 15 bytes; nothing when it has ended."""
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def mapped_segments(pid: int) -> set[str]:
    """Files of /dev/shm that a process maps and that its user owns.

    Found by inode: a semaphore is mapped under a temporary name and then linked to its real one.
    """
    try:
        lines = (PROC / str(pid) / "maps").read_text().splitlines()
    except OSError:
        return set()
    inodes = {int(line.split(maxsplit=5)[4]) for line in lines if f" {SHARED_MEMORY}/" in line}
    found = set()
    for entry in os.scandir(SHARED_MEMORY) if inodes else ():
        with suppress(OSError):  # unlinked meanwhile
            if entry.inode() in inodes and entry.stat().st_uid == os.getuid():
                found.add(entry.path)
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third (state) on; the second, the name, may hold blanks."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


# --- the watchdog's own side ------------------------------------------------------------------------------------------


def watch(parent: int) -> None:
    """Collect what the run records until it closes the pipe or dies; clean up unless it said that it was done."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the run itself decides when it ends
    processes: set[Identity] = set()
    paths: set[str] = set()
    buffer = b""
    while True:
        ready, _, _ = select.select([0], [], [], POLL_S)
        chunk = os.read(0, 65536) if ready else None
        for line in (buffer := buffer + (chunk or b"")).split(b"\n")[:-1]:
            message = json.loads(line)
            if message.get("done"):
                return
            processes.update((pid, started) for pid, started in message.get("processes", ()))
            paths.update(message.get("paths", ()))
        buffer = buffer.rpartition(b"\n")[2]
        if chunk == b"" or (chunk is None and os.getppid() != parent):
            break
    clean_up(processes, paths)


def clean_up(processes: set[Identity], paths: set[str]) -> None:
    """Kill the processes with all their descendants, until none is left or the deadline is over; delete the paths."""
    deadline = time.monotonic() + DEADLINE_S
    family = set(processes)
    while time.monotonic() < deadline:
        alive = {known for known in family if identity(known[0]) == known}
        if not alive:
            break
        born = {known for pid, _ in alive for child in descendants(pid) if (known := identity(child))}
        family |= born
        for pid, _ in alive | born:
            paths |= mapped_segments(pid)
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                os.unlink(path)


if __name__ == "__main__":
    watch(int(sys.argv[1]))
