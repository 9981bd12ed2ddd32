"""What of a returned value is the answer: of tuples and dicts, in the checker, the interpreter and the graph."""

from __future__ import annotations

import pytest
from scripted_executor import FIRST_LINE, MATH, RULES, answer_of, run, valid, workflow_text

from grpo_aflow.workflow import answers, check_text
from grpo_aflow.workflow.graph import operator_graph

DRAFT = "r = await self.custom(problem, 'a')\n"
SAID = "custom says \\boxed{4}"
ANSWERS = {
    "an operator's result": ("return await self.custom(problem, 'a')", SAID),
    "a result by its name": (DRAFT + "return r", SAID),
    "a result with a further key": ("return await self.programmer(problem)", "4"),
    "a thought beside the answer": ("return await self.answer_generate(problem)", "4"),
    "a result and the cost": (DRAFT + "return r, self.llm.get_usage_summary()['total_cost']", SAID),
    "a result of either branch": (DRAFT + "return r if r else await self.answer_generate(problem)", SAID),
    "a dict": (DRAFT + "return {'answer': r['response'], 'cost': 0.1}", SAID),
    "a dict by its name": (DRAFT + "d = {'n': 1}\nd['solution'] = r['response']\nreturn d", SAID),
    "a result in a dict": (DRAFT + "return {'answer': r, 'cost': 0.1}", SAID),
    "a dict made by dict()": (DRAFT + "return dict(output=r['response'])", SAID),
    "answer, text and cost": ("return problem, 'because', 0.1", MATH.problem),
    "answer and text": ("return problem, 'because'", MATH.problem),
    "a tuple by its name": ("t = (problem, 1, 2, 3)\nreturn t", MATH.problem),
    "an empty tuple": ("return ()", "()"),
    "a list is its text": ("return [1, 2]", "[1, 2]"),
    "a number": ("return 4, 0.1", "4"),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_the_answer_of_what_is_returned(name: str) -> None:
    body, expected = ANSWERS[name]
    assert await answer_of(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        "return await self.review(problem, 'x')",
        "r = await self.review(problem, 'x')\nreturn r",
        "r = await self.review(problem, 'x')\nreturn r, 0.1",
        "r = await self.review(problem, 'x')\nreturn {'answer': r}",
        "return self.llm.get_usage_summary()",
        "return {}",
        "return {'cost': 1}",
        "return {None: problem}",
        "return {'answer': problem, 'solution': problem}",
        "return problem if problem else {1: 2}",
    ],
)
def test_a_dict_without_one_answer_is_refused(body: str) -> None:
    findings = check_text(workflow_text(body), domain=None, rules=RULES).findings
    assert [(f.code, f.line) for f in findings] == [("E206", FIRST_LINE + body.count("\n"))]
    assert "answer, output, response, solution" in findings[0].message


@pytest.mark.parametrize(
    "body", ["d = {'a': 1}\nreturn d", "d = {None: 'a'}\nreturn d", "d = {}\nd['answer'] = d\nreturn d"]
)
async def test_a_dict_that_is_known_only_when_it_runs_is_no_answer(body: str) -> None:
    assert await answer_of(body) == "failed failed:NoAnswer"


def test_a_note_says_what_is_taken_out_of_a_result() -> None:
    checked = check_text(workflow_text("return await self.programmer(problem)"), domain=None, rules=RULES)
    assert checked.notes == (f"line {FIRST_LINE}: of the result that is returned, 'output' is the answer",)
    assert checked.repairs == ()


async def test_a_result_returned_without_await_is_repaired() -> None:
    checked = check_text(workflow_text("return self.custom(problem, 'a')"), domain=None, rules=RULES)
    assert checked.repairs == ("missing_await",)
    assert checked.workflow is not None
    assert (await run(checked.workflow)).answer == SAID


def test_only_the_answer_of_a_dict_is_in_the_graph() -> None:
    body = DRAFT + "s = await self.review(problem, 'x')\nreturn {'answer': r['response'], 'notes': s['feedback']}"
    graph = operator_graph(valid(workflow_text(body)))
    assert (graph.operators, graph.answer) == (("custom",), frozenset({0}))


def test_keys_and_values() -> None:
    assert answers.answer_key(["a", 1, "output"]) == "output"
    assert answers.answer_key(["answer", "output"]) is answers.answer_key([]) is None
    assert answers.answer_of(({"answer": {"response": "x"}}, 1)) == "x"
    assert answers.answer_of(((1, 2), 3)) == (1, 2)
    assert answers.answer_of({"a": 1}) is None
