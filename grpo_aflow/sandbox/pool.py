"""The `protocols.CodeRunner` of the project: a pool of fork servers, and the meaning of what comes back from them."""

from __future__ import annotations

import dataclasses
import os
import queue
import signal
import threading
import time
from dataclasses import dataclass

from grpo_aflow.sandbox.inside.messages import (
    CandidateRequest,
    CheckerRequest,
    ProcessEnd,
    ProgramRequest,
    Role,
    RoleRequest,
    Verdict,
)
from grpo_aflow.sandbox.inside.wire import Frame
from grpo_aflow.sandbox.server_client import CallNotBegun, Reply, ServerClient, ServerDied, ServerSpec
from grpo_aflow.types import CheckResult, CodeResult, CodeStatus

FRAME_OVERHEAD = 6  # JSON's worst case for a byte of text
MAX_VERDICT_BYTES = 1 << 20
# A call's time limit is processor time, so that its outcome does not hang on what else the machine does. Code that
# blocks, or that gets no processor, is ended on the wall clock, later by this factor: with the 3 s of a code check and
# the grace of the test's process that is 4.8 s, just within the 5 s that a grade may take.
WALL_FACTOR = 1.4
# Where more processes want to run than there are cores, everybody's wall clock runs ahead of his processor time: the
# wall limit grows with the load, up to this factor, so that an honest program is not failed for its neighbours.
MAX_LOAD_FACTOR = 4.0


@dataclass(frozen=True, slots=True)
class _NoReply:
    """Why a call has no outcome of its own."""

    status: CodeStatus
    reason: str


