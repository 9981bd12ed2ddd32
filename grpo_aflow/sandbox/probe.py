"""What a backend has to deny before it may be used: tried once at the start, from inside.

A canary file outside must not be readable, nothing outside the call's own folder writable, no socket, no
program and no process may be started, and the fork server must survive its child. The project's tests try more.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from grpo_aflow.sandbox.pool import SandboxPool
from grpo_aflow.types import CodeStatus

_PROBE = """
import os, socket, subprocess, sys
leaks = []
def attempt(name, function):
    try:
        function()
    except OSError:
        return
    leaks.append(name)
attempt("reads outside its folder", lambda: open({canary!r}).read())
attempt("writes outside its folder", lambda: open({outside!r}, "w"))
attempt("opens a socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
attempt("starts a process", lambda: os.fork() or os._exit(0))
attempt("starts a program", lambda: os.execv({program!r}, ["true"]))
attempt("signals its parent", lambda: os.kill(os.getppid(), 0))
open("own_file", "w").write("x")
def answer():
    return ", ".join(leaks) or "tight"
"""


def find_leaks(pool: SandboxPool, *, confined: bool) -> list[str]:
    """What the backend fails to deny, or why it cannot run code at all; empty when it may be used."""
    works = pool.run("def answer(): return 6 * 7", call="answer", timeout_s=20.0)
    if works.status is not CodeStatus.OK or works.value != "42":
        return [f"it cannot run code ({works.status}: {works.error or works.value})"]
    if not confined:
        return []
    with tempfile.TemporaryDirectory(prefix="grpo-aflow-canary-") as folder:
        canary, outside = Path(folder, "canary"), Path(folder, "written")
        canary.write_text("secret")
        source = _PROBE.format(canary=str(canary), outside=str(outside), program="/bin/true")
        result = pool.run(source, call="answer", timeout_s=20.0)
    if result.status is not CodeStatus.OK:
        return [f"its probe did not run to the end ({result.status}: {result.error})"]
    return [] if result.value == "tight" else [f"generated code {result.value}"]
