"""The one specification of the operators.

Everything that speaks of operators is generated from `OPERATORS`: the policy's prompt (`prompt`), the validator
(`validate`), the interpreter (`interpret`, `operate`) and the table in the README (`operator_table`), so that they
cannot drift. What an operator *does* with its arguments is in `operate`; what it says to the executor is in
`instructions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from grpo_aflow.types import DOMAINS, Domain


class Kind(StrEnum):
    """The type of an argument or of a result, as a workflow's author writes it."""

    TEXT = "str"
    TEXTS = "list[str]"
    FLAG = "bool"
    COUNT = "int"
    SHARE = "float"


@dataclass(frozen=True, kw_only=True, slots=True)
class Argument:
    """One argument of an operator; `default` None means that it must be given."""

    name: str
    kind: Kind = Kind.TEXT
    default: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorSpec:
    """What is known of an operator without running it."""

    slot: str  # canonical attribute, for example "sc_ensemble"
    class_name: str  # AFlow's class, for example "ScEnsemble"
    arguments: tuple[Argument, ...]
    results: Mapping[str, Kind]  # the keys that the result dict always has
    min_calls: int  # executor calls
    max_calls: int
    description: str
    runs_code: bool = False
    domains: tuple[Domain, ...] = DOMAINS  # where it makes sense; the rules (config) say where it is allowed
    ignored: tuple[str, ...] = ()  # AFlow's further keywords: understood, without effect

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


def _texts(*names: str) -> tuple[Argument, ...]:
    return tuple(Argument(name=name) for name in names)


_SOLUTIONS = Argument(name="solutions", kind=Kind.TEXTS)

_SPECS = (
    OperatorSpec(
        slot="custom",
        class_name="Custom",
        arguments=_texts("input", "instruction"),
        results={"response": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Follows your own instruction on the input.",
    ),
    OperatorSpec(
        slot="answer_generate",
        class_name="AnswerGenerate",
        arguments=_texts("input"),
        results={"thought": Kind.TEXT, "answer": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Thinks step by step, then gives a short answer.",
    ),
    OperatorSpec(
        slot="custom_code_generate",
        class_name="CustomCodeGenerate",
        arguments=_texts("problem", "entry_point", "instruction"),
        results={"response": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Writes the function named by entry_point.",
        domains=("code",),
    ),
    OperatorSpec(
        slot="programmer",
        class_name="Programmer",
        arguments=(Argument(name="problem"), Argument(name="analysis", default="")),
        results={"code": Kind.TEXT, "output": Kind.TEXT},
        min_calls=1,
        max_calls=3,
        description="Writes a Python function solve(), runs it, mends it with the traceback; output is its result.",
        runs_code=True,
        domains=("math",),
    ),
    OperatorSpec(
        slot="test",
        class_name="Test",
        arguments=_texts("problem", "solution", "entry_point"),
        results={"result": Kind.FLAG, "solution": Kind.TEXT, "n_tests": Kind.COUNT},
        min_calls=0,
        max_calls=3,
        description="Runs the public tests on the solution and mends it while they fail.",
        runs_code=True,
        domains=("code",),
        ignored=("test_loop",),
    ),
    OperatorSpec(
        slot="sc_ensemble",
        class_name="ScEnsemble",
        arguments=(_SOLUTIONS, Argument(name="problem", default="")),
        results={"response": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Picks the candidate that agrees best with the others (self-consistency).",
    ),
    OperatorSpec(
        slot="md_ensemble",
        class_name="MdEnsemble",
        arguments=(_SOLUTIONS, Argument(name="problem")),
        results={"solution": Kind.TEXT},
        min_calls=5,
        max_calls=5,
        description="Five votes over shuffled candidates pick the best one.",
        ignored=("mode",),
    ),
    OperatorSpec(
        slot="majority_vote",
        class_name="MajorityVote",
        arguments=(_SOLUTIONS,),
        results={"response": Kind.TEXT, "agreement": Kind.SHARE},
        min_calls=0,
        max_calls=0,
        description="Picks the most frequent candidate by its normalised answer; costs nothing.",
    ),
    OperatorSpec(
        slot="review",
        class_name="Review",
        arguments=_texts("problem", "solution"),
        results={"review_result": Kind.FLAG, "feedback": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Says whether the solution looks right, with feedback.",
        ignored=("mode",),
    ),
    OperatorSpec(
        slot="revise",
        class_name="Revise",
        arguments=_texts("problem", "solution", "feedback"),
        results={"solution": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Mends the solution by the feedback.",
        ignored=("mode",),
    ),
    OperatorSpec(
        slot="format",
        class_name="Format",
        arguments=_texts("problem", "solution"),
        results={"solution": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Reduces the solution to the bare short answer.",
        ignored=("mode",),
    ),
)

OPERATORS: Mapping[str, OperatorSpec] = MappingProxyType({spec.slot: spec for spec in _SPECS})
"""Slot -> specification, in the order in which prompt and table show them."""

BY_CLASS: Mapping[str, OperatorSpec] = MappingProxyType({spec.class_name: spec for spec in _SPECS})
"""Class name -> specification."""


def system_prompts() -> Mapping[str, str]:
    """System text -> slot, for every (slot, domain): how an endpoint can tell which operator is asking."""
    from grpo_aflow.workflow.instructions import system_prompt

    return {system_prompt(spec.slot, domain): spec.slot for spec in _SPECS if spec.max_calls for domain in DOMAINS}


def operator_table() -> str:
    """The README's table of operators, as Markdown."""
    rows = [
        "| slot | class | call | result | LLM calls | runs code | domains | what it does |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for spec in _SPECS:
        domains = "all" if spec.domains == DOMAINS else ", ".join(spec.domains)
        cells = (
            spec.slot,
            spec.class_name,
            f"`{spec.arguments_text}`",
            f"`{spec.results_text}`",
            spec.calls_text,
            "yes" if spec.runs_code else "no",
            domains,
            spec.description,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)
