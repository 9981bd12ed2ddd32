"""The executor's ledger: one jsonl line when an attempt is about to be made, one when its outcome is known.

`client` and `sending` write it, reports read it: `read_costs` answers what any rollout, step, operator, dataset or
domain cost. A line is one write to a file that is open for appending. An attempt whose outcome is missing (the run was
killed in between) is closed when the ledger is opened again: by its answer where the cache has it, otherwise as
unknown: it may have been paid, at most `at_most_usd`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, overload

from grpo_aflow.run.files import append, as_type, json_line, numbered_lines, open_lines, unreadable
from grpo_aflow.types import CallContext, ChatReply

FIELDS = ("rollout", "step", "task", "member", "operator", "dataset", "domain")
"""By which costs are told apart."""

REMEDY = (
    "restore it from a copy, or delete that line (what it cost is then no longer counted)"  # for one that is damaged
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spend:
    """What a set of calls cost."""

    usd: float = 0.0  # of attempts whose answer was received
    at_most_usd: float = 0.0  # further: the worst case of attempts whose outcome is unknown
    prompt_tokens: int = 0
    completion_tokens: int = 0
    at_most_tokens: int = 0  # further, of both, as at_most_usd
    attempts: int = 0  # requests sent
    ok: int = 0  # requests answered
    cached: int = 0  # calls answered without a request

    def __add__(self, other: Spend) -> Spend:
        return Spend(
            usd=self.usd + other.usd,
            at_most_usd=self.at_most_usd + other.at_most_usd,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            at_most_tokens=self.at_most_tokens + other.at_most_tokens,
            attempts=self.attempts + other.attempts,
            ok=self.ok + other.ok,
            cached=self.cached + other.cached,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """Who asked, and what."""

    step: int
    task: str
    member: int
    operator: str
    ordinal: tuple[int, ...]
    dataset: str
    domain: str
    key: str  # content address of the call, in hexadecimal digits

    def __post_init__(self) -> None:
        try:
            bytes.fromhex(self.key)
        except ValueError:
            raise ValueError("key: Input should be hexadecimal digits") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent(Call):
    """A line of the file: an attempt is about to be sent."""

    attempt: int
    at_most_usd: float
    at_most_tokens: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A line of the file: what became of an attempt."""

    attempt: int
    outcome: Literal["ok", "failed", "unknown"]
    reason: str = ""
    latency_s: float = 0.0
    usd: float = 0.0
    at_most_usd: float = 0.0
    at_most_tokens: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


Line = Intent | Outcome | Call  # a bare call: the cache answered it
KINDS: Mapping[str, type[Line]] = {"intent": Intent, "outcome": Outcome, "cached": Call}


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry(Call):
    """One attempt, or one call that the cache answered."""

    outcome: str  # "ok", "failed", "unknown" or "cached"
    reason: str  # of a failed or unknown one, for example "http_429"
    latency_s: float
    spend: Spend

    @property
    def rollout(self) -> tuple[int, str, int]:
        return self.step, self.task, self.member


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """A read ledger."""

    entries: tuple[LedgerEntry, ...]

    @property
    def total(self) -> Spend:
        return sum((entry.spend for entry in self.entries), Spend())

    @overload
    def by(self, field: Literal["rollout"]) -> dict[tuple[int, str, int], Spend]: ...
    @overload
    def by(self, field: Literal["step", "member"]) -> dict[int, Spend]: ...
    @overload
    def by(self, field: Literal["task", "operator", "dataset", "domain"]) -> dict[str, Spend]: ...
    def by(self, field: str) -> Mapping[Any, Spend]:  # Any: the type of the keys goes by the field, as said above
        """Spend by "rollout" (step, task, member), "step", "task", "member", "operator", "dataset" or "domain"."""
        if field not in FIELDS:
            raise ValueError(f"costs are kept by {', '.join(FIELDS)}; got {field!r}")
        groups: dict[object, Spend] = {}
        for entry in self.entries:
            key = getattr(entry, field)
            groups[key] = groups.get(key, Spend()) + entry.spend
        return groups


