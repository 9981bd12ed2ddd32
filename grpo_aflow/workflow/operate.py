"""Runs one operator call: executor calls, code runs, and the record of what it cost.

`Operating` holds what all calls of one execution share; `run` dispatches to the operator. Each operator is a short
coroutine from arguments to the result dict that its specification promises. Faults of the endpoint and of the sandbox
end the execution (`Masked`); a budget that is used up ends it too (`Exhausted`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from grpo_aflow.types import (
    CallContext,
    ChatModel,
    ChatStatus,
    CheckResult,
    CodeResult,
    CodeRunner,
    CodeStatus,
    Domain,
    OperatorCall,
    Task,
)
from grpo_aflow.workflow import replies
from grpo_aflow.workflow.deadline import Deadline
from grpo_aflow.workflow.instructions import messages
from grpo_aflow.workflow.operators import OperatorSpec
from grpo_aflow.workflow.rules import WorkflowRules

MAX_SHOWN = 400  # characters of a value in the trace
Arguments = Mapping[str, Any]
Result = dict[str, Any]
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
            error="; ".join(self.notes) if self.notes or self.result else "not finished",
            thinking=abridged(self.thinking) if self.thinking else "",
        )


def abridged(value: Any) -> str:
    """The beginning of a value's text, for the trace."""
    text = value if isinstance(value, str) else "\n".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Operating:
    """What the operator calls of one execution share."""

    task: Task
    chat: ChatModel
    runner: CodeRunner
    rules: WorkflowRules
    normalise: Callable[[str, Domain], str]
    step: int
    member: int
    temperature: float
    max_tokens: int
    deadline: Deadline

    async def run(self, call: Call, before: Spent) -> Result:
        """Run the call; `before` is what the workflow had spent when it began, without the calls beside it."""
        call.started = True
        call.result = await _RUN[call.spec.slot](_Operator(self, call, before), **call.arguments)
        return call.result


