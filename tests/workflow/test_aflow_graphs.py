"""Graphs in the style of AFlow's published ones, a pair of files per dataset, load and run unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_executor import CODE, MATH, QA, ScriptedChat, run, valid

from grpo_aflow.types import Task, UserError
from grpo_aflow.workflow import check_text
from grpo_aflow.workflow.command import main
from grpo_aflow.workflow.fixed import load_fixed
from grpo_aflow.workflow.rules import default_rules

HEADER = '''from typing import Literal
import workspace.{dataset}.workflows.template.operator as operator
import workspace.{dataset}.workflows.round_7.prompt as prompt_custom
from scripts.async_llm import create_llm_instance


from scripts.evaluator import DatasetType

class Workflow:
    def __init__(
        self,
        name: str,
        llm_config,
        dataset: DatasetType,
    ) -> None:
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)
{slots}

    async def __call__(self, problem: str{entry_point}):
        """
        Implementation of the workflow
        """
{body}
'''
OLD_HEADER = HEADER.replace("scripts.async_llm", "metagpt.provider.llm_provider_registry").replace(
    "import workspace.{dataset}.workflows", "import examples.aflow.scripts.optimized.{dataset}.workflows"
).replace(
    "from scripts.evaluator import DatasetType",
    'from metagpt.utils.cost_manager import CostManager\nDatasetType = Literal["HumanEval", "MBPP", "GSM8K", "MATH"]',
).replace(
    "        self.llm = create_llm_instance(llm_config)\n",
    "        self.llm = create_llm_instance(llm_config)\n        self.llm.cost_manager = CostManager()\n",
)  # fmt: skip

GRAPHS: dict[str, tuple[Task, str, str, str, str, list[str]]] = {
    "GSM8K": (
        MATH,
        HEADER,
        "custom sc_ensemble programmer",
        """
        solutions = []
        for _ in range(3):
            solution = await self.custom(input=problem, instruction=prompt_custom.SOLVE_PROMPT)
            solutions.append(solution['response'])
        agreed = await self.sc_ensemble(solutions=solutions, problem=problem)
        # Check the agreed solution by a program
        verification = await self.programmer(problem=problem, analysis=agreed['response'])
        if verification['output']:
            return verification['output'], self.llm.get_usage_summary()["total_cost"]
        return agreed['response'], self.llm.get_usage_summary()["total_cost"]
""",
        "4",
        ["custom"] * 3 + ["sc_ensemble", "programmer"],
    ),
    "MATH": (
        MATH,
        OLD_HEADER,
        "custom programmer sc_ensemble",
        """
        code_solution = await self.programmer(problem=problem)
        refined = await self.custom(
            input=problem + f"\\nCode output: {code_solution['output']}", instruction=prompt_custom.SOLVE_PROMPT
        )
        candidates = [refined['response'], code_solution['output']]
        for _ in range(2):
            more = await self.custom(input=problem, instruction=prompt_custom.SOLVE_PROMPT)
            candidates.append(more['response'])
        final = await self.sc_ensemble(solutions=candidates, problem=problem)
        return final['response'], self.llm.cost_manager.total_cost
""",
        "custom says \\boxed{4}",
        ["programmer", "custom", "custom", "custom", "sc_ensemble"],
    ),
    "HotpotQA": (
        QA,
        HEADER,
        "answer_generate sc_ensemble custom",
        """
        solutions = []
        for _ in range(3):
            initial = await self.answer_generate(input=problem)
            solutions.append(initial['answer'])
        ensembled = await self.sc_ensemble(solutions=solutions)
        formatted = await self.custom(
            input=f"Question: {problem}\\nAnswer: {ensembled['response']}", instruction=prompt_custom.SOLVE_PROMPT
        )
        return formatted['response'], self.llm.get_usage_summary()["total_cost"]
""",
        "custom says \\boxed{4}",
        ["answer_generate"] * 3 + ["sc_ensemble", "custom"],
    ),
    "DROP": (
        QA,
        OLD_HEADER,
        "custom sc_ensemble",
        """
        thoughts = []
        for i in range(4):
            instruction = prompt_custom.STEPS[i % 2] + prompt_custom.SOLVE_PROMPT
            thought = await self.custom(input=problem, instruction=instruction)
            thoughts.append(thought['response'])
        best = await self.sc_ensemble(solutions=thoughts)
        return best['response'], self.llm.cost_manager.total_cost
""",
        "custom says \\boxed{4}",
        ["custom"] * 4 + ["sc_ensemble"],
    ),
    "HumanEval": (
        CODE,
        HEADER,
        "custom custom_code_generate sc_ensemble test",
        """
        solutions = []
        for _ in range(3):
            solution = await self.custom_code_generate(
                problem=problem, entry_point=entry_point, instruction=prompt_custom.SOLVE_PROMPT
            )
            solutions.append(solution['response'])
        best = await self.sc_ensemble(solutions=solutions, problem=problem)
        test_result = await self.test(problem=problem, solution=best['response'], entry_point=entry_point)
        if test_result['result']:
            return test_result['solution'], self.llm.get_usage_summary()["total_cost"]
        else:
            fixed = await self.custom(
                input=f"Problem: {problem}\\nFailed: {best['response']}\\n{test_result['solution']}",
                instruction=prompt_custom.SOLVE_PROMPT,
            )
            return fixed['response'], self.llm.get_usage_summary()["total_cost"]
