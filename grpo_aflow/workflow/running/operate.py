"""Runs one operator call: executor calls, code runs, and the record of what it cost.

`Operating` holds what all calls of one execution share; its `run` hands the operator an `OperatorContext`, by which
the operator asks the executor and runs code. Faults of the endpoint and of the sandbox end the execution (`Masked`);
a budget that is used up ends it too (`Exhausted`). The operators themselves are in `builtin_operators`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from grpo_aflow.protocols import AnswerReader, ChatModel, CodeRunner
from grpo_aflow.types import (
    CallContext,
    ChatStatus,
    CheckResult,
    CodeResult,
    CodeStatus,
    Domain,
    OperatorCall,
    Task,
    UserError,
)
from grpo_aflow.workflow.operators import replies
from grpo_aflow.workflow.operators.instructions import messages, system_prompt
from grpo_aflow.workflow.operators.spec import Kind, OperatorSpec, Result
from grpo_aflow.workflow.rules import WorkflowRules
from grpo_aflow.workflow.running.deadline import Deadline

MAX_SHOWN = 400  # characters of a value in the trace
Arguments = Mapping[str, Any]
R = TypeVar("R", CodeResult, CheckResult)


class Masked(Exception):
    """The endpoint or the sandbox failed: the rollout is nobody's fault."""


class Exhausted(Exception):
    """A budget of the workflow is used up; the text names it."""


@dataclass(slots=True)
class Spent:
    """What has been spent so far; copied where calls run at once, so that none sees how fast another was."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0


@dataclass(slots=True)
class Call:
    """One operator call while it runs; `entry` makes the trace of it."""

    spec: OperatorSpec
    ordinal: int  # in program order
    arguments: Arguments
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

    def entry(self) -> OperatorCall:
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


def abridged(value: Any) -> str:
    """The beginning of a value's text, for the trace."""
    text = value if isinstance(value, str) else "\n".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters)"


class OperatorServices(Protocol):
    """What operators work with, the same in every execution of a run: an `Interpreter` has it."""

    @property
    def rules(self) -> WorkflowRules: ...
    @property
    def chat(self) -> ChatModel: ...
    @property
    def runner(self) -> CodeRunner: ...
    @property
    def reader(self) -> AnswerReader: ...
    @property
    def temperature(self) -> float: ...
    @property
    def max_tokens(self) -> int: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Operating:
    """What the operator calls of one execution share."""

    services: OperatorServices
    task: Task
    step: int
    member: int
    deadline: Deadline

    async def run(self, call: Call, before: Spent) -> dict[str, Any]:
        """Run the call; `before` is what the workflow had spent when it began, without the calls beside it.

        Raises UserError where an operator of the user breaks what its specification promises.
        """
        call.started = True
        operator = self.services.rules.operator_set.operators[call.spec.slot]
        result = await operator.run(OperatorContext(self, call, before), **call.arguments)
        call.result = promised(call.spec, result)
        return call.result


_TYPES: Mapping[Kind, type | tuple[type, ...]] = {
    Kind.TEXT: str,
    Kind.TEXTS: list,
    Kind.FLAG: bool,
    Kind.COUNT: int,
    Kind.SHARE: (int, float),
}


def promised(spec: OperatorSpec, result: Any) -> dict[str, Any]:
    """The result as a fresh dict of plain values, checked against the specification. Raises UserError."""
    if not isinstance(result, Mapping) or result.keys() != spec.results.keys():
        shown = ", ".join(map(str, result)) if isinstance(result, Mapping) else type(result).__name__
        raise UserError(f"operator {spec.class_name}: run must return a dict with {spec.results_text}; got {shown}")
    for key, kind in spec.results.items():
        value = result[key]
        texts = kind is not Kind.TEXTS or (isinstance(value, list) and all(type(item) is str for item in value))
        if not isinstance(value, _TYPES[kind]) or not texts:
            raise UserError(f"operator {spec.class_name}: {key} must be {kind}; got {type(value).__name__}")
    return {key: list(value) if isinstance(value, list) else value for key, value in result.items()}


