"""What the operators say to the executor: one system text per slot (and domain), one user message of tagged sections.

The system text is an operator's identity on the wire (`operators.system_prompts`); the user message holds only what
this call is about. The replies demanded here are read back, tolerantly, by `replies`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grpo_aflow.types import Domain, Message

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

_TEXTS: Mapping[str, str] = {
    "custom": "You solve a step of a {subject}. Follow the instruction on the input. {form}",
    "answer_generate": (
        "You answer a {subject}. Think step by step, then reply with "
        "<thought>your reasoning</thought><answer>the short final answer</answer>."
    ),
    "custom_code_generate": (
        "You write Python code. Follow the instruction and define the function named in entry_point. "
        "Reply with the complete, self-contained code in one ```python fence."
    ),
    "programmer": (
        "You solve the problem by a program. Write self-contained Python that defines solve() without arguments; "
        "it returns the final answer. No input, no files, no network. If code and error are given, mend the code. "
        "Reply with one ```python fence."
    ),
    "test": (
        "The solution failed a public test. Work out why from the error and mend it, keeping the name in "
        "entry_point. Reply with the complete corrected code in one ```python fence."
    ),
    "sc_ensemble": (
        "Several candidate solutions are given, each with an id. Pick the one whose answer is the most consistent "
        "with the others. Reply with its id only, as <choice>B</choice>."
    ),
    "md_ensemble": (
        "Several candidate solutions of a problem are given, each with an id. Compare them carefully and pick the "
        "best one. Reply with its id only, as <choice>B</choice>."
    ),
    "review": (
        "You review a solution of a {subject}. Check it step by step; say false only if you are sure that it is "
        "wrong. Reply with <verdict>true</verdict> or <verdict>false</verdict>, then <feedback>what to mend</feedback>."
    ),
    "revise": "You revise a solution of a {subject} by the feedback. {form}",
    "format": (
        "You extract the final answer of a {subject} from its solution. Reply with the bare short answer and "
        "nothing else: no sentence, no explanation."
    ),
}


def system_prompt(slot: str, domain: Domain) -> str:
    """The system text of an operator's calls."""
    return _TEXTS[slot].replace("{subject}", _SUBJECT[domain]).replace("{form}", _ANSWER_FORM[domain])


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
"""The tagged sections of a user message, in the order in which they stand."""


def messages(
    slot: str, domain: Domain, sections: Mapping[str, str], candidates: Sequence[str] = ()
) -> tuple[Message, Message]:
    """The two messages of one executor call; empty sections are left out."""
    parts: list[str] = []
    for name in SECTIONS:
        if name == "candidates":
            parts += [f'<candidate id="{letters(i)}">\n{text}\n</candidate>' for i, text in enumerate(candidates)]
        elif sections.get(name):
            parts.append(f"<{name}>\n{sections[name]}\n</{name}>")
    return (
        {"role": "system", "content": system_prompt(slot, domain)},
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
