"""Operator calls while they run, what they have spent, and the entries that they leave in the trace of an execution."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from grpo_aflow.types import ChatReply, OperatorCall
from grpo_aflow.workflow.operators.spec import OperatorSpec, Result

MAX_SHOWN = 400  # characters of a value in the trace
T = TypeVar("T")


@dataclass(slots=True)
class Spent:
    """What has been spent so far; copied where calls run at once, so that none sees how fast another was."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0


@dataclass(slots=True)
class RunningCall:
    """An operator call from the moment at which its arguments are known."""

    spec: OperatorSpec
    ordinal: int  # in program order
    arguments: Mapping[str, str | list[str]]
    spent: Spent = field(default_factory=Spent)  # by this call
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0
    all_cached: bool = True
    notes: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    result: Result = field(default_factory=dict)
    num_unparsed: int = 0  # replies that did not have the form asked for, and could not be read otherwise
    started: bool = False

    def book(self, reply: ChatReply) -> None:
        """Add an executor call's tokens, cost and time, and what it thought."""
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        self.spent.tokens += reply.prompt_tokens + reply.completion_tokens
        self.spent.usd += reply.cost_usd
        self.latency_s += reply.latency_s
        self.thinking += [reply.thinking] if reply.thinking else []
        self.all_cached = self.all_cached and reply.cached

    def entry(self) -> OperatorCall:
        """The call in the trace."""
        return OperatorCall(
            slot=self.spec.slot,
            arguments={key: abridged(value) for key, value in self.arguments.items()},
            result={key: abridged(value) if isinstance(value, str) else value for key, value in self.result.items()},
            num_calls=self.spent.calls,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cost_usd=self.spent.usd,
            latency_s=self.latency_s,
            cached=self.spent.calls > 0 and self.all_cached,
            unparsed=self.num_unparsed,
            error="; ".join(self.notes) if self.notes or self.result else "not finished",
            thinking=abridged(self.thinking) if self.thinking else "",
        )


class UnawaitedCall:
    """The value of `self.custom(…)` before it is awaited: a call with its number and its arguments."""

    __slots__ = ("call", "done", "is_task")

    def __init__(self, call: RunningCall) -> None:
        self.call = call
        self.done = False
        self.is_task = False  # of asyncio.create_task: it can be awaited again

    def __repr__(self) -> str:
        return f"<call of {self.call.spec.slot}, not awaited>"


def abridged(value: str | list[str]) -> str:
    """The beginning of a value's text, for the trace."""
    text = value if isinstance(value, str) else "\n".join(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters)"


async def all_of(coroutines: Sequence[Awaitable[T]]) -> list[T]:
    """The results in order, once all have ended; of several faults the first in that order is raised, not in time."""
    results: list[T] = []
    for outcome in await asyncio.gather(*coroutines, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results
