"""The config group `sandbox`: which confinement generated code runs in, and its limits.

Each class opens its own backend, and none replaces another by itself: what cannot be confined as promised is refused,
with the name of the option to choose instead.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpo_aflow.types import InfrastructureError, UserError

if TYPE_CHECKING:
    from grpo_aflow.sandbox.launcher import Confinement
    from grpo_aflow.sandbox.pool import SandboxPool

_UNSAFE = "sandbox=unsafe_subprocess runs generated code with your own rights"


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """What every backend has: size and limits. Use one of the classes below."""

    num_servers: int  # programs at a time, and checks at a time; each has a fork server of its own
    memory_mb: int  # of one call, beyond the preloaded libraries
    disk_mb: int  # of one call's own folder
    max_output_bytes: int  # stdout and returned value of one call
    max_timeout_s: float  # no call gets more, whatever its caller asks for
    packages: list[str]  # importable and preloaded, with what they need themselves

    def __post_init__(self) -> None:
        for name in ("num_servers", "memory_mb", "disk_mb", "max_output_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not self.max_timeout_s > 0:
            raise ValueError(f"max_timeout_s must be above 0; got {self.max_timeout_s}")

    @property
    def name(self) -> str:
        """The backend's name, for the run's manifest."""
        raise NotImplementedError

    def _open(self, confinement: Confinement, *, program: str = "", seccomp: bool, instead: str) -> SandboxPool:
        """Start the servers and probe the confinement. Raises InfrastructureError naming what to choose `instead`."""
        from grpo_aflow.sandbox.pool import SandboxPool
        from grpo_aflow.sandbox.probe import find_leaks
        from grpo_aflow.sandbox.server_client import ServerDied, ServerSpec

        spec = ServerSpec(
            confinement=confinement,
            program=program,
            packages=tuple(self.packages),
            preload=tuple(self.packages),
            roles=("program",),
            max_timeout_s=self.max_timeout_s,
            memory_bytes=self.memory_mb << 20,
            disk_bytes=self.disk_mb << 20,
            output_bytes=self.max_output_bytes,
            seccomp=seccomp,
        )
        pool = SandboxPool(spec, name=self.name, num_servers=self.num_servers)
        try:
            pool.start()
        except ServerDied as error:
            raise InfrastructureError(f"sandbox={self.name} does not start: {error}; choose {instead}") from error
        leaks = find_leaks(pool, confined=confinement != "none")
        if leaks:
            pool.close()
            raise InfrastructureError(f"sandbox={self.name} does not hold here: {'; '.join(leaks)}; choose {instead}")
        return pool


@dataclass(frozen=True, kw_only=True)
class Sandlock(SandboxSettings):
    """Landlock and seccomp, for the server and for each child; no root, no container. Linux 6.12 or later (default)."""

    @property
    def name(self) -> str:
        return "sandlock"

    def open(self) -> SandboxPool:
        """Start and probe the servers. Raises InfrastructureError."""
        from grpo_aflow.sandbox.inside import landlock

        _need_known_machine(self.name)
        if landlock.abi_version() < landlock.MIN_ABI:
            raise InfrastructureError(
                f"sandbox={self.name} needs Landlock as of Linux 6.12, and the kernel here has an older one or none; "
                f"choose sandbox=bubblewrap ({_UNSAFE})"
            )
        return self._open("sandlock", seccomp=True, instead=f"sandbox=bubblewrap ({_UNSAFE})")


@dataclass(frozen=True, kw_only=True)
class Bubblewrap(SandboxSettings):
    """Namespaces by the `bwrap` program, and the same seccomp filter inside."""

    @property
    def name(self) -> str:
        return "bubblewrap"

    def open(self) -> SandboxPool:
        """Start and probe the servers. Raises InfrastructureError, or UserError where bwrap is not installed."""
        _need_known_machine(self.name)
        program = shutil.which("bwrap")
        if program is None:
            raise UserError(
                "sandbox=bubblewrap needs the program bwrap: install bubblewrap, or choose sandbox=sandlock"
            )
        return self._open("bubblewrap", program=program, seccomp=True, instead=f"sandbox=sandlock ({_UNSAFE})")


@dataclass(frozen=True, kw_only=True)
class UnsafeSubprocess(SandboxSettings):
    """No confinement: processes with limits, which can read and send all that you can. For hosts with nothing else."""

    @property
    def name(self) -> str:
        return "unsafe_subprocess"

    def open(self) -> SandboxPool:
        """Start the servers. Raises InfrastructureError."""
        from grpo_aflow.sandbox.inside import seccomp

        if sys.platform != "linux":
            raise InfrastructureError(f"sandbox={self.name} needs Linux, not {sys.platform}; run in a Linux container")

        return self._open("none", seccomp=seccomp.is_supported(), instead="sandbox=sandlock or sandbox=bubblewrap")


def _need_known_machine(name: str) -> None:
    from grpo_aflow.sandbox.inside import seccomp

    if not seccomp.is_supported():
        raise InfrastructureError(f"sandbox={name} needs Linux on x86_64 or aarch64, not {sys.platform}; {_UNSAFE}")


_default_lock = threading.Lock()
_default: SandboxPool | None = None


def open_default() -> SandboxPool:
    """The process-wide runner for `tasks.grade` without one: opened on first use, closed at exit.

    Same backend as the config's default with limits of its own, because no config is at hand there.
    """
    global _default
    with _default_lock:
        if _default is None or _default.closed:
            limits = Sandlock(
                num_servers=2,
                memory_mb=1024,
                disk_mb=16,
                max_output_bytes=1 << 20,
                max_timeout_s=30.0,
                packages=["numpy", "mpmath", "sympy"],
            )
            _default = limits.open()
            atexit.register(_default.close)
        return _default
