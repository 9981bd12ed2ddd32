"""A small pool of `worker` processes, which compare answers as AFlow's scorer does (with sympy).

`grade` is called from many threads; each call borrows one warm worker. A worker that does not answer in time has its
answering child killed and forks another, and the answer counts as not equal: only one that was written to be slow is.
A worker that is gone altogether is replaced in the background.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path

from grpo_aflow.types import InfrastructureError

ANSWER_S = 4.0  # longest wait for one comparison
RECOVER_S = 0.5  # longest wait for the next child of a worker
START_S = 90.0  # longest wait for the first worker: importing sympy on a busy machine is slow
NUM_WORKERS = 2
MAX_CHARS = 2_000  # a final answer longer than this equals nothing


class _Worker:
    """One process and the two pipes to it."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("worker.py")
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        self._child = 0  # the process id of the child that answers

    def is_ready(self, timeout_s: float) -> bool:
        """Waits until a child stands ready to answer."""
        deadline = time.monotonic() + timeout_s
        while (reply := self.read(deadline)) is not None:
            if "ready" in reply:
                self._child = int(str(reply["ready"]))
                return True
        return False

    def recover(self) -> bool:
        """Kills the child that is late; whether another one stands ready."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)
        return self.is_ready(RECOVER_S)

    def read(self, deadline: float) -> dict[str, object] | None:
        """The next line that it writes, or None when it is late or dead."""
        assert self.process.stdout is not None
        handle, line = self.process.stdout.fileno(), b""
        while not line.endswith(b"\n"):
            poller = select.poll()
            poller.register(handle, select.POLLIN | select.POLLHUP)
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            piece = os.read(handle, 65536)
            if not piece:
                return None
            line += piece
        try:
            reply: dict[str, object] = json.loads(line)
        except ValueError:  # half a line of a child that was killed while it wrote
            return None
        return reply

    def ask(self, request: dict[str, str], deadline: float) -> bool | None:
        """Whether the two are equal; None when no verdict came."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        reply = self.read(deadline)
        return None if reply is None else bool(reply["equal"])

    def end(self) -> None:
        """Kills the process and takes back what it held."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class LatexPool:
    """`NUM_WORKERS` warm workers, started on first use, replaced when they are killed, ended with the process."""

    def __init__(self) -> None:
        self._ready: queue.Queue[_Worker] = queue.Queue()
        self._lock = threading.Lock()
        self._alive: set[_Worker] = set()
        self._starting = 0
        self._closed = False
        atexit.register(self.close)

    def equal(self, gold: str, answer: str) -> bool:
        """Whether `answer` equals `gold`. Raises InfrastructureError when no worker can be started."""
        if len(answer) > MAX_CHARS or len(gold) > MAX_CHARS:
            return False
        worker = self._borrow()
        verdict = worker.ask({"gold": gold, "answer": answer}, time.monotonic() + ANSWER_S)
        if verdict is None and not worker.recover():
            self._replace(worker)
            return False
        self._ready.put(worker)
        return bool(verdict)

    def close(self) -> None:
        """Ends all workers; a later call of `equal` would start new ones."""
        with self._lock:
            self._closed = True
            workers, self._alive = self._alive, set()
            self._ready = queue.Queue()
        for worker in workers:
            worker.end()
        with self._lock:
            self._closed = False

    def _borrow(self) -> _Worker:
        with self._lock:
            missing = NUM_WORKERS - len(self._alive) - self._starting
            self._starting += max(0, missing)
        for _ in range(missing):
            threading.Thread(target=self._start, daemon=True).start()
        try:
            return self._ready.get(timeout=START_S)
        except queue.Empty:
            raise InfrastructureError(
                "the process that compares answers as AFlow does not start; try `python -c 'import sympy'`"
            ) from None

    def _start(self) -> None:
        worker = _Worker()
        is_ready = worker.is_ready(START_S)
        with self._lock:
            self._starting -= 1
            keep = is_ready and not self._closed
            if keep:
                self._alive.add(worker)
        if keep:
            self._ready.put(worker)
        else:
            worker.end()

    def _replace(self, worker: _Worker) -> None:
        with self._lock:
            self._alive.discard(worker)
            self._starting += 1
        worker.end()
        threading.Thread(target=self._start, daemon=True).start()


@lru_cache(maxsize=1)
def latex_pool() -> LatexPool:
    """The one pool of this process."""
    return LatexPool()
