"""What a forked child does: confine itself, then run the generated code and answer over its socket.

Nothing here is trusted once the generated code has begun. A child knows the code it was sent and nothing else: no
test, no gold, no key, no environment of the host.
"""

from __future__ import annotations

import errno
import io
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

from . import landlock, seccomp
from .generated_code import MAX_SOURCE_BYTES, describe, execute, is_limit, new_namespace
from .messages import CandidateRequest, CheckerRequest, ChildLimits, ProgramRequest, Role
from .wire import receive_frame, send_frame

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def confine(limits: ChildLimits, folder: str, *, cpu_s: float | None, server_pid: int, mapped_bytes: int) -> None:
    """Confine this freshly forked process to `folder` and `limits`, irrevocably. Raises OSError or RuntimeError."""
    os.chdir(folder)
    os.environ["HOME"] = os.environ["TMPDIR"] = folder
    sys.argv = sys.orig_argv = ["solution.py"]  # the fork server's own hold its settings
    if cpu_s is not None:
        _limit(resource.RLIMIT_CPU, math.ceil(cpu_s) + 1)
    _limit(resource.RLIMIT_AS, mapped_bytes + limits.memory_bytes)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _limit(resource.RLIMIT_NOFILE, limits.num_files)
    _limit(resource.RLIMIT_CORE, 0)
    if sys.platform != "linux":
        return
    seccomp.call_prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: ends with the fork server
    if os.getppid() != server_pid:
        os._exit(1)
    seccomp.forbid_new_rights()
    if limits.landlock:
        landlock.confine(folder)
    else:
        seccomp.call_prctl(4, 0)  # PR_SET_DUMPABLE: no reading of its memory by way of /proc
    if limits.seccomp:
        seccomp.drop_capabilities()
        seccomp.install()


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, value))


class OutputLimit(OSError):
    """The program wrote more than it may."""


class CappedOutput(io.BytesIO):
    """A sink for stdout that refuses to grow past `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.max_bytes = max_bytes
        self.overflowed = False

    def write(self, data: ReadableBuffer, /) -> int:
        if self.tell() + memoryview(data).nbytes > self.max_bytes:
            self.overflowed = True
            raise OutputLimit(errno.EFBIG, "too much output")
        return super().write(data)


class DiscardedOutput(io.BytesIO):
    """A sink for output that nobody reads: it keeps nothing, so it needs no bound."""

    def write(self, data: ReadableBuffer, /) -> int:
        return memoryview(data).nbytes


def _direct_output(stdout: io.BytesIO) -> None:
    """Send what the program prints to `stdout`, and what it says of errors nowhere."""
    # Python keeps the streams it began with: a program may wrap `sys.stdout.buffer` anew, and the wrapper that it
    # replaces would close the buffer when it goes.
    sys.stdout = sys.__stdout__ = _text_stream(stdout)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text_stream(DiscardedOutput())  # type: ignore[misc]


def _text_stream(sink: io.BytesIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(sink, encoding="utf-8", errors="backslashreplace", write_through=True)


def run_program(channel: socket.socket, limits: ChildLimits) -> None:
    """The role "program": run a source, call a function of it when asked, report value and output."""
    request = ProgramRequest(**receive_frame(channel, max_bytes=MAX_SOURCE_BYTES))
    sink = CappedOutput(limits.output_bytes)
    _direct_output(sink)
    status, value, error = "ok", "", ""
    try:
        value = _run(request.source, request.call)
    except BaseException as raised:  # noqa: BLE001  generated code may raise anything
        status = "limit" if is_limit(raised) else "error"
        error = describe(raised)
    stdout = sink.getvalue()
    if sink.overflowed or len(stdout) + len(value.encode(errors="replace")) > limits.output_bytes:
        status, value, error = "limit", "", "too much output"
    text = stdout.decode(errors="replace")
    send_frame(channel, {"status": status, "value": value, "stdout": text, "error": error})


def _run(source: str, call: str) -> str:
    try:
        namespace = new_namespace("solution" if call else "__main__")
        execute(source, namespace)
    except SystemExit as ended:
        if call or ended.code not in (None, 0):
            raise
        return ""
    if not call:
        return ""
    function = namespace.get(call)
    if not callable(function):
        raise NameError(f"the code defines no function {call}")
    return str(function())


def run_candidate(channel: socket.socket, link: socket.socket, _: ChildLimits) -> None:
    """The role "candidate": answers a test's requests about the generated code."""
    from .candidate import serve_candidate

    request = CandidateRequest(**receive_frame(channel, max_bytes=MAX_SOURCE_BYTES))
    _direct_output(DiscardedOutput())
    serve_candidate(link, request)


def run_checker(channel: socket.socket, link: socket.socket, _: ChildLimits) -> None:
    """The role "checker": the trusted test, imported only in its own process."""
    from .checker import check_candidate

    request = CheckerRequest(**receive_frame(channel, max_bytes=MAX_SOURCE_BYTES))
    send_frame(channel, asdict(check_candidate(link, request)))


class RoleSpec(NamedTuple):
    num_sockets: int  # its channel to the trainer, and in a check its link to the other role
    play: Callable[..., None]


ROLES: dict[Role, RoleSpec] = {
    "program": RoleSpec(1, run_program),
    "candidate": RoleSpec(2, run_candidate),
    "checker": RoleSpec(2, run_checker),
}
