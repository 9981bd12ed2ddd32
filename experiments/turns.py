"""Sides of a benchmark that take turns: each is a process which works when it is asked to, and waits otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

QUIET = 0.15  # cores in use by others, below which a machine counts as idle
TRL_VENV = Path(__file__).parent / "learner_speed/.venv-trl"
TRL_PACKAGES = (
    "trl==1.16.0", "torch==2.13.0", "transformers==5.19.0", "peft==0.21.2", "datasets==5.2.0", "accelerate==1.15.0",
    "aiohttp==3.14.5", "requests==2.34.2", "psutil==7.2.2", "liger-kernel==0.8.5",
)  # fmt: skip


def trl_python() -> str:
    """The interpreter of TRL's own virtual environment, made when it is not there."""
    python = TRL_VENV / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(TRL_VENV)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *TRL_PACKAGES], check=True)
    return str(python)


class Side:
    """A process that answers each line of stdin with a line of JSON, after a first one that says that it is ready."""

    def __init__(self, *command: str, environment: dict[str, str] | None = None) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment
        )
        self._answer()

    def ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self._log.seek(0)
        raise RuntimeError(f"{self._process.args} ended:\n{self._log.read()[-3000:]}")


class OtherWork:
    """How many cores other processes used meanwhile: figures of a busy machine say so themselves."""

    def __init__(self) -> None:
        self._before = self._now()

    def cores(self) -> float:
        """Since the beginning, in the mean. Call it while all sides still live."""
        seconds, busy_s, own_s = (now - before for now, before in zip(self._now(), self._before, strict=True))
        return round(max(0.0, busy_s - own_s) / seconds, 2)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        whole = psutil.cpu_times()
        own = psutil.Process()
        times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
        return time.monotonic(), sum(whole) - whole.idle - whole.iowait, sum(t.user + t.system for t in times)


def note(date: str, cores: float | None) -> str:
    """When figures were taken, and whether the machine was theirs alone. cores: of others; None where not measured."""
    if cores is None:
        return f"{date}, two cores without other work that we know of (it was not measured)."
    if cores < QUIET:
        return f"{date}, two idle cores."
    return f"{date}, **beside other work** that took {cores:.1f} of the two cores: no claim is made from these figures."
