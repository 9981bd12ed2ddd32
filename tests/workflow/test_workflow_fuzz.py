"""Property tests: generated programs and mutations of valid ones never raise, hang, or make more calls than bounded."""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_executor import CODE, MATH, QA, RULES, ScriptedChat, ScriptedRunner, run, workflow_text

from grpo_aflow.types import ExecutionStatus, Task
from grpo_aflow.workflow import check_text
from grpo_aflow.workflow.checking.extract import extract_source
from grpo_aflow.workflow.graph import operator_graph
from grpo_aflow.workflow.language import CODES
from grpo_aflow.workflow.operators import Kind, programs, replies
from grpo_aflow.workflow.operators.table import OPERATORS

SMALL = replace(RULES, max_steps=3000, max_value_size=20_000, max_total_size=200_000)
MANY = settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
SOME = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
NAMES = ["problem", "a", "b", "c", "xs", "r", "entry_point", "len", "self"]
METHODS = [
    "strip",
    "split",
    "append",
    "get",
    "items",
    "format",
    "join",
    "pop",
    "count",
    "replace",
    "update",
    "sort",
    "keys",
]
BUILTINS = [
    "len",
    "str",
    "int",
    "float",
    "list",
    "max",
    "min",
    "sum",
    "sorted",
    "range",
    "enumerate",
    "zip",
    "set",
    "map",
    "Counter",
]


