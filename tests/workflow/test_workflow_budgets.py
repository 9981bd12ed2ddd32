"""Static bounds and run-time budgets: what a workflow can spend is known before, and is all that it can spend."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from scripted_executor import QA, RULES, ScriptedChat, codes, run, valid, workflow_text

from grpo_aflow.config.composing import compose
from grpo_aflow.types import DOMAINS, ExecutionStatus
from grpo_aflow.workflow.operators.table import OPERATORS
from grpo_aflow.workflow.rules import WorkflowRules, default_rules

CALL = "r = await self.custom(problem, 'x')"

BOUNDS = {
    "one call": (f"{CALL}\nreturn r['response']", 1, 1),
    "branches count their maximum": (f"if problem:\n    {CALL}\n    {CALL}\nelse:\n    {CALL}\nreturn 'a'", 2, 2),
    "an early return ends its path": (f"if problem:\n    {CALL}\n    return 'a'\n{CALL}\n{CALL}\nreturn 'a'", 2, 2),
    "literal loop": (f"for i in range(2, 8, 2):\n    {CALL}\nreturn 'a'", 3, 3),
    "literal list": (f"for i in ['a', 'b']:\n    {CALL}\nreturn 'a'", 2, 2),
    "constant": (f"n = 3\nfor i in range(n):\n    {CALL}\nreturn 'a'", 3, 3),
    "list assigned once": (f"xs = ['a', 'b']\nfor i in xs:\n    {CALL}\nreturn 'a'", 2, 2),
    "list appended to": (f"xs = ['a']\nxs.append('b')\nfor i in xs:\n    {CALL}\nreturn 'a'", 2, 2),
    "list that grows otherwise": (f"xs = ['a']\nxs.extend(['b'])\nfor i in xs:\n    {CALL}\nreturn 'a'", 8, 8),
    "unknown length": (f"for line in problem.split():\n    {CALL}\nreturn 'a'", 8, 8),
    "list filled by a literal loop": (
        f"xs = []\nfor i in range(3):\n    {CALL}\n    xs.append(i)\nfor x in xs:\n    {CALL}\nreturn 'a'",
        6,
        6,
    ),
    "list filled beyond the limit": (
        f"xs = []\nfor i in range(10):\n    xs.append(i)\nfor x in xs:\n    {CALL}\nreturn 'a'",
        8,
        8,
    ),
    "list that grows between its turns": (
        f"xs = ['a']\nfor i in range(2):\n    for x in xs:\n        {CALL}\n    xs.append(i)\nreturn 'a'",
        16,
        16,
    ),
    "list by comprehension": (f"xs = [i for i in range(2)]\nfor x in enumerate(xs):\n    {CALL}\nreturn 'a'", 2, 2),
    "gathered results": (
        "rs = await asyncio.gather(self.custom(problem, 'a'), self.custom(problem, 'b'))\nfor r in rs:\n"
        f"    {CALL}\nreturn 'a'",
        4,
        4,
    ),
    "counting while beyond the limit": (f"i = 0\nwhile i < 30:\n    {CALL}\n    i += 1\nreturn 'a'", 8, 8),
    "while": (f"while problem:\n    {CALL}\nreturn 'a'", 8, 8),
    "counting while": (f"i = 0\nwhile i < 3:\n    {CALL}\n    i += 1\nreturn 'a'", 3, 3),
    "counting while with a condition": (
        f"i = 0\nok = ''\nwhile not ok and i <= 4:\n    {CALL}\n    i += 1\nreturn 'a'",
        5,
        5,
    ),
    "nested": (f"for i in range(2):\n    for j in range(3):\n        {CALL}\nreturn 'a'", 6, 6),
    "comprehension": ("x = [await self.custom(problem, i) for i in ['a', 'b'] for j in range(3)]\nreturn x", 6, 6),
    "gather": ("x = await asyncio.gather(*[self.custom(problem, 'i') for j in range(4)])\nreturn x", 4, 4),
    "executor calls differ": (
        "r = await self.md_ensemble(['a'], problem)\np = await self.programmer(problem)\nreturn r",
        2,
        8,
    ),
    "free": ("r = await self.majority_vote(['a'])\nreturn r['response']", 1, 0),
    "condition with a call": ("while (await self.custom(problem, 'x'))['response']:\n    pass\nreturn 'a'", 9, 9),
    "conditional expression": (
        "x = (await self.custom(problem, 'a')) if problem else (await self.programmer(problem))\nreturn 'a'",
        1,
        3,
    ),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_static_bounds(name: str) -> None:
    body, operator_calls, llm_calls = BOUNDS[name]
    workflow = valid(workflow_text(body))
    assert (workflow.max_operator_calls, workflow.max_llm_calls) == (operator_calls, llm_calls)


def test_worst_case_cost_is_the_price_of_the_executor_calls() -> None:
    rules = replace(
        RULES,
        call_prompt_tokens=1000,
        call_completion_tokens=500,
        usd_per_million_prompt_tokens=1.0,
        usd_per_million_completion_tokens=4.0,
    )
    workflow = valid(workflow_text(f"for i in range(3):\n    {CALL}\nreturn 'a'"), rules=rules)
    assert workflow.max_tokens == 4500
    assert workflow.max_usd == pytest.approx(0.009)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"max_operator_calls": 2}, "E401"),
        ({"max_llm_calls": 2}, "E403"),
        ({"max_tokens": 100}, "E403"),
        ({"max_usd": 1e-6}, "E404"),
        ({"max_nesting": 1}, "E402"),
        ({"max_depth": 5}, "E402"),
        ({"max_source_bytes": 100}, "E405"),
    ],
)
def test_every_bound_is_a_rule(changes: dict[str, float], code: str) -> None:
    text = workflow_text(f"for i in range(3):\n    if problem:\n        {CALL}\nreturn 'a'")
    assert codes(text) == []
    assert code in [found for found, _ in codes(text, rules=replace(RULES, **changes))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("while True:\n    x = 1", "budget:loop"),
        ("i = 0\nwhile i < 10:\n    if i == 2:\n        continue\n    i += 1\nreturn i", "budget:loop"),
        (f"for w in ('a ' * 20).split():\n    {CALL}\nreturn 'a'", "budget:loop"),
        ("x = [[[k for k in range(50)] for j in range(50)] for i in range(50)]\nreturn x", "budget:steps"),
        ("s = 'a'\nfor i in range(60):\n    s = s + s\nreturn s", "budget:memory"),
        ("x = [1]\nfor i in range(60):\n    x = [x, x]\nreturn x", "budget:memory"),
        ("return 10 ** 8 ** 8", "budget:memory"),
        ("return 'a' * 10 ** 10", "budget:memory"),
    ],
)
async def test_own_computation_is_bounded(body: str, reason: str) -> None:
    execution = await run(valid(workflow_text(body)))
    assert (execution.status, execution.reason) == (ExecutionStatus.BUDGET, reason)


@pytest.mark.parametrize(
    ("changes", "reason", "num_calls"),
    [
        ({"max_llm_calls": 3}, "budget:llm_calls", 3),
        ({"max_tokens": 220}, "budget:tokens", 2),
        ({"max_usd": 0.002}, "budget:usd", 2),
    ],
)
async def test_budgets_of_the_executor(changes: dict[str, float], reason: str, num_calls: int) -> None:
    workflow = valid(workflow_text(f"for i in range(5):\n    {CALL}\nreturn 'a'"))
    execution = await run(workflow, rules=replace(RULES, **changes))  # type: ignore[arg-type]
    assert (execution.status, execution.reason, execution.num_calls) == (ExecutionStatus.BUDGET, reason, num_calls)


async def test_gathered_calls_do_not_see_how_fast_the_others_are() -> None:
    workflow = valid(
        workflow_text("x = await asyncio.gather(*[self.custom(problem, i) for i in 'abcd'])\nreturn len(x)")
    )
    for delay_s in (0.0, 0.001):
        execution = await run(workflow, chat=ScriptedChat(delay_s=delay_s), rules=replace(RULES, max_usd=0.0035))
        assert (execution.status, execution.num_calls) == (ExecutionStatus.OK, 4)


async def test_the_deadline_is_a_status() -> None:
    workflow = valid(workflow_text(f"{CALL}\n{CALL}\nreturn 'a'"))
    execution = await run(workflow, chat=ScriptedChat(delay_s=0.1), rules=replace(RULES, deadline_s=0.05))
    assert (execution.status, execution.reason) == (ExecutionStatus.TIMEOUT, "timeout:deadline")
    assert len(execution.trace) == 1


async def test_cancellation_passes_through() -> None:
    workflow = valid(workflow_text("x = await asyncio.gather(*[self.custom(problem, i) for i in 'ab'])\nreturn x"))
    chat = ScriptedChat(delay_s=30)
    task = asyncio.create_task(run(workflow, chat=chat))
    await asyncio.sleep(0.02)
    assert chat.num_at_once == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert chat.num_at_once == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_operator_calls": 0}, "max_operator_calls must be at least 1; got 0"),
        ({"deadline_s": 0.0}, "deadline_s must be above 0"),
        ({"max_depth": 1000}, "max_depth must be at most 150"),
        ({"operator_domains": {"tester": ["code"]}}, "operator_domains names the operator 'tester'"),
        ({"operator_domains": {"test": ["coding"]}}, "operator_domains.test names 'coding'"),
    ],
)
def test_impossible_rules_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RULES, **changes)  # type: ignore[arg-type]


def test_restrictions_are_rules() -> None:
    text = workflow_text("r = await self.programmer(problem)\nreturn r['output']")
    everywhere = replace(RULES, operator_domains={"programmer": ["math", "qa"], "custom": []})
    assert codes(text, domain="qa", rules=everywhere) == []
    assert [code for code, _ in codes(workflow_text(f"{CALL}\nreturn 'a'"), domain="qa", rules=everywhere)] == ["E601"]


def test_without_a_restriction_in_the_yaml_the_specification_says_where_an_operator_may_be_called() -> None:
    rules = default_rules()
    assert isinstance(rules, WorkflowRules)
    assert rules.operator_domains == {}
    for spec in OPERATORS.values():
        assert tuple(domain for domain in DOMAINS if rules.allows(spec, domain)) == spec.domains


def test_a_restriction_on_the_command_line_reaches_validator_and_prompt() -> None:
    config = compose("prompt=full", "+workflow.operator_domains.programmer=[math,qa]")
    for spec, allowed in ((OPERATORS["programmer"], True), (OPERATORS["test"], False)):
        assert config.workflow.allows(spec, "qa") == allowed
        assert (f"self.{spec.slot}(" in config.prompt.messages(QA)[0]["content"]) == allowed
