"""HumanEval and MBPP: programs with the verdict of the run in which their publishers tested them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from grpo_aflow.tasks import load_tasks
from grpo_aflow.types import Task
from sources.published import Published, json_lines

QWEN = (
    "completion_1_1sample/humaneval_completions",
    "completion_1/humaneval_completions_multi",
    "completion_2/humaneval_completions_multi_qwenparams",
    "chat/humaneval_completions_multi_chat",
    "chat/humaneval_completions_multi_chat_postprocessed_fenceaware",
    "grid_search/humaneval_completions_temp0.70_topp0.90_topk25_post",
)
REFLEXION = (
    "simple_human_eval_py_logging",
    "simple_humaneval_py_hardest50",
    "reflexion_humaneval_py_pass_at_1",
    "simple_mbpp_py",
    "simple_mbpp_py2",
    "reflexion_mbpp_py",
    "reflexion_mbpp_py3",
)
RUN = re.compile(r"^Result: (Pass|Fail)[^\n]*\n(.*?)(?=^### \S+ Run \d|\Z)", re.M | re.S)
# AutoGen's prompt asks for a program that tests itself with a module of its own.
OWN_TESTS = re.compile(r"^.*\b(?:my_tests|run_tests)\b.*$\n?", re.M)
PASSED = "ALL TESTS PASSED"


def programs(clones: Path, data: Path) -> Iterator[Published]:
    tasks = {task.id: task for task in load_tasks("humaneval", split="test", source=str(data / "humaneval"))}
    yield from qwen(clones, tasks)
    yield from murdza(clones, tasks)
    yield from autogen(clones, tasks)
    yield from reflexion(clones)


def qwen(clones: Path, tasks: dict[str, Task]) -> Iterator[Published]:
    for name in QWEN:
        for line in json_lines(clones / f"Qwen_HumanEval/outputs/{name}.jsonl_results.jsonl"):
            task = tasks[line["task_id"].lower()]
            yield Published(f"Qwen_HumanEval {name.partition('/')[2]}", task, line["completion"], line["passed"])


def murdza(clones: Path, tasks: dict[str, Task]) -> Iterator[Published]:
    """Each page holds ten runs of a model on one problem."""
    for page in sorted((clones / "humaneval-results").glob("*/*.md")):
        _, _, runs = page.read_text(encoding="utf-8").partition("\n## Runs\n")
        for verdict, answer in RUN.findall(runs):
            task = tasks[f"humaneval/{page.stem}"]
            yield Published(f"humaneval-results {page.parent.name}", task, answer, verdict == "Pass")


def autogen(clones: Path, tasks: dict[str, Task]) -> Iterator[Published]:
    """The message whose program passed, or the last one; without the lines that call the tests."""
    for file in sorted(
        (clones / "AutoGen-HumanEval-Results").glob("*/human_eval_TwoAgents/*/*/assistant_messages.json")
    ):
        messages = json.loads(file.read_text(encoding="utf-8")).get("user_proxy", [])
        verdicts = [message["role"] == "user" and PASSED in message["content"] for message in messages]
        last = verdicts.index(True) if True in verdicts else len(messages)
        answers = [message["content"] for message in messages[:last] if message["role"] == "assistant"]
        if answers:
            model, number = file.parts[-5].removesuffix("-results"), file.parts[-3].partition("_")[2]
            answer = OWN_TESTS.sub("", answers[-1])
            yield Published(f"AutoGen {model}", tasks[f"humaneval/{number}"], answer, True in verdicts)


def reflexion(clones: Path) -> Iterator[Published]:
    """GPT-4's programs for HumanEval's and MBPP's problems; each line holds its tests, as MultiPL-E writes them."""
    for name in REFLEXION:
        (file,) = (clones / f"reflexion/programming_runs/root/{name}").glob("*.jsonl")
        for line in json_lines(file):
            if "solution" not in line:
                continue
            prompt, entry_point = line["prompt"], line["entry_point"]
            task = Task(
                id=f"reflexion/{line.get('name', line.get('task_id'))}",
                dataset="humaneval",
                domain="code",
                problem=prompt,
                answers=(prompt,),
                entry_point=entry_point,
                setup=prompt[: prompt.index(f"def {entry_point}")].strip(),
                hidden_tests=(line["test"].partition("\ndef test_check")[0],),
            )
            yield Published(f"Reflexion {name}", task, line["solution"], bool(line["is_solved"]))
