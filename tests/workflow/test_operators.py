"""Each operator against a scripted executor, the tolerant reading of replies, and the one specification."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_executor import CODE, MATH, QA, ScriptedChat, ScriptedRunner, run, valid, workflow_text

from grpo_aflow.types import (
    DOMAINS,
    BudgetReached,
    ChatReply,
    ChatStatus,
    CheckResult,
    CodeResult,
    CodeStatus,
    Execution,
    Task,
)
from grpo_aflow.workflow.operators import replies
from grpo_aflow.workflow.operators.instructions import letters
from grpo_aflow.workflow.operators.table import OPERATORS, operator_table, system_prompts


async def result_of(
    call: str,
    task: Task = MATH,
    *,
    chat: ScriptedChat | None = None,
    runner: object = None,
    key: str = "",
) -> tuple[object, Execution]:
    """What one operator call gives, as the trace has it, and the execution."""
    workflow = valid(workflow_text(f"r = await {call}\nreturn str(r)"))
    execution = await run(workflow, task, chat=chat, runner=runner)
    result = execution.trace[0].result
    return (result[key] if key else result), execution


async def test_custom_sends_instruction_and_input() -> None:
    chat = ScriptedChat()
    result, execution = await result_of("self.custom(input='in', instruction='do')", chat=chat)
    assert result == {"response": "custom says \\boxed{4}"}
    assert chat.users("custom") == ["<instruction>\ndo\n</instruction>\n<input>\nin\n</input>"]
    entry = execution.trace[0]
    assert (entry.num_calls, entry.prompt_tokens, entry.completion_tokens) == (1, 100, 10)
    assert (entry.cost_usd, entry.error, entry.arguments["input"]) == (0.001, "", "in")
    assert execution.num_calls == 1


async def test_answer_generate() -> None:
    result, _ = await result_of("self.answer_generate(problem)")
    assert result == {"thought": "because", "answer": "4"}


async def test_custom_code_generate_takes_the_fence_with_the_entry_point() -> None:
    chat = ScriptedChat(
        {"custom_code_generate": ["```python\ndef add(a, b): ...\n```\ne.g.\n```python\nadd(1, 2)\n```"]}
    )
    result, _ = await result_of("self.custom_code_generate(problem, 'add', '')", CODE, chat=chat)
    assert result == {"response": "def add(a, b): ..."}
    assert chat.users("custom_code_generate")[0].endswith("<entry_point>\nadd\n</entry_point>")


async def test_programmer_runs_and_fixes() -> None:
    chat = ScriptedChat({"programmer": ["```python\nbroken\n```", "```python\ndef solve():\n    return 4\n```"]})
    results = [
        CodeResult(status=CodeStatus.ERROR, error="NameError: broken"),
        CodeResult(status=CodeStatus.OK, value="4"),
    ]
    runner = ScriptedRunner(results=results)
    result, execution = await result_of("self.programmer(problem, analysis='plan')", chat=chat, runner=runner)
    assert result == {"code": "def solve():\n    return 4", "output": "4"}
    assert runner.ran == ["broken", "def solve():\n    return 4"]
    second = chat.users("programmer")[1]
    assert "<code>\nbroken\n</code>" in second
    assert "<error>\nNameError: broken\n</error>" in second
    assert second.index("<problem>") < second.index("<analysis>") < second.index("<code>") < second.index("<error>")
    assert [context.ordinal for context, _ in chat.calls] == [(1, 1), (1, 2)]
    assert execution.trace[0].num_calls == 2


async def test_programmer_gives_up_after_three_tries_without_inventing_an_answer() -> None:
    runner = ScriptedRunner(results=[CodeResult(status=CodeStatus.TIMEOUT)])
    result, execution = await result_of("self.programmer(problem)", runner=runner)
    assert result["output"] == ""  # type: ignore[index]
    assert execution.trace[0].num_calls == 3
    assert execution.trace[0].error == "no program gave a result"


async def test_programmer_takes_none_for_no_result() -> None:
    runner = ScriptedRunner(results=[CodeResult(status=CodeStatus.OK, value="None")])
    result, _ = await result_of("self.programmer(problem)", runner=runner)
    assert result["output"] == ""  # type: ignore[index]


async def test_programmer_and_test_in_the_real_sandbox() -> None:
    sandbox = pytest.importorskip("grpo_aflow.sandbox")
    if not hasattr(sandbox, "open_default"):
        pytest.skip("no sandbox here")
    runner = sandbox.open_default()
    chat = ScriptedChat(
        {
            "programmer": [
                "```python\ndef solve():\n    return 1 / 0\n```",
                "```python\ndef solve():\n    return 6 * 7\n```",
            ]
        }
    )
    result, _ = await result_of("self.programmer(problem)", chat=chat, runner=runner)
    assert result["output"] == "42"  # type: ignore[index]
    assert "ZeroDivisionError" in chat.users("programmer")[1]
    wrong = "def add(a, b):\\n    return a - b"
    result, execution = await result_of(f"self.test(problem, '{wrong}', 'solve')", CODE, runner=runner)
    assert result == {"result": True, "solution": "def add(a, b):\n    return a + b", "n_tests": 2}
    assert execution.trace[0].num_calls == 1


async def test_test_sees_public_tests_only_and_the_tasks_own_entry_point() -> None:
    runner = ScriptedRunner()
    chat = ScriptedChat()
    call = "self.test(problem, '```python\\ndef add(a, b):\\n    return a + b\\n```', entry_point='solve')"
    result, execution = await result_of(call, CODE, chat=chat, runner=runner)
    assert runner.checked == [("def add(a, b):\n    return a + b", "\n".join(CODE.public_tests), "add")]
    assert (result["result"], result["n_tests"]) == (True, 2)  # type: ignore[index]
    assert execution.num_calls == 0
    assert chat.calls == []


async def test_test_reflects_at_most_three_times() -> None:
    failing = CheckResult(status=CodeStatus.OK, passed=False, num_passed=1, num_assertions=2)
    runner = ScriptedRunner(checks=[failing])
    chat = ScriptedChat()
    result, execution = await result_of("self.test(problem, 'x', 'add')", CODE, chat=chat, runner=runner)
    assert result["result"] is False  # type: ignore[index]
    assert (execution.num_calls, len(runner.checked)) == (3, 4)
    assert "1 of 2 assertions passed" in chat.users("test")[0]
    assert "HIDDEN" not in str([messages for _, messages in chat.calls]) + str(runner.checked)


@pytest.mark.parametrize("task", [MATH, QA])
async def test_no_tests_are_not_passed_tests(task: Task) -> None:
    result, execution = await result_of("self.test(problem, 'x', 'solve')", task)
    assert result == {"result": False, "solution": "x", "n_tests": 0}
    assert execution.num_calls == 0


THREE = ["twelve", "thirteen", "fourteen"]
CHOICES = {
    "<choice>B</choice>": 1,
    "<choice> b </choice>": 1,
    "<choice>(C)</choice>": 2,
    "<choice>B": 1,
    "B": 1,
    "b": 1,
    "(b)": 1,
    "B.": 1,
    "**B**": 1,
    "Answer: B.": 1,
    "The answer is B.": 1,
    "Solution C is the most consistent one.": 2,
    "<thought>A and B differ</thought><solution_letter>C</solution_letter>": 2,
    "I would choose candidate B": 1,
    "I think that A is wrong; the most consistent is C": 2,
    "answer: c": 2,
    "nothing to be read": None,
    "": None,
    "Z": None,
}


@pytest.mark.parametrize("text", CHOICES)
def test_choices_are_read_tolerantly(text: str) -> None:
    assert replies.choice(text, THREE) == CHOICES[text]


def test_choices_have_no_limit_of_26() -> None:
    assert [letters(i) for i in (0, 25, 26, 27, 51, 52, 701, 702)] == ["A", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA"]
    assert replies.choice("<choice>AB</choice>", ["x"] * 40) == 27
    assert replies.choice("AN", ["x"] * 40) == 39


async def test_sc_ensemble_without_problem_and_with_an_unreadable_choice() -> None:
    chat = ScriptedChat({"sc_ensemble": ["<choice>B</choice>", "hm"]})
    result, _ = await result_of("self.sc_ensemble(solutions=['x', 'y'])", QA, chat=chat)
    assert result == {"response": "y"}
    assert chat.users("sc_ensemble") == ['<candidate id="A">\nx\n</candidate>\n<candidate id="B">\ny\n</candidate>']
    result, execution = await result_of("self.sc_ensemble(['x', 'y'], problem)", chat=chat)
    assert (result, execution.trace[0].error) == ({"response": "x"}, "unreadable choice")


async def test_sc_ensemble_of_forty_and_of_none() -> None:
    chat = ScriptedChat({"sc_ensemble": ["<choice>AN</choice>"]})
    result, _ = await result_of("self.sc_ensemble([str(i) for i in range(40)])", chat=chat)
    assert result == {"response": "39"}
    result, execution = await result_of("self.sc_ensemble([])")
    assert (result, execution.num_calls) == ({"response": ""}, 0)


async def test_md_ensemble_votes_over_shuffled_candidates() -> None:
    def pick_the_good_one(messages: object, context: object) -> str:
        user = messages[1]["content"]  # type: ignore[index]
        return user[user.index("good") - 4]  # the id above the text: `<candidate id="B">\ngood`

    chat = ScriptedChat({"md_ensemble": [pick_the_good_one]})
    result, execution = await result_of("self.md_ensemble(['bad', 'good', 'ugly'], problem)", chat=chat)
    assert (result, execution.num_calls) == ({"solution": "good"}, 5)
    assert sorted(context.ordinal for context, _ in chat.calls) == [(1, n) for n in range(1, 6)]
    assert len(set(chat.users("md_ensemble"))) > 1
    again = ScriptedChat({"md_ensemble": [pick_the_good_one]})
    await result_of("self.md_ensemble(['bad', 'good', 'ugly'], problem)", chat=again)
    assert again.users("md_ensemble") == chat.users("md_ensemble")


async def test_md_ensemble_without_a_readable_vote_takes_the_first() -> None:
    chat = ScriptedChat({"md_ensemble": ["?"]})
    result, execution = await result_of("self.md_ensemble(['x', 'y'], problem)", chat=chat)
    assert result == {"solution": "x"}
    assert "unreadable choice" in execution.trace[0].error


async def test_majority_vote_costs_nothing() -> None:
    chat = ScriptedChat()
    result, execution = await result_of("self.majority_vote(['7', ' Yes', 'yes ', 'no'])", chat=chat)
    assert result == {"response": " Yes", "agreement": 0.5}
    assert (execution.num_calls, execution.cost_usd, chat.calls) == (0, 0.0, [])


VERDICTS = {
    "<verdict>true</verdict><feedback>fine</feedback>": (True, "fine"),
    "<verdict>False</verdict><feedback>wrong sum</feedback>": (False, "wrong sum"),
    "<review_result>false</review_result>\n<feedback>x": (False, "x"),
    "False. The sum is wrong.": (False, "False. The sum is wrong."),
    "Incorrect: 5": (False, "Incorrect: 5"),
    "**Yes**, it is right": (True, "**Yes**, it is right"),
    '{"review_result": false, "feedback": "x"}': (False, '{"review_result": false, "feedback": "x"}'),
    "It depends": (None, "It depends"),
}


@pytest.mark.parametrize("text", VERDICTS)
def test_verdicts_are_read_tolerantly(text: str) -> None:
    assert replies.verdict(text) == VERDICTS[text]


async def test_review_result_is_a_real_bool() -> None:
    chat = ScriptedChat({"review": ["<verdict>false</verdict><feedback>bad</feedback>"]})
    result, _ = await result_of("self.review(problem, 'x')", chat=chat)
    assert result == {"review_result": False, "feedback": "bad"}
    body = "r = await self.review(problem, 'x')\nif not r['review_result']:\n    return 'revise'\nreturn 'keep'"
    assert (await run(valid(workflow_text(body)), chat=chat)).answer == "revise"


async def test_an_unreadable_review_keeps_the_solution_and_is_flagged() -> None:
    result, execution = await result_of("self.review(problem, 'x')", chat=ScriptedChat({"review": ["Hm."]}))
    assert result["review_result"] is True  # type: ignore[index]
    assert execution.trace[0].error == "unreadable verdict"


@pytest.mark.parametrize("task", [MATH, QA])
@pytest.mark.parametrize(
    "reply", ["```python\ndef solve():\n    return 4\n```", "def solve():\n    return 4", "import math\nprint(4)"]
)
async def test_revise_never_turns_an_answer_into_code(task: Task, reply: str) -> None:
    chat = ScriptedChat({"revise": [reply]})
    result, execution = await result_of("self.revise(problem, 'four', 'check it')", task, chat=chat)
    assert (result, execution.trace[0].error) == ({"solution": "four"}, "reply was code")


async def test_revise_of_code_takes_the_fence() -> None:
    chat = ScriptedChat({"revise": ["Sure:\n```python\ndef add(a, b):\n    return a + b\n```"]})
    result, _ = await result_of("self.revise(problem, 'x', 'y')", CODE, chat=chat)
    assert result == {"solution": "def add(a, b):\n    return a + b"}


async def test_format_gives_the_bare_answer() -> None:
    result, _ = await result_of("self.format(problem, 'x')", chat=ScriptedChat({"format": ["The answer is: 42 "]}))
    assert result == {"solution": "42"}


async def test_arguments_that_are_no_text_become_text() -> None:
    chat = ScriptedChat()
    body = (
        "r = await self.custom(input={'a': 1}, instruction=None)\ns = await self.sc_ensemble(solutions='one')\nreturn s"
    )
    await run(valid(workflow_text(body)), chat=chat)
    assert chat.users("custom") == ["<input>\n{'a': 1}\n</input>"]
    assert chat.users("sc_ensemble") == ['<candidate id="A">\none\n</candidate>']


@pytest.mark.parametrize("status", [s for s in ChatStatus if s.masks])
async def test_a_fault_of_the_endpoint_masks(status: ChatStatus) -> None:
    chat = ScriptedChat({"custom": [ChatReply(status=status, error="503")]})
    _, execution = await result_of("self.custom(problem, '')", chat=chat)
    assert (execution.status, execution.answer) == ("masked", "")
    assert (execution.reason, execution.trace[0].error) == (f"masked:executor:{status}", f"{status}: 503")


async def test_a_refusal_is_an_empty_value() -> None:
    chat = ScriptedChat({"custom": [ChatReply(status=ChatStatus.REFUSED)]})
    result, execution = await result_of("self.custom(problem, '')", chat=chat)
    assert (result, execution.status, execution.trace[0].error) == ({"response": ""}, "ok", "refused")


async def test_a_fault_of_the_sandbox_masks() -> None:
    broken = ScriptedRunner(
        results=[CodeResult(status=CodeStatus.INFRASTRUCTURE, error="gone")],
        checks=[CheckResult(status=CodeStatus.INFRASTRUCTURE, error="gone")],
    )
    for call, task in (("self.programmer(problem)", MATH), ("self.test(problem, 'x', 'f')", CODE)):
        _, execution = await result_of(call, task, runner=broken)
        assert (execution.status, execution.reason) == ("masked", "masked:sandbox")


async def test_a_users_budget_passes_through() -> None:
    def broke(messages: object, context: object) -> str:
        raise BudgetReached("the run's 1.00 USD are spent")

    with pytest.raises(BudgetReached, match="are spent"):
        await result_of("self.custom(problem, '')", chat=ScriptedChat({"custom": [broke]}))


def test_the_specification_is_consistent() -> None:
    aflows = ["custom", "answer_generate", "custom_code_generate", "programmer", "test"]
    aflows += ["sc_ensemble", "md_ensemble", "majority_vote", "review", "revise", "format"]
    assert [slot for slot in OPERATORS if slot in aflows] == aflows
    restricted = {slot: OPERATORS[slot].domains for slot in aflows if OPERATORS[slot].domains != DOMAINS}
    assert restricted == {"custom_code_generate": ("code",), "programmer": ("math",), "test": ("code",)}
    asking = {slot for slot, spec in OPERATORS.items() if spec.max_calls}
    assert asking >= set(system_prompts().values()) >= asking & set(aflows)


async def test_operators_keep_to_their_number_of_calls_and_result_keys() -> None:
    kinds = {"str": str, "bool": bool, "int": int, "float": float}
    for slot, spec in OPERATORS.items():
        given = ", ".join(f"{a.name}=" + ("['x', 'y']" if a.kind == "list[str]" else "'x'") for a in spec.arguments)
        result, execution = await result_of(f"self.{slot}({given})", CODE)
        assert {key: type(value) for key, value in result.items()} == {  # type: ignore[attr-defined]
            key: kinds[kind] for key, kind in spec.results.items()
        }
        assert spec.min_calls <= execution.num_calls <= spec.max_calls


def test_the_readme_has_the_generated_table() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    begin, end = "<!-- operators -->", "<!-- /operators -->"
    shown = readme.read_text(encoding="utf-8").split(begin)[1].split(end)[0].strip()
    assert shown == operator_table(), "put between the marks what `print(grpo_aflow.workflow.operator_table())` prints"
