"""The fork server: preloads libraries inside its confinement and keeps a child ready for each of its roles.

It takes requests from its standard input (a SOCK_SEQPACKET socket), each with the sockets of the call's children, and
reads nothing from those sockets: a source, a test or a gold never enters its memory, which the next child inherits.
One request at a time. Children are forked and confined ahead of their call, since that takes longer than most calls.
One that ran generated code is used once; the trusted test's process is used again as long as it keeps its time and
stays small. The server ends every child at its deadline, cleans up and reports; when its input closes, however its
owner ended, it ends the children and itself.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import math
import mmap
import os
import resource
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass

from . import preload, seccomp
from .call_folder import remove, used_bytes
from .child import ROLES, confine
from .messages import CHECKER_GRACE_S, CallReport, CallRequest, ChildLimits, ProcessEnd, Role, ServerSettings

MAX_CHECKER_USES = 200
# The part of its memory limit by which a checker may have grown and still be used again: one that a candidate filled
# with its answers would have too little left for the next.
MAX_CHECKER_GROWTH = 0.25
TICK_S = 0.05  # how often a running call's processor time and folder are looked at


@dataclass
class Child:
    """A forked child, ready for a call or in one."""

    pid: int
    role: Role
    folder: str
    control: socket.socket  # it gets its call's sockets here; a checker says here that it is done
    deadline: float = math.inf  # on the wall clock
    cpu_limit_s: float = math.inf  # of its processor time, all threads together
    num_uses: int = 0
    done: bool = False  # a checker that has given its verdict and lives on
    timed_out: bool = False
    limit: str = ""  # which limit the server saw it pass
    status: int | None = None  # as waitpid gives it

    def cpu_s(self) -> float:
        """The processor time that it has used. Not for a child that has ended."""
        return time.clock_gettime(~self.pid << 3 | 2)  # clock_getcpuclockid(3), which Python does not offer

    def reap(self) -> bool:
        """Whether it has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

    def end(self) -> None:
        """End it now, with its process group."""
        if not self.reap():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            os.kill(self.pid, signal.SIGKILL)
            _, self.status = os.waitpid(self.pid, 0)

    def report(self) -> ProcessEnd:
        """How it ended, for the trainer."""
        code = os.waitstatus_to_exitcode(self.status or 0)
        return ProcessEnd(role=self.role, signal=max(0, -code), timed_out=self.timed_out, limit=self.limit)


