"""The run's side of the simulated endpoint: starts the server in a process of its own and ends it.

The handover goes to the child's stdin, its port comes from its stdout. The child ends when its stdin closes or its
parent is gone, so that no kill of the run leaves it behind.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from grpo_aflow.simulation.handover import Faults, Handover, known
from grpo_aflow.simulation.settings import SimulatedSettings
from grpo_aflow.types import InfrastructureError, Task

START_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerProcess:
    """A running simulated endpoint."""

    process: subprocess.Popen[bytes]
    base_url: str

    def stop(self) -> None:
        """Close the pipe and wait; idempotent."""
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


def start_server(
    settings: SimulatedSettings, *, tasks: Sequence[Task], system_prompts: Mapping[str, str], log: Path | None
) -> ServerProcess:
    """Start the endpoint and wait until it listens. Blocking (about a second).

    Args:
        log: gets one line per request that arrives.

    Raises:
        InfrastructureError: it did not come up; its own error stands on stderr.
    """
    handover = Handover(
        parent=os.getpid(),
        log=str(log) if log else None,
        model=settings.model or "",
        world_seed=settings.world_seed,
        accuracy=settings.accuracy,
        ensemble_power=settings.ensemble_power,
        faults=Faults(**{field.name: getattr(settings, field.name) for field in fields(Faults)}),
        tasks=tuple(known(task) for task in tasks),
        system_prompts=dict(system_prompts),
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "grpo_aflow.simulation.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(),
        start_new_session=True,  # a Ctrl-C of the run must reach the run first, which still needs its endpoint
    )
    port = _port(process, handover)
    server = ServerProcess(process=process, base_url=f"http://127.0.0.1:{port}/v1")
    if not port:
        server.stop()
        raise InfrastructureError(
            f"the simulated endpoint did not start (exit code {process.returncode}); its error is printed above"
        )
    return server


def _environment() -> dict[str, str]:
    """As little as Python needs: no key of the run reaches the server, and no module of the working folder."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONSAFEPATH": "1"}


def _port(process: subprocess.Popen[bytes], handover: Handover) -> int:
    """Hand everything over and read the port at which the child listens; 0 where it does not come up."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(handover.to_json().encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
        return int(process.stdout.readline()) if ready else 0
    except (BrokenPipeError, ValueError):
        return 0
