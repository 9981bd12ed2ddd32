"""Fences, prose and end tokens around a workflow are expected, and cutting them off is no repair."""

from __future__ import annotations

import pytest
from scripted_executor import RULES, workflow_text

from grpo_aflow.workflow import check_text
from grpo_aflow.workflow.checking import extract
from grpo_aflow.workflow.checking.extract import extract_source

SOURCE = workflow_text("return problem")
HEADER = "from typing import List\nTASK_PROMPT = 'x'\n"

AROUND = {
    "bare": SOURCE,
    "fence": f"```python\n{SOURCE}```",
    "fence without language": f"```\n{SOURCE}```",
    "fence in capitals": f"```Python\n{SOURCE}```",
    "tildes": f"~~~python\n{SOURCE}~~~",
    "prose around": f"Here it is:\n\n```python\n{SOURCE}```\n\nIt's done. Don't worry!",
    "prose around without fence": f"Here it is:\n\n{SOURCE}\nIt's done. Don't worry!",
    "prose with a list": f"{SOURCE}\n1. **First**: a step\n- second\n",
    "unclosed fence": f"Sure.\n```python\n{SOURCE}",
    "end token": f"```python\n{SOURCE}```<|im_end|>\n<|im_start|>user\nclass Workflow",
    "end token without fence": f"{SOURCE}<|endoftext|>garbage (",
    "windows lines": f"```python\n{SOURCE}```".replace("\n", "\r\n"),
    "byte order mark": "\ufeff" + SOURCE,
    "indented": "\n".join("    " + line for line in f"```python\n{SOURCE}```".split("\n")),
    "other fences before": f"```python\nx = 1\n```\nand\n```python\n{SOURCE}```",
    "other fences after": f"```python\n{SOURCE}```\nand\n```python\nx = (\n```",
    "a sketch before": f"```python\nclass Workflow:\n    ...\n```\nIn full:\n```python\n{SOURCE}```",
    "thinking": f"<think>\nclass Workflow: no\n```python\n</think>\n```python\n{SOURCE}```",
}


@pytest.mark.parametrize("name", AROUND)
def test_the_source_is_found(name: str) -> None:
    assert extract_source(AROUND[name]).strip() == SOURCE.strip()
    checked = check_text(AROUND[name], domain=None, rules=RULES)
    assert (checked.valid, checked.repairs) == (True, ())


def test_the_header_above_the_class_belongs_to_it() -> None:
    assert extract_source(f"Here:\n\n{HEADER}{SOURCE}\nThe end!").strip() == (HEADER + SOURCE).strip()


def test_a_fence_inside_a_prompt_does_not_end_the_fence() -> None:
    inner = f'P = """\n```python\nx = 1\n```\n"""\n{SOURCE}'
    assert extract_source(f"```python\n{inner}```\nDone.\n```\nother\n```").strip() == inner.strip()


@pytest.mark.parametrize("end", ["```", "", "```\nDone.\n```bash\nls\n```", "```\n" * 9])
def test_a_bare_fence_inside_a_prompt_ends_nothing(end: str) -> None:
    example = '"""\n```\nx: 1\n```\n"""'
    for inner in (f"P = {example}\n{SOURCE}", SOURCE.replace("return problem", f"return {example}")):
        assert extract_source(f"Sure.\n```python\n{inner}{end}").strip() == inner.strip()


@pytest.mark.parametrize("mark", ["</s>", "<|im_end|>", "</think>"])
def test_a_mark_in_a_string_of_the_workflow_ends_nothing(mark: str) -> None:
    """As in workflows that split a reasoning executor's replies."""
    inner = SOURCE.replace("return problem", f"return problem.split({mark!r})[-1]")
    assert mark in inner
    fenced = f"```python\n{inner}```"
    thought = "<think>\nclass Workflow: no\n</think>\n"
    for text in (inner, fenced, f"{fenced}<|im_end|>\n<|im_start|>user", thought + inner, f"{thought}{inner}</s>"):
        assert extract_source(text).strip() == inner.strip()


def test_a_draft_in_the_thoughts_is_no_answer() -> None:
    assert "class Workflow" not in extract_source(f"<think>\n{SOURCE}\n</think>\nI cannot.")


def test_a_broken_class_is_not_cut_to_a_sound_one() -> None:
    broken = SOURCE.replace("return problem", "x = (\n        return problem")
    checked = check_text(f"```python\n{broken}```", domain=None, rules=RULES)
    assert [finding.code for finding in checked.findings] == ["E101"]


@pytest.mark.parametrize("text", ["", "no class at all", "```python\n```", "```", "class Workflow", "\x00", "\ud800"])
def test_texts_without_a_workflow(text: str) -> None:
    checked = check_text(text, domain=None, rules=RULES)
    assert not checked.valid
    assert checked.findings


@pytest.mark.parametrize("name", AROUND)
@pytest.mark.parametrize("cut", ["", "\n  \n", "x = (", "\n    broken(", "\n\tx", "# a comment\n", "It's done."])
def test_a_text_without_prose_is_read_as_if_it_had_been_parsed(
    name: str, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [AROUND[name] + cut, cut + AROUND[name], AROUND[name][:-10] + cut]
    found = [extract_source(text) for text in texts]
    monkeypatch.setattr(extract, "_bare", lambda *_: False)
    assert found == [extract_source(text) for text in texts]
