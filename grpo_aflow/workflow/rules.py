"""The rules that every workflow is held to (config group `workflow`): static bounds, budgets, repairs, restrictions."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Literal

from grpo_aflow import CONF_DIR
from grpo_aflow.types import DOMAINS, Domain
from grpo_aflow.workflow.operators.table import OperatorSet, OperatorSpec, load

RepairName = Literal["indentation", "missing_slot", "misspelt_slot", "misspelt_llm", "missing_await"]
"""Names of the repairs, as they are counted and switched."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkflowRules:
    """What a workflow may cost and do. Defaults: conf/workflow/default.yaml, where each field is explained."""

    max_source_bytes: int
    max_operator_calls: int
    max_llm_calls: int
    max_loop_iterations: int
    max_nesting: int
    max_depth: int
    max_tokens: int
    max_usd: float
    call_prompt_tokens: int
    call_completion_tokens: int
    usd_per_million_prompt_tokens: float
    usd_per_million_completion_tokens: float
    deadline_s: float
    max_steps: int
    max_value_size: int
    max_total_size: int
    repair_indentation: bool
    repair_missing_slot: bool
    repair_misspelt_slot: bool
    repair_misspelt_llm: bool
    repair_missing_await: bool
    min_operator_calls: int
    operator_domains: dict[str, list[str]]
    operators: list[str]  # dotted names of operators from outside the package

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                _check_number(field.name, value)
        if self.max_depth > 150:
            raise ValueError(f"max_depth must be at most 150 (Python's own stack); got {self.max_depth}")
        known = self.operator_set.specs
        for slot, domains in self.operator_domains.items():
            if slot not in known:
                raise ValueError(f"operator_domains names the operator {slot!r}; known are {', '.join(known)}")
            unknown = [domain for domain in domains if domain not in DOMAINS]
            if unknown:
                raise ValueError(f"operator_domains.{slot} names {unknown[0]!r}; domains are {', '.join(DOMAINS)}")

    @property
    def operator_set(self) -> OperatorSet:
        """The operators that workflows may use: the built-in ones and `operators`."""
        return load(tuple(self.operators))

    def worst_usd(self, num_calls: int) -> float:
        """The most that executor calls are assumed to cost."""
        prompt = self.call_prompt_tokens * self.usd_per_million_prompt_tokens
        completion = self.call_completion_tokens * self.usd_per_million_completion_tokens
        return num_calls * 1e-6 * (prompt + completion)

    def allows(self, spec: OperatorSpec, domain: Domain | None) -> bool:
        """Whether the operator may be called in the domain; no domain, no restriction."""
        return domain is None or domain in self.operator_domains.get(spec.slot, spec.domains)

    def priced(self, *, prompt_usd: float, completion_usd: float) -> WorkflowRules:
        """The same rules with the executor's own prices, USD per token, for the worst-case cost."""
        return replace(
            self,
            usd_per_million_prompt_tokens=prompt_usd * 1e6,
            usd_per_million_completion_tokens=completion_usd * 1e6,
        )

    def repairs(self, name: RepairName) -> bool:
        """Whether the repair of that name is switched on."""
        return bool(getattr(self, f"repair_{name}"))


def _check_number(name: str, value: float) -> None:
    """Prices, assumed tokens and the least calls may be 0; every other number is a limit and lies above it."""
    if name.startswith(("usd_", "call_", "min_")):
        fits, bound = value >= 0, "at least 0"
    elif isinstance(value, int):
        fits, bound = value >= 1, "at least 1"
    else:
        fits, bound = value > 0, "above 0"
    if not fits:
        raise ValueError(f"{name} must be {bound}; got {value}")


@cache
def default_rules() -> WorkflowRules:
    """The rules of conf/workflow/default.yaml, for the command line and notebooks that compose no configuration."""
    import yaml

    values = yaml.safe_load((CONF_DIR / "workflow" / "default.yaml").read_text(encoding="utf-8"))
    return WorkflowRules(**{key: value for key, value in values.items() if not key.startswith("_")})
