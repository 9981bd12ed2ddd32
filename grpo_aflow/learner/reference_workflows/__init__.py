"""The corpus of the warm start: short workflows, good and poor ones, written for this project.

One file per workflow; this table says in which domains each one is shown and which ones a domain prefers. Every line
stands in the corpus in exactly one spelling, so that the tiny policy's tokenizer makes one token of it. The poor ones
are shared by all domains on purpose: what a domain should write is for the training to find out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from grpo_aflow.types import DOMAINS, Domain

EVERYWHERE: tuple[Domain, ...] = DOMAINS

# name -> (domains that show it, domains whose best operators it uses)
TABLE: dict[str, tuple[tuple[Domain, ...], tuple[Domain, ...]]] = {
    "custom": (EVERYWHERE, ()),
    "answer": (EVERYWHERE, ()),
    "custom_format": (EVERYWHERE, ()),
    "answer_format": (EVERYWHERE, ()),
    "custom_review_revise": (EVERYWHERE, ()),
    "answer_review_revise": (EVERYWHERE, ()),
    "custom_ensemble": (EVERYWHERE, ()),
    "answer_ensemble": (EVERYWHERE, ("qa",)),
    "program": (("math",), ("math",)),
    "plan_program": (("math",), ("math",)),
    "code": (("code",), ()),
    "code_format": (("code",), ()),
    "code_test": (("code",), ()),
    "code_review_revise": (("code",), ()),
    "code_review_revise_test": (("code",), ("code",)),
}

BEST: dict[Domain, str] = {"math": "program", "qa": "answer_ensemble", "code": "code_review_revise_test"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceWorkflow:
    """One workflow of the corpus."""

    name: str
    source: str
    domains: tuple[Domain, ...]
    preferred: tuple[Domain, ...]  # subset of `domains`


@cache
def corpus() -> tuple[ReferenceWorkflow, ...]:
    """All reference workflows, in the order of the table."""
    folder = Path(__file__).parent
    return tuple(
        ReferenceWorkflow(name=name, source=(folder / f"{name}.txt").read_text(), domains=domains, preferred=preferred)
        for name, (domains, preferred) in TABLE.items()
    )


def weights(domain: Domain, preference: float) -> dict[str, float]:
    """The share of each workflow of a domain: `preference` for the preferred ones, the rest evenly among the others.

    Example: weights("math", 0.2) gives program and plan_program 0.1 each, the eight others 0.1 each.
    """
    shown = [workflow for workflow in corpus() if domain in workflow.domains]
    preferred = [workflow.name for workflow in shown if domain in workflow.preferred]
    others = [workflow.name for workflow in shown if domain not in workflow.preferred]
    return {name: preference / len(preferred) for name in preferred} | {
        name: (1.0 - preference) / len(others) for name in others
    }


def best(domain: Domain) -> str:
    """The source of the workflow that is best in a domain of the simulated world: its oracle."""
    sources = {workflow.name: workflow.source for workflow in corpus()}
    return sources[BEST[domain]]
