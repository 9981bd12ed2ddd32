"""What the simulated solver writes: right and wrong answers in the form each operator demands.

`world` calls it when it has drawn whether the reply is right. Everything written is really used: code runs in the
sandbox, answers are graded. A wrong answer is wrong by construction, and mostly another one at each draw, so that
agreement between samples means something.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import lru_cache

from grpo_aflow.simulation.answer_key import NO_ANSWER, golds, normalise
from grpo_aflow.syntax import parse_module
from grpo_aflow.types import Task

Uniform = Callable[[str], float]  # name of a draw -> its value in [0, 1)

_INTEGER = re.compile(r"-?\d+")
_SPAN = re.compile(r"[A-Z][\w'-]+(?: [A-Z][\w'-]+)*|\b\d{2,}\b")
_FALLBACK_SPANS = ("the river", "a letter", "in spring", "two brothers", "the old town", "copper", "nobody", "later on")


def right_answer(task: Task) -> str:
    """The gold as the solver would say it: the first one; a word where the task is unanswerable."""
    return task.answers[0] if task.domain == "code" or task.answers[0] else NO_ANSWER


def wrong_answer(task: Task, uniform: Uniform, *, same_mistake: float) -> str:
    """An answer that is not right.

    Args:
        same_mistake: the probability of the task's one tempting mistake, which every sample shares; else it is new.
    """
    if uniform("same_mistake") < same_mistake:
        uniform = _tempting
    if task.domain == "code":
        return mutant(right_answer(task), task.entry_point, int(uniform("mutant") * 900_000))
    if task.domain == "math":
        return _wrong_value(task.answers[0], uniform)
    return _wrong_span(task, uniform)


def _tempting(name: str) -> float:
    """Draws that are always the same: they give the task's one tempting mistake."""
    return 0.37 if name != "sign" else 0.9


def _wrong_value(gold: str, uniform: Uniform) -> str:
    match = _INTEGER.search(gold.replace(",", ""))
    if match is None:
        return str(2 + int(uniform("offset") * 97))
    value = int(match.group())
    offset = 1 + int(uniform("offset") * max(20, abs(value) // 2))
    wrong = value + offset if uniform("sign") < 0.5 or value - offset < 0 <= value else value - offset
    plain = gold.replace(",", "")
    return plain[: match.start()] + str(wrong) + plain[match.end() :]


def _wrong_span(task: Task, uniform: Uniform) -> str:
    right = golds(task)
    if right <= {"yes", "no"}:
        return "no" if right == {"yes"} else "yes"
    if right != {NO_ANSWER} and uniform("near") < 0.2:
        return f"{task.answers[0]} or else {_choose(_FALLBACK_SPANS, uniform('more'))}"
    spans = tuple(
        span
        for span in dict.fromkeys((*_SPAN.findall(task.problem), *_FALLBACK_SPANS))
        if not any(gold in normalise("qa", span) or normalise("qa", span) in gold for gold in right)
    )
    return _choose(spans or ("something else entirely",), uniform("span"))


def _choose(options: tuple[str, ...], share: float) -> str:
    return options[int(share * len(options))]


@lru_cache(maxsize=8192)
def mutant(solution: str, entry_point: str, variant: int) -> str:
    """`solution` with the body of its entry point replaced, so that it loads and fails: each variant another text."""
    body = ("raise NotImplementedError('case {n}')", "return {n}", "return 'draft {n}'", "return [None, {n}]")
    statement = body[variant % len(body)].format(n=1000 + variant)
    fallback = f"def {entry_point or 'solve'}(*args, **kwargs):\n    {statement}"
    try:
        tree = parse_module(solution)
    except (SyntaxError, ValueError):
        return fallback
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == entry_point]
    if not found:
        return fallback
    found[-1].body = parse_module(statement).body
    return ast.unparse(tree)


def fence(code: str) -> str:
    return f"```python\n{code.strip()}\n```"


def solving_program(answer: str) -> str:
    """A `solve()` that arrives at `answer`: integers by a small computation, everything else as text."""
    if not _INTEGER.fullmatch(answer):
        return f"def solve():\n    return {answer!r}"
    value = int(answer)
    part = value // 3
    return f"def solve():\n    parts = [{part}, {value - part}]\n    return sum(parts)"


def crashing_program() -> str:
    return "def solve():\n    parts = [first, second]\n    return sum(parts)"


def free_text(task: Task, answer: str) -> str:
    """A reply in `custom`'s form for the task's domain."""
    if task.domain == "code":
        return f"Here is a solution.\n{fence(answer)}"
    if task.domain == "math":
        return f"Working through the given quantities step by step leads to the result.\n\\boxed{{{answer}}}"
    return f"The passage settles it.\n<answer>{answer}</answer>"


def thought_and_answer(task: Task, answer: str) -> str:
    """A reply in `answer_generate`'s form."""
    return (
        "<thought>What is asked, what is given, and what follows from it.</thought>"
        f"<answer>{fence(answer) if task.domain == 'code' else answer}</answer>"
    )
