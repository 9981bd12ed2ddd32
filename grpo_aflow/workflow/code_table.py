"""What can be wrong with a workflow, code by code, each with an example and what the validator says of it.

`grpo-aflow-check --codes` prints the meanings; `python -m grpo_aflow.workflow.code_table` prints
docs/workflow_codes.md.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from grpo_aflow.types import Domain
from grpo_aflow.workflow.checking.check import check_text
from grpo_aflow.workflow.language import CODES
from grpo_aflow.workflow.rules import default_rules

_HEADER = """class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)
        self.programmer = operator.Programmer(self.llm)

"""
_SIGNATURE = "async def __call__(self, problem):"
_CALL = 'r = await self.custom(input=problem, instruction="")'


@dataclass(frozen=True)
class Example:
    """What a code is about; `changed`: the part of a workflow to show."""

    changed: str  # the body of __call__, or what stands in place of `of`
    of: str = ""  # a part of the header or the signature; "all": the whole text
    domain: Domain | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)  # bounds that a small example breaks

    @property
    def text(self) -> str:
        if self.of == "all":
            return self.changed
        body = textwrap.indent(f'{_CALL}\nreturn r["response"]' if self.of else self.changed, " " * 8)
        whole = f"{_HEADER}    {_SIGNATURE}\n{body}\n"
        return whole.replace(self.of, self.changed) if self.of else whole


EXAMPLES: Mapping[str, Example] = {
    "E101": Example("return (problem"),
    "E102": Example("class Flow:\n    pass", of="all"),
    "E103": Example("class Workflow:\n    async def __call__(self, problem):\n        return problem", of="all"),
    "E104": Example("class Workflow:\n    def __init__(self, name, llm_config, dataset):\n        pass", of="all"),
    "E105": Example("async def __call__(self, problem, *args):", of=_SIGNATURE),
    "E201": Example("return solution"),
    "E202": Example('r = await self.solver(input=problem, instruction="")\nreturn r["response"]'),
    "E203": Example('r = self.custom(input=problem, instruction="")\nreturn r["response"]'),
    "E204": Example('r = await self.custom(input=problem, instruction="", n=5)\nreturn r["response"]'),
    "E205": Example('r = await self.custom(input=problem)\nreturn r["response"]'),
    "E206": Example(f'{_CALL}\nreturn r["text"]'),
    "E207": Example("operator.Reflect(", of="operator.Programmer("),
    "E208": Example('return problem, self.lll.get_usage_summary()["total_cost"]'),
    "E209": Example("return await len(problem)"),
    "E301": Example(f'{_CALL}\nif problem:\n    return r["response"]'),
    "E302": Example("x = y\ny = problem\nreturn x"),
    "E401": Example(f'for i in range(20):\n    {_CALL}\nreturn r["response"]'),
    "E402": Example(
        f'if problem:\n    for word in problem.split():\n        {_CALL}\n        return r["response"]\nreturn ""',
        rules={"max_nesting": 1, "min_operator_calls": 0},
    ),
    "E403": Example(f'{_CALL}\nreturn r["response"]', rules={"max_tokens": 1_000}),
    "E404": Example(f'{_CALL}\nreturn r["response"]', rules={"max_usd": 0.0001}),
    "E405": Example(f'{_CALL}\nreturn r["response"]', rules={"max_source_bytes": 100}),
    "E406": Example('return "42"'),
    "E502": Example("f = lambda x: x\nreturn problem"),
    "E503": Example("return eval(problem)"),
    "E504": Example("return problem.encode()"),
    "E505": Example('return f"{problem:>99999}"'),
    "E506": Example("len = 3\nreturn len(problem)"),
    "E601": Example('r = await self.programmer(problem=problem)\nreturn r["output"]', domain="qa"),
}


def message(code: str) -> str:
    """What the validator says of the code's example."""
    example = EXAMPLES[code]
    rules = replace(default_rules(), **example.rules)
    checked = check_text(example.text, domain=example.domain, rules=rules, repair=False)
    return next(finding.message for finding in checked.findings if finding.code == code)


def markdown() -> str:
    """The page docs/workflow_codes.md."""
    head = [
        "# What the validator says",
        "",
        "`grpo-aflow-check` and a run's `rollouts.jsonl` name what is wrong with a workflow by these codes. The bounds",
        "(E4xx) are those of `conf/workflow/default.yaml`, in the examples of E402 to E405 smaller ones. Written by",
        "`python -m grpo_aflow.workflow.code_table`.",
        "",
        "| code | meaning | example | message |",
        "|---|---|---|---|",
    ]
    rows = [
        f"| {code} | {meaning} | {_cell(EXAMPLES[code].changed)} | {_escaped(message(code))} |"
        for code, meaning in CODES.items()
    ]
    return "\n".join([*head, *rows]) + "\n"


def _cell(source: str) -> str:
    """Lines of code in a cell of a table."""
    return "<br>".join(f"`{line.replace(' ', NO_BREAK)}`" for line in source.splitlines()).replace("|", "\\|")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


NO_BREAK = "\u00a0"  # keeps an indentation that a table would drop


if __name__ == "__main__":
    print(markdown(), end="")
