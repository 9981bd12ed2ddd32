"""The operators that a run knows: the built-in ones and those that `workflow.operators` names.

An `OperatorSet` is what the prompt, the validator, the interpreter and the simulated executor are given; `load` makes
one of dotted names.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import cast

from grpo_aflow.types import DOMAINS
from grpo_aflow.workflow.operators.builtin import BUILT_IN
from grpo_aflow.workflow.operators.instructions import system_prompt
from grpo_aflow.workflow.operators.spec import Operator, OperatorSpec


@dataclass(frozen=True, slots=True, eq=False)
class OperatorSet:
    """Operators, in the order in which prompt and table show them."""

    operators: Mapping[str, Operator]  # slot -> how it runs
    specs: Mapping[str, OperatorSpec]  # slot -> specification
    by_class: Mapping[str, OperatorSpec]  # class name -> specification

    @staticmethod
    def of(operators: Iterable[Operator]) -> OperatorSet:
        """Raises ValueError, whose text names it, where a slot or class name occurs twice."""
        by_slot: dict[str, Operator] = {}
        by_class: dict[str, OperatorSpec] = {}
        for operator in operators:
            spec = operator.spec
            for name, known in ((spec.slot, by_slot), (spec.class_name, by_class)):
                if name in known:
                    raise ValueError(f"{name} is the name of another operator; choose another slot and class_name")
            by_slot[spec.slot] = operator
            by_class[spec.class_name] = spec
        specs = {slot: operator.spec for slot, operator in by_slot.items()}
        return OperatorSet(MappingProxyType(by_slot), MappingProxyType(specs), MappingProxyType(by_class))


BUILT_IN_SET = OperatorSet.of(BUILT_IN)
OPERATORS = BUILT_IN_SET.specs
"""Slot -> specification of the built-in operators."""


@cache
def load(names: tuple[str, ...] = ()) -> OperatorSet:
    """The built-in operators and those with these dotted names, for example ("my_pkg.Debate",).

    Raises ValueError, whose text names the fix.
    """
    if not names:
        return BUILT_IN_SET
    own: list[Operator] = []
    for name in names:
        try:
            own.append(_load_one(name))
            found = OperatorSet.of([*BUILT_IN, *own])
        except ValueError as error:
            raise ValueError(f"operators: {name}: {error}") from error
    return found


def _load_one(name: str) -> Operator:
    module_name, _, attribute = name.rpartition(".")
    if not module_name:
        raise ValueError("write module.Class, for example my_pkg.Debate")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module does while it is imported
        text = str(error).strip().split("\n")[0]
        raise ValueError(f"{module_name} cannot be imported ({type(error).__name__}: {text})") from error
    cls = getattr(module, attribute, None)
    if not inspect.isclass(cls):
        raise ValueError(f"{module_name} has no class {attribute}")
    return _made(cls, attribute)


def _made(cls: type, attribute: str) -> Operator:
    """An operator of a class that has been found to be one."""
    spec, run = getattr(cls, "spec", None), getattr(cls, "run", None)
    if not isinstance(spec, OperatorSpec):
        raise ValueError(f"{attribute} has no `spec = OperatorSpec(...)`")
    if not inspect.iscoroutinefunction(run):
        raise ValueError(f"{attribute} has no `async def run(self, context, ...)`")
    try:
        inspect.signature(run).bind(None, None, **{argument.name: "" for argument in spec.arguments})
    except TypeError as error:
        raise ValueError(f"{attribute}.run does not take the arguments of its spec ({error})") from error
    asking = [slot for slot, known in OPERATORS.items() if known.max_calls]
    for prompt in spec.prompts.values():
        if prompt.simulated_as not in asking:
            raise ValueError(f"simulated_as={prompt.simulated_as!r} is none of {', '.join(asking)}")
    try:
        return cast(Operator, cls())
    except TypeError as error:
        raise ValueError(f"{attribute} must be made without arguments ({error})") from error


def system_prompts(operators: OperatorSet = BUILT_IN_SET) -> Mapping[str, str]:
    """System text -> built-in slot, for every prompt and domain: how an endpoint can tell which operator is asking."""
    return {
        system_prompt(spec, domain, name): prompt.simulated_as
        for spec in operators.specs.values()
        for name, prompt in spec.prompts.items()
        for domain in DOMAINS
    }


def operator_table(operators: OperatorSet = BUILT_IN_SET) -> str:
    """The table of operators as Markdown; README.md has that of the built-in ones."""
    rows = [
        "| slot | class | call | result | LLM calls | runs code | domains | what it does |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for spec in operators.specs.values():
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