class ForkServer:
    """Serves requests until its input closes."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.requests = socket.socket(fileno=os.dup(0))
        self.ready: dict[Role, Child] = {}
        self.mapped_bytes = 0
        self.num_forks = 0
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
        self._prepare()
        self.requests.send(b"ready")
        while True:
            message, descriptors = self._receive()
            if not message:
                break
            self.requests.send(self._serve(CallRequest.load(message), descriptors).dump())
            self._prepare()
        self._end(*self.ready.values())

    def _end(self, *children: Child) -> None:
        for child in children:
            child.end()
            with contextlib.suppress(OSError):
                remove(child.folder)

    def _receive(self) -> tuple[bytes, list[int]]:
        message, ancillary, _, _ = self.requests.recvmsg(65536, socket.CMSG_SPACE(8 * 4))
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        return message, list(descriptors)

    def _prepare(self) -> None:
        """Have a child ready for each role. A fork that fails here is tried again, and reported, with the call."""
        for role in self.settings.roles:
            if role not in self.ready:
                with contextlib.suppress(OSError):
                    self.ready[role] = self._fork(role)

    def _serve(self, request: CallRequest, descriptors: list[int]) -> CallReport:
        children: list[Child] = []
        failure = ""
        rest = list(descriptors)
        try:
            for role in request.roles:
                child = self.ready.pop(role, None) or self._fork(role)
                children.append(child)
                sockets, rest = rest[: ROLES[role].num_sockets], rest[ROLES[role].num_sockets :]
                socket.send_fds(child.control, [b"go"], sockets)
                child.deadline = time.monotonic() + request.wall_s
                if role == "checker":  # what the trusted test itself computes is nobody's fault
                    child.deadline += CHECKER_GRACE_S
                else:
                    child.cpu_limit_s = child.cpu_s() + request.cpu_s
        except OSError as error:
            failure = str(error)
        for descriptor in descriptors:
            os.close(descriptor)
        if not failure:
            self._wait_for(children)
        clean = self._finish(children)
        return CallReport(ended=tuple(child.report() for child in children), clean=clean, failure=failure)

    def _fork(self, role: Role) -> Child:
        self.num_forks += 1
        folder = f"{self.settings.root}/{self.num_forks}-{role}"
        os.mkdir(folder, 0o700)
        ours, theirs = socket.socketpair()
        server_pid = os.getpid()
        pid = os.fork()
        if pid:
            theirs.close()
            return Child(pid, role, folder, ours)
        try:
            control = self._settle_in(theirs.fileno())
            limits = self.settings.limits
            # The test's process serves many calls; its deadline is enough.
            cpu_s = None if role == "checker" else self.settings.max_timeout_s
            confine(limits, folder, cpu_s=cpu_s, server_pid=server_pid, mapped_bytes=self.mapped_bytes)
            _await_call(role, control, limits)
        finally:
            os._exit(0)

    def _settle_in(self, descriptor: int) -> socket.socket:
        """In the child: keep this one socket, as descriptor 3, and nothing else of the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nowhere, standard)
        if descriptor != 3:
            os.dup2(descriptor, 3)
        os.closerange(4, 256)
        return socket.socket(fileno=3)

    def _wait_for(self, children: list[Child]) -> None:
        """Until the call's last role is done: reap, and end who is over time or limits."""
        checker = children[-1] if children[-1].role == "checker" else None
        if checker:
            self.selector.register(checker.control, selectors.EVENT_READ)
        while not children[-1].reap() and not children[-1].done:
            running = [child for child in children if child.status is None]
            wait_s = min(child.deadline for child in running) - time.monotonic()
            for key, _ in self.selector.select(max(0.0, min(wait_s, TICK_S))):
                if key.fileobj is self.requests:  # the owner closed it: no one waits for an answer
                    self._end(*children, *self.ready.values())
                    os._exit(0)
                if checker and key.fileobj is checker.control:
                    checker.done = checker.control.recv(16) == b"done"
                elif key.fileobj == self.wakeup:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.wakeup, 512)
            for child in running:
                self._enforce_limits(child)
        if checker:
            self.selector.unregister(checker.control)

    def _enforce_limits(self, child: Child) -> None:
        if child.done or child.reap():
            return
        max_bytes = self.settings.disk_bytes
        if time.monotonic() >= child.deadline or child.cpu_s() >= child.cpu_limit_s:
            child.timed_out = True
        elif child.role != "checker" and used_bytes(self.settings.root, max_bytes) > max_bytes:
            child.limit = "disk"
        else:
            return
        child.end()

    def _finish(self, children: list[Child]) -> bool:
        """End whatever is left of a call. False when something could not be ended or removed."""
        try:
            for child in children:
                if child.done and not child.reap() and child.num_uses < MAX_CHECKER_USES:
                    child.done, child.deadline, child.num_uses = False, math.inf, child.num_uses + 1
                    self.ready[child.role] = child
                    continue
                own_end = child.reap() or child.timed_out or child.limit
                child.end()
                if not own_end:
                    child.status = 0  # ended because the call was over
                child.control.close()
                remove(child.folder)
        except OSError:
            return False
        return self.settings.limits.seccomp or self._end_strays()

    def _end_strays(self) -> bool:
        """End adopted descendants: where the filter does not forbid it, a child may have left some behind."""
        known = {child.pid for child in self.ready.values()}
        for _ in range(100):
            strays = set(_children()) - known
            if not strays:
                return True
            for pid in strays:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
        return False


def _await_call(role: Role, control: socket.socket, limits: ChildLimits) -> None:
    """In the child: wait for the sockets of a call and play the role; a checker that stayed small waits again."""
    start_bytes = _peak_bytes()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 16, 4)
        if not message:
            return
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if role != "checker":
            control.close()
            ROLES[role].play(*sockets, limits)
            return
        ROLES[role].play(*sockets, limits)
        for connection in sockets:
            connection.close()
        if _peak_bytes() - start_bytes > MAX_CHECKER_GROWTH * limits.memory_bytes:
            return
        control.send(b"done")


def _peak_bytes() -> int:
    """The most memory that this process has had at a time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _children() -> list[int]:
    """Children of this process, those included that it adopted from a child that ended."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        seccomp.call_prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def _mapped_bytes() -> int:
    """Address space of this process, on top of which a child's memory limit counts: the least limit under which a page
    can still be mapped (/proc, which would tell, is outside the confinement)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    too_little, enough = 0, 1 << 42
    while enough - too_little > 1 << 20:
        middle = (too_little + enough) // 2
        try:
            resource.setrlimit(resource.RLIMIT_AS, (middle, hard))
            mmap.mmap(-1, mmap.PAGESIZE).close()
            enough = middle
        except (OSError, MemoryError, ValueError):
            too_little = middle
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return enough


def main() -> None:
    """Started by the launcher, with the settings as the only argument."""
    settings = ServerSettings.load(sys.argv[1])
    preload.load(settings.preload)
    if settings.limits.seccomp:
        seccomp.prepare()
        seccomp.install_for_server()
    if "checker" in settings.roles:
        for name in ("checker", "candidate"):  # so that no child has to import its part
            importlib.import_module(f"{__package__}.{name}")
    ForkServer(settings).run()
