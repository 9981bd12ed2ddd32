"""HumanEval: complete a Python function from its signature and docstring. Official split: test, 164.

Hub `openai/openai_humaneval`, columns: task_id ("HumanEval/0"), prompt, canonical_solution (the body), test (defines
`check(candidate)`), entry_point. The original HumanEval.jsonl.gz and AFlow's files (validate 33, test 131) are
the same.
Prompt: as it stands. What precedes the function in it (imports, and helpers such as `encode_cyclic`) is kept as
`setup`. Public tests are the examples of the docstring; they stand in the prompt anyway.
Grade: the hidden tests, in the two-process checker (`code_grading.ProgramGrader`).

Example:
    >>> from grpo_aflow.tasks import load_tasks
    >>> task = load_tasks("humaneval", split="train", source="bundled")[0]
    >>> f"def {task.entry_point}(" in task.problem and task.hidden_tests[0].count("def check(") == 1
    True
"""

from __future__ import annotations

import ast
import doctest
import re

from grpo_aflow.syntax import parse_expression
from grpo_aflow.tasks.datasets.dataset import Dataset, KnownGolds, Origin
from grpo_aflow.tasks.datasets.rows import DataRow
from grpo_aflow.tasks.graders.code_grading import ProgramGrader
from grpo_aflow.tasks.reading.source_code import parse_source
from grpo_aflow.types import Task

_ARROW = r"(?:==|=>|->|➞|→|returns|should return|should be equal to)"
# Examples that the reference solution itself contradicts.
_WRONG_EXAMPLES = frozenset({"assert median([-10, 4, 6, 1000, 10, 20]) == 15.0"})


def to_task(row: DataRow, origin: Origin) -> Task:
    """One row as a task; the gold is the prompt with its canonical body, a complete program."""
    prompt, entry_point, test = row.text("prompt"), row.text("entry_point"), row.text("test")
    if not re.search(r"^def check\(", test, re.M):
        raise row.refusal("column 'test' must define check(candidate)")
    if parse_source(test) is None:
        raise row.refusal("column 'test' is not valid Python")
    if not re.search(rf"^def {re.escape(entry_point)}\b", prompt, re.M):
        raise row.refusal(f"column 'prompt' does not define the entry point {entry_point!r}")
    return Task(
        id=f"{origin.prefix}humaneval/{row.text('task_id').rpartition('/')[2]}",
        dataset="humaneval",
        domain="code",
        problem=prompt,
        answers=(prompt + row.text("canonical_solution"),),
        entry_point=entry_point,
        setup=_before(prompt, entry_point),
        public_tests=docstring_tests(prompt, entry_point),
        hidden_tests=(test,),
    )


def docstring_tests(prompt: str, entry_point: str) -> tuple[str, ...]:
    """The examples in the function's docstring as assertions: doctests, and one-line forms such as `f(1) == 2`."""
    docstring = _docstring(prompt, entry_point)
    pairs: list[tuple[str, str]] = []
    try:
        examples = doctest.DocTestParser().get_examples(docstring)
    except ValueError:  # a docstring with crooked indentation
        examples = []
    pairs += [(example.source.strip(), example.want.strip()) for example in examples]
    one_line = rf"^[ \t]*(?:[*\-•] )?({re.escape(entry_point)}\(.*\))[ \t]*{_ARROW}[ \t]*(.+?)[ \t.]*$"
    pairs += [(match[1], match[2]) for match in re.finditer(one_line, docstring, re.M)]
    tests = [f"assert {call} == {want}" for call, want in pairs if _is_pair(call, want, entry_point)]
    return tuple(test for test in dict.fromkeys(tests) if test not in _WRONG_EXAMPLES)


def _before(prompt: str, entry_point: str) -> str:
    """The part of the prompt in front of the function: imports and helpers."""
    match = re.search(rf"^def {re.escape(entry_point)}\b", prompt, re.M)
    return prompt[: match.start()].strip() if match else ""


def _docstring(prompt: str, entry_point: str) -> str:
    module = parse_source(prompt)
    body = [] if module is None else module.body
    functions = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == entry_point]
    return (ast.get_docstring(functions[0]) or "") if functions else ""


def _is_pair(call: str, want: str, entry_point: str) -> bool:
    """A single call of the entry point and a literal; everything else is prose."""
    try:
        node = parse_expression(call)
        ast.literal_eval(want)
    except (SyntaxError, ValueError):
        return False
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id != entry_point:
        return False
    # A name among the arguments would not be bound where the assertion runs.
    return not any(isinstance(part, ast.Name) for argument in node.args for part in ast.walk(argument))


HUMANEVAL = Dataset(
    name="humaneval",
    domain="code",
    grader=ProgramGrader(),
    hub="openai/openai_humaneval",
    configs=("openai_humaneval",),
    splits={"test": "test"},
    schema="task_id, prompt, canonical_solution, test, entry_point",
    to_task=to_task,
    files={"test": ("HumanEval.jsonl.gz", "HumanEval.jsonl")},
    known_golds=KnownGolds(splits=("test",), num_exact=164, attacked=("test",)),
)
