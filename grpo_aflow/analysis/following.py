"""A run as its files tell it now: what `grpo-aflow-watch` shows, read line by line while the run writes.

In: metrics.jsonl, rollouts.jsonl, ledger.jsonl, manifest.json and config.yaml of a run folder. Out: a `Snapshot`.
Nothing is written, and nothing of a running, ended, empty or damaged folder is an error: what cannot be read is
counted, and what is not there yet is left out.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpo_aflow.run.saved import read_manifest, saved_config
from grpo_aflow.types import UserError

FILES = ("metrics.jsonl", "rollouts.jsonl", "ledger.jsonl", "manifest.json")

Line = Mapping[str, Any]  # of a file: JSON, of which each field is read with its own type


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A run at one moment."""

    folder: Path
    status: str  # as in the manifest; "unknown" without one
    start: str
    num_steps: int | None
    max_usd: float | None
    steps: Sequence[Line]  # figures of the steps that are done, in their order
    evaluations: Mapping[str, float]  # held-out accuracy by evaluation
    spent: Spent
    under_way: UnderWay | None
    in_flight: int  # calls of the executor
    last: Line | None  # the last rollout that ended
    fates: Mapping[str, int]  # what became of the rollouts of the newest step that has some
    fates_of: int | None  # that step
    unreadable: int  # lines
    idle_s: float | None  # since any of the files changed

    @property
    def left_s(self) -> float | None:
        """How long the steps to come may take, at the pace of the last ten."""
        if self.num_steps is None or not self.steps:
            return None
        lengths = [number(line, "time/step_s") for line in self.steps[-10:]]
        known = [length for length in lengths if math.isfinite(length)]
        return sum(known) / len(known) * (self.num_steps - len(self.steps)) if known else None


@dataclass(slots=True)
class Spent:
    """What the executor's calls cost so far, and how they ended."""

    usd: float = 0.0
    unknown_usd: float = 0.0  # further, at most: of calls whose outcome nobody knows
    tokens: int = 0
    answered: int = 0
    cached: int = 0
    faults: Counter[str] = field(default_factory=Counter)  # attempts without an answer, by reason

    def book(self, outcome: Line) -> None:
        """Add the outcome of one attempt."""
        if outcome.get("outcome") == "ok":
            self.answered += 1
            self.usd += outcome.get("usd") or 0.0
            self.tokens += (outcome.get("prompt_tokens") or 0) + (outcome.get("completion_tokens") or 0)
        else:
            self.unknown_usd += outcome.get("at_most_usd") or 0.0
            self.faults[str(outcome.get("reason") or outcome.get("outcome"))] += 1


@dataclass(frozen=True, slots=True)
class UnderWay:
    """The newest step of which there are rollouts and no figures yet."""

    step: int
    completions: int
    rollouts: int


def number(line: Line, name: str) -> float:
    """A figure of a line; NaN where it is missing or none."""
    value = line.get(name)
    return float(value) if isinstance(value, int | float) else math.nan


@dataclass(slots=True)
class Tail:
    """The lines of a file that are new since it was last read. One that is being written is left for the next time."""

    path: Path
    unreadable: int = 0
    _at: int = 0
    _file: int = 0

    def restarts(self) -> bool:
        """Whether the file was replaced or cut since it was last read: it is read from its beginning again."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        replaced = self._file not in (0, found.st_ino) or found.st_size < self._at
        if replaced:
            self._at, self.unreadable = 0, 0
        self._file = found.st_ino
        return replaced

    def new_lines(self) -> Iterator[dict[str, Any]]:
        """Those that hold an object; the others are counted."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(self._at)
            for raw in file:
                if not raw.endswith(b"\n"):
                    return
                self._at += len(raw)
                if (line := _parsed(raw)) is not None:
                    yield line
                else:
                    self.unreadable += 1


