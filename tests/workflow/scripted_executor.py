"""An executor and a sandbox that play a script, and short ways to write, check and run workflows in tests."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from grpo_aflow.tasks import GraderReading
from grpo_aflow.types import (
    CallContext,
    ChatReply,
    ChatStatus,
    CheckResult,
    CodeResult,
    CodeStatus,
    Domain,
    Execution,
    Message,
    Task,
)
from grpo_aflow.workflow import Interpreter, Workflow, WorkflowRules, check_text
from grpo_aflow.workflow.operators.instructions import system_prompt
from grpo_aflow.workflow.operators.table import OPERATORS
from grpo_aflow.workflow.rules import default_rules

RULES = dataclasses.replace(default_rules(), min_operator_calls=0)  # most tests compute without an operator
MATH = Task(id="m", dataset="gsm8k", domain="math", problem="What is 2+2?", answers=("4",))
QA = Task(
    id="q", dataset="squad2", domain="qa", problem="Context: Ada was born in 1815.\nQuestion: When?", answers=("1815",)
)
CODE = Task(
    id="c",
    dataset="humaneval",
    domain="code",
    problem='def add(a, b):\n    """Add."""\n',
    answers=("def add(a, b):\n    return a + b\n",),
    entry_point="add",
    public_tests=("assert add(1, 2) == 3", "assert add(0, 0) == 0"),
    hidden_tests=("assert add(5, 5) == 10  # HIDDEN",),
)
TASKS: dict[Domain, Task] = {"math": MATH, "qa": QA, "code": CODE}

PLAUSIBLE = {
    "custom": "custom says \\boxed{4}",
    "answer_generate": "<thought>because</thought><answer>4</answer>",
    "custom_code_generate": "```python\ndef add(a, b):\n    return a + b\n```",
    "programmer": "```python\ndef solve():\n    return 4\n```",
    "test": "```python\ndef add(a, b):\n    return a + b\n```",
    "sc_ensemble": "<choice>A</choice>",
    "md_ensemble": "<choice>A</choice>",
    "review": "<verdict>false</verdict><feedback>fix it</feedback>",
    "revise": "revised \\boxed{5}",
    "format": "4",
}

Script = str | ChatReply | Callable[[Sequence[Message], CallContext], str | ChatReply]


@dataclass
class ScriptedChat:
    """Answers by operator: a list is played to its end, then its last entry again."""

    script: dict[str, list[Script]] = field(default_factory=dict)
    calls: list[tuple[CallContext, list[Message]]] = field(default_factory=list)
    num_at_once: int = 0
    most_at_once: int = 0
    delay_s: float = 0.0
    paused_s: float = 0.0

    async def chat(
        self, messages: Sequence[Message], *, context: CallContext, temperature: float, max_tokens: int
    ) -> ChatReply:
        spec = OPERATORS[context.operator]
        assert messages[0]["content"] in [system_prompt(spec, context.domain, name) for name in spec.prompts]
        played = [c for c, _ in self.calls if c.operator == context.operator]
        self.calls.append((context, list(messages)))
        self.num_at_once += 1
        self.most_at_once = max(self.most_at_once, self.num_at_once)
        try:
            await asyncio.sleep(self.delay_s)
        finally:
            self.num_at_once -= 1
        lines = self.script.get(context.operator) or [PLAUSIBLE.get(context.operator, "plausible")]
        line = lines[min(len(played), len(lines) - 1)]
        reply = line(messages, context) if callable(line) else line
        if isinstance(reply, ChatReply):
            return reply
        return ChatReply(
            status=ChatStatus.OK,
            text=reply,
            prompt_tokens=100,
            completion_tokens=10,
            cost_usd=0.001,
            latency_s=self.delay_s,
        )

    def users(self, operator: str) -> list[str]:
        """The user messages that an operator has sent."""
        return [messages[1]["content"] for context, messages in self.calls if context.operator == operator]


@dataclass
class ScriptedRunner:
    """Plays results of runs and of checks; the last one again and again."""

    results: list[CodeResult] = field(default_factory=lambda: [CodeResult(status=CodeStatus.OK, value="4")])
    checks: list[CheckResult] = field(default_factory=lambda: [CheckResult(status=CodeStatus.OK, passed=True)])
    ran: list[str] = field(default_factory=list)
    checked: list[tuple[str, str, str]] = field(default_factory=list)

    def run(self, source: str, *, call: str = "", timeout_s: float = 5.0) -> CodeResult:
        self.ran.append(source)
        return self.results[min(len(self.ran), len(self.results)) - 1]

    def check(
        self, candidate: str, test: str, *, entry_point: str, setup: str = "", timeout_s: float = 5.0
    ) -> CheckResult:
        self.checked.append((candidate, test, entry_point))
        return self.checks[min(len(self.checked), len(self.checks)) - 1]

    def close(self) -> None:
        pass


def workflow_text(body: str, *, signature: str = "problem", slots: Sequence[str] = tuple(OPERATORS)) -> str:
    """A workflow with the given lines in `__call__`; they begin at FIRST_LINE when all slots are set."""
    lines = ["class Workflow:", "    def __init__(self, name, llm_config, dataset):"]
    lines += ["        self.llm = create_llm_instance(llm_config)"]
    lines += [f"        self.{slot} = operator.{OPERATORS[slot].class_name}(self.llm)" for slot in slots]
    lines += [f"    async def __call__(self, {signature}):"]
    lines += [f"        {line}" for line in body.strip("\n").split("\n")]
    return "\n".join(lines) + "\n"


FIRST_LINE = 5 + len(OPERATORS)


def valid(text: str, *, domain: Domain | None = None, rules: WorkflowRules = RULES) -> Workflow:
    """The workflow of a text that must be valid without repair."""
    checked = check_text(text, domain=domain, rules=rules, repair=False)
    assert checked.workflow is not None, checked.findings
    return checked.workflow


def codes(text: str, *, domain: Domain | None = None, rules: WorkflowRules = RULES) -> list[tuple[str, int]]:
    """(code, line) of each finding, without repair."""
    checked = check_text(text, domain=domain, rules=rules, repair=False)
    return [(finding.code, finding.line) for finding in checked.findings]


async def run(
    workflow: Workflow,
    task: Task = MATH,
    *,
    chat: ScriptedChat | None = None,
    runner: object = None,
    rules: WorkflowRules = RULES,
) -> Execution:
    """Run a workflow against the script."""
    interpreter = Interpreter(
        rules=rules,
        chat=chat or ScriptedChat(),
        runner=runner or ScriptedRunner(),  # type: ignore[arg-type]
        reader=GraderReading(),
        temperature=0.7,
        max_tokens=512,
    )
    return await interpreter.run(workflow, task, step=3, member=1)


async def answer_of(
    body: str, task: Task = MATH, *, signature: str = "problem", chat: ScriptedChat | None = None
) -> str:
    """The answer of the workflow with these lines; "status reason" where it did not end well."""
    execution = await run(valid(workflow_text(body, signature=signature)), task, chat=chat)
    return execution.answer if execution.status == "ok" else f"{execution.status} {execution.reason}"
