"""The picture of a workflow: operators and control flow as Mermaid text."""

from __future__ import annotations

import re

import pytest
from scripted_executor import valid, workflow_text

from grpo_aflow.workflow.diagram import mermaid


def edges(body: str) -> list[str]:
    """The edges with the nodes' labels in place of their names."""
    text = mermaid(valid(workflow_text(body)))
    labels = dict(re.findall(r'^    (\w+)[\[({]+"(.*?)"[\])}]+$', text, re.MULTILINE))
    found = re.findall(r'^    (\w+) (-->|-- ".*?" -->) (\w+)$', text, re.MULTILINE)
    assert text.startswith("flowchart TD\n")
    return [f"{labels[a]} {arrow} {labels[b]}" for a, arrow, b in found]


CALL = "r = await self.custom(problem, 'x')"

PICTURES = {
    "one call": (f"{CALL}\nreturn r['response']", ["problem --> Custom", "Custom --> answer"]),
    "no call": ("return problem", ["problem --> answer"]),
    "branch": (
        f"{CALL}\nif r['response']:\n    v = await self.format(problem, 'x')\n    return v['solution']\nreturn problem",
        [
            "problem --> Custom",
            "Custom --> r['response']",
            "r['response'] -- \"yes\" --> Format",
            "Format --> answer",
            "r['response'] -- \"no\" --> answer",
        ],
    ),
    "a branch that only computes": (
        f"{CALL}\nif r['response']:\n    x = 1\nelse:\n    x = 2\nreturn x",
        ["problem --> Custom", "Custom --> answer"],
    ),
    "loop with break": (
        f"for i in range(3):\n    {CALL}\n    if r['response']:\n        break\nreturn problem",
        [
            "problem --> for i in range(3)",
            'for i in range(3) -- "each" --> Custom',
            "Custom --> r['response']",
            "r['response'] -- \"no\" --> for i in range(3)",
            'for i in range(3) -- "done" --> answer',
            "r['response'] -- \"yes\" --> answer",
        ],
    ),
    "gather": (
        "a, b = await asyncio.gather(self.custom(problem, 'x'), self.answer_generate(problem))\nreturn a",
        ["problem --> Custom", "problem --> AnswerGenerate", "Custom --> answer", "AnswerGenerate --> answer"],
    ),
    "comprehension": (
        "xs = await asyncio.gather(*[self.custom(problem, 'x') for i in range(3)])\nreturn xs",
        ["problem --> Custom × range(3)", "Custom × range(3) --> answer"],
    ),
    "forever": (
        f"while True:\n    {CALL}\n    if r['response']:\n        return r['response']",
        [
            "problem --> while True",
            "while True --> Custom",
            "Custom --> r['response']",
            "r['response'] -- \"yes\" --> answer",
            "r['response'] -- \"no\" --> while True",
        ],
    ),
    "inner calls come first": (
        "r = await self.format(problem, (await self.custom(problem, 'x'))['response'])\nreturn r",
        ["problem --> Custom", "Custom --> Format", "Format --> answer"],
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name: str) -> None:
    body, expected = PICTURES[name]
    assert edges(body) == expected


def test_labels_cannot_break_the_picture() -> None:
    body = 'if problem == "a\\"]<b>#" * 20:\n    r = await self.custom(problem, "x")\nreturn problem'
    text = mermaid(valid(workflow_text(body)))
    label = re.search(r'n1\{"(.*)"\}', text)
    assert label is not None
    assert not set('"<>') & set(label.group(1))


def test_tasks_that_are_gathered_later() -> None:
    body = "t = [self.custom(problem, i) for i in 'ab']\nr = await asyncio.gather(*t)\nreturn r"
    assert edges(body) == ["problem --> Custom × 'ab'", "Custom × 'ab' --> answer"]