@dataclass(slots=True)
class Follower:
    """Keeps up with the files of a run folder."""

    folder: Path
    _metrics: Tail = field(init=False)
    _rollouts: Tail = field(init=False)
    _ledger: Tail = field(init=False)
    _steps: dict[int, Line] = field(default_factory=dict)
    _completions: Counter[int] = field(default_factory=Counter)  # by step
    _ended: dict[int, Counter[str]] = field(default_factory=dict)  # by step: what became of its rollouts
    _last: Line | None = None
    _spent: Spent = field(default_factory=Spent)
    _open: dict[int, float] = field(default_factory=dict)  # attempts that are in flight, and what each costs at most

    def __post_init__(self) -> None:
        self._metrics, self._rollouts, self._ledger = (Tail(self.folder / name) for name in FILES[:3])

    def snapshot(self) -> Snapshot:
        """Read what is new, and say how the run stands."""
        self._read_metrics()
        self._read_rollouts()
        self._read_ledger()
        manifest, config = _described(self.folder)
        newest = max(self._ended, default=None)
        return Snapshot(
            folder=self.folder,
            status=str(manifest.get("status", "unknown")),
            start=str(manifest.get("start", "")),
            num_steps=(config.get("schedule") or {}).get("num_steps"),
            max_usd=(config.get("executor") or {}).get("max_usd"),
            steps=[self._steps[step] for step in sorted(self._steps)],
            evaluations=_evaluations(self.folder),
            spent=self._spent,
            in_flight=len(self._open),
            under_way=self._under_way(),
            last=self._last,
            fates={} if newest is None else dict(self._ended[newest]),
            fates_of=newest,
            unreadable=sum(tail.unreadable for tail in (self._metrics, self._rollouts, self._ledger)),
            idle_s=_idle_s(self.folder),
        )

    def _under_way(self) -> UnderWay | None:
        step = max(self._completions, default=None)
        if step is None or step in self._steps:
            return None
        return UnderWay(step, self._completions[step], sum(self._ended.get(step, Counter()).values()))

    def _read_metrics(self) -> None:
        if self._metrics.restarts():
            self._steps.clear()
        for line in self._metrics.new_lines():
            if math.isfinite(step := number(line, "step")):
                self._steps[int(step)] = line
            else:
                self._metrics.unreadable += 1

    def _read_rollouts(self) -> None:
        if self._rollouts.restarts():
            self._completions.clear()
            self._ended.clear()
        for line in self._rollouts.new_lines():
            step = line.get("step")
            if not isinstance(step, int):
                self._rollouts.unreadable += 1
            elif line.get("kind") == "completion":
                self._completions[step] += 1
            elif line.get("kind") == "rollout":
                self._ended.setdefault(step, Counter())[_fate(line)] += 1
                self._last = line

    def _read_ledger(self) -> None:
        if self._ledger.restarts():
            self._spent, self._open = Spent(), {}
        for line in self._ledger.new_lines():
            match line.get("event"):
                case "cached":
                    self._spent.cached += 1
                case "intent":
                    self._open[line.get("attempt", 0)] = number(line, "at_most_usd")
                case "outcome":
                    self._open.pop(line.get("attempt", 0), None)
                    self._spent.book(line)


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _fate(line: Line) -> str:
    """What became of a rollout: its status, with the codes of the validator or the reason where it went wrong."""
    status = str(line.get("status"))
    codes = sorted({str(finding.get("code")) for finding in line.get("findings") or []})
    reason = ", ".join(codes) if status == "invalid" else str(line.get("reason") or "")
    return f"{status}: {reason}" if reason and status != "completed" else status


def _described(folder: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Manifest and config; empty where they are missing, damaged or about to be written."""
    found: list[Mapping[str, Any]] = []
    for read in (read_manifest, saved_config):
        try:
            found.append(read(folder))
        except UserError:
            found.append({})
    return found[0], found[1]


def _evaluations(folder: Path) -> dict[str, float]:
    accuracies = {}
    for file in sorted(folder.glob("evaluations/step_*.json")):
        try:
            accuracies[file.stem] = float(json.loads(file.read_text(encoding="utf-8"))["accuracy"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # being written, or damaged
    return accuracies


def _idle_s(folder: Path) -> float | None:
    times = [file.stat().st_mtime for name in FILES if (file := folder / name).is_file()]
    return max(0.0, time.time() - max(times)) if times else None