class _Operator:
    """One call's access to the executor and the sandbox."""

    def __init__(self, shared: Operating, call: Call, before: Spent) -> None:
        self.shared = shared
        self.call = call
        self.before = before
        self.task = shared.task
        self.num_asked = 0

    async def ask(self, sections: Mapping[str, str], candidates: Sequence[str] = ()) -> str:
        """One executor call. Raises Masked, Exhausted; a refusal is an empty text."""
        self.num_asked += 1
        return await self._ask(self.num_asked, sections, candidates)

    async def ask_at_once(self, all_candidates: Sequence[Sequence[str]], sections: Mapping[str, str]) -> list[str]:
        """Several executor calls side by side, numbered in the order given."""
        numbers = range(self.num_asked + 1, self.num_asked + 1 + len(all_candidates))
        self.num_asked += len(all_candidates)
        return await all_of([self._ask(n, sections, c) for n, c in zip(numbers, all_candidates, strict=True)])

    async def _ask(self, number: int, sections: Mapping[str, str], candidates: Sequence[str]) -> str:
        shared, call = self.shared, self.call
        self._check_budget()
        call.spent.calls += 1
        context = CallContext(
            step=shared.step,
            task_id=self.task.id,
            member=shared.member,
            operator=call.spec.slot,
            ordinal=(call.ordinal, number),
            domain=self.task.domain,
        )
        sent = messages(call.spec.slot, self.task.domain, sections, candidates)
        with shared.deadline.running() as counts:
            reply = await shared.chat.chat(
                sent, context=context, temperature=shared.temperature, max_tokens=shared.max_tokens
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
        rules, before, spent = self.shared.rules, self.before, self.call.spent
        for name, used, limit in (
            ("llm_calls", before.calls + spent.calls, rules.max_llm_calls),
            ("tokens", before.tokens + spent.tokens, rules.max_tokens),
            ("usd", before.usd + spent.usd, rules.max_usd),
        ):
            if used >= limit:
                self.call.notes.append(f"budget:{name}")
                raise Exhausted(name)

    async def solve(self, source: str) -> tuple[bool, str]:
        """Run `solve()` of a source in the sandbox: whether it gave a value, and the value or the error."""
        result = await self._in_sandbox(lambda: self.shared.runner.run(source, call="solve"))
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
        tests, task = "\n".join(self.task.public_tests), self.task
        runner = self.shared.runner
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

        with self.shared.deadline.running() as counts:
            result, took_s = await asyncio.to_thread(timed)
            if result.status is not CodeStatus.INFRASTRUCTURE:
                counts(took_s - result.waited_s)
        return result

    def _sandbox_failed(self, error: str) -> Masked:
        self.call.notes.append(f"sandbox: {error}")
        return Masked("sandbox")

    def pick(self, text: str, candidates: Sequence[str]) -> int | None:
        index = replies.choice(text, len(candidates))
        if index is None:
            self.call.notes.append("unreadable choice")
        return index


async def all_of(coroutines: Sequence[Awaitable[Any]]) -> list[Any]:
    """The results in order, once all have ended; of several faults the first in that order is raised, not in time."""
    outcomes = await asyncio.gather(*coroutines, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return list(outcomes)


# --- the operators ----------------------------------------------------------------------------------------------------


async def _custom(op: _Operator, input: str, instruction: str) -> Result:
    return {"response": await op.ask({"instruction": instruction, "input": input})}


async def _answer_generate(op: _Operator, input: str) -> Result:
    thought, answer = replies.thought_and_answer(await op.ask({"input": input}))
    return {"thought": thought, "answer": answer}


async def _custom_code_generate(op: _Operator, problem: str, entry_point: str, instruction: str) -> Result:
    entry_point = op.task.entry_point or entry_point
    text = await op.ask({"instruction": instruction, "problem": problem, "entry_point": entry_point})
    return {"response": replies.code(text, entry_point)}


async def _programmer(op: _Operator, problem: str, analysis: str) -> Result:
    """Write, run, and mend with the error, at most three times; no output where no program gave one."""
    sections = {"problem": problem, "analysis": analysis}
    source = ""
    for _ in range(op.call.spec.max_calls):
        source = replies.code(await op.ask(sections), "solve")
        worked, outcome = await op.solve(source)
        if worked:
            return {"code": source, "output": outcome}
        sections = {"problem": problem, "analysis": analysis, "code": source, "error": outcome}
    op.call.notes.append("no program gave a result")
    return {"code": source, "output": ""}


async def _test(op: _Operator, problem: str, solution: str, entry_point: str) -> Result:
    """Public tests only; the task's own entry point wins over what the workflow says, since the tests name it."""
    num_tests = len(op.task.public_tests)
    if not num_tests:
        return {"result": False, "solution": solution, "n_tests": 0}
    entry_point = op.task.entry_point or entry_point
    candidate = replies.code(solution, entry_point)
    passed, error = await op.passes(candidate, entry_point)
    for _ in range(op.call.spec.max_calls):
        if passed:
            break
        sections = {"problem": problem, "entry_point": entry_point, "solution": candidate, "error": error}
        solution = candidate = replies.code(await op.ask(sections), entry_point) or candidate
        passed, error = await op.passes(candidate, entry_point)
    return {"result": passed, "solution": solution, "n_tests": num_tests}


async def _sc_ensemble(op: _Operator, solutions: list[str], problem: str) -> Result:
    if not solutions:
        op.call.notes.append("no candidates")
        return {"response": ""}
    index = op.pick(await op.ask({"problem": problem}, solutions), solutions)
    return {"response": solutions[index or 0]}


async def _md_ensemble(op: _Operator, solutions: list[str], problem: str) -> Result:
    if not solutions:
        op.call.notes.append("no candidates")
        return {"solution": ""}
    shared = op.shared
    seed = repr((shared.step, op.task.id, shared.member, op.call.ordinal))
    draw = random.Random(seed)
    orders = [draw.sample(range(len(solutions)), len(solutions)) for _ in range(op.call.spec.max_calls)]
    texts = await op.ask_at_once([[solutions[i] for i in order] for order in orders], {"problem": problem})
    picks = [(order, op.pick(text, solutions)) for order, text in zip(orders, texts, strict=True)]
    votes = Counter(order[pick] for order, pick in picks if pick is not None)
    if not votes:
        return {"solution": solutions[0]}
    most = max(votes.values())
    return {"solution": solutions[min(index for index, count in votes.items() if count == most)]}


async def _majority_vote(op: _Operator, solutions: list[str]) -> Result:
    keys = [op.shared.normalise(solution, op.task.domain) for solution in solutions]
    if not keys:
        op.call.notes.append("no candidates")
        return {"response": "", "agreement": 0.0}
    key, count = Counter(keys).most_common(1)[0]  # the first of equals: Counter keeps the order of arrival
    return {"response": solutions[keys.index(key)], "agreement": count / len(keys)}


async def _review(op: _Operator, problem: str, solution: str) -> Result:
    right, feedback = replies.verdict(await op.ask({"problem": problem, "solution": solution}))
    if right is None:
        op.call.notes.append("unreadable verdict")
    return {"review_result": right is not False, "feedback": feedback}


async def _revise(op: _Operator, problem: str, solution: str, feedback: str) -> Result:
    """A maths or qa answer never becomes code: where the reply is a program, the solution stays as it was."""
    text = await op.ask({"problem": problem, "solution": solution, "feedback": feedback})
    if not text:
        return {"solution": solution}
    if op.task.domain == "code":
        return {"solution": replies.code(text, op.task.entry_point)}
    if replies.looks_like_code(text):
        op.call.notes.append("reply was code")
        return {"solution": solution}
    return {"solution": text}


async def _format(op: _Operator, problem: str, solution: str) -> Result:
    return {"solution": replies.short_answer(await op.ask({"problem": problem, "solution": solution}))}


_RUN: Mapping[str, Callable[..., Awaitable[Result]]] = {
    "custom": _custom,
    "answer_generate": _answer_generate,
    "custom_code_generate": _custom_code_generate,
    "programmer": _programmer,
    "test": _test,
    "sc_ensemble": _sc_ensemble,
    "md_ensemble": _md_ensemble,
    "majority_vote": _majority_vote,
    "review": _review,
    "revise": _revise,
    "format": _format,
}
