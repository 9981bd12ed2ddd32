"""The records, in the order in which data meets them.

Reading this file from top to bottom is reading the pipeline: a `Task` becomes a prompt, the `Sampler` turns it into
`Completion`s, the workflow language makes a `Workflow` of each, the interpreter runs it against a `ChatModel` and a
`CodeRunner` into an `Execution`, the task's grader gives a `Grade`, the rubric a reward, and a `TrainingGroup` goes to
the learner. Everything here is a frozen value; nothing here does work. The capitalised parts that
hand them on are the protocols of `protocols`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypedDict

Domain = Literal["math", "qa", "code"]
DOMAINS: tuple[Domain, ...] = ("math", "qa", "code")


class UserError(Exception):
    """Bad input from a user: its text is the one line that names the fix. A command prints it, exits with `code`."""

    code = 2


class BudgetReached(UserError):
    """A cap that the user set was reached; everything is saved (exit code 3)."""

    code = 3


class SelfTestFailed(UserError):
    """The log-prob check or the grader's self-test failed (exit code 4)."""

    code = 4


class InfrastructureError(UserError):
    """An endpoint, an engine, a disk or the sandbox failed for good (exit code 5)."""

    code = 5


class Pruned(UserError):
    """A trial of a search was given up early: it lags behind the others. A good end, though without a value."""

    code = 0


class RankDied(InfrastructureError):
    """A learner rank's process is gone, or another's end broke what it was computing with it; both can be replaced."""


class EngineDied(InfrastructureError):
    """The sampler's engine process is gone; another one may be started."""


class WorkerDied(InfrastructureError):
    """An execution worker's process is gone; its executions are run again elsewhere, and another one is started."""


# --- the task ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One problem with what is needed to grade an answer to it.

    Example: Task(id="gsm8k/test/0", dataset="gsm8k", domain="math", problem="Janet's ducks lay ...", answers=("18",))
    """

    id: str
    dataset: str
    domain: Domain
    problem: str  # what the workflow is given; qa: context and question, code: signature and docstring
    answers: tuple[str, ...]  # golds; ("",) = unanswerable; maths: the final answer; code: [0] is a passing solution
    entry_point: str = ""  # code: the function's name
    setup: str = ""  # code: imports and helpers that run before the candidate
    public_tests: tuple[str, ...] = ()  # code: assertions that the workflow may see
    hidden_tests: tuple[str, ...] = ()  # code: assertions (or one `def check(candidate)`) that grade; never shown
    metadata: Mapping[str, Any] = field(default_factory=dict)


BASE = -1  # the policy version that is no version: the base model without an adapter


class Message(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


# --- sampling the policy ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    temperature: float
    top_p: float
    top_k: int  # 0 = off
    max_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What the policy wrote for one prompt: exactly these token ids are trained on."""

    token_ids: tuple[int, ...]  # [T], EOS included when finish_reason == "stop"
    logprobs: tuple[float, ...]  # [T], of the sampled tokens, at the sampling temperature and truncation
    text: str  # decoded, special tokens removed
    finish_reason: Literal["stop", "length"]
    version: int  # the policy version that wrote every one of these tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """One published policy version: a folder in PEFT's own format, complete once it is visible."""

    version: int
    path: Path


# --- the workflow language --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong with a workflow: where, what, and how to fix it."""

    code: str  # E1xx ... E6xx
    line: int  # 1-based, in the source that was checked
    message: str


# --- what a workflow calls --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class CallContext:
    """Who makes an executor call: enough for the ledger to answer what anything cost, and for the draw's identity."""

    step: int  # training step, or -1 in evaluation
    task_id: str
    dataset: str  # the task's
    member: int  # the rollout's index in its group
    operator: str  # operator slot, for example "sc_ensemble"
    ordinal: tuple[int, ...]  # call number in program order; second part: call number within the operator
    domain: Domain


class ChatStatus(StrEnum):
    OK = "ok"
    REFUSED = "refused"  # the model or its filter declined: a value, the workflow goes on with ""
    EMPTY = "empty"  # nothing came back, or it was cut off (finish_reason=length) before any text
    TIMEOUT = "timeout"  # the endpoint did not answer in time, after all retries
    INFRASTRUCTURE = "infrastructure"  # the endpoint failed for good, after all retries

    @property
    def masks(self) -> bool:
        """The rollout gets no reward at all (NaN), rather than 0: it is not the policy's fault."""
        return self in (ChatStatus.EMPTY, ChatStatus.TIMEOUT, ChatStatus.INFRASTRUCTURE)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatReply:
    """The outcome of one executor call: always a value."""

    status: ChatStatus
    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    latency_s: float = 0.0  # of the attempt that was answered: no failed ones, no waiting
    cached: bool = False
    error: str = ""
    thinking: str = ""  # what a reasoning model wrote before its answer; no part of `text`


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """USD per token; list prices, so a provider's discount for repeated prompts makes the true bill smaller."""

    input_usd: float
    output_usd: float

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        return prompt_tokens * self.input_usd + completion_tokens * self.output_usd


