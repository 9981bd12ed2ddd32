"""Operators from outside the package: loading, prompt, validator, interpreter, bound, simulated executor."""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from scripted_executor import MATH, ScriptedRunner, run

from grpo_aflow.simulation.world import World
from grpo_aflow.types import CallContext, ChatReply, ChatStatus, Message, UserError
from grpo_aflow.workflow import check_text
from grpo_aflow.workflow.operators.table import load, operator_table, system_prompts
from grpo_aflow.workflow.prompt import operator_section
from grpo_aflow.workflow.rules import default_rules

ROOT = Path(__file__).resolve().parents[2]
PLACE = "experiments.your_own.operators."
NAMES = [PLACE + name for name in ("SelfRefine", "Debate", "ExtractAnswer")]
TEXT = """
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.debate = operator.Debate(self.llm)
        self.self_refine = operator.SelfRefine(self.llm)
        self.extract_answer = operator.ExtractAnswer(self.llm)

    async def __call__(self, problem):
        debated = await self.debate(problem=problem)
        refined = await self.self_refine(problem=problem, solution=debated["answer"])
        short = await self.extract_answer(solution=refined["solution"], problem=problem)
        return short["answer"]
"""


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])


class WorldChat:
    """The simulated world as an executor, without the wire."""

    paused_s = 0.0

    def __init__(self, accuracy: float) -> None:
        from grpo_aflow.simulation.world import BEHAVIOURS, ENSEMBLES

        self.calls: list[CallContext] = []
        self.world = World(
            tasks=[MATH],
            system_prompts=system_prompts(load(tuple(NAMES))),
            accuracy=dict.fromkeys(BEHAVIOURS, accuracy),
            ensemble_power=dict.fromkeys(ENSEMBLES, 2.0),
            seed=1,
        )

    async def chat(
        self, messages: Sequence[Message], *, context: CallContext, temperature: float, max_tokens: int
    ) -> ChatReply:
        self.calls.append(context)
        body: Mapping[str, object] = {"messages": list(messages), "seed": len(self.calls)}
        return ChatReply(status=ChatStatus.OK, text=self.world.reply(body))


async def test_the_three_run_end_to_end_against_the_simulated_world() -> None:
    rules = dataclasses.replace(default_rules(), operators=NAMES)
    checked = check_text(TEXT, domain="math", rules=rules, repair=False)
    assert checked.workflow is not None, checked.findings
    assert (checked.workflow.max_operator_calls, checked.workflow.max_llm_calls) == (3, 5 + 4 + 1)
    chat = WorldChat(1.0)
    execution = await run(checked.workflow, MATH, chat=chat, runner=ScriptedRunner(), rules=rules)  # type: ignore[arg-type]
    assert (execution.status, [call.slot for call in execution.trace]) == (
        "ok",
        ["debate", "self_refine", "extract_answer"],
    )
    assert "4" in execution.answer
    assert [c.operator for c in chat.calls][:6] == ["debate"] * 5 + ["self_refine"]


def test_all_that_they_need_is_imported_from_one_place() -> None:
    tree = ast.parse((ROOT / "experiments" / "your_own" / "operators.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {getattr(node, "module", None) for node in imports} == {"__future__", "grpo_aflow.workflow.operators"}


def test_prompt_and_table_show_them() -> None:
    section = operator_section("math", {}, NAMES)
    assert "self.debate(problem: str) -> {answer: str}" in section
    assert "ExtractAnswer" not in operator_section("code", {}, NAMES)
    assert "| debate | Debate |" in operator_table(load(tuple(NAMES)))


def test_without_the_setting_they_are_unknown() -> None:
    checked = check_text(TEXT, domain="math", rules=default_rules())
    assert {finding.code for finding in checked.findings} == {"E207"}


MODULE = """
from grpo_aflow.workflow.operators import Kind, OperatorSpec, Prompt, texts
def spec(slot="mine", class_name="Mine", **more):
    given = dict(arguments=texts("problem"), results={"answer": Kind.TEXT}, min_calls=1, max_calls=1,
                 description="x", prompts={"main": Prompt("Answer.")})
    return OperatorSpec(slot=slot, class_name=class_name, **(given | more))
class Good:
    spec = spec()
    async def run(self, context, problem):
        return {"answer": await context.ask({"problem": problem})}
class Clash(Good):
    spec = spec(slot="custom")
class NoSpec:
    async def run(self, context, problem): ...
class NoRun:
    spec = spec()
class Plain(Good):
    def run(self, context, problem): ...
class OtherArguments(Good):
    async def run(self, context, question): ...
class Needy(Good):
    def __init__(self, llm): ...
class Nowhere(Good):
    spec = spec(prompts={"main": Prompt("x", "magic")})
class Greedy(Good):
    async def run(self, context, problem):
        await context.ask({"problem": problem})
        return {"answer": await context.ask({"problem": problem})}
class Liar(Good):
    async def run(self, context, problem):
        return {"reply": await context.ask({"problem": problem})}
class Typed(Good):
    async def run(self, context, problem):
        return {"answer": 4}
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Debate", "write module.Class"),
        ("no_such_package.Debate", "no_such_package cannot be imported (ModuleNotFoundError"),
        ("own_operators.Gone", "own_operators has no class Gone"),
        ("own_operators.spec", "has no class spec"),
        ("own_operators.Clash", "custom is the name of another operator"),
        ("own_operators.NoSpec", "NoSpec has no `spec"),
        ("own_operators.NoRun", "NoRun has no `async def run"),
        ("own_operators.Plain", "Plain has no `async def run"),
        ("own_operators.OtherArguments", "does not take the arguments of its spec"),
        ("own_operators.Needy", "must be made without arguments"),
        ("own_operators.Nowhere", "simulated_as='magic' is none of custom"),
        ("broken_operators.X", "broken_operators cannot be imported (ZeroDivisionError"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    (tmp_path / "own_operators.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken_operators.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ValueError, match="operators: ") as caught:
        dataclasses.replace(default_rules(), operators=[name])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Greedy", "made more than its max_calls=1 calls"),
        ("Liar", "run must return a dict with answer: str; got reply"),
        ("Typed", "answer must be str; got int"),
    ],
)
async def test_a_broken_promise_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    (tmp_path / "own_operators.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    rules = dataclasses.replace(default_rules(), operators=[f"own_operators.{name}"])
    text = TEXT.split("        self.debate")[0] + (
        "        self.mine = operator.Mine(self.llm)\n\n    async def __call__(self, problem):\n"
        "        return (await self.mine(problem=problem))['answer']\n"
    )
    checked = check_text(text, domain="math", rules=rules)
    assert checked.workflow is not None, checked.findings
    with pytest.raises(UserError, match=f"operator Mine.*{message}"):
        await run(checked.workflow, MATH, chat=WorldChat(1.0), rules=rules)  # type: ignore[arg-type]