class OperatorContext:
    """What an operator's `run` is given: access to the executor, to the sandbox, and to what it may know of the task.

    Golds and hidden tests are out of its reach.
    """

    def __init__(self, shared: Operating, call: Call, before: Spent) -> None:
        self._shared = shared
        self._call = call
        self._before = before
        self._task = shared.task
        self._num_asked = 0

    @property
    def domain(self) -> Domain:
        return self._task.domain

    @property
    def entry_point(self) -> str:
        """Code tasks: the name of the function to write; else ""."""
        return self._task.entry_point

    @property
    def num_public_tests(self) -> int:
        return len(self._task.public_tests)

    def normalised(self, answer: str) -> str:
        """The answer in the form in which equal answers are equal texts, as for votes."""
        return self._shared.services.reader.vote_key(answer, self._task)

    def program(self, answer: str) -> str:
        """The program in an answer or a reply, as the grader reads it."""
        return self._shared.services.reader.program(answer, self._task)

    def random(self) -> random.Random:
        """A generator whose draws depend on step, task, member and place of the call only."""
        return random.Random(repr((self._shared.step, self._task.id, self._shared.member, self._call.ordinal)))

    def note(self, text: str) -> None:
        """A remark for the trace."""
        self._call.notes.append(text)

    def unparsed(self, what: str) -> None:
        """Count a reply in which `what` could not be found (metric `operator/<slot>_unparsed`)."""
        self._call.num_unparsed += 1
        self.note(f"unreadable {what}")

    async def ask(self, sections: Mapping[str, str], candidates: Sequence[str] = (), *, prompt: str = "") -> str:
        """One executor call: the reply's text, "" where the model refused.

        Args:
            sections: name -> text of the user message's parts, written as `<name>text</name>`; empty ones are left out.
            candidates: texts to choose from, shown with the ids A, B, …
            prompt: the name of one of the specification's prompts; "" is the first.

        Endpoint faults and used-up budgets are exceptions that end the workflow: let them pass.
        """
        self._num_asked += 1
        return await self._ask(self._num_asked, sections, candidates, prompt)

    async def ask_at_once(self, all_candidates: Sequence[Sequence[str]], sections: Mapping[str, str]) -> list[str]:
        """Several executor calls side by side, numbered in the order given."""
        numbers = range(self._num_asked + 1, self._num_asked + 1 + len(all_candidates))
        self._num_asked += len(all_candidates)
        return await all_of([self._ask(n, sections, c, "") for n, c in zip(numbers, all_candidates, strict=True)])

    async def _ask(self, number: int, sections: Mapping[str, str], candidates: Sequence[str], prompt: str) -> str:
        shared, services, call = self._shared, self._shared.services, self._call
        if number > call.spec.max_calls:
            raise UserError(f"operator {call.spec.class_name} made more than its max_calls={call.spec.max_calls} calls")
        self._check_budget()
        call.spent.calls += 1
        context = CallContext(
            step=shared.step,
            task_id=self._task.id,
            member=shared.member,
            operator=call.spec.slot,
            ordinal=(call.ordinal, number),
            domain=self._task.domain,
        )
        sent = messages(system_prompt(call.spec, self.domain, prompt), sections, candidates)
        with shared.deadline.running() as counts:
            reply = await services.chat.chat(
                sent, context=context, temperature=services.temperature, max_tokens=services.max_tokens
            )
            if not reply.status.masks:
                counts(reply.latency_s)
        call.prompt_tokens += reply.prompt_tokens
        call.completion_tokens += reply.completion_tokens
        call.spent.tokens += reply.prompt_tokens + reply.completion_tokens
        call.spent.usd += reply.cost_usd
        call.latency_s += reply.latency_s
        call.thinking += [reply.thinking] if reply.thinking else []
        call.all_cached = call.all_cached and reply.cached
        if reply.status.masks:
            call.notes.append(f"{reply.status}: {reply.error}".rstrip(": "))
            raise Masked(f"executor:{reply.status}")
        if reply.status is ChatStatus.REFUSED:
            call.notes.append("refused")
            return ""
        return reply.text.strip()

    def _check_budget(self) -> None:
        rules, before, spent = self._shared.services.rules, self._before, self._call.spent
        for name, used, limit in (
            ("llm_calls", before.calls + spent.calls, rules.max_llm_calls),
            ("tokens", before.tokens + spent.tokens, rules.max_tokens),
            ("usd", before.usd + spent.usd, rules.max_usd),
        ):
            if used >= limit:
                self._call.notes.append(f"budget:{name}")
                raise Exhausted(name)

    async def solve(self, source: str) -> tuple[bool, str]:
        """Run `solve()` of a source in the sandbox: whether it gave a value, and the value or the error."""
        result = await self._in_sandbox(lambda: self._shared.services.runner.run(source, call="solve"))
        if result.status is CodeStatus.INFRASTRUCTURE:
            raise self._sandbox_failed(result.error)
        if result.status is not CodeStatus.OK:
            return False, result.error or f"the run ended with: {result.status}"
        value = result.value.strip()
        if value in ("", "None"):
            return False, "solve() returned nothing; return the final answer"
        return True, value

    async def passes(self, candidate: str, entry_point: str) -> tuple[bool, str]:
        """Run the public tests on a candidate: whether all pass, and the error if not."""
        tests, task = "\n".join(self._task.public_tests), self._task
        runner = self._shared.services.runner
        result = await self._in_sandbox(
            lambda: runner.check(candidate, tests, entry_point=entry_point, setup=task.setup)
        )
        if result.status is CodeStatus.INFRASTRUCTURE:
            raise self._sandbox_failed(result.error)
        passed = result.status is CodeStatus.OK and result.passed
        return passed, result.error or f"{result.num_passed} of {result.num_assertions} assertions passed"

    async def _in_sandbox(self, work: Callable[[], R]) -> R:
        """Run blocking work of the sandbox; waiting for a thread or for a place in the sandbox does not count."""

        def timed() -> tuple[R, float]:
            began = time.monotonic()
            result = work()
            return result, time.monotonic() - began

        with self._shared.deadline.running() as counts:
            result, took_s = await asyncio.to_thread(timed)
            if result.status is not CodeStatus.INFRASTRUCTURE:
                counts(took_s - result.waited_s)
        return result

    def _sandbox_failed(self, error: str) -> Masked:
        self._call.notes.append(f"sandbox: {error}")
        return Masked("sandbox")

    def pick(self, text: str, candidates: Sequence[str]) -> int | None:
        """The index of the candidate that a reply chooses; None, counted as unparsed, where it chooses none."""
        index = replies.choice(text, candidates)
        if index is None:
            self.unparsed("choice")
        return index


async def all_of(coroutines: Sequence[Awaitable[Any]]) -> list[Any]:
    """The results in order, once all have ended; of several faults the first in that order is raised, not in time."""
    outcomes = await asyncio.gather(*coroutines, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return list(outcomes)
