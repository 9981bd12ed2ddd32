"""What published workflows do and the language takes: try/except as in Python, operators made in `__call__`, notes."""

# ruff: noqa: E501 - a row is a case

from __future__ import annotations

import asyncio
import dataclasses
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripted_executor import FIRST_LINE, MATH, ScriptedChat, answer_of, codes, run, valid, workflow_text

from grpo_aflow.types import ChatReply, ChatStatus, ExecutionStatus
from grpo_aflow.workflow import check_text
from grpo_aflow.workflow.checking.extract import extract_source
from grpo_aflow.workflow.rules import default_rules

EXPRESSIONS = (
    "float('1,5')", "float('2.5')", "int('x')", "[1][3]", "{'a': 1}['b']", "1 / 0", "'a' + 1", "'ab'.index('c')",
    "int('7')", "max([])", "'x'.join([1])", "late",
)  # fmt: skip
SHAPES = (
    "try:\n    x = {e}\nexcept ValueError:\n    x = 'value'\nreturn x",
    "try:\n    x = {e}\nexcept Exception as error:\n    x = 'caught'\nreturn x",
    "try:\n    x = {e}\nexcept:\n    x = 'bare'\nreturn x",
    "try:\n    x = {e}\nexcept (TypeError, LookupError):\n    x = 'pair'\nexcept ArithmeticError:\n    x = 'sum'\nreturn x",
    "s = ''\ntry:\n    x = {e}\nexcept (ValueError, KeyError):\n    s += 'h'\nelse:\n    s += 'e'\nfinally:\n    s += 'f'\nreturn s",
    "for i in range(3):\n    try:\n        x = {e}\n        break\n    except LookupError:\n        continue\n    finally:\n        i += 10\nreturn i",
    "try:\n    return {e}\nexcept TypeError:\n    return 't'\nfinally:\n    x = 1",
    "try:\n    return {e}\nexcept TypeError:\n    return 't'\nfinally:\n    return 'final'",
    "try:\n    try:\n        x = {e}\n    except KeyError:\n        x = int('again')\nexcept ValueError:\n    x = 'outer'\nreturn x",
    "try:\n    x = {e}\nexcept NameError:\n    x = 'name'\nreturn x",
)  # fmt: skip


def in_python(body: str) -> str:
    names: dict[str, object] = {}
    text = "def f(problem):\n" + "\n".join(f"    {line}" for line in body.split("\n")) + "\n    late = 1\n"
    exec(text, names)  # our own few lines above
    try:
        return str(names["f"](MATH.problem))  # type: ignore[operator]
    except (ArithmeticError, LookupError, TypeError, ValueError, NameError) as error:
        return f"failed failed:{type(error).__name__}"


@pytest.mark.parametrize(("shape", "expression"), list(product(SHAPES, EXPRESSIONS)))
async def test_try_is_as_in_python(shape: str, expression: str) -> None:
    body = shape.format(e=expression)
    text = workflow_text("if False:\n    late = 1\n" + body)
    assert await answer_of("if False:\n    late = 1\n" + body) == in_python("if False:\n    late = 1\n" + body), text


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=12))
@example("</s>")
@example("</think>")
@example("<|im_end|>")
def test_conversions_of_any_text_are_as_in_python(text: str) -> None:
    body = f"try:\n    return float({text!r})\nexcept ValueError as e:\n    return 'no: ' + str(e)[:20]"
    assert asyncio.run(answer_of(body)) == in_python(body)


async def test_the_exception_is_plain_text_and_gone_afterwards() -> None:
    assert await answer_of(
        "try:\n    return {}['k']\nexcept KeyError as e:\n    return f'{e}|{isinstance(e, str)}'"
    ) == ("'k'|True")
    after = "try:\n    x = {}['k']\nexcept KeyError as e:\n    pass\nreturn e"
    assert await answer_of(after) == "failed failed:UnboundLocalError"
    assert "E504" in {c for c, _ in codes(workflow_text(after.replace("pass", "y = e.__traceback__")))}
    assert "E504" in {c for c, _ in codes(workflow_text(after.replace("pass", "y = e.args")))}


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("x = 'a'\nfor i in range(60):\n    x = x + x", "budget"),
        ("for i in range(10 ** 6):\n    x = i", "budget"),
        ("x = await self.custom(problem, 'a')", "masked"),
    ],
)
async def test_no_handler_sees_budgets_or_faults_of_others(body: str, outcome: str) -> None:
    inner = "\n".join(f"    {line}" for line in body.split("\n"))
    text = workflow_text(f"try:\n{inner}\nexcept:\n    pass\nfinally:\n    return 'swallowed'\nreturn 'swallowed'")
    chat = ScriptedChat({"custom": [ChatReply(status=ChatStatus.INFRASTRUCTURE)]})
    execution = await run(valid(text), chat=chat)
    assert (execution.status, execution.answer) == (ExecutionStatus(outcome), "")


