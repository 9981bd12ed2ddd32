"""What the operators say to the executor: a system text (by domain) and one user message of tagged sections.

The system text is an operator's identity on the wire (`operators.system_prompts`); the user message holds only what
this call is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grpo_aflow.types import Domain, Message
from grpo_aflow.workflow.operators.spec import OperatorSpec

_ANSWER_FORM: Mapping[str, str] = {
    "math": r"Reason step by step and end with the final answer as \boxed{answer}.",
    "qa": "End with the shortest exact answer as <answer>answer</answer>; leave it empty if the text does not say.",
    "code": "Give the complete, self-contained Python code in one ```python fence.",
}

_SUBJECT: Mapping[str, str] = {
    "math": "mathematics problem",
    "qa": "question about a text",
    "code": "programming task",
}


def system_prompt(spec: OperatorSpec, domain: Domain, prompt: str = "") -> str:
    """The system text of one of an operator's prompts; "" is the first."""
    text = spec.prompts[prompt or next(iter(spec.prompts))].text
    return text.replace("{subject}", _SUBJECT[domain]).replace("{form}", _ANSWER_FORM[domain])


SECTIONS = (
    "instruction",
    "input",
    "problem",
    "entry_point",
    "analysis",
    "solution",
    "feedback",
    "candidates",
    "code",
    "error",
)
"""The tagged sections of a user message, in the order in which they stand; an operator's own ones follow."""


def messages(system: str, sections: Mapping[str, str], candidates: Sequence[str] = ()) -> tuple[Message, Message]:
    """The two messages of one executor call; empty sections are left out."""
    parts: list[str] = []
    for name in (*SECTIONS, *(name for name in sections if name not in SECTIONS)):
        if name == "candidates":
            parts += [f'<candidate id="{letters(i)}">\n{text}\n</candidate>' for i, text in enumerate(candidates)]
        elif sections.get(name):
            parts.append(f"<{name}>\n{sections[name]}\n</{name}>")
    return (
        {"role": "system", "content": system},
        {"role": "user", "content": "\n".join(parts)},
    )


def letters(index: int) -> str:
    """The id of a candidate: A … Z, AA, AB …"""
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(ord("A") + rest) + name
    return name
