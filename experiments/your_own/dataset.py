"""A dataset from outside the package: number puzzles that Python makes, and the grader that only they need.

    grpo-aflow-train --config-dir experiments/your_own/conf data_mix=countdown eval=countdown

"Make 24 out of 3, 5 and 9" has more right answers than its gold, so an answer is worked out, not compared.
"""

from __future__ import annotations

import ast
import operator
import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from grpo_aflow.protocols import CodeRunner
from grpo_aflow.syntax import parse_expression
from grpo_aflow.tasks.datasets import ATTEMPT, EXACT, NOTHING, Tiers, ValueKind, find_final_answer
from grpo_aflow.types import Domain, Grade, Task

PROBLEM = "Use each of the numbers {numbers} exactly once, with + - * / and brackets, to make {target}."
OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


@dataclass(frozen=True, kw_only=True)
class Countdown:
    """Puzzles in which some numbers must make another; `grpo_aflow.tasks` asks for these two methods and the domain."""

    num_tasks: int
    num_numbers: int
    domain: Domain = "math"

    def load(self, split: str) -> Iterator[Task]:
        for place in range(self.num_tasks):
            numbers, gold = puzzle(random.Random(f"{split}/{place}"), self.num_numbers)
            target = worked_out(gold)
            yield Task(
                id=f"countdown/{split}/{place}",
                dataset="",  # filled in for us
                domain=self.domain,
                problem=PROBLEM.format(numbers=", ".join(map(str, numbers)), target=target),
                answers=(gold,),
                metadata={"numbers": numbers, "target": str(target)},
            )

    def grade(self, task: Task, answer: str, *, runner: CodeRunner | None, tiers: Tiers) -> Grade:
        read = find_final_answer(answer, ARITHMETIC).text.partition("=")[0]
        value = worked_out(read)
        if value is None or sorted(numbers_in(read)) != sorted(task.metadata["numbers"]):
            return Grade(exact=False, score=0.0, tier=NOTHING, rule="other_numbers", read=read)
        if str(value) != task.metadata["target"]:
            return Grade(exact=False, score=0.0, tier=ATTEMPT, rule="other_value", read=read)
        return Grade(exact=True, score=1.0, tier=EXACT, rule="made_it", read=read)


def puzzle(draw: random.Random, num_numbers: int) -> tuple[list[int], str]:
    """Numbers, and an expression of all of them."""
    numbers = draw.sample(range(2, 13), num_numbers)
    gold = str(numbers[0])
    for number in numbers[1:]:
        gold = f"({gold} {draw.choice('+-*')} {number})"
    return numbers, gold


def worked_out(text: str) -> Fraction | None:
    """The value of an arithmetic expression, of "(3 + 5) * 3 = 24" that of its left side; None for anything else."""
    try:
        return value_of(parse_expression(text.partition("=")[0].replace("\\times", "*").replace("×", "*").strip()))
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def value_of(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        return OPERATIONS[type(node.op)](value_of(node.left), value_of(node.right))
    raise ValueError("no arithmetic")


def numbers_in(text: str) -> list[int]:
    return [int(number) for number in "".join(c if c.isdigit() else " " for c in text).split()]


ARITHMETIC = ValueKind(states=lambda text: worked_out(text) is not None)
COUNTDOWN = Countdown(num_tasks=200, num_numbers=3)
