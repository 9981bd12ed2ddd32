"""The last part of the confinement: a seccomp filter that takes away system calls no generated program needs.

The fork server has one that leaves it processes, signals and limits; each child adds the full one. It denies (EPERM)
new processes, exec, sockets, signals to anybody else, tracing, mounts and namespaces, kernel keyrings, shared memory
that would outlive the process or escape its memory limit, and raising or lowering anybody's limits. Threads stay
possible; how many, the launcher watches. A filter for the wrong architecture would deny the wrong calls, so
`is_supported` says which are known.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
_PLACEHOLDER = 0x5EEDF00D  # stands for the process id; no other step holds it
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _PR_SET_PDEATHSIG = 22, 38, 1
_SECCOMP_MODE_FILTER = 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF: ld abs, jeq, jge, jset, ret
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_NUMBER, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data; arguments are 8 bytes each, little-endian
_CLONE_THREAD = 0x00010000
_SET_OWNER = (8, 10, 15)  # fcntl F_SETOWN, F_SETSIG, F_SETOWN_EX: signals by way of a file descriptor

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Name -> (x86_64, aarch64); None where the architecture has no such call. Source: the kernel's syscall tables.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "setsid": (112, 157), "setpgid": (109, 154),
    "socket": (41, 198), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "setrlimit": (160, 164), "setpriority": (141, 140), "ioprio_set": (251, 30), "personality": (135, 92),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "reboot": (169, 142), "swapon": (167, 224), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161), "acct": (163, 89),
    "quotactl": (179, 60), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "mknod": (133, None), "mknodat": (259, 33),
}  # fmt: skip
_SERVER_NEEDS = ("fork", "vfork", "setsid", "setpgid", "setrlimit")
_CLONE, _CLONE3, _KILL_CALLS = (56, 220), 435, ((62, 129), (234, 131))  # kill, tgkill
_PRCTL, _FCNTL, _PRLIMIT = (157, 167), (72, 25), (302, 261)


def is_supported() -> bool:
    """Whether the numbers of this machine's system calls are known here."""
    return platform.system() == "Linux" and platform.machine() in _AUDIT_ARCH


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _deny_unless(number: int, checks: list[bytes]) -> list[bytes]:
    """For call `number`: run `checks`, which fall through to the denial or jump over it to the load of the number."""
    body = [*checks, _step(_RETURN, _ERRNO | _EPERM), _step(_RETURN, _ALLOW)]
    return [_step(_EQUAL, number, 0, len(body)), *body]


def build_filter(pid: int | None, machine: str) -> bytes:
    """The filter program for a child `pid`, which may send signals to itself alone; None: for the fork server."""
    column = 0 if machine == "x86_64" else 1
    program = [
        _step(_LOAD, _ARCH),
        _step(_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":  # the x32 table has numbers of its own
        program += [_step(_AT_LEAST, 0x40000000, 0, 1), _step(_RETURN, _ERRNO | _EPERM)]
    for name, numbers in _DENIED.items():
        number = numbers[column]
        if number is not None and not (pid is None and name in _SERVER_NEEDS):
            program += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ERRNO | _EPERM)]
    if pid is not None:
        program += _deny_by_argument(pid, column)
    return b"".join([*program, _step(_RETURN, _ALLOW)])


def _deny_by_argument(pid: int, column: int) -> list[bytes]:
    program: list[bytes] = []
    # libc falls back from clone3, whose flags a filter cannot read, to clone.
    program += [_step(_EQUAL, _CLONE3, 0, 1), _step(_RETURN, _ERRNO | _ENOSYS)]
    program += _deny_unless(_CLONE[column], [_step(_LOAD, _ARGS), _step(_ANY_BIT, _CLONE_THREAD, 1, 0)])
    for numbers in _KILL_CALLS:
        program += _deny_unless(numbers[column], [_step(_LOAD, _ARGS), _step(_EQUAL, pid, 1, 0)])
    not_pdeathsig = [_step(_LOAD, _ARGS), _step(_EQUAL, _PR_SET_PDEATHSIG, 0, 1)]
    program += _deny_unless(_PRCTL[column], not_pdeathsig)
    owner_checks = [_step(_EQUAL, command, len(_SET_OWNER) - 1 - i, 0) for i, command in enumerate(_SET_OWNER[:-1])]
    owner_checks = [_step(_LOAD, _ARGS + 8), *owner_checks, _step(_EQUAL, _SET_OWNER[-1], 0, 1)]
    program += _deny_unless(_FCNTL[column], owner_checks)
    new_limit = _ARGS + 16  # prlimit64: reading (a null pointer for the new limit) is allowed
    checks = [_step(_LOAD, new_limit), _step(_EQUAL, 0, 0, 2), _step(_LOAD, new_limit + 4), _step(_EQUAL, 0, 1, 0)]
    return program + _deny_unless(_PRLIMIT[column], checks)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]


@functools.cache
def _template(machine: str) -> bytes:
    return build_filter(_PLACEHOLDER, machine)


def prepare() -> None:
    """Build the filter ahead, so that each child has only its process id to fill in."""
    _template(platform.machine())


def install() -> None:
    """Filter this child and everything it starts, irrevocably. Raises OSError when the kernel refuses."""
    _install(_template(platform.machine()).replace(struct.pack("=I", _PLACEHOLDER), struct.pack("=I", os.getpid())))


def install_for_server() -> None:
    """Filter the fork server, which runs no generated code: no program, no socket, no tracing, no mounts."""
    forbid_new_rights()
    _install(build_filter(None, platform.machine()))


def _install(steps: bytes) -> None:
    buffer = ctypes.create_string_buffer(steps, len(steps))
    program = _Program(len(steps) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    call_prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def call_prctl(option: int, first: int = 0, second: int = 0) -> None:
    """prctl(2). Raises OSError."""
    arguments = [ctypes.c_ulong(value) for value in (first, second, 0, 0)]
    if LIBC.prctl(ctypes.c_int(option), *arguments) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) was refused")


def forbid_new_rights() -> None:
    """No program started from here on gains rights; filters and Landlock domains ask for it."""
    call_prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up every capability: a container often runs as root, and root's calls would pass the limits."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    nothing = (ctypes.c_uint32 * 6)()
    if LIBC.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset was refused")
