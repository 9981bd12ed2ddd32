"""The corpus of the warm start: short workflows, good, middling and poor ones, written from a table of operator chains.

A chain is a draft (or several, of which one is chosen) and what is done with it. The table shows every operator in
several companies, but not every combination: what a domain should write is for the training to find out. The chains
that are best in the simulated world (`BEST`) are not in the table: a policy reaches them only by composing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from grpo_aflow.types import DOMAINS, Domain

# slot -> its class, its call, the key of its result; the words are spelt alike everywhere
OPERATORS: dict[str, tuple[str, str, str]] = {
    "custom": ("Custom", 'input=problem, instruction="Solve it."', "response"),
    "answer_generate": ("AnswerGenerate", "input=problem", "answer"),
    "programmer": ("Programmer", "problem=problem", "output"),
    "custom_code_generate": (
        "CustomCodeGenerate",
        'problem=problem, entry_point=entry_point, instruction="Write it."',
        "response",
    ),
    "sc_ensemble": ("ScEnsemble", "solutions=solutions, problem=problem", "response"),
    "majority_vote": ("MajorityVote", "solutions=solutions", "response"),
    "format": ("Format", "problem=problem, solution=solution", "solution"),
    "review": ("Review", "problem=problem, solution=solution", "feedback"),
    "revise": ("Revise", "problem=problem, solution=solution, feedback=feedback", "solution"),
    "test": ("Test", "problem=problem, solution=solution, entry_point=entry_point", "solution"),
}

# One chain a line: `5 custom` is drafted five times; operators in parentheses are set in `__init__` and not called, as
# hasty authors do. The chains of a domain's own table are shown in that domain alone.
EVERYWHERE = """
custom
custom format
custom review revise
custom review revise format
custom format review revise
5 custom sc_ensemble
3 custom sc_ensemble format
5 custom majority_vote
3 custom majority_vote format
3 custom majority_vote review revise
answer_generate
answer_generate format
answer_generate review revise
answer_generate review revise format
answer_generate format review revise
5 answer_generate majority_vote
3 answer_generate majority_vote format
3 answer_generate majority_vote review revise
5 answer_generate majority_vote (sc_ensemble)
3 answer_generate majority_vote (sc_ensemble)
"""
OWN: dict[Domain, str] = {
    "math": """
programmer
programmer format
programmer review revise
programmer format review revise
3 programmer majority_vote
3 programmer majority_vote (sc_ensemble)
""",
    "qa": "",
    "code": """
custom_code_generate
custom_code_generate format
custom_code_generate test
custom_code_generate test format
custom_code_generate format test
custom_code_generate review revise
custom_code_generate review revise format
custom test
custom test format
custom format test
answer_generate test
answer_generate format test
custom_code_generate review revise (test)
custom review revise (test)
answer_generate review revise (test)
custom_code_generate test (review revise)
""",
}
PREFERRED: dict[Domain, tuple[str, ...]] = {
    "math": ("programmer", "3 programmer majority_vote"),
    "qa": ("5 custom sc_ensemble", "5 answer_generate majority_vote"),
    "code": ("custom_code_generate test", "custom_code_generate review revise"),
}
BEST: dict[Domain, str] = {
    "math": "3 programmer sc_ensemble",
    "qa": "5 answer_generate sc_ensemble",
    "code": "custom_code_generate review revise test",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceWorkflow:
    """One workflow of the corpus."""

    name: str  # its chain
    source: str
    domains: tuple[Domain, ...]  # that show it


@cache
def corpus() -> tuple[ReferenceWorkflow, ...]:
    """All reference workflows, in the order of the tables."""
    shown: dict[str, tuple[Domain, ...]] = dict.fromkeys(EVERYWHERE.strip().splitlines(), DOMAINS)
    for domain, chains in OWN.items():
        shown |= dict.fromkeys(chains.strip().splitlines(), (domain,))
    return tuple(ReferenceWorkflow(name=name, source=write(name), domains=domains) for name, domains in shown.items())


def weights(domain: Domain, preference: float) -> dict[str, float]:
    """The share of each workflow of a domain: `preference` for the preferred ones, the rest evenly among the others.

    Example: weights("math", 0.2) gives its two preferred ones 0.1 each, the 24 others 0.8 / 24 each.
    """
    preferred = PREFERRED[domain]
    others = [workflow.name for workflow in corpus() if domain in workflow.domains and workflow.name not in preferred]
    return dict.fromkeys(preferred, preference / len(preferred)) | dict.fromkeys(others, (1 - preference) / len(others))


def best(domain: Domain) -> str:
    """The source of the workflow that is best in a domain of the simulated world: its oracle."""
    return write(BEST[domain])


def write(chain: str) -> str:
    """The workflow of a chain, as Python.

    Example: write("5 custom sc_ensemble") drafts with `custom` five times and returns what `sc_ensemble` picks.
    """
    called, _, unused = chain.rstrip(")").partition(" (")
    words = called.split()
    times = int(words.pop(0)) if words[0].isdigit() else 1
    draft, *rest = words
    slots = list(dict.fromkeys([*words, *unused.split()]))
    init = "".join(f"        self.{slot} = operator.{OPERATORS[slot][0]}(self.llm)\n" for slot in slots)
    calls = "".join(f"        {'feedback' if slot == 'review' else 'solution'} = {_call(slot)}\n" for slot in rest)
    if times == 1:
        drafts = f"        solution = {_call(draft)}\n"
    else:
        drafts = (
            "        solutions = []\n"
            f"        for _ in range({times}):\n"
            f"            solutions.append({_call(draft)})\n"
        )  # fmt: skip
    entry_point = ", entry_point" if {"custom_code_generate", "test"} & set(slots) else ""
    return (
        "class Workflow:\n"
        "    def __init__(self, name, llm_config, dataset):\n"
        "        self.llm = create_llm_instance(llm_config)\n"
        f"{init}\n"
        f"    async def __call__(self, problem{entry_point}):\n"
        f"{drafts}{calls}"
        "        return solution\n"
    )


def _call(slot: str) -> str:
    _, arguments, key = OPERATORS[slot]
    return f'(await self.{slot}({arguments}))["{key}"]'
