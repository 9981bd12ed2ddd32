"""MBPP: short Python problems. Official splits: prompt 10, test 500, validation 90, train 374.

Hub `google-research-datasets/mbpp`, config `full`, columns: task_id, text, code, test_list, test_setup_code,
challenge_test_list. The config `sanitized` and AFlow's files (validate 86, test 341) have prompt for text and
test_imports for test_setup_code.
Prompt: the text and the function's signature (and that of a class that the tests construct), because the tests call it
by name. No public tests: the prompt shows none. Grade: the hidden tests, in the two-process checker
(`code_grading.ProgramGrader`). `test_setup_code` and imports are kept as `setup`, which runs after the code where it
builds on it, as the official order (code, setup, tests) wants it.

Example:
    >>> from grpo_aflow.tasks import load_tasks
    >>> task = load_tasks("mbpp", split="train", source="bundled")[0]
    >>> f"def {task.entry_point}(" in task.problem and all(task.entry_point in test for test in task.hidden_tests)
    True
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from grpo_aflow.tasks.datasets.dataset import Dataset, KnownGolds, Origin
from grpo_aflow.tasks.datasets.rows import DataRow
from grpo_aflow.tasks.graders.code_grading import ProgramGrader
from grpo_aflow.tasks.reading.code_joining import parse_body
from grpo_aflow.tasks.reading.source_code import parse_source
from grpo_aflow.types import Task

# Golds that do not pass their own tests: 630 in AFlow's copy, which renames a parameter (`ele` is not defined there).
# It is graded like all others, and never exact. In the official file all 974 pass.
BROKEN_GOLDS = frozenset({"mbpp/630"})
# Golds that need more than the grader's usual limit, in seconds: 123 tries all divisors of all numbers up to 9,999.
SLOW_GOLDS = {"123": 30.0}


def to_task(row: DataRow, origin: Origin) -> Task:
    """One row of either config, or of AFlow's files, as a task."""
    code = row.text("code").replace("\r\n", "\n")
    tests = tuple(test.strip() for test in row.texts("test_list"))
    if not tests:
        raise row.refusal("column 'test_list' is empty: the task cannot be graded")
    for number, test in enumerate(tests, start=1):
        if parse_source(test) is None:
            raise row.refusal(f"column 'test_list', entry {number} is not valid Python")
    entry_point = row.text("entry_point") if row.has("entry_point") else find_entry_point(code, tests)
    if not entry_point:
        raise row.refusal("column 'code' defines no function that column 'test_list' calls")
    text = row.text("text" if row.has("text") else "prompt").strip()
    shown = [signature for signature in signatures(code, tests, entry_point) if signature not in text]
    task_id = row.text("task_id")
    return Task(
        id=f"{origin.prefix}mbpp/{task_id}",
        dataset="mbpp",
        domain="code",
        problem=text if f"def {entry_point}" in text else "\n\n".join([text, *shown]),
        answers=(code,),
        entry_point=entry_point,
        setup="\n".join(part for part in (_setup(row), *test_imports(code, tests)) if part),
        hidden_tests=tests,
        metadata={"timeout_s": SLOW_GOLDS[task_id]} if task_id in SLOW_GOLDS else {},
    )


def find_entry_point(code: str, tests: Sequence[str]) -> str:
    """The function of `code` that the tests call; the last one defined when they call several. "" for none."""
    functions = [node.name for node in parse_body(code) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    called = [name for name in functions if all(re.search(rf"\b{name}\s*\(", test) for test in tests)]
    return called[-1] if called else ""


def test_imports(code: str, tests: Sequence[str]) -> list[str]:
    """The imports of modules that the tests themselves use (`== sys.getsizeof(...)`): theirs, not the candidate's."""
    imports = [node for node in parse_body(code) if isinstance(node, ast.Import)]
    names = [(node, alias.asname or alias.name) for node in imports for alias in node.names]
    used = [node for node, name in names if any(re.search(rf"(?<![\w.]){re.escape(name)}\.", test) for test in tests)]
    return list(dict.fromkeys(ast.unparse(node) for node in used))


def signatures(code: str, tests: Sequence[str], entry_point: str) -> list[str]:
    """What a solver must know to be called by the tests: `def f(a, b):`, and the classes that the tests construct."""
    shown: list[str] = []
    for node in parse_body(code):
        if isinstance(node, ast.FunctionDef) and node.name == entry_point:
            shown.append(_signature(node))
        elif isinstance(node, ast.ClassDef) and any(re.search(rf"\b{node.name}\s*\(", test) for test in tests):
            start = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
            shown.append(f"class {node.name}:" + "".join(f"\n    {_signature(item)}" for item in start))
    return shown


def _signature(node: ast.FunctionDef) -> str:
    return f"def {node.name}({ast.unparse(node.args)}):"


def _setup(row: DataRow) -> str:
    if row.has("test_setup_code"):
        return row.text("test_setup_code", may_be_empty=True).replace("\r\n", "\n")
    imports = row.values.get("test_imports") or []
    if isinstance(imports, str):  # AFlow's files hold the list as text
        try:
            imports = ast.literal_eval(imports)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            imports = None
    if not isinstance(imports, list | tuple) or not all(isinstance(line, str) for line in imports):
        raise row.refusal("column 'test_imports' must hold a list of import statements")
    return "\n".join(imports)


MBPP = Dataset(
    name="mbpp",
    domain="code",
    grader=ProgramGrader(),
    hub="google-research-datasets/mbpp",
    configs=("full",),
    splits={"train": "train", "validation": "validation", "test": "test", "prompt": "prompt"},
    schema="task_id, text, code, test_list, test_setup_code, challenge_test_list",
    to_task=to_task,
    files=dict.fromkeys(("train", "validation", "test", "prompt"), ("mbpp_full.json",)),
    broken_golds=BROKEN_GOLDS,
    known_golds=KnownGolds(
        splits=("train", "test", "validation", "prompt"),
        num_exact=974,
        attacked=("aflow_validate", "aflow_test"),  # the sanitised problems
    ),
)
