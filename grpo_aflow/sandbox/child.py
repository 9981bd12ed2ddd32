"""What a forked child does: lock itself in, then run the generated code and talk over its socket.

Nothing here is trusted once the generated code has begun. A child knows the code it was sent and nothing else: no
test, no gold, no key, no environment of the host.
"""

from __future__ import annotations

import dataclasses
import errno
import io
import linecache
import math
import os
import random
import resource
import signal
import socket
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

from . import landlock, seccomp
from .wire import WireError, decode, encode, receive_frame, send_frame

SOLUTION = "<solution>"  # the file name of generated code in tracebacks
MAX_ERROR = 2000  # characters of a traceback that are handed on
MAX_SOURCE_BYTES = 16 << 20
_LIMIT_ERRORS = (errno.ENOMEM, errno.EMFILE, errno.EFBIG, errno.EAGAIN, errno.EDQUOT, errno.ENOSPC)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one child may use, and how it locks itself in."""

    memory_bytes: int  # address space beyond what the fork server has mapped
    file_bytes: int  # the largest file
    num_files: int  # open at once
    output_bytes: int  # stdout and value together, as UTF-8
    landlock: bool  # a Landlock domain of its own (see `landlock`)
    seccomp: bool  # the filter of `seccomp`


def lock_in(limits: Limits, folder: str, *, cpu_s: float | None, server_pid: int, mapped_bytes: int) -> None:
    """Confine this freshly forked process to `folder` and `limits`, irrevocably. Raises OSError or RuntimeError."""
    os.chdir(folder)
    os.environ["HOME"] = os.environ["TMPDIR"] = folder
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

    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > self.max_bytes:
            self.overflowed = True
            raise OutputLimit(errno.EFBIG, "too much output")
        return super().write(data)


def _capture(limits: Limits) -> CappedOutput:
    sink = CappedOutput(limits.output_bytes)
    sys.stdout = io.TextIOWrapper(sink, encoding="utf-8", errors="backslashreplace", write_through=True)
    sys.stderr = io.TextIOWrapper(CappedOutput(limits.output_bytes), errors="backslashreplace", write_through=True)
    return sink


def execute(source: str, name: str, setup: str = "") -> dict[str, Any]:
    """Run `setup`, then `source`, as the module `name`; returns its globals. Raises whatever they raise.

    They are compiled apart, since `from __future__` must stand first in a source.
    """
    sys.set_int_max_str_digits(0)
    random.seed(0)  # the same program gives the same answer each time
    module = types.ModuleType(name)
    sys.modules[name] = module
    linecache.cache[SOLUTION] = (len(source), None, source.splitlines(keepends=True), SOLUTION)
    if setup.strip():
        exec(compile(setup, "<setup>", "exec", dont_inherit=True), module.__dict__)
    exec(compile(source, SOLUTION, "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


def describe(error: BaseException) -> str:
    """The error and its place in the generated code, without frames or paths of the host."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)[-40:] if frame.filename == SOLUTION]
    try:
        what = "".join(traceback.format_exception_only(error))
    except BaseException:  # noqa: BLE001  the exception's own __str__ is generated code
        what = type(error).__name__
    text = "".join([*traceback.format_list(frames[-8:]), what]).replace(os.getcwd(), ".").strip()
    return text if len(text) <= MAX_ERROR else f"{text[: MAX_ERROR // 2]} ... {text[-MAX_ERROR // 2 :]}"


def is_limit(error: BaseException) -> bool:
    """Whether it says that a limit was reached (or that something was denied for want of one)."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _LIMIT_ERRORS)


def run_program(channel: socket.socket, limits: Limits) -> None:
    """The role "program": run a source, call a function of it when asked, report value and output."""
    request = receive_frame(channel, max_bytes=MAX_SOURCE_BYTES)
    sink = _capture(limits)
    status, value, error = "ok", "", ""
    try:
        value = _run(request["source"], request["call"])
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
        namespace = execute(source, "solution" if call else "__main__")
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


class Candidate:
    """The role "candidate": answers calls of the test with what the generated code returns."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.namespace: dict[str, Any] = {}
        self.kept: list[Any] = []  # values that may not cross; the test holds their index

    def load(self, setup: str, source: str, entry_point: str) -> None:
        """Run the code and tell the test's side whether it defined its function."""
        reply: dict[str, Any] = {"defined": False, "error": "", "limit": False}
        try:
            self.namespace = execute(source, "solution", setup)
            reply["defined"] = callable(self.namespace.get(entry_point))
            if not reply["defined"]:
                reply["error"] = f"the code defines no function {entry_point}"
        except BaseException as raised:  # noqa: BLE001  generated code may raise anything
            reply |= {"error": describe(raised), "limit": is_limit(raised)}
        send_frame(self.link, reply)

    def serve(self, max_bytes: int) -> None:
        """Answer calls until the test's side hangs up."""
        while True:
            try:
                request = receive_frame(self.link, max_bytes=max_bytes)
            except WireError:
                return
            send_frame(self.link, self.answer(request))

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make one call."""
        try:
            function = self.namespace[request["name"]]
            arguments = [decode(form, self.find) for form in request["args"]]
            keywords = {name: decode(form, self.find) for name, form in request["kwargs"].items()}
            return {"value": encode(function(*arguments, **keywords), self.keep)}
        except BaseException as raised:  # noqa: BLE001  generated code may raise anything
            return {"raised": type(raised).__name__, "message": describe(raised), "limit": is_limit(raised)}

    def keep(self, value: Any) -> dict[str, Any]:
        self.kept.append(value)
        return {"index": len(self.kept) - 1, "truth": bool(value)}

    def find(self, token: dict[str, Any]) -> Any:
        return self.kept[token["index"]]


def run_candidate(channel: socket.socket, link: socket.socket, limits: Limits) -> None:
    """The role "candidate"."""
    request = receive_frame(channel, max_bytes=MAX_SOURCE_BYTES)
    _capture(limits)
    candidate = Candidate(link)
    candidate.load(request["setup"], request["source"], request["entry_point"])
    candidate.serve(MAX_SOURCE_BYTES)


def run_oracle(channel: socket.socket, link: socket.socket, _: Limits) -> None:
    """The role "oracle": the trusted test, imported only in its own process."""
    from .oracle import judge

    request = receive_frame(channel, max_bytes=MAX_SOURCE_BYTES)
    send_frame(channel, judge(link, request))


ROLES: dict[str, tuple[int, Callable[..., None]]] = {  # role -> number of its sockets, what it does
    "program": (1, run_program),
    "candidate": (2, run_candidate),
    "oracle": (2, run_oracle),
}
