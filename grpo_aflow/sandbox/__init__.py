"""Where generated code runs: a pool of confined fork servers behind `protocols.CodeRunner`.

Programmer, Test and the code graders all come through here. The way of a call: `pool` (in the trainer) hands one end
of a socket pair to a `server` (a fork server in its own sandbox, see `launch` and `confinement`), which forks a child;
the child confines itself further (`child`, `seccomp`) and talks over that socket (`wire`) until it ends. A checked
candidate gets two children: the trusted test in one (`checker`), the candidate in the other (`candidate`). They hold
one `conversation`: `values` cross as they are, containers are kept alike on both sides (`shared`), and for all else
the test holds `proxies` that ask (`protocol`) but never let the candidate answer a comparison.

What is named here is imported on first use: the fork server loads these modules outside the project's package, where
the rest of the project cannot be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grpo_aflow.sandbox.settings import Bubblewrap, SandboxSettings, Sandlock, UnsafeSubprocess, open_default

__all__ = ["Bubblewrap", "SandboxSettings", "Sandlock", "UnsafeSubprocess", "open_default"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from grpo_aflow.sandbox import settings

    return getattr(settings, name)
