"""Repairs: named, counted, switchable, used for what is interpreted only, and never made without need."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from scripted_executor import MATH, RULES, run, workflow_text

from grpo_aflow.workflow import check_text
from grpo_aflow.workflow.checking.diagnosis import Edit, Repair
from grpo_aflow.workflow.checking.repair import apply_repairs, fix_indentation
from grpo_aflow.workflow.checking.spelling import nearest
from grpo_aflow.workflow.rules import RepairName

BODY = "r = await self.custom(problem, 'x')\nreturn r['response']"
GOOD = workflow_text(BODY, slots=["custom"])

BROKEN = {
    "missing_slot": GOOD.replace("        self.custom = operator.Custom(self.llm)\n", ""),
    "misspelt_slot": GOOD.replace("self.custom(", "self.costum("),
    "misspelt_llm": GOOD.replace("Custom(self.llm)", "Custom(self.lll)"),
    "missing_await": GOOD.replace("await self.custom", "self.custom"),
    "indentation": GOOD.replace("        return r", "         return r"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_each_repair_makes_the_workflow_run(name: str) -> None:
    checked = check_text(BROKEN[name], domain="math", rules=RULES)
    assert checked.repairs == (name,)
    assert checked.findings == ()
    assert checked.workflow is not None
    assert checked.workflow.source == checked.source
    assert (await run(checked.workflow, MATH)).answer == "custom says \\boxed{4}"


@pytest.mark.parametrize("name", BROKEN)
def test_each_repair_can_be_switched_off(name: str) -> None:
    off = replace(RULES, **{f"repair_{name}": False})  # type: ignore[arg-type]
    checked = check_text(BROKEN[name], domain=None, rules=off)
    assert (checked.valid, checked.repairs, checked.source) == (False, (), BROKEN[name])
    assert set(BROKEN) == set(get_args(RepairName))


def test_all_repairs_can_be_switched_off_at_once() -> None:
    for text in BROKEN.values():
        assert not check_text(text, domain=None, rules=RULES, repair=False).valid


def test_a_repair_that_does_not_make_it_valid_is_not_made() -> None:
    text = BROKEN["missing_await"].replace("return r", "return nothing + r")
    checked = check_text(text, domain=None, rules=RULES)
    assert checked.repairs == ()
    assert [finding.code for finding in checked.findings] == ["E203", "E201"]
    assert checked.source == text


def test_several_repairs_are_counted_each() -> None:
    text = BROKEN["missing_slot"].replace("await self", "self").replace("create_llm_instance", "create_lll_instance")
    checked = check_text(text, domain=None, rules=RULES)
    assert sorted(checked.repairs) == ["missing_await", "missing_slot", "misspelt_llm"]


def test_the_same_missing_slot_called_twice_is_one_repair() -> None:
    text = BROKEN["missing_slot"].replace(
        "        return", "        s = await self.custom(problem, 'y')\n        return"
    )
    assert check_text(text, domain=None, rules=RULES).repairs == ("missing_slot",)


def test_repairs_beside_text_that_is_not_ascii() -> None:
    text = GOOD.replace("self.custom(problem, 'x')", "self.costum('é→', instruction='ü')")
    checked = check_text(text, domain=None, rules=RULES)
    assert "self.custom('é→', instruction='ü')" in checked.source


def test_nothing_is_guessed_where_two_names_are_equally_near() -> None:
    assert nearest("self", ["sell", "selg"]) is None
    assert nearest("lll", ["llm"]) == "llm"
    assert nearest("ll_m", ["llm", "lll"]) == "llm"
    assert nearest("revize", ["revise", "review"]) == "revise"
    assert nearest("calculator", ["custom", "test"]) is None
    assert nearest("tes", ["test"]) == "test"


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("if x:\ny = 1\n", "if x:\n    y = 1\n"),
        ("if x:\n    y = 1\n      z = 2\n", "if x:\n    y = 1\n    z = 2\n"),
        ("if x:\n    if y:\n        a = 1\n      b = 2\n", "if x:\n    if y:\n        a = 1\n        b = 2\n"),
        ("if x:\n\ty = 1\n        z = 2\n", "if x:\n    y = 1\n    z = 2\n"),
        ("x = (\n", None),
        ("if x\n    y = 1\n", None),
    ],
)
def test_indentation(broken: str, whole: str | None) -> None:
    assert fix_indentation(broken) == whole


def test_edits_are_made_from_the_end() -> None:
    edits = (
        Edit(line=1, column=0, end_column=1, text="long"),
        Edit(line=1, column=4, end_column=5, text="y"),
        Edit(line=2, column=0, end_column=0, text="new", whole_line=True),
    )
    assert apply_repairs("a + b\nc", [Repair(name="missing_slot", edits=edits)]) == (
        "long + y\nnew\nc",
        ["missing_slot"],
    )