HEAD = "class Workflow:\n    def __init__(self, name, llm_config, dataset):\n        self.llm = create_llm_instance(llm_config)\n"


@pytest.mark.parametrize(
    "body",
    [
        "custom = operator.Custom(self.llm)\n        return (await custom(input=problem, instruction=''))['response']",
        "self.custom = operator.Custom(self.llm)\n        return (await self.custom(problem, ''))['response']",
        "c = operator.Custom(llm=self.llm)\n        r = await asyncio.gather(c(problem, 'a'), c(problem, 'b'))\n"
        "        return r[0]['response']",
        "if problem:\n            c = operator.Custom(self.llm)\n        return (await c(problem, 'a'))['response']",
        "llm = create_llm_instance(self.llm_config)\n        c = operator.Custom(llm)\n"
        "        return (await c(problem, 'a'))['response'], llm.get_usage_summary()['total_cost']",
        "model = create_llm_instance(self.llm_config)\n        custom = Custom(model)\n"
        "        return (await custom(input=problem, instruction=''))['response'], model.cost_manager.total_cost",
    ],
)
async def test_operators_made_inside_call(body: str) -> None:
    text = f"{HEAD}\n    async def __call__(self, problem):\n        {body}\n"
    assert (await run(valid(text, rules=default_rules()))).answer == "custom says \\boxed{4}"


async def test_a_model_made_inside_call_does_not_hide_data_of_its_name() -> None:
    text = HEAD + (
        "        self.model = 'kept'\n\n    async def __call__(self, problem):\n"
        "        model = create_llm_instance(self.llm_config)\n        c = operator.Custom(model)\n"
        "        r = await c(problem, '')\n        return self.model + r['response'][:6]\n"
    )
    assert (await run(valid(text))).answer == "keptcustom"


def test_a_name_that_holds_a_model_and_something_else_is_none() -> None:
    text = HEAD + (
        "\n    async def __call__(self, problem):\n        m = create_llm_instance(self.llm_config)\n"
        "        m = problem\n        c = operator.Custom(m)\n        return (await c(problem, ''))['response']\n"
    )
    assert {code for code, _ in codes(text)} >= {"E208", "E503"}


def test_an_operator_without_llm_is_repaired() -> None:
    text = HEAD + (
        "        self.custom = operator.Custom()\n\n    async def __call__(self, problem):\n"
        "        return (await self.custom(problem, ''))['response']\n"
    )
    checked = check_text(text, domain=None, rules=default_rules())
    assert checked.repairs == ("misspelt_llm",)
    assert "operator.Custom(self.llm)" in checked.source


def test_keywords_of_published_operators_are_noted() -> None:
    text = workflow_text("r = await self.custom(input=problem, instruction='', role='tutor')\nreturn r['response']")
    checked = check_text(text, domain=None, rules=default_rules())
    assert checked.valid
    assert checked.notes == (f"line {FIRST_LINE}: role= of custom is understood and has no effect",)


def test_unknown_imports_are_harmless_and_their_names_refused() -> None:
    body = "r = await self.custom(problem, '')\nreturn r['response']"
    text = "import os\nfrom my_lab.tools import magic\n" + workflow_text(body)
    assert check_text(text, domain=None, rules=default_rules()).valid
    assert ("E503", FIRST_LINE + 3) in codes(text.replace("return r", "return magic(r)"))


def test_scoreflow_is_named() -> None:
    text = "class Workflow:\n    def __init__(self, config, problem):\n        self.problem = problem\n\n    async def run_workflow(self):\n        return ''\n"  # fmt: skip
    (finding,) = [f for f in check_text(text, domain=None, rules=default_rules()).findings if f.code == "E104"]
    assert "ScoreFlow" in finding.message