class Ledger:
    """The open ledger of a run; one writer."""

    def __init__(self, path: Path, *, kept: Callable[[bytes], ChatReply | None] = lambda key: None) -> None:
        """
        Args:
            kept: the answer kept under a key, if any: an answer is kept before its line is written, so a kill in
                between leaves it without one.
        """
        self.path = path
        self._next = 1
        unclosed: dict[int, Intent] = {}
        for line in _lines(path):
            if isinstance(line, Intent | Outcome):
                self._next = max(self._next, 1 + line.attempt)
            if isinstance(line, Intent):
                unclosed[line.attempt] = line
            elif isinstance(line, Outcome):
                unclosed.pop(line.attempt, None)
        self._file = open_lines(path)
        for attempt, intent in unclosed.items():
            answer = kept(bytes.fromhex(intent.key))
            if answer is not None:
                self.ok(attempt, answer)
            else:
                self.unknown(attempt, "interrupted", intent.at_most_usd, at_most_tokens=intent.at_most_tokens)

    def intent(self, key: bytes, context: CallContext, *, at_most_usd: float, at_most_tokens: int = 0) -> int:
        """An attempt is about to be sent; returns its number."""
        attempt = self._next
        self._next += 1
        self._write(
            {
                "event": "intent",
                "attempt": attempt,
                "t": time.time(),
                **self._who(key, context),
                "at_most_usd": at_most_usd,
                "at_most_tokens": at_most_tokens,
            }
        )
        return attempt

    def ok(self, attempt: int, reply: ChatReply, *, estimated: bool = False) -> None:
        """An answer was received: ok, refused or empty. `estimated`: the endpoint did not count its tokens."""
        line = {"event": "outcome", "attempt": attempt, "outcome": "ok", "reply": reply.status.value}
        if estimated:
            line["estimated"] = True
        self._write({**line, **_measure(reply)})

    def failed(self, attempt: int, reason: str, latency_s: float) -> None:
        """The endpoint declined it or was not reached; nothing is owed."""
        line = {"event": "outcome", "attempt": attempt, "outcome": "failed", "reason": reason}
        self._write({**line, "latency_s": round(latency_s, 6)})

    def unknown(
        self, attempt: int, reason: str, at_most_usd: float, latency_s: float = 0.0, *, at_most_tokens: int = 0
    ) -> None:
        """It was sent and nothing came back: it may be owed."""
        line = {"event": "outcome", "attempt": attempt, "outcome": "unknown", "reason": reason}
        worst = {"at_most_usd": at_most_usd, "at_most_tokens": at_most_tokens}
        self._write({**line, **worst, "latency_s": round(latency_s, 6)})

    def cached(self, key: bytes, context: CallContext) -> None:
        self._write({"event": "cached", **self._who(key, context)})

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _who(self, key: bytes, context: CallContext) -> dict[str, object]:
        return {
            "key": key.hex(),
            "step": context.step,
            "task": context.task_id,
            "member": context.member,
            "operator": context.operator,
            "ordinal": context.ordinal,
            "dataset": context.dataset,
            "domain": context.domain,
        }

    def _write(self, line: Mapping[str, object]) -> None:
        append(self._file, self.path, json_line(line))


def read_costs(path: Path) -> Costs:
    """Read a ledger, a run's own or a finished one's; a last line cut short by a kill is left out."""
    open_attempts: dict[int, LedgerEntry] = {}
    entries: list[LedgerEntry] = []
    for line in _lines(path):
        if isinstance(line, Intent):
            open_attempts[line.attempt] = _entry(line, "unknown", _worst_of(line))
        elif isinstance(line, Outcome):
            if line.attempt in open_attempts:  # otherwise the line of its intent was deleted, being damaged
                entries.append(_closed(open_attempts.pop(line.attempt), line))
        else:
            entries.append(_entry(line, "cached", Spend(cached=1)))
    return Costs(entries=(*entries, *open_attempts.values()))


def _worst_of(intent: Intent) -> Spend:
    return Spend(attempts=1, at_most_usd=intent.at_most_usd, at_most_tokens=intent.at_most_tokens)


def _entry(call: Call, outcome: str, spend: Spend) -> LedgerEntry:
    known = {field.name: getattr(call, field.name) for field in fields(Call)}
    return LedgerEntry(**known, outcome=outcome, reason="", latency_s=0.0, spend=spend)


def _closed(entry: LedgerEntry, line: Outcome) -> LedgerEntry:
    spend = Spend(
        usd=line.usd,
        at_most_usd=line.at_most_usd,
        prompt_tokens=line.prompt_tokens,
        completion_tokens=line.completion_tokens,
        at_most_tokens=line.at_most_tokens,
        attempts=1,
        ok=int(line.outcome == "ok"),
    )
    return replace(entry, outcome=line.outcome, reason=line.reason, latency_s=line.latency_s, spend=spend)


def _measure(reply: ChatReply) -> dict[str, float]:
    return {
        "usd": reply.cost_usd,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "latency_s": round(reply.latency_s, 6),
    }


def _lines(path: Path) -> Iterator[Line]:
    """Raises UserError for a line that is damaged."""
    for line, where in numbered_lines(path, REMEDY):
        try:
            kind = KINDS.get(str(line.get("event")))
            if kind is None:
                raise ValueError(f"its event is none of {', '.join(KINDS)}")
            yield as_type(kind, line)
        except ValueError as error:
            raise unreadable(where, error, REMEDY) from error
