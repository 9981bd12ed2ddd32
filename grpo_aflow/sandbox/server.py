"""The fork server: preloads libraries inside its ring and forks one child per role of a call.

It takes requests from its standard input (a SOCK_SEQPACKET socket), each with the sockets of the call's children, and
reads nothing from those sockets: a source, a test or a gold never enters its memory, which the next child inherits.
One request at a time. It ends every child at its deadline, cleans up and reports; when its input closes, however its
owner ended, it ends the children and itself.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

from .child import ROLES, Limits, lock_in

ORACLE_GRACE_S = 1.0  # the test's process outlives the candidate's deadline by this, to say what was passed
TICK_S = 0.05  # how often a running child's folder is looked at
MAX_ENTRIES = 1000  # files and folders of one call
STDLIB = ["abc", "array", "ast", "asyncio", "base64", "bisect", "calendar", "cmath", "collections", "copy", "csv", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "gc", "hashlib", "heapq", "inspect", "io", "itertools", "json", "keyword", "linecache", "math", "numbers", "operator", "os", "pprint", "queue", "random", "re", "secrets", "socket", "statistics", "string", "struct", "sys", "tempfile", "textwrap", "threading", "time", "traceback", "types", "typing", "unicodedata", "uuid", "zlib"]


@dataclass
class Child:
    """A forked child of the call at hand."""

    pid: int
    role: str
    deadline: float
    timed_out: bool = False
    limit: str = ""  # which limit the server saw it pass
    status: int | None = None  # as waitpid gives it

    def reap(self) -> bool:
        """Whether it has ended."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.status = status
        return pid != 0

    def report(self) -> dict[str, Any]:
        code = os.waitstatus_to_exitcode(self.status if self.status is not None else 0)
        signal_number = -code if code < 0 else 0
        return {"role": self.role, "signal": signal_number, "timed_out": self.timed_out, "limit": self.limit}


