"""Whether two leaves of an answer's tree are the same: words, digits in a number system, values of expressions."""

from __future__ import annotations

from fractions import Fraction

from grpo_aflow.tasks.latex.nodes import INFINITY, Based, Node, Number, Operation, Symbol, Words, words_of
from grpo_aflow.tasks.latex.values import NoValue, points_for, same_value, value_of, variables_of


def same_words(gold: Node, answer: Node) -> bool:
    """Whether both are the same words, in any order."""
    texts = [node.text if isinstance(node, Words) else _letters(node) for node in (gold, answer)]
    return bool(texts[0]) and texts[0] == texts[1]


def _letters(node: Node) -> str:
    """The text of what may be words: a choice such as C, or letters side by side."""
    if isinstance(node, Symbol):
        return words_of(node.name)
    if isinstance(node, Operation) and node.name == "*":
        parts = [_letters(argument) for argument in node.arguments]
        return "".join(parts) if all(parts) else ""
    return ""


def is_choice(node: Node) -> bool:
    """A choice of a multiple-choice question."""
    return isinstance(node, Symbol) and len(node.name) == 1 and node.name.upper() in "ABCDEFGH" and node.name != "e"


def same_digits(gold: Node, answer: Node) -> bool:
    """Whether both are the same digits of the same base, which the answer may leave out."""
    if isinstance(gold, Operation) and gold.name == "neg" and isinstance(answer, Operation) and answer.name == "neg":
        return same_digits(gold.arguments[0], answer.arguments[0])
    if isinstance(gold, Based) and isinstance(answer, Based):
        return gold == answer
    return isinstance(gold, Based) and isinstance(answer, Number) and Number(Fraction(gold.digits)) == answer


def same_expressions(gold: Node, answer: Node) -> bool:
    """Whether both have the same value, at most points where they have variables."""
    if _is_signed_digits(gold) or _is_signed_digits(answer):
        return same_digits(gold, answer)
    if _infinity(gold) or _infinity(answer):
        return _infinity(gold) == _infinity(answer)
    names = variables_of(gold) | variables_of(answer)
    num_compared = 0
    for point in points_for(names):
        try:
            if not same_value(value_of(gold, point), value_of(answer, point)):
                return False
            num_compared += 1
        except NoValue:
            continue
    return num_compared > (len(points_for(names)) // 2 if names else 0)


def _is_signed_digits(node: Node) -> bool:
    return isinstance(node, Operation) and node.name == "neg" and isinstance(node.arguments[0], Based)


def _infinity(node: Node) -> int:
    if isinstance(node, Operation) and node.name == "neg":
        return -_infinity(node.arguments[0])
    return int(node == INFINITY)