""",
        "def add(a, b):\n    return a + b",
        ["custom_code_generate"] * 3 + ["sc_ensemble", "test"],
    ),
    "MBPP": (
        CODE,
        OLD_HEADER,
        "custom_code_generate test",
        """
        for attempt in range(3):
            solution = await self.custom_code_generate(problem=problem, entry_point=entry_point, instruction="")
            checked = await self.test(problem=problem, solution=solution['response'], entry_point=entry_point)
            if checked['result']:
                return checked['solution'], self.llm.cost_manager.total_cost
        return solution['response'], self.llm.cost_manager.total_cost
""",
        "def add(a, b):\n    return a + b",
        ["custom_code_generate", "test"],
    ),
}  # fmt: skip

CLASSES = {
    "custom": "Custom",
    "sc_ensemble": "ScEnsemble",
    "programmer": "Programmer",
    "answer_generate": "AnswerGenerate",
    "custom_code_generate": "CustomCodeGenerate",
    "test": "Test",
}
PROMPTS = '''SOLVE_PROMPT = """
Solve it step by step, and mind the units: {braces} stay as they are.
"""

STEPS = ["First. ", "Second. "]
'''


def write_pair(folder: Path, dataset: str) -> Path:
    task, header, slots, body, _, _ = GRAPHS[dataset]
    shown = "\n".join(f"        self.{slot} = operator.{CLASSES[slot]}(self.llm)" for slot in slots.split())
    entry_point = ", entry_point: str" if task.domain == "code" else ""
    text = header.format(dataset=dataset, slots=shown, entry_point=entry_point, body=body.strip("\n"))
    (folder / "graph.py").write_text(text, encoding="utf-8")
    (folder / "prompt.py").write_text("# XXX_PROMPT\n" + PROMPTS, encoding="utf-8")
    return folder


@pytest.mark.parametrize("dataset", GRAPHS)
async def test_a_published_style_graph_runs_unchanged(dataset: str, tmp_path: Path) -> None:
    task, _, _, _, answer, slots = GRAPHS[dataset]
    folder = write_pair(tmp_path, dataset)
    workflow = valid(load_fixed(folder), domain=task.domain)
    chat = ScriptedChat()
    execution = await run(workflow, task, chat=chat)
    assert (execution.status, execution.answer) == ("ok", answer)
    assert [entry.slot for entry in execution.trace] == slots
    assert load_fixed(folder / "graph.py") == load_fixed(folder)
    if chat.users("custom"):
        assert "{braces} stay as they are." in chat.users("custom")[0]
    assert main([str(folder)]) == 0


def test_line_numbers_stay_those_of_the_graph(tmp_path: Path) -> None:
    folder = write_pair(tmp_path, "GSM8K")
    text = (folder / "graph.py").read_text(encoding="utf-8").replace("self.programmer(problem", "self.programmer(task")
    (folder / "graph.py").write_text(text, encoding="utf-8")
    line = next(i for i, shown in enumerate(text.split("\n"), start=1) if "programmer(task" in shown)
    findings = check_text(load_fixed(folder), domain="math", rules=default_rules()).findings
    assert {(finding.code, finding.line) for finding in findings} == {("E204", line), ("E205", line)}


def test_without_its_prompts_a_graph_is_not_valid(tmp_path: Path) -> None:
    folder = write_pair(tmp_path, "GSM8K")
    (folder / "prompt.py").unlink()
    findings = check_text(load_fixed(folder), domain="math", rules=default_rules()).findings
    assert ("E201", "prompt_custom.SOLVE_PROMPT is not defined") in {
        (f.code, f.message.split(";")[0]) for f in findings
    }


def test_a_single_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("class Workflow: pass\n", encoding="utf-8")
    (tmp_path / "prompt.py").write_text(PROMPTS, encoding="utf-8")
    assert load_fixed(path) == "class Workflow: pass\n"


def test_missing_and_broken_files_name_the_fix(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"policy.path is a workflow's .py file"):
        load_fixed(tmp_path / "nowhere.py")
    with pytest.raises(UserError, match=r"graph.py is not there"):
        load_fixed(tmp_path)
    folder = write_pair(tmp_path, "GSM8K")
    (folder / "prompt.py").write_text("X = (", encoding="utf-8")
    with pytest.raises(UserError, match="fix the prompt file"):
        load_fixed(folder)
    (folder / "graph.py").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        load_fixed(folder)