class Writer:
    """Writes random programs of the language, and now and then a little beyond it."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def pick(self, items: list[str]) -> str:
        return self.draw.choice(items)

    def pick_lines(self, *forms: list[str]) -> list[str]:
        return self.draw.choice(forms)

    def expression(self, depth: int) -> str:
        if depth <= 0 or self.draw.random() < 0.2:
            return self.pick(
                [*NAMES[:6], "1", "0", "-3", "2.5", "'ab'", "''", "'{}'", "None", "True", "[]", "{}", "()", "10**9"]
            )
        inner = lambda: self.expression(depth - 1)  # noqa: E731
        form = self.draw.randrange(17)
        form -= 14 if form >= 14 and self.draw.random() < 0.6 else 0
        if form == 0:
            return f"({inner()} {self.pick(['+', '-', '*', '/', '//', '%', '**', '|', '&'])} {inner()})"
        if form == 1:
            return f"({inner()} {self.pick(['==', '<', '>=', 'in', 'not in', 'is', 'is not', '!='])} {inner()})"
        if form == 2:
            return f"({inner()} {self.pick(['and', 'or'])} {inner()})"
        if form == 3:
            return f"(not {inner()})"
        if form == 4:
            return f"({inner()} if {inner()} else {inner()})"
        if form == 5:
            return f"[{inner()}, {inner()}]"
        if form == 6:
            return f"{{{inner()}: {inner()}}}"
        if form == 7:
            return f"[{inner()} for {self.pick(['a', 'b', 'z'])} in {inner()}]"
        if form == 8:
            return f"{inner()}[{inner()}]"
        if form == 9:
            return f"{inner()}[{inner()}:{inner()}]"
        if form == 10:
            return f"{inner()}.{self.pick(METHODS)}({self.pick(['', inner(), inner() + ', ' + inner()])})"
        if form == 11 and self.draw.random() < 0.1:
            return f"{self.pick(['sorted', 'max', 'min'])}({inner()}, key=lambda z: {self.pick(['z', inner()])})"
        if form == 11:
            return f"{self.pick(BUILTINS)}({self.pick(['', inner(), inner(), inner() + ', ' + inner()])})"
        if form == 12:
            return "f'{" + self.pick(["problem", "a", "r"]) + self.pick(["", "!r", ":.2f", ":>5", ":d"]) + "}'"
        if form == 13:
            return "self.llm.get_usage_summary()['total_cost']"
        if form == 14:
            gathered = f"asyncio.gather({self.call(depth - 1)}, {self.call(depth - 1)})"
            return self.pick([f"await {gathered}", f"await asyncio.wait_for({gathered}, {inner()})"])
        if form == 15:
            return f"await asyncio.gather(*[{self.call(depth - 1)} for z in {inner()}])"
        return f"(await {self.call(depth - 1)})" + self.pick(["", "['response']", "['solution']", ".get('answer', 1)"])

    def call(self, depth: int) -> str:
        spec = self.draw.choice(list(OPERATORS.values()))
        texts = [f"{a.name}=" + (f"[{self.expression(depth)}]" if a.kind is Kind.TEXTS else self.expression(depth))
                 for a in spec.arguments if a.default is None or self.draw.random() < 0.5]  # fmt: skip
        if self.draw.random() < 0.03:
            texts = texts[1:]
        return f"self.{spec.slot}({', '.join(texts)})"

    def block(self, depth: int, indent: str) -> list[str]:
        lines: list[str] = []
        for _ in range(self.draw.randint(1, 3)):
            lines += [indent + line for line in self.statement(depth)]
        return lines

    def statement(self, depth: int) -> list[str]:
        value = self.expression(self.draw.randint(0, 3))
        name = self.pick(NAMES[1:6])
        form = self.draw.randrange(12 if depth > 0 else 6)
        if form <= 2:
            return [f"{name} = {value}"]
        if form == 3:
            return [f"{name} {self.pick(['+=', '-=', '*='])} {value}"]
        if form == 4:
            return [self.pick([f"{name}, b = {value}", f"{name}[{value}] = 1", f"self.seen = {value}", value, "pass"])]
        if form == 5:
            return [f"return {value}"] if self.draw.random() < 0.4 else [f"xs.append({value})"]
        inner = self.block(depth - 1, "    ")
        if form <= 7:
            other = ["else:", *self.block(depth - 1, "    ")] if self.draw.random() < 0.5 else []
            return [f"if {value}:", *inner, *other]
        if form <= 9:
            source = self.pick(["range(2)", "range(3)", "'ab'", value, f"enumerate({value})", "xs"])
            way_out = ["    " + self.pick(["break", "continue"])] if self.draw.random() < 0.2 else []
            return [f"for {self.pick(['a', 'b', 'a, b'])} in {source}:", *inner, *way_out]
        if form == 10:
            return [f"while {value}:", *inner]
        return self.pick_lines(
            ["c = 0", "while c < 3:", *inner, "    c += 1"],
            ["n = 3", f"while {value} and n > 0:", "    n -= 1", *inner],
            ["n = 0", "while True:", "    n += 1", f"    if {value} or n >= 3:", "        break", *inner],
        )

    def workflow(self) -> str:
        assigned = ["a = 1", "b = 'b'", "c = [1, 'x']", "xs = []", "r = {'response': problem}"]
        lines = (
            assigned[: self.draw.randint(3, 5)]
            + self.block(2, "")
            + self.block(1, "")
            + [self.pick(["return r", "return r, b", "return {'answer': r}"])]
        )
        signature = self.pick(["problem", "problem, entry_point", "problem: str, entry_point: str, test: str"])
        return workflow_text("\n".join(lines), signature=signature)


def hold(text: str, task: Task = MATH, *, fault: bool = False) -> str:
    """Check, draw and run a text; the property itself. Returns what became of it."""
    checked = check_text(text, domain=None, rules=SMALL)
    assert (checked.workflow is None) == bool(checked.findings)
    assert all(finding.code in CODES and finding.line >= 1 and finding.message for finding in checked.findings)
    assert "\n" not in "".join(finding.message for finding in checked.findings)
    if checked.workflow is None:
        assert checked.repairs == ()
        return checked.findings[0].code
    again = check_text(checked.source, domain=None, rules=SMALL, repair=False)
    assert again.workflow is not None, "a repaired source is valid as it is"
    graph = operator_graph(checked.workflow)
    assert len(graph.operators) <= len(checked.workflow.calls)
    chat = ScriptedChat({"custom": [""]} if fault else {})
    execution = asyncio.run(run(checked.workflow, task, chat=chat, runner=ScriptedRunner(), rules=SMALL))
    assert len(execution.trace) <= checked.workflow.max_operator_calls
    assert execution.num_calls == len(chat.calls) <= checked.workflow.max_llm_calls
    assert sorted(context.ordinal for context, _ in chat.calls) == [context.ordinal for context, _ in chat.calls] or (
        chat.most_at_once > 1
    )
    assert (execution.answer == "") or execution.status is ExecutionStatus.OK
    return str(execution.status)


@pytest.mark.slow
@MANY
@given(st.integers(0, 2**32))
def test_generated_programs(seed: int) -> None:
    hold(Writer(seed).workflow(), [MATH, QA, CODE][seed % 3], fault=seed % 5 == 0)


def test_generated_programs_are_a_fair_mixture() -> None:
    outcomes = [hold(Writer(seed).workflow()) for seed in range(150)]
    assert sum(outcome == "ok" for outcome in outcomes) >= 5
    assert sum(outcome == "failed" for outcome in outcomes) >= 5
    assert len(set(outcomes)) >= 6


GOOD = [
    "for i in range(3):\n    r = await self.custom(input=problem, instruction=f'try {i}')\n"
    "    if r['response']:\n        break\n"
    "return r['response'], self.llm.get_usage_summary()['total_cost']",
    "xs = []\nfor i in ['a', 'b']:\n    r = await self.answer_generate(input=problem + i)\n    xs.append(r['answer'])\n"
    "best = await self.sc_ensemble(solutions=xs, problem=problem)\nreturn best.get('response', '')",
    "r = await self.review(problem=problem, solution='x')\nif not r['review_result']:\n"
    "    v = await self.revise(problem=problem, solution='x', feedback=r['feedback'])\n"
    "    return v['solution']\nreturn 'x'",
    "rs = await asyncio.gather(*[self.programmer(problem=problem) for _ in range(2)])\n"
    "v = await self.majority_vote(solutions=[r['output'] for r in rs])\n"
    "return v['response'] if v['agreement'] > 0.5 else ''",
]  # fmt: skip
PIECES = re.compile(r"\w+|\s+|[^\w\s]")
NOISE = ["", " ", "\n", "    ", "\t", "(", ")", ":", ",", "'", '"', "await ", "self", ".", "[0]", "**", "lambda: "]
NOISE += [
    "import os\n",
    "while True:",
    "return",
    "not ",
    "{",
    "}",
    "#",
    "\\",
    "async ",
    "`",
    "```",
    "é",
    "\0",
    "= ",
    "1e999",
]
NOISE += ["__class__"]


@pytest.mark.slow
@settings(parent=MANY, max_examples=2500)
@given(
    st.integers(0, len(GOOD) - 1),
    st.lists(st.tuples(st.integers(0, 999), st.integers(0, 99), st.integers(0, 3)), max_size=4),
)
def test_mutations_of_valid_programs(which: int, edits: list[tuple[int, int, int]]) -> None:
    pieces = PIECES.findall(workflow_text(GOOD[which], slots=list(OPERATORS)[:: 1 + which % 2]))
    for place, noise, kind in edits:
        i = place * len(pieces) // 1000
        other = pieces[(place * 7) % len(pieces)]
        pieces[i] = [NOISE[noise % len(NOISE)], pieces[i] + NOISE[noise % len(NOISE)], other, pieces[i] * 2][kind]
    hold("".join(pieces))


@SOME
@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    hold(text)
    hold("class Workflow:\n" + text)


@settings(parent=SOME, max_examples=800)
@given(st.text(alphabet="`~ \n\tpythonclass Workflow:def __call__(self)<|im_end|>x=1'\"", max_size=200))
def test_any_fences(text: str) -> None:
    assert isinstance(extract_source(text), str)
    hold(text)


@SOME
@given(st.text(max_size=200), st.integers(0, 60))
def test_replies_are_read_without_raising(text: str, num_candidates: int) -> None:
    index = replies.choice(text, [f"text {i}" for i in range(num_candidates)])
    assert index is None or 0 <= index < num_candidates
    assert isinstance(replies.verdict(text)[1], str)
    assert all(isinstance(part, str) for part in replies.thought_and_answer(text))
    assert isinstance(programs.code(text, "f"), str)
    assert isinstance(replies.short_answer(text), str)
    assert isinstance(programs.solving_program(text), str)
    programs.looks_like_code(text)


@pytest.mark.slow
@settings(parent=SOME, max_examples=300)
@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_executions_are_deterministic(seed: int, order: int) -> None:
    """The same answers give the same execution, in whatever order they arrive."""
    checked = check_text(Writer(seed).workflow(), domain=None, rules=SMALL)
    if checked.workflow is None:
        return

    class Late(ScriptedChat):
        async def chat(self, messages, *, context, temperature, max_tokens):  # type: ignore[no-untyped-def]
            for _ in range(random.Random(repr((order, context.ordinal))).randrange(4)):
                await asyncio.sleep(0)
            return await super().chat(messages, context=context, temperature=temperature, max_tokens=max_tokens)

    first = asyncio.run(run(checked.workflow, rules=SMALL))
    second = asyncio.run(run(checked.workflow, chat=Late(), rules=SMALL))
    assert first == second