NO_CALL = {
    "return problem": 0,
    "if len(problem) > 9:\n    return problem\nr = await self.custom(problem, '')\nreturn r['response']": 0,
    "r = await self.majority_vote(['a'])\nreturn r['response']": 0,
    "r = await self.test(problem, 'x', 'f')\nreturn r['solution']": 0,
    "for w in problem.split():\n    r = await self.custom(problem, w)\nreturn 'a'": 0,
    "x = problem and await self.custom(problem, '')\nreturn 'a'": 0,
    "while not problem:\n    r = await self.custom(problem, '')\nreturn 'a'": 0,
    "try:\n    x = float(problem)\n    r = await self.custom(problem, '')\nexcept ValueError:\n    return 'a'\nreturn 'b'": 0,
    "r = [await self.custom(problem, w) for w in ['a', 'b'] if w == problem]\nreturn 'a'": 0,
}  # fmt: skip
CALLS = {
    "r = await self.custom(problem, '')\nreturn r['response']": 1,
    "if not problem:\n    return ''\nr = await self.custom(problem, '')\nreturn r['response']": 1,
    "if not problem.strip() or problem is None:\n    return ''\nr = await self.custom(problem, '')\nreturn 'a'": 1,
    "for i in range(3):\n    r = await self.custom(problem, '')\nreturn r['response']": 3,
    "for i in range(3):\n    r = await self.custom(problem, '')\n    if r:\n        break\nreturn r['response']": 1,
    "for i in range(3):\n    r = await self.custom(problem, '')\n    if r:\n        return 'a'\nreturn r['response']": 1,
    "while True:\n    r = await self.custom(problem, '')\n    if r:\n        break\nreturn 'a'": 1,
    "i = 0\nwhile i < 3:\n    i += 1\n    r = await self.custom(problem, '')\nreturn 'a'": 3,
    "r = [await self.custom(problem, w) for w in ['a', 'b']]\nreturn 'a'": 2,
    "r = await asyncio.gather(*[self.custom(problem, w) for w in 'ab'])\nreturn 'a'": 2,
    "if len(problem) > 3:\n    r = await self.custom(problem, '')\nelse:\n    r = await self.review(problem, '')\nreturn 'a'": 1,
    "try:\n    r = await self.custom(problem, '')\n    x = float(r['response'])\nexcept ValueError:\n    return 'a'\nreturn 'b'": 1,
}  # fmt: skip


@pytest.mark.parametrize(("body", "least"), [*NO_CALL.items(), *CALLS.items()])
def test_the_least_calls_of_a_path(body: str, least: int) -> None:
    for wanted in (1, 2, 3, 4):
        rules = dataclasses.replace(default_rules(), min_operator_calls=wanted)
        found = [code for code, _ in codes(workflow_text(body), rules=rules)]
        assert found == (["E406"] if least < wanted else []), (wanted, least)


CLASS = workflow_text("r = await self.custom(problem, '')\nreturn r['response']")


@pytest.mark.parametrize(
    "text",
    [
        f"```python\n```\n\n```python\n{CLASS}```",
        f"```\n```\n```python\n{CLASS}```\nThat is all.",
        f"```python\n\n```python\n{CLASS}```",
        f"<modification>more</modification>\n<graph>\n{CLASS}</graph>\n<prompt></prompt>",
        f"<graph>\n```python\n{CLASS}```\n</graph>",
        f"Here:\n\n~~~python\n{CLASS}~~~",
    ],
)
def test_stray_fences_and_tags(text: str) -> None:
    assert extract_source(text).strip() == CLASS.strip()


def test_prompts_in_tags_are_constants() -> None:
    graph = CLASS.replace("''", "prompt_custom.SOLVE")
    text = f"<graph>{graph}</graph>\n<prompt>\nSOLVE = 'go'\n</prompt>"
    assert check_text(text, domain=None, rules=default_rules()).valid


def test_imported_decorators_are_noted() -> None:
    text = "import weave\n" + CLASS.replace("    async def", "    @weave.op()\n    async def")
    checked = check_text(text, domain=None, rules=default_rules())
    assert checked.valid
    assert checked.notes == (f"line {FIRST_LINE}: the decorator weave.op() has no effect",)
