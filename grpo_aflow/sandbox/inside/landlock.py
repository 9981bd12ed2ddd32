"""The child's own Landlock domain, by three system calls.

It is what `sandlock.confine` gives, without building its policy anew in each child. The domain adds to the fork
server's: reading stays as narrow as there, writing shrinks to the call's folder, and signals and abstract sockets
reach nobody outside the domain, so the fork server and the other role are out of reach, for tracing too.
"""

from __future__ import annotations

import ctypes
import os
import struct

from .seccomp import LIBC

MIN_ABI = 6  # the first whose domains hold signals back (Linux 6.12; sandlock itself needs 6.7)
_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION_FLAG, _RULE_PATH_BENEATH = 1, 1
_READ = 1 << 2 | 1 << 3  # READ_FILE, READ_DIR
_EXECUTE = 1 << 0
_FILE = 1 << 1 | 1 << 2 | 1 << 14  # WRITE_FILE, READ_FILE, TRUNCATE
_ALL = (1 << 15) - 1  # every right of ABI 3
_NETWORK = 3  # TCP bind and connect
_SCOPED = 3  # abstract sockets and signals


def abi_version() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    return max(0, LIBC.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION_FLAG))


def confine(writable: str) -> None:
    """Put this process into a domain of its own that writes nowhere but `writable`. Raises OSError."""
    attributes = struct.pack("=QQQ", _ALL, _NETWORK, _SCOPED)
    ruleset = _call(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    for path, rights in (("/", _READ), (writable, _ALL & ~_EXECUTE), (os.devnull, _FILE)):
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, beneath), 0)
        os.close(beneath)
    _call(_RESTRICT, ruleset, 0)
    os.close(ruleset)


def _call(number: int, *arguments: object) -> int:
    result: int = LIBC.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "Landlock refused the child's domain")
    return result
