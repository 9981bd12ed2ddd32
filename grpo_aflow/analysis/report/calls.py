"""The executor calls of each rollout: from the ledger when and how long, from the cache what was asked and answered."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grpo_aflow.analysis.report.lines import Line, each_line
from grpo_aflow.analysis.report.views import CallView
from grpo_aflow.executor.cache import AnswerCache
from grpo_aflow.types import OperatorCall, UserError

Who = tuple[int, str, int]  # step, task, member
CACHE = "cache.sqlite"
STEP, ATTEMPT = re.compile(rb'"step": ?(-?\d+)'), re.compile(rb'"attempt": ?(\d+)')
SHAPE = {"key": str, "step": int, "task": str, "member": int, "operator": str, "ordinal": list}


@dataclass(slots=True)
class _Call:
    """A call while the ledger is read: its first request, and the last outcome."""

    key: str
    operator: str
    ordinal: tuple[int, ...]
    start: float | None = None
    end: float = 0.0
    attempts: int = 0
    outcome: Line = field(default_factory=dict)


class CallBook:
    """All calls of a run, handed out to its rollouts.

    A training rollout has its last ones: a resumed run makes calls again. Evaluations share step -1, so that theirs
    are handed out in the order in which they were made.
    """

    def __init__(self, calls: Mapping[Who, list[_Call]], cache: AnswerCache | None, notices: Sequence[str]) -> None:
        self.notices = notices
        self._calls, self._cache = calls, cache

    @classmethod
    def open(cls, folder: Path, cache_folder: str | None, steps: Collection[int]) -> CallBook:
        """With the calls of these training steps, and of all evaluations."""
        told: list[str] = []
        calls = _by_rollout(folder / "ledger.jsonl", steps, told)
        cache, missing = _cache(Path(cache_folder) if cache_folder else folder)
        return cls(calls, cache, (*told, *missing))

    def of(self, step: int, task_id: str, member: int, trace: Sequence[OperatorCall]) -> Sequence[Sequence[CallView]]:
        """The calls of each entry of a rollout's trace; empty ones where ledger and trace do not fit together."""
        number = sum(entry.num_calls for entry in trace)
        waiting = self._calls.get((step, task_id, member), [])
        if step >= 0:
            mine = waiting[len(waiting) - number :] if number else []
        else:
            mine, waiting[:] = waiting[:number], waiting[number:]
        parts = _parts(sorted(mine, key=lambda call: call.ordinal), trace)
        first = min((call.start for call in mine if call.start is not None), default=0.0)
        return [[self._view(call, first) for call in part] for part in parts]

    def close(self) -> None:
        if self._cache is not None:
            self._cache.close()

    def _view(self, call: _Call, first: float) -> CallView:
        key, outcome = bytes.fromhex(call.key), call.outcome
        answer = self._cache.get(key) if self._cache is not None else None
        return CallView(
            operator=call.operator,
            start_s=None if call.start is None else round(call.start - first, 4),
            latency_s=outcome.get("latency_s", 0.0),
            prompt_tokens=outcome.get("prompt_tokens", answer.prompt_tokens if answer is not None else 0),
            completion_tokens=outcome.get("completion_tokens", answer.completion_tokens if answer is not None else 0),
            cost_usd=outcome.get("usd", 0.0),
            attempts=call.attempts,
            outcome=outcome.get("outcome", "unknown") if call.attempts else "cached",
            reason=outcome.get("reason", ""),
            messages=self._cache.messages(key) if self._cache is not None else (),
            reply=answer.text if answer else "",
            thinking=answer.thinking if answer else "",
        )


def _cache(folder: Path) -> tuple[AnswerCache | None, Sequence[str]]:
    if not (folder / CACHE).is_file():
        return None, (f"{folder / CACHE} is not there: no replies of the executor are shown",)
    try:
        cache = AnswerCache(folder / CACHE, read_only=True)
        with_requests = cache.has_messages
    except (UserError, sqlite3.Error) as error:
        return None, (f"no replies of the executor are shown: {error}",)
    told = f"{CACHE} was made before prompts were kept beside the answers: replies are shown without their prompts"
    return cache, () if with_requests else (told,)


def _by_rollout(path: Path, steps: Collection[int], told: list[str]) -> dict[Who, list[_Call]]:
    """The ledger's calls in the order in which they began; attempts of one call are one. Others are not held."""
    calls: defaultdict[Who, list[_Call]] = defaultdict(list)
    attempts: dict[int, _Call] = {}

    def wanted(raw: bytes) -> bool:
        if (step := STEP.search(raw)) is not None:
            return int(step[1]) < 0 or int(step[1]) in steps
        attempt = ATTEMPT.search(raw)
        return attempt is None or int(attempt[1]) in attempts

    damaged = 0
    for line in each_line(path, told, wanted=wanted):
        attempt = line.get("attempt")
        if line.get("event") == "outcome":
            if isinstance(attempt, int) and (call := attempts.pop(attempt, None)) is not None:
                call.outcome = line
        elif _is_call(line):
            call = _open(calls[line["step"], line["task"], line["member"]], line)
            if line.get("event") == "intent" and isinstance(attempt, int):
                call.attempts += 1
                call.start = line.get("t") if call.start is None else call.start
                attempts[attempt] = call
        else:
            damaged += 1
    if damaged:
        told.append(f"{path.name}: {damaged} lines lack fields and are left out")
    return calls


def _is_call(line: Line) -> bool:
    """Whether a line of the ledger has what is needed of a call."""
    return all(isinstance(line.get(name), kind) for name, kind in SHAPE.items()) and _is_hex(line["key"])


def _is_hex(key: str) -> bool:
    try:
        bytes.fromhex(key)
    except ValueError:
        return False
    return True


def _open(mine: list[_Call], line: Line) -> _Call:
    """The call that a line is about: one that failed so far, or was made before the run was resumed; or a new one."""
    ordinal = tuple(line["ordinal"])
    for call in reversed(mine):
        again = line["step"] >= 0 or call.outcome.get("outcome") in ("failed", "unknown")
        if again and call.key == line["key"] and call.ordinal == ordinal:
            mine.remove(call)
            mine.append(call)
            return call
    mine.append(_Call(key=line["key"], operator=line["operator"], ordinal=ordinal))
    return mine[-1]


def _parts(calls: list[_Call], trace: Sequence[OperatorCall]) -> list[list[_Call]]:
    """Calls in program order, dealt out to the entries of the trace."""
    parts: list[list[_Call]] = []
    rest = list(calls)
    for entry in trace:
        part, rest = rest[: entry.num_calls], rest[entry.num_calls :]
        if any(call.operator != entry.slot for call in part):
            return [[] for _ in trace]
        parts.append(part)
    return parts


def trace_of(line: Line) -> list[OperatorCall]:
    """The trace of a rollout's line; fields of other versions are left out."""
    known = OperatorCall.__dataclass_fields__
    return [_entry({key: value for key, value in entry.items() if key in known}) for entry in line.get("trace") or ()]


def _entry(values: Mapping[str, Any]) -> OperatorCall:
    return replace(OperatorCall(slot="", arguments={}, result={}), **values)