class CodeStatus(StrEnum):
    OK = "ok"
    ERROR = "error"  # the code raised, or ended without a verdict
    TIMEOUT = "timeout"
    LIMIT = "limit"  # memory, output, files or processes
    INFRASTRUCTURE = "infrastructure"  # the sandbox itself failed


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeResult:
    """What became of a piece of generated code."""

    status: CodeStatus
    value: str = ""  # str() of the called function's return value
    stdout: str = ""
    error: str = ""  # the traceback, abridged, without paths of the host
    waited_s: float = 0.0  # for a free place in the sandbox


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """What a trusted test said of a candidate that ran in another process."""

    status: CodeStatus  # OK: the test ran to its end; see `passed`
    passed: bool = False  # the official verdict: the unmodified test raised nothing
    num_passed: int = 0  # counted assertions
    num_assertions: int = 0
    defined: bool = False  # the candidate loaded and defined the entry point
    error: str = ""
    waited_s: float = 0.0  # for a free place in the sandbox


# --- what became of a workflow ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorCall:
    """One entry of a workflow's trace."""

    slot: str
    arguments: Mapping[str, str]  # abridged
    result: Mapping[str, Any]  # abridged
    num_calls: int = 0  # executor calls
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    latency_s: float = 0.0
    cached: bool = False  # every executor call of it came from the cache
    unparsed: int = 0  # replies in which the operator did not find what it had asked for
    error: str = ""
    thinking: str = ""  # of the executor, abridged


class ExecutionStatus(StrEnum):
    OK = "ok"
    FAILED = "failed"  # the workflow raised: a missing key, a wrong type, an index
    BUDGET = "budget"  # calls, tokens, USD, loop iterations, time or memory of its own computation
    TIMEOUT = "timeout"  # the workflow's own deadline
    MASKED = "masked"  # an executor or sandbox fault, not the policy's


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    status: ExecutionStatus
    answer: str  # "" unless status is OK
    reason: str = ""  # machine-readable, for example "budget:calls" or "failed:KeyError"
    trace: tuple[OperatorCall, ...] = ()

    @property
    def num_calls(self) -> int:
        return sum(call.num_calls for call in self.trace)

    @property
    def cost_usd(self) -> float:
        return math.fsum(call.cost_usd for call in self.trace)

    @property
    def num_tokens(self) -> int:
        return sum(call.prompt_tokens + call.completion_tokens for call in self.trace)


# --- grades and rewards -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    exact: bool  # the official verdict, the only thing that is ever reported as accuracy
    score: float  # the official metric in [0, 1]: F1 for qa, pass rate of counted assertions for code
    tier: float  # one of 0.0 0.2 0.4 0.7 1.0, the training signal
    rule: str  # which rule fired, for example "boxed", "f1>=0.8", "no_answer"
    read: str = ""  # what was read as the answer


TIERS = (0.0, 0.2, 0.4, 0.7, 1.0)  # what Grade.tier can be


class RolloutStatus(StrEnum):
    """Why a rollout ended. A bad rollout is data, not a crash; metrics count each one."""

    COMPLETED = "completed"  # the workflow ran and answered
    TRUNCATED = "truncated"  # the completion hit max_tokens before a valid workflow was there
    INVALID = "invalid"  # the source failed validation; see findings
    FAILED = "failed"  # the workflow raised, or broke a budget or its deadline
    MASKED = "masked"  # an infrastructure fault: no reward, out of the group's mean and std


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """One sampled workflow and what became of it."""

    task: Task
    member: int  # index in its group
    completion: Completion
    status: RolloutStatus
    source: str = ""  # what was interpreted (after repairs)
    repairs: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    execution: Execution | None = None
    grade: Grade | None = None
    reward: float = 0.0  # NaN when masked
    reward_terms: Mapping[str, float] = field(default_factory=dict)  # unweighted, by name


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutGroup:
    """All rollouts of one task in one step: the unit of the advantage."""

    step: int
    index: int  # position in the step's task order
    task: Task
    prompt_ids: tuple[int, ...]
    version: int  # every member was sampled under it
    rollouts: tuple[Rollout, ...]  # in member order


class AdvantageKind(StrEnum):
    """How a reward R becomes an advantage; mu and sigma (unbiased, n - 1) over the unmasked rewards of the group."""

    none = "none"  # R - mu, unscaled (Dr. GRPO, arXiv 2503.20783)
    group_std = "group_std"  # (R - mu) / (sigma + epsilon) (GRPO, arXiv 2402.03300)
    batch_std = "batch_std"  # (R - mu) / (sigma of the whole step + epsilon): needs every group of the step
    leave_one_out = "leave_one_out"  # R - mean of the others = (R - mu) n / (n - 1) (RLOO, arXiv 2402.14740)
    maxrl = "maxrl"  # (R - mu) / mu, rewards >= 0; a group with mu <= 0 gets 0 (MaxRL, arXiv 2602.02710)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingGroup:
    """What the learner consumes: one prompt, its completions, their advantages."""

    prompt_ids: tuple[int, ...]  # [P]
    completions: tuple[Completion, ...]  # G of them, in member order
    advantages: tuple[float, ...]  # [G]; NaN = masked: contributes nothing, neither to N nor to B
    temperature: float  # the sampling temperature, at which log-probabilities are taken
    top_p: float = 1.0  # the sampler's truncation: its log-probs are over this support, the learner compares there
    top_k: int = 0  # 0 = off