class SandboxPool:
    """Runs generated code on `num_servers` confined fork servers. Thread-safe; calls wait for a free server."""

    def __init__(self, spec: ServerSpec, *, name: str, num_servers: int) -> None:
        self.name = name  # the backend, for the manifest
        self._spec = spec
        # Checks run on servers that preload no packages: forking a process copies its page tables, which costs the
        # larger part of a check where sympy is loaded. What a candidate imports is imported when it asks for it.
        light = dataclasses.replace(spec, preload=(), roles=("candidate", "checker"))
        self._programs = [ServerClient(spec) for _ in range(num_servers)]
        self._checks = [ServerClient(light) for _ in range(num_servers)]
        self._servers = [*self._programs, *self._checks]
        self._free_programs: queue.LifoQueue[ServerClient] = queue.LifoQueue()
        self._free_checks: queue.LifoQueue[ServerClient] = queue.LifoQueue()
        self._closed = False

    def start(self) -> None:
        """Start all servers side by side. Raises ServerDied with the first one's reason."""
        failures: list[ServerDied] = []

        def start(server: ServerClient) -> None:
            try:
                server.start()
            except ServerDied as error:
                failures.append(error)

        threads = [threading.Thread(target=start, args=(server,)) for server in self._servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            self.close()
            raise failures[0]
        for server in self._programs:
            self._free_programs.put(server)
        for server in self._checks:
            self._free_checks.put(server)

    def run(self, source: str, *, call: str = "", timeout_s: float = 5.0) -> CodeResult:
        """Run `source` in a fresh confined process, then `call()` when a name is given; see `protocols.CodeRunner`."""
        requests: dict[Role, RoleRequest] = {"program": ProgramRequest(source=_clean(source), call=call)}
        max_bytes = FRAME_OVERHEAD * self._spec.output_bytes + 65536
        wall_s = self._wall_s(timeout_s)
        reply, waited_s = self._call(
            self._free_programs, requests, timeout_s=timeout_s, wall_s=wall_s, max_bytes=max_bytes
        )
        if isinstance(reply, _NoReply):
            return CodeResult(status=reply.status, error=reply.reason, waited_s=waited_s)
        return dataclasses.replace(_code_result(reply), waited_s=waited_s)

    def check(
        self,
        candidate: str,
        test: str,
        *,
        entry_point: str,
        setup: str = "",
        setup_after: bool = False,
        timeout_s: float = 5.0,
    ) -> CheckResult:
        """Run the trusted `test` in one process against `candidate` in another; see `protocols.CodeRunner`."""
        setup, wall_s = _clean(setup), self._wall_s(timeout_s)
        requests: dict[Role, RoleRequest] = {
            "candidate": CandidateRequest(
                source=_clean(candidate), setup=setup, setup_after=setup_after, entry_point=entry_point
            ),
            "checker": CheckerRequest(
                test=test, setup=setup, setup_after=setup_after, entry_point=entry_point, wall_s=wall_s
            ),
        }
        reply, waited_s = self._call(
            self._free_checks, requests, timeout_s=timeout_s, wall_s=wall_s, max_bytes=MAX_VERDICT_BYTES
        )
        if isinstance(reply, _NoReply):
            return CheckResult(status=reply.status, error=reply.reason, waited_s=waited_s)
        return dataclasses.replace(_check_result(reply), waited_s=waited_s)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """End all servers with everything that they run."""
        self._closed = True
        for server in self._servers:
            server.close()

    def _wall_s(self, timeout_s: float) -> float:
        return min(WALL_FACTOR * timeout_s, self._spec.max_timeout_s) * _load_factor()

    def _call(
        self,
        free: queue.LifoQueue[ServerClient],
        requests: dict[Role, RoleRequest],
        *,
        timeout_s: float,
        wall_s: float,
        max_bytes: int,
    ) -> tuple[Reply | _NoReply, float]:
        """One call, with the seconds for which it waited for a free server."""
        began = time.monotonic()
        server = free.get()
        waited_s = time.monotonic() - began
        try:
            cpu_s = min(timeout_s, self._spec.max_timeout_s)
            return self._call_on(server, requests, cpu_s=cpu_s, wall_s=wall_s, max_bytes=max_bytes), waited_s
        finally:
            if self._closed:
                server.close()
            free.put(server)

    def _call_on(
        self, server: ServerClient, requests: dict[Role, RoleRequest], *, cpu_s: float, wall_s: float, max_bytes: int
    ) -> Reply | _NoReply:
        """One call, tried again once on a fresh server: dying with two of them is the code's doing, unless one of the
        two never ran it."""
        not_begun = ""
        try:
            for _ in range(2):
                if self._closed:
                    return _NoReply(CodeStatus.INFRASTRUCTURE, "the sandbox is closed")
                try:
                    return server.call(requests, cpu_s=cpu_s, wall_s=wall_s, max_bytes=max_bytes)
                except ServerDied as error:
                    if isinstance(error, CallNotBegun):
                        not_begun = str(error)
                    if not self._closed:
                        server.start()
            if not_begun:
                return _NoReply(CodeStatus.INFRASTRUCTURE, f"the sandbox cannot begin a call: {not_begun}")
            return _NoReply(CodeStatus.ERROR, "the code ended its sandbox twice")
        except ServerDied as error:
            return _NoReply(CodeStatus.INFRASTRUCTURE, f"the sandbox cannot be started again: {error}")


def _clean(text: str) -> str:
    """The text without what no source file can hold (lone surrogates), which would end the child before it starts."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _text(frame: Frame, key: str) -> str:
    value = frame.get(key)
    return _clean(value) if isinstance(value, str) else ""


def _cause_of_death(end: ProcessEnd) -> tuple[CodeStatus, str]:
    """What the end of a process means when it left no result."""
    if end.timed_out:
        return CodeStatus.TIMEOUT, "over the time limit"
    if end.limit:
        return CodeStatus.LIMIT, f"over the limit: {end.limit}"
    if end.signal in (signal.SIGKILL, signal.SIGXCPU, signal.SIGXFSZ):
        return CodeStatus.LIMIT, "over a limit of memory, files or threads"
    if end.signal:
        return CodeStatus.ERROR, f"ended by {_signal_name(end.signal)}"
    return CodeStatus.ERROR, "ended without a result"


def _signal_name(number: int) -> str:
    """Generated code may end itself by any signal, the real-time ones included, which have no names."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _code_result(reply: Reply) -> CodeResult:
    end, frame = reply.ended["program"], reply.frame
    if frame is None or end.timed_out:
        status, reason = _cause_of_death(end)
        return CodeResult(status=status, error=reason)
    known = {"ok": CodeStatus.OK, "limit": CodeStatus.LIMIT}
    return CodeResult(
        status=known.get(_text(frame, "status"), CodeStatus.ERROR),
        value=_text(frame, "value"),
        stdout=_text(frame, "stdout"),
        error=_text(frame, "error"),
    )


def _check_result(reply: Reply) -> CheckResult:
    if reply.frame is None:  # no verdict is a fail
        status, reason = _cause_of_death(reply.ended["checker"])
        return CheckResult(status=status, error=f"the test gave no verdict: {reason}")
    verdict = Verdict(**reply.frame)  # of the test's process, which runs nothing generated
    status, error = CodeStatus(verdict.status), _clean(verdict.error)
    cause, reason = _cause_of_death(reply.ended["candidate"])
    if status is CodeStatus.ERROR and cause in (CodeStatus.LIMIT, CodeStatus.TIMEOUT):
        status, error = cause, f"{error}: {reason}"  # why the candidate stopped answering
    return CheckResult(
        status=status,
        passed=verdict.passed,
        num_passed=verdict.num_passed,
        num_assertions=verdict.num_assertions,
        defined=verdict.defined,
        error=error,
    )


def _load_factor() -> float:
    """How many processes want each core, at least 1: the load average of the last minute."""
    try:
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:
        return 1.0
    return min(max(load, 1.0), MAX_LOAD_FACTOR)
