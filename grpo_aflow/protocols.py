"""The protocols at the seams: what one part of a run asks of another, whoever implements it.

`types` holds what is handed over, this file who hands it: prompts and samples (`Tokenizer`, `Sampler`), the services
that a workflow reaches through its operators (`ChatModel`, `CodeRunner`, `AnswerReader`), and the parts that the
packages of a run know of each other only by what they need. Config groups have theirs in `config.schema`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from grpo_aflow.types import (
    Adapter,
    CallContext,
    ChatReply,
    CheckResult,
    CodeResult,
    Completion,
    Grade,
    Message,
    Price,
    SamplingParams,
    Task,
)

# --- sampling the policy ----------------------------------------------------------------------------------------------


class Prompt(Protocol):
    """What the policy is asked, for a task."""

    def messages(self, task: Task) -> list[Message]: ...


class Tokenizer(Protocol):
    """The policy's tokenizer with its chat template, as the pipeline needs it."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The ids at which a completion ends."""
        ...

    @property
    def end_id(self) -> int:
        """The one of them that ends the assistant's turn in the chat template."""
        ...

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The prompt's ids, up to and including the opening of the assistant's turn."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text alone, as a completion would hold them."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str: ...


@runtime_checkable
class Sampler(Protocol):
    """Serves the policy: several adapter versions at once, every sample under exactly one."""

    async def publish(self, adapter: Adapter) -> None:
        """Make a version available. Requests in flight finish under the version they began with."""
        ...

    async def retire(self, version: int) -> None:
        """Forget a version once no request holds it; then its files may be removed."""
        ...

    def sample(
        self,
        prompt_ids: Sequence[int],
        *,
        seeds: Sequence[int],
        params: SamplingParams,
        version: int,
        priority: int = 0,
    ) -> AsyncGenerator[tuple[int, Completion]]:
        """Draw len(seeds) completions of one prompt; yields (member index, completion) as each one ends.

        version: a published one, or BASE. `seeds` fix the draw where the backend can (hf: to the bit; vLLM: not).
        priority: of what waits, the lowest number goes first; what runs is not interrupted.
        """
        ...

    async def score(self, token_ids: Sequence[int], *, version: int | None) -> tuple[float, ...]:
        """Log-probabilities at temperature 1 of token_ids[1:] given what stands before; None = the base model."""
        ...

    async def close(self) -> None: ...


class PreparedModel(Protocol):
    """A base model on this machine, ready to be loaded by sampler and learner."""

    @property
    def path(self) -> Path:
        """The folder of its weights."""
        ...

    @property
    def name(self) -> str:
        """What adapters call it: a hub id, or the folder."""
        ...

    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def max_model_len(self) -> int:
        """Tokens of prompt and completion together."""
        ...

    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def adapter(self) -> Path | None:
        """The warm start, as an adapter in PEFT's format; None where there is none."""
        ...


class ServedModel(Protocol):
    """A base model with the sampler that serves it and adapters of it."""

    @property
    def model(self) -> PreparedModel: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def sampler(self) -> Sampler: ...


# --- what a workflow reaches through its operators --------------------------------------------------------------------


class ChatModel(Protocol):
    """The executor LLM."""

    @property
    def paused_s(self) -> float:
        """Seconds so far in which every call was held back, by an outage or a rate: no deadline counts them."""
        ...

    async def chat(
        self, messages: Sequence[Message], *, context: CallContext, temperature: float, max_tokens: int
    ) -> ChatReply:
        """One call; never raises for a fault of the endpoint (except BudgetReached and permanent misconfiguration)."""
        ...


class Executor(ChatModel, Protocol):
    """The executor LLM with what a run must know of it."""

    @property
    def temperature(self) -> float: ...
    @property
    def max_tokens(self) -> int:
        """Of an answer, unless an operator asks for fewer."""
        ...

    @property
    def price(self) -> Price | None:
        """Of a token; None in a replay, which costs nothing."""
        ...

    def check_masked(self, *, where: str, num_masked: int, num_rollouts: int) -> None:
        """Raise InfrastructureError when too large a share of rollouts is masked (a limit of its settings)."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class CodeRunner(Protocol):
    """Runs generated code in the sandbox. Blocking; call it from a thread. Safe to call from several threads.

    `timeout_s` is the generated code's processor time; a wall-clock deadline not far behind it ends what blocks.
    """

    def run(self, source: str, *, call: str = "", timeout_s: float = 5.0) -> CodeResult:
        """Run `source` in a fresh confined process, then `call()` without arguments when a name is given."""
        ...

    def check(
        self,
        candidate: str,
        test: str,
        *,
        entry_point: str,
        setup: str = "",
        setup_after: bool = False,
        timeout_s: float = 5.0,
    ) -> CheckResult:
        """Run the trusted `test` (assertions naming the entry point, or `def check(candidate)`) against a candidate.

        `setup` runs on both sides, before the candidate's code, or after it (`setup_after`: MBPP's order, where it
        builds objects of the candidate's classes).
        """
        ...

    def close(self) -> None: ...


class AnswerReader(Protocol):
    """How the grader reads an answer, for operators that vote on answers or run them; no gold, no test."""

    def vote_key(self, answer: str, task: Task) -> str:
        """A text that is the same for answers that are the same."""
        ...

    def program(self, answer: str, task: Task) -> str:
        """The program that an answer to a code task is read as."""
        ...


# --- rewards ----------------------------------------------------------------------------------------------------------


class Rubric(Protocol):
    """From a grade to a reward; config group `reward`."""

    @property
    def repaired_cap(self) -> float:
        """The most that a repaired workflow earns."""
        ...

    @property
    def cost_weight(self) -> float:
        """How much of a rollout's relative cost is taken off its reward."""
        ...

    @property
    def permuted(self) -> bool:
        """Whether the learner gets a permutation of the step's rewards: the control experiment."""
        ...

    def base(self, grade: Grade) -> float:
        """The reward before cap and cost: a finite number."""
        ...
