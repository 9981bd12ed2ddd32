"""What is known of an operator without running it, and the one class that an operator is.

Everything that speaks of operators is generated from their specifications: the policy's prompt, the validator, the
interpreter, the bound on cost, the simulated executor's map of system texts, the table in the README. The operators of
`builtin` and those of a user (`workflow.operators=[my_pkg.Debate]`) are written in the same way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from grpo_aflow.types import DOMAINS, Domain

Result = Mapping[str, str | list[str] | bool | int | float]
"""What an operator's `run` gives back: the keys that its specification promises."""


class Kind(StrEnum):
    """The type of an argument or of a result, as a workflow's author writes it."""

    TEXT = "str"
    TEXTS = "list[str]"
    FLAG = "bool"
    COUNT = "int"
    SHARE = "float"


@dataclass(frozen=True, kw_only=True, slots=True)
class Argument:
    """One argument of an operator, TEXT or TEXTS; `default` None means that it must be given."""

    name: str
    kind: Kind = Kind.TEXT
    default: str | None = None


def texts(*names: str) -> tuple[Argument, ...]:
    """Required arguments of kind TEXT."""
    return tuple(Argument(name=name) for name in names)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A system text of an operator; `{subject}` and `{form}` in it are filled in by the task's domain.

    `{subject}` is, for example, "mathematics problem"; `{form}` says how an answer is to be given in that domain.
    """

    text: str
    simulated_as: str = "custom"  # the built-in operator whose replies the simulated executor gives to this text


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorSpec:
    """What is known of an operator without running it."""

    slot: str  # canonical attribute, for example "sc_ensemble"
    class_name: str  # the class in a workflow, for example "ScEnsemble"
    arguments: tuple[Argument, ...]
    results: Mapping[str, Kind]  # the keys that the result dict always has
    min_calls: int  # executor calls
    max_calls: int
    description: str
    prompts: Mapping[str, Prompt] = field(default_factory=dict)  # by name; the first is the one that `ask` uses
    runs_code: bool = False
    domains: tuple[Domain, ...] = DOMAINS  # where it makes sense; the rules (config) say where it is allowed
    ignored: tuple[str, ...] = ()  # further keywords of published operators: understood, without effect

    def __post_init__(self) -> None:
        """Raises ValueError, whose text names what is wrong with the declaration."""
        names = [argument.name for argument in self.arguments]
        wrong = next((name for name in (self.slot, self.class_name, *names) if not name.isidentifier()), None)
        if wrong is not None:
            raise ValueError(f"{wrong!r} is no Python name")
        if len(set(names)) < len(names):
            raise ValueError(f"{self.class_name} has two arguments of one name")
        if any(argument.kind not in (Kind.TEXT, Kind.TEXTS) for argument in self.arguments):
            raise ValueError(f"arguments of {self.class_name} are of kind TEXT or TEXTS")
        if not self.results:
            raise ValueError(f"{self.class_name} needs at least one result key")
        if not 0 <= self.min_calls <= self.max_calls:
            raise ValueError(f"{self.class_name} needs 0 <= min_calls <= max_calls")
        if self.max_calls and not self.prompts:
            raise ValueError(
                f"{self.class_name} calls the executor and needs a prompt: prompts={{'main': Prompt(...)}}"
            )
        if not self.domains or any(domain not in DOMAINS for domain in self.domains):
            raise ValueError(f"domains of {self.class_name} are among {', '.join(DOMAINS)}")

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(argument.name for argument in self.arguments if argument.default is None)

    @property
    def arguments_text(self) -> str:
        """`(problem: str, analysis: str = "")`, Python's own notation."""
        shown = [f"{a.name}: {a.kind}" + ("" if a.default is None else f' = "{a.default}"') for a in self.arguments]
        return f"({', '.join(shown)})"

    @property
    def results_text(self) -> str:
        """`code: str, output: str`."""
        return ", ".join(f"{key}: {kind}" for key, kind in self.results.items())

    @property
    def calls_text(self) -> str:
        return str(self.min_calls) if self.min_calls == self.max_calls else f"{self.min_calls}–{self.max_calls}"


class Operator(Protocol):
    """One class with its specification and how it runs. Made once, without arguments; it holds no state."""

    @property
    def spec(self) -> OperatorSpec: ...

    @property
    def run(self) -> Callable[..., Awaitable[Result]]:
        """`async def run(self, context: OperatorContext, **arguments)`: the arguments by their declared names."""
        ...
