"""The filter's program, step by step, on both architectures."""

from __future__ import annotations

import struct

import pytest

from grpo_aflow.sandbox.inside.seccomp import build_filter

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
PID = 4242


def verdict(machine: str, number: int, *arguments: int, arch: int | None = None, pid: int | None = PID) -> int:
    """Interpret the filter as the kernel would for one call."""
    program = build_filter(pid, machine)
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("=iIQ6Q", number, ARCH[machine] if arch is None else arch, 0, *padded)
    position, accumulator = 0, 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("=HBBI", program, 8 * position)
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x06:
            return value
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            position += if_true if holds else if_false


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_processes_and_sockets_are_denied(machine: str) -> None:
    numbers = {
        "execve": (59, 221),
        "socket": (41, 198),
        "ptrace": (101, 117),
        "setsid": (112, 157),
        "tkill": (200, 130),
    }
    for name, pair in numbers.items():
        assert verdict(machine, pair[machine == "aarch64"]) == EPERM, name
    clone = (56, 220)[machine == "aarch64"]
    assert verdict(machine, clone, 17) == EPERM  # SIGCHLD alone: fork
    assert verdict(machine, clone, 0x3D0F00) == ALLOW  # what pthread_create passes
    assert verdict(machine, 435) == ENOSYS  # clone3


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_signals_go_to_oneself_only(machine: str) -> None:
    for pair in ((62, 129), (234, 131)):
        number = pair[machine == "aarch64"]
        assert verdict(machine, number, PID, 9) == ALLOW
        for other in (1, 0, PID + 1, 2**32 - 1):
            assert verdict(machine, number, other, 9) == EPERM


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_limits_may_be_read_not_set(machine: str) -> None:
    number = (302, 261)[machine == "aarch64"]
    assert verdict(machine, number, 0, 9, 0, 0x7FFF00001000) == ALLOW
    assert verdict(machine, number, 0, 9, 0x1000, 0) == EPERM
    assert verdict(machine, number, 0, 9, 0x7FFF_0000_0000, 0) == EPERM  # low half zero


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_descriptors_send_no_signals(machine: str) -> None:
    number = (72, 25)[machine == "aarch64"]
    assert [verdict(machine, number, 3, command) for command in (8, 10, 15)] == [EPERM] * 3
    assert [verdict(machine, number, 3, command) for command in (1, 2, 3, 4, 9, 14, 16, 1030)] == [ALLOW] * 8


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_ordinary_calls_pass(machine: str) -> None:
    for number in {"x86_64": (0, 1, 9, 12, 202, 228, 257, 318), "aarch64": (63, 64, 222, 214, 98, 113, 56, 278)}[
        machine
    ]:
        assert verdict(machine, number) == ALLOW
    prctl = (157, 167)[machine == "aarch64"]
    assert verdict(machine, prctl, 15) == ALLOW  # PR_SET_NAME
    assert verdict(machine, prctl, 1) == EPERM  # PR_SET_PDEATHSIG


def test_foreign_tables_are_refused() -> None:
    assert verdict("x86_64", 59, arch=0x40000003) == KILL  # the 32-bit table
    assert verdict("x86_64", 0x40000000 + 59) == EPERM  # x32


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_server_keeps_what_it_needs(machine: str) -> None:
    column = machine == "aarch64"
    for pair in ((62, 129), (56, 220), (112, 157), (302, 261), (157, 167)):  # kill, clone, setsid, prlimit, prctl
        assert verdict(machine, pair[column], 1, 0, 1, pid=None) == ALLOW
    for pair in ((59, 221), (41, 198), (101, 117), (165, 40)):  # execve, socket, ptrace, mount
        assert verdict(machine, pair[column], pid=None) == EPERM
