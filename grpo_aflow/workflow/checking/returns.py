"""Checks what is returned: a dict must hold one answer, see `workflow.answers`."""

from __future__ import annotations

import ast

from grpo_aflow.workflow.answers import ANSWER_KEYS, answer_in, answer_key, literal_items
from grpo_aflow.workflow.checking.expressions import result_keys
from grpo_aflow.workflow.checking.walk import Walk


def check_answer(walk: Walk, node: ast.expr) -> None:
    """E206 where the returned dict holds no answer, or several; a note where the answer is taken out of it."""
    answer = answer_in(node)
    if isinstance(answer, ast.IfExp):
        check_answer(walk, answer.body)
        check_answer(walk, answer.orelse)
        return
    written = literal_items(answer)
    keys = result_keys(walk, answer) if written is None else written
    if keys is None:
        return
    key = answer_key(keys)
    if key is not None:
        walk.outline.notes.append(f"line {node.lineno}: of the result that is returned, {key!r} is the answer")
        return
    held, wanted = ", ".join(map(repr, sorted(keys, key=repr))) or "no keys", ", ".join(sorted(ANSWER_KEYS))
    walk.report(node, "E206", f"a dict with {held} is no answer; return one of its values, or one of {wanted} in it")
