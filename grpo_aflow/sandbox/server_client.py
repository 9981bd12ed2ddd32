"""The trainer's side of one fork server: starts it, passes it the sockets of a call, waits, starts it anew."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from grpo_aflow.sandbox.confinement import (
    bubblewrap_command,
    environment,
    make_site,
    package_folders,
    readable_paths,
    server_command,
)
from grpo_aflow.sandbox.inside.messages import (
    CHECKER_GRACE_S,
    CallReport,
    CallRequest,
    ChildLimits,
    ProcessEnd,
    Role,
    RoleRequest,
    ServerSettings,
)
from grpo_aflow.sandbox.inside.wire import Frame, WireError, receive_frame, send_frame
from grpo_aflow.sandbox.launcher import Confinement, LaunchOrders

START_S = 60.0  # a cold import of sympy from a network disk takes a while
SLACK_S = 10.0  # a server that reports nothing for this long after a call's deadline is dead
CLOSE_S = 2.0
NUM_FILES = 64  # that one child may have open at once


class ServerDied(Exception):
    """The fork server is gone, hangs, or could not do its part of a call."""


class CallNotBegun(ServerDied):
    """The generated code of a call never ran: a fault of the machine (no process, no descriptor, no space left)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServerSpec:
    """How to start a fork server: the confinement and the limits of its children."""

    confinement: Confinement
    program: str  # path of bwrap, for "bubblewrap"
    packages: tuple[str, ...]  # importable
    preload: tuple[str, ...]  # imported before the first call
    roles: tuple[Role, ...]  # what its children do: ("program",) or ("candidate", "checker")
    max_timeout_s: float
    memory_bytes: int
    disk_bytes: int
    output_bytes: int
    seccomp: bool

    def settings(self, root: Path) -> ServerSettings:
        """What the server itself must know of it."""
        limits = ChildLimits(
            memory_bytes=self.memory_bytes,
            file_bytes=self.disk_bytes,
            num_files=NUM_FILES,
            output_bytes=self.output_bytes,
            landlock=self.confinement == "sandlock",
            seccomp=self.seccomp,
        )
        return ServerSettings(
            root=str(root),
            roles=self.roles,
            preload=self.preload,
            max_timeout_s=self.max_timeout_s,
            disk_bytes=self.disk_bytes,
            limits=limits,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """The end of a call: the answering role's frame, if it gave one, and how each role's process ended."""

    frame: Frame | None
    ended: dict[Role, ProcessEnd]


class ServerClient:
    """One fork server. Serves one call at a time; `close` may come from another thread and ends a call under way."""

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._base: Path | None = None
        self._log: IO[bytes] | None = None  # has no name: nothing of it outlives this process
        self._lock = threading.RLock()  # held while the server is started, called or closed
        self._in_call = False  # stays set when a call was left half-way, by an interrupt for example

    @property
    def launcher_pid(self) -> int | None:
        """The launcher's process id, while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the server and wait until it has preloaded its libraries. Raises ServerDied with the reason."""
        with self._lock:
            self._start()

    def _start(self) -> None:
        self.close()
        self._in_call = False
        try:
            self._base = Path(tempfile.mkdtemp(prefix="grpo-aflow-sandbox-"))
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 (close() closes it)
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", str(Path(__file__).with_name("launcher.py")), self._orders(self._base)],
                    stdin=theirs.fileno(),
                    stdout=self._log,
                    stderr=self._log,
                    env={"PATH": "/usr/bin:/bin", "HOME": str(self._base), "LANG": "C.UTF-8"},
                    start_new_session=True,  # an interrupt from the terminal is for the trainer, which closes us
                )
            self._control.settimeout(START_S)
            if not self._control.recv(65536):
                raise ServerDied(self._last_line())
        except (OSError, ValueError) as error:
            reason = str(error) if self._process is None else f"{error}; {self._last_line()}"
            self.close()
            raise ServerDied(reason) from error
        except ServerDied:
            self.close()
            raise

    def _orders(self, base: Path) -> str:
        work, site = base / "work", base / "site"
        work.mkdir()
        packages = package_folders(self.spec.packages)
        make_site(site, packages)
        orders = LaunchOrders(
            confinement=self.spec.confinement,
            base=str(base),
            readable=[*readable_paths(packages), str(site)],
            writable=[str(work), os.devnull],
            env=environment(work, site),
            cwd=str(work),
            command=server_command(self.spec.settings(work).dump()),
        )
        if self.spec.confinement == "bubblewrap":
            command = bubblewrap_command(self.spec.program, orders, work, self.spec.disk_bytes)
            orders = dataclasses.replace(orders, command=command)
        return orders.dump()

    def _last_line(self) -> str:
        """The last that launcher and server wrote."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(CLOSE_S)
        assert self._log is not None
        lines = os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it ended without a message"

    def call(self, requests: dict[Role, RoleRequest], *, cpu_s: float, wall_s: float, max_bytes: int) -> Reply:
        """Give each role its request; wait for the last role's frame and the end of all. Raises ServerDied.

        Generated code gets `cpu_s` of processor time, within `wall_s`. The roles are "program" alone, or "candidate"
        and "checker".
        """
        with self._lock:
            return self._call(requests, cpu_s, wall_s, max_bytes)

    def _call(self, requests: dict[Role, RoleRequest], cpu_s: float, wall_s: float, max_bytes: int) -> Reply:
        control = self._control
        if control is None or self._process is None or self._process.poll() is not None:
            raise CallNotBegun("it does not run")
        if self._in_call:
            raise CallNotBegun("its last call was left half-way")
        self._in_call = True
        deadline = time.monotonic() + wall_s + CHECKER_GRACE_S + SLACK_S
        request = CallRequest(roles=tuple(requests), cpu_s=cpu_s, wall_s=wall_s)
        with contextlib.ExitStack() as stack:
            try:
                channels, theirs = _connect(len(requests), stack)
                socket.send_fds(control, [request.dump()], [end.fileno() for end in theirs])
            except OSError as error:
                raise CallNotBegun(str(error)) from error
            try:
                for end in theirs:
                    end.close()
                for channel, role_request in zip(channels, requests.values(), strict=True):
                    channel.settimeout(wall_s + CHECKER_GRACE_S)
                    with contextlib.suppress(ConnectionError, TimeoutError):  # its end is reported below
                        send_frame(channel, dataclasses.asdict(role_request))
                frame, report = _collect(control, channels[-1], deadline, max_bytes)
            except OSError as error:
                raise ServerDied(str(error)) from error
        self._in_call = False
        if report.failure:
            raise CallNotBegun(report.failure)
        if not report.clean:
            raise ServerDied("a process of the call could not be ended")
        return Reply(frame=frame, ended={end.role: end for end in report.ended})

    def close(self) -> None:
        """End the server with everything it runs, and remove its folder; a call in another thread gets ServerDied."""
        control = self._control
        if control is not None:
            with contextlib.suppress(OSError):
                # Both sides read the end of their input: the server ends its children and itself, the call its wait.
                # A socket that is closed under a poll is never heard of again.
                control.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(CLOSE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._base is not None:
            shutil.rmtree(self._base, ignore_errors=True)  # the launcher does it, unless it was killed
            self._base = None
        if self._log is not None:
            self._log.close()
            self._log = None


def _connect(num_roles: int, stack: contextlib.ExitStack) -> tuple[list[socket.socket], list[socket.socket]]:
    """Our end of each role's channel, and the ends to pass on, in the order in which the server deals them out."""
    channels, theirs = [], []
    links = socket.socketpair() if num_roles > 1 else ()
    for index in range(num_roles):
        ours, other = socket.socketpair()
        channels.append(stack.enter_context(ours))
        theirs.append(stack.enter_context(other))
        if links:
            theirs.append(stack.enter_context(links[index]))
    return channels, theirs


def _collect(
    control: socket.socket, channel: socket.socket, deadline: float, max_bytes: int
) -> tuple[Frame | None, CallReport]:
    """Wait for the frame and for the server's report; the report alone ends the wait."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(channel, select.POLLIN)
    frame, read = None, False
    while True:
        events = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
        if not events:
            raise ServerDied("it hangs")
        reported = control.fileno() in events
        if not read and (reported or channel.fileno() in events):
            channel.settimeout(max(0.0, 0.2 if reported else deadline - time.monotonic()))
            with contextlib.suppress(WireError, TimeoutError):
                frame = receive_frame(channel, max_bytes=max_bytes)
            read = True
            poll.unregister(channel)
        if reported:
            report = control.recv(65536)
            if not report:
                raise ServerDied("it ended during a call")
            return frame, CallReport.load(report)