class Server:
    """Serves requests until its input closes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.root: str = settings["root"]
        self.disk_bytes: int = settings["disk_bytes"]
        self.limits = Limits(**settings["limits"])
        self.requests = socket.socket(fileno=os.dup(0))
        self.mapped_bytes = 0
        self.num_calls = 0
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.requests, selectors.EVENT_READ)
        self.wakeup, self.alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.selector.register(self.wakeup, selectors.EVENT_READ)

    def run(self) -> None:
        """Answer requests, one at a time."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        signal.set_wakeup_fd(self.alarm, warn_on_full_buffer=False)
        _adopt_orphans()
        gc.collect()
        gc.freeze()  # the children do not touch, and so do not copy, what is here
        self.mapped_bytes = _mapped_bytes()
        self.requests.send(json.dumps({"ready": True}).encode())
        while True:
            message, descriptors = self._receive()
            if not message:
                return
            self.requests.send(json.dumps(self._serve(json.loads(message), descriptors)).encode())

    def _receive(self) -> tuple[bytes, list[int]]:
        message, ancillary, _, _ = self.requests.recvmsg(65536, socket.CMSG_SPACE(8 * 4))
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        return message, list(descriptors)

    def _serve(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        self.num_calls += 1
        folders = []
        children = []
        rest = list(descriptors)
        failure = ""
        try:
            for role in request["roles"]:
                folder = f"{self.root}/{self.num_calls}-{role}"
                os.mkdir(folder, 0o700)
                folders.append(folder)
                sockets, rest = rest[: ROLES[role][0]], rest[ROLES[role][0] :]
                children.append(self._fork(role, sockets, folder, request["timeout_s"]))
        except OSError as error:
            failure = str(error)
        for descriptor in descriptors:
            os.close(descriptor)
        if not failure:
            self._attend(children)
        clean = _end(children)
        for folder in folders:
            _remove(folder)
        return {"ended": [child.report() for child in children], "clean": clean, "failure": failure}

    def _fork(self, role: str, descriptors: list[int], folder: str, timeout_s: float) -> Child:
        server_pid = os.getpid()
        deadline = time.monotonic() + timeout_s + (ORACLE_GRACE_S if role == "oracle" else 0.0)
        pid = os.fork()
        if pid:
            return Child(pid, role, deadline)
        try:
            sockets = self._settle_in(descriptors)
            lock_in(self.limits, folder, cpu_s=timeout_s, server_pid=server_pid, mapped_bytes=self.mapped_bytes)
            ROLES[role][1](*sockets, self.limits)
        finally:
            os._exit(0)

    def _settle_in(self, descriptors: list[int]) -> list[socket.socket]:
        """In the child: keep its own sockets, nothing else of the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nowhere, standard)
        first = 100  # above whatever is open
        for offset, descriptor in enumerate(descriptors):
            os.dup2(descriptor, first + offset)
        os.closerange(3, first)
        os.closerange(first + len(descriptors), first + 156)
        for offset in range(len(descriptors)):
            os.dup2(first + offset, 3 + offset)
        os.closerange(first, first + len(descriptors))
        return [socket.socket(fileno=3 + offset) for offset in range(len(descriptors))]

    def _attend(self, children: list[Child]) -> None:
        """Until the call's last role has ended: reap, and end who is over time or limits."""
        while children[-1].status is None:
            running = [child for child in children if child.status is None]
            wait_s = min(child.deadline for child in running) - time.monotonic()
            for key, _ in self.selector.select(max(0.0, min(wait_s, TICK_S))):
                if key.fileobj is self.requests:  # the owner closed it: no one waits for an answer
                    _end(children)
                    os._exit(0)
                with contextlib.suppress(BlockingIOError):
                    os.read(self.wakeup, 512)
            for child in running:
                self._look_after(child)

    def _look_after(self, child: Child) -> None:
        if child.reap():
            return
        if time.monotonic() >= child.deadline:
            child.timed_out = True
        elif _used_bytes(self.root, self.disk_bytes) > self.disk_bytes:
            child.limit = "disk"
        else:
            return
        os.kill(child.pid, signal.SIGKILL)
        child.status = os.waitpid(child.pid, 0)[1]


def _end(children: list[Child]) -> bool:
    """End whatever is left of a call, adopted descendants included. False when something could not be ended."""
    for child in children:
        if child.status is None and not child.reap():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            child.status = 0  # it was not its own fault
    for _ in range(100):
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return True
        for pid in _descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return False


def _descendants() -> list[int]:
    """Children of this process, those included that it adopted from a child that ended."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        from .seccomp import call_prctl

        call_prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def _mapped_bytes() -> int:
    """Address space of this process, on top of which a child's memory limit counts."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 4 << 30


def _used_bytes(root: str, limit: int) -> int:
    """Bytes under a folder; more than `limit` when it holds too many entries to count."""
    total = num_entries = 0
    folders = [root]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                num_entries += 1
                if num_entries > MAX_ENTRIES:
                    return limit + 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def _remove(folder: str) -> None:
    """Remove a folder however deep it is and whatever its modes are: what is nested moves up before it is emptied."""
    pending = [folder]
    num_moved = 0
    while pending:
        current = pending.pop()
        os.chmod(current, 0o700)
        with os.scandir(current) as entries:
            found = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for path, is_folder in found:
            if is_folder:
                num_moved += 1
                os.chmod(path, 0o700)
                os.rename(path, f"{folder}.{num_moved}")
                pending.append(f"{folder}.{num_moved}")
            else:
                os.unlink(path)
        os.rmdir(current)


def main() -> None:
    """Entered by `launch`: settings as JSON in the only argument."""
    settings = json.loads(sys.argv[1])
    for name in STDLIB:
        importlib.import_module(name)
    for name in settings["preload"]:
        importlib.import_module(name)
    if settings["limits"]["landlock"]:
        importlib.import_module("sandlock")
    importlib.import_module(f"{__package__}.oracle")
    Server(settings).run()
