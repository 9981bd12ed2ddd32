"""The protocols at the seams: what one part of a run asks of another, whoever implements it.

`types` holds what is handed over, this file who hands it: prompts and samples (`Tokenizer`, `Sampler`), the services
that a workflow reaches through its operators (`ChatModel`, `CodeRunner`, `AnswerReader`), and the parts that the
packages of a run know of each other only by what they need. Config groups have theirs in `config.schema`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
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
    Rollout,
    SamplingParams,
    Task,
)

# --- sampling the policy ----------------------------------------------------------------------------------------------


class TaskPrompt(Protocol):
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

    @property
    def pad_id(self) -> int:
        """What fills the rows of a batch up."""
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

    async def scores(self, token_ids: Sequence[int], *, version: int | None) -> Mapping[str, tuple[float, ...]]:
        """The same from every engine behind this sampler, by the engine's name; one started anew has a new name."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class SleepingSampler(Sampler, Protocol):
    """One that can share a card in turns with the learner; nothing may be asked of it while it sleeps."""

    async def sleep(self) -> None:
        """Give back as much of the card's memory as its settings say; no request is under way."""
        ...

    async def wake(self) -> None:
        """Take it again, and serve as before; nothing to do when it is awake."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedModel:
    """The base model of a run, in a folder that transformers and vLLM load as it stands, and what goes with it."""

    path: Path
    name: str  # what adapters call their base: the hub id or the folder of `model.path`
    tokenizer: Tokenizer = field(compare=False)  # the one that everything uses
    adapter: Path | None  # the warm start of a pretrained model: policy version 0, in PEFT's format
    device: str  # of the learner: "cpu", or "cuda:" with a card's number
    sampler_device: str
    dtype: str  # "float32", "bfloat16" or "float16"
    max_model_len: int  # prompt and completion together, in tokens
    num_sampler_cards: int = 1  # of this machine, from `sampler_device` on
    cpu_threads: int = 1  # of torch, in each process in which the model runs


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """A base model with the sampler that serves it and adapters of it."""

    model: PreparedModel
    sampler: Sampler


class Policy(Protocol):
    """Where completions come from: a sampled policy, or workflows that are given."""

    def prompt_ids(self, task: Task) -> tuple[int, ...]: ...

    def draw(
        self,
        task: Task,
        prompt_ids: tuple[int, ...],
        *,
        seeds: Sequence[int],
        members: Sequence[int],
        params: SamplingParams,
        version: int,
    ) -> AsyncGenerator[tuple[int, Completion]]:
        """Completions of the wanted members of a group, each under `version`, as they end.

        prompt_ids: of the task, as `prompt_ids` gave them.
        seeds: of all members of the group, wanted or not: the bits of a batched draw depend on the whole batch.
        """
        ...


class ResolvedPolicy(Protocol):
    """A policy that is ready to be drawn from."""

    @property
    def policy(self) -> Policy: ...
    @property
    def version(self) -> int:
        """To draw from."""
        ...

    @property
    def served(self) -> ServedModel | None:
        """The engine behind it, or behind the executor; None where neither needs one."""
        ...


class TaskStream(Protocol):
    """The tasks of a run in their order, as a pure function of the seed."""

    @property
    def tasks(self) -> Mapping[str, Sequence[Task]]:
        """Dataset -> its tasks."""
        ...

    def batch(self, step: int, num_prompts: int, *, seed: int) -> Sequence[Task]:
        """The tasks of one step; steps count from 1."""
        ...


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
        """Of a token; None where nobody knows it, which only a replay allows, since it costs nothing."""
        ...

    @property
    def usd_left(self) -> float | None:
        """What the run may still spend; None without a cap."""
        ...

    def check_masked(self, *, where: str, num_masked: int, num_rollouts: int) -> None:
        """Raise InfrastructureError when too large a share of rollouts is masked (a limit of its settings)."""
        ...

    async def close(self) -> None: ...


class ExecutingModel(Protocol):
    """What an executor must know of the policy's model: whether the two can work side by side."""

    @property
    def max_model_len(self) -> int: ...
    @property
    def follows_instructions(self) -> bool:
        """Whether the base model can answer an operator's call."""
        ...


class ExecutorConfig(Protocol):
    """Config group `executor`: which LLM answers the operators' calls."""

    @property
    def needs_engine(self) -> bool:
        """Whether it is opened on the sampler's own engine."""
        ...

    def check(self, model: ExecutingModel) -> None:
        """Refuse a policy's model that it cannot work beside; UserError names the fix."""
        ...

    async def open(
        self,
        run_dir: Path,
        *,
        seed: int,
        tasks: Sequence[Task],
        system_prompts: Mapping[str, str],
        served: ServedModel | None,
    ) -> Executor:
        """A client that keeps its answers and its ledger in `run_dir`.

        Args:
            seed: the run's seed, part of every call's sample index.
            tasks: a simulated executor plays the solver for exactly these.
            system_prompts: system text -> built-in operator slot; tells a simulated executor who is asking.
            served: the engine, where one is needed.
        """
        ...


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


class Environment(Protocol):
    """From a completion to a rollout, without its reward."""

    async def rollout(self, task: Task, completion: Completion, *, step: int, member: int) -> Rollout:
        """Never raises for anything that the completion does."""
        ...


# --- rewards ----------------------------------------------------------------------------------------------------------


class Rubric(Protocol):
    """From a grade to a reward; config group `reward`."""

    @property
    def repaired_cap(self) -> float:
        """The most that a repaired workflow earns."""
        ...

    @property
    def invalid(self) -> float:
        """What a workflow earns that is none: cut off, or refused by the validator; 0 or less."""
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
