"""What the trainer's side and a fork server, or a child of it, tell each other: values here, JSON objects on the way.

What comes back from a process that ran generated code is not among them: nobody may trust its form.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

Role = Literal["program", "candidate", "checker"]
CHECKER_GRACE_S = 0.6  # the test's process outlives the candidate's deadline by this, to say what was passed


@dataclass(frozen=True, kw_only=True, slots=True)
class ChildLimits:
    """What one child may use, and how it confines itself."""

    memory_bytes: int  # address space beyond what the fork server has mapped
    file_bytes: int  # the largest file
    num_files: int  # open at once
    output_bytes: int  # stdout and value together, as UTF-8
    landlock: bool  # a Landlock domain of its own (see `landlock`)
    seccomp: bool  # the filter of `seccomp`


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSettings:
    """What a fork server is started with, as the argument of its command."""

    root: str  # the folder that holds its children's folders
    roles: tuple[Role, ...]  # what its children do
    preload: tuple[str, ...]  # packages to import before the first call
    max_timeout_s: float
    disk_bytes: int
    limits: ChildLimits

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def load(text: str) -> ServerSettings:
        fields = json.loads(text)
        lists = {name: tuple(fields[name]) for name in ("roles", "preload")}
        return ServerSettings(**fields | lists | {"limits": ChildLimits(**fields["limits"])})


@dataclass(frozen=True, kw_only=True, slots=True)
class CallRequest:
    """One call: its roles, in the order of the sockets that come along, and the time of the generated code."""

    roles: tuple[Role, ...]
    cpu_s: float  # of the processor
    wall_s: float

    def dump(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def load(message: bytes) -> CallRequest:
        fields = json.loads(message)
        return CallRequest(**fields | {"roles": tuple(fields["roles"])})


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessEnd:
    """How the process of a role ended."""

    role: Role
    signal: int  # that ended it; 0 for none
    timed_out: bool
    limit: str  # that the server saw it pass; "" for none


@dataclass(frozen=True, kw_only=True, slots=True)
class CallReport:
    """How a call went, from the fork server."""

    ended: tuple[ProcessEnd, ...]
    clean: bool  # all processes are ended and their folders removed
    failure: str  # why the call could not begin; "" when it did

    def dump(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def load(message: bytes) -> CallReport:
        fields = json.loads(message)
        return CallReport(**fields | {"ended": tuple(ProcessEnd(**end) for end in fields["ended"])})


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramRequest:
    """To the role "program"."""

    source: str
    call: str  # the function to call then; "" for none


@dataclass(frozen=True, kw_only=True, slots=True)
class CandidateRequest:
    """To the role "candidate": the generated code."""

    source: str
    setup: str
    setup_after: bool  # the set-up runs after the code
    entry_point: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckerRequest:
    """To the role "checker": the trusted test."""

    test: str
    setup: str
    setup_after: bool
    entry_point: str
    wall_s: float  # the candidate's


RoleRequest = ProgramRequest | CandidateRequest | CheckerRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """From the role "checker"; the fields of a `types.CheckResult`."""

    status: str = "error"  # a `types.CodeStatus`
    passed: bool = False
    num_passed: int = 0
    num_assertions: int = 0
    defined: bool = False
    error: str = ""
