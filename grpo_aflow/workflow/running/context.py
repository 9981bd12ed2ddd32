"""What an operator is given while it runs: the executor, the sandbox and the reading of answers, each call metered.

A fault of the endpoint or of the sandbox ends the execution (`Masked`), and so does a budget that is used up
(`Exhausted`). Calls and code runs count for the workflow's deadline with the seconds for which it is answerable.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from grpo_aflow.protocols import AnswerReader, ChatModel, CodeRunner
from grpo_aflow.types import CallContext, ChatStatus, CheckResult, CodeResult, CodeStatus, Domain, Task, UserError
from grpo_aflow.workflow.operators.instructions import messages, system_prompt
from grpo_aflow.workflow.operators.replies import choice
from grpo_aflow.workflow.rules import WorkflowRules
from grpo_aflow.workflow.running.deadline import Deadline
from grpo_aflow.workflow.running.faults import Exhausted, Masked
from grpo_aflow.workflow.running.trace import RunningCall, Spent, all_of

R = TypeVar("R", CodeResult, CheckResult)


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
class ExecutionInputs:
    """What the operator calls of one execution share."""

    services: OperatorServices
    task: Task
    step: int
    member: int
    deadline: Deadline


class BoundContext:
    """The `OperatorContext` of one call; there each method is explained.

    Args:
        before: what the workflow had spent when the call began, without the calls beside it.
    """

    def __init__(self, inputs: ExecutionInputs, call: RunningCall, before: Spent) -> None:
        self._inputs = inputs
        self._call = call
        self._before = before
        self._task = inputs.task
        self._num_asked = 0

    @property
    def domain(self) -> Domain:
        return self._task.domain

    @property
    def entry_point(self) -> str:
        return self._task.entry_point

    @property
    def num_public_tests(self) -> int:
        return len(self._task.public_tests)

    def normalised(self, answer: str) -> str:
        return self._inputs.services.reader.vote_key(answer, self._task)

    def program(self, answer: str) -> str:
        return self._inputs.services.reader.program(answer, self._task)

    def random(self) -> random.Random:
        return random.Random(repr((self._inputs.step, self._task.id, self._inputs.member, self._call.ordinal)))

    def note(self, text: str) -> None:
        self._call.notes.append(text)

    def unparsed(self, what: str) -> None:
        self._call.num_unparsed += 1
        self.note(f"unreadable {what}")

    async def ask(self, sections: Mapping[str, str], candidates: Sequence[str] = (), *, prompt: str = "") -> str:
        self._num_asked += 1
        return await self._ask(self._num_asked, sections, candidates, prompt)

    async def ask_at_once(self, all_candidates: Sequence[Sequence[str]], sections: Mapping[str, str]) -> list[str]:
        # Numbered in the order given, whichever is answered first.
        numbers = range(self._num_asked + 1, self._num_asked + 1 + len(all_candidates))
        self._num_asked += len(all_candidates)
        return await all_of([self._ask(n, sections, c, "") for n, c in zip(numbers, all_candidates, strict=True)])

    async def _ask(self, number: int, sections: Mapping[str, str], candidates: Sequence[str], prompt: str) -> str:
        inputs, services, call = self._inputs, self._inputs.services, self._call
        if number > call.spec.max_calls:
            raise UserError(f"operator {call.spec.class_name} made more than its max_calls={call.spec.max_calls} calls")
        self._check_budget()
        call.spent.calls += 1
        context = CallContext(
            step=inputs.step,
            task_id=self._task.id,
            dataset=self._task.dataset,
            member=inputs.member,
            operator=call.spec.slot,
            ordinal=(call.ordinal, number),
            domain=self._task.domain,
        )
        sent = messages(system_prompt(call.spec, self.domain, prompt), sections, candidates)
        with inputs.deadline.running() as counts:
            reply = await services.chat.chat(
                sent, context=context, temperature=services.temperature, max_tokens=services.max_tokens
            )
            if not reply.status.masks:
                counts(reply.latency_s)
        call.book(reply)
        if reply.status.masks:
            call.notes.append(f"{reply.status}: {reply.error}".rstrip(": "))
            raise Masked(f"executor:{reply.status}")
        if reply.status is ChatStatus.REFUSED:
            call.notes.append("refused")
            return ""
        return reply.text.strip()

    def _check_budget(self) -> None:
        rules, before, spent = self._inputs.services.rules, self._before, self._call.spent
        for name, used, limit in (
            ("llm_calls", before.calls + spent.calls, rules.max_llm_calls),
            ("tokens", before.tokens + spent.tokens, rules.max_tokens),
            ("usd", before.usd + spent.usd, rules.max_usd),
        ):
            if used >= limit:
                self._call.notes.append(f"budget:{name}")
                raise Exhausted(name)

    async def solve(self, source: str) -> tuple[bool, str]:
        result = await self._in_sandbox(lambda: self._inputs.services.runner.run(source, call="solve"))
        if result.status is not CodeStatus.OK:
            return False, result.error or f"the run ended with: {result.status}"
        value = result.value.strip()
        if value in ("", "None"):
            return False, "solve() returned nothing; return the final answer"
        return True, value

    async def passes(self, candidate: str, entry_point: str) -> tuple[bool, str]:
        runner, tests, setup = self._inputs.services.runner, "\n".join(self._task.public_tests), self._task.setup
        result = await self._in_sandbox(lambda: runner.check(candidate, tests, entry_point=entry_point, setup=setup))
        passed = result.status is CodeStatus.OK and result.passed
        return passed, result.error or f"{result.num_passed} of {result.num_assertions} assertions passed"

    async def _in_sandbox(self, work: Callable[[], R]) -> R:
        """Run blocking work of the sandbox. Waiting for a thread or for a place in it counts for no deadline."""

        def timed() -> tuple[R, float]:
            began = time.monotonic()
            result = work()
            return result, time.monotonic() - began

        with self._inputs.deadline.running() as counts:
            result, took_s = await asyncio.to_thread(timed)
            if result.status is not CodeStatus.INFRASTRUCTURE:
                counts(took_s - result.waited_s)
        if result.status is CodeStatus.INFRASTRUCTURE:
            self.note(f"sandbox: {result.error}")
            raise Masked("sandbox")
        return result

    def pick(self, reply: str, candidates: Sequence[str]) -> int | None:
        index = choice(reply, candidates)
        if index is None:
            self.unparsed("choice")
        return index
