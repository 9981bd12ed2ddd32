"""The small process between the trainer and a fork server: puts the server into its confinement and watches over it.

Run as a script, with its orders (JSON) as the only argument and the server's socket as standard input. It is not
confined, holds no keys, tests or golds, and runs no generated code. It ends the server when its own parent is gone,
however that one ended, ends a child that starts too many threads, and removes the server's folder when all is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

Confinement = Literal["sandlock", "bubblewrap", "none"]
WATCH_S = 0.1
REMOVE_S = 5.0
# Of one process. No limit that an unprivileged process can set counts them: RLIMIT_NPROC counts all processes of the
# user and spares root, a seccomp filter counts nothing, and a pids cgroup is root's to make.
MAX_THREADS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchOrders:
    """How to start one fork server."""

    confinement: Confinement
    base: str  # the server's folder, removed at the end
    readable: list[str]
    writable: list[str]
    env: dict[str, str]
    cwd: str
    command: list[str]

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def load(text: str) -> LaunchOrders:
        return LaunchOrders(**json.loads(text))


def watch(parent: int, end: Callable[[], None]) -> None:
    """Every WATCH_S: end the server when `parent` is no longer ours, and any descendant with too many threads."""
    while True:
        if os.getppid() != parent:
            end()
            return
        for pid in descendants(os.getpid())[1:]:
            if num_threads(pid) > MAX_THREADS:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(WATCH_S)


def descendants(pid: int) -> list[int]:
    """Processes below `pid`, the nearest first."""
    found: list[int] = []
    pending = [pid]
    while pending:
        parent = pending.pop(0)
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{thread}/children") as file:
                    children = [int(child) for child in file.read().split()]
                found += children
                pending += children
    return found


def num_threads(pid: int) -> int:
    """Threads of a process; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[17])
    except OSError:
        return 0


def run_server(orders: LaunchOrders, parent: int) -> int:
    """Start the server's command, confined by sandlock when the orders say so; returns its exit status."""
    confined = orders.confinement == "sandlock"
    if confined:
        import sandlock

        # Landlock alone: sandlock's full sandbox, with a supervisor for every fork, costs a fifth more CPU and (0.9.0)
        # keeps a descriptor of each ended process. The seccomp filters are ours, see `inside.seccomp`.
        confinement = sandlock.Sandbox(fs_readable=orders.readable, fs_writable=orders.writable)

    def prepare() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: the server ends with this process
        if confined:
            sandlock.confine(confinement)

    process = subprocess.Popen(orders.command, env=orders.env, cwd=orders.cwd, preexec_fn=prepare)
    threading.Thread(target=watch, args=(parent, process.kill), daemon=True).start()
    status = process.wait()
    remove(orders.base)
    return status


def remove(folder: str) -> None:
    """Remove the server's folder. Its children end a moment after it does, and may write until then."""
    deadline = time.monotonic() + REMOVE_S
    while os.path.exists(folder) and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.01)


def main() -> int:
    """Read the orders, start the server, wait for its end."""
    parent = os.getppid()
    return run_server(LaunchOrders.load(sys.argv[1]), parent)


if __name__ == "__main__":
    sys.exit(main())
