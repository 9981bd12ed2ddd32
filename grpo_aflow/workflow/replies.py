"""Reads the executor's replies to operators: pure functions from text to values, tolerant of what real models write."""

from __future__ import annotations

import ast
import re

from grpo_aflow.workflow.instructions import letters
from grpo_aflow.workflow.parse import parse

_FENCE = re.compile(r"```[ \t]*([\w+.-]*)[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_CHOICE_TAG = re.compile(r"<(?:choice|solution_letter|answer)>\s*(.*?)\s*(?:</|\Z)", re.DOTALL | re.IGNORECASE)
_CHOICE_WORD = re.compile(
    r"\b(?:answer|choice|choose|solution|candidate|option|best|pick|select(?:ed)?)\b[\s*_:\"'(\[]*(?:is\b|id\b)?[\s*_:=\"'(\[]*"
    r"([A-Z]{1,3})\b(?![a-z'])"
)
_CHOICE_ALONE = re.compile(r"[\s*_\"'(\[`.]*([A-Za-z]{1,3})[\s*_\"')\]`.:,!]*")
_CAPITAL = re.compile(r"(?<![A-Za-z'])([A-Z]{1,3})(?![A-Za-z'])")
_VERDICT_TAG = re.compile(r"<(?:verdict|review_result)>\W*(\w+)", re.IGNORECASE)
_VERDICT_WORD = re.compile(
    r"\b(?:verdict|review_result|result)\b\W{1,6}(true|false|yes|no|correct|incorrect)\b", re.IGNORECASE
)
_VERDICT_ALONE = re.compile(r"\W*(true|false|yes|no|correct|incorrect|right|wrong)\b", re.IGNORECASE)
_RIGHT = frozenset(["true", "yes", "correct", "right", "pass", "passed", "1"])
_WRONG = frozenset(["false", "no", "incorrect", "wrong", "fail", "failed", "0"])


def tagged(text: str, name: str) -> str | None:
    """The content of the last `<name>…</name>`, closed or not; None where there is none."""
    start = text.lower().rfind(f"<{name}>")
    if start < 0:
        return None
    content = text[start + len(name) + 2 :]
    end = content.lower().find(f"</{name}>")
    return (content if end < 0 else content[:end]).strip()


def thought_and_answer(text: str) -> tuple[str, str]:
    """`<thought>…</thought><answer>…</answer>`; without an answer tag the whole text is the answer."""
    answer = tagged(text, "answer")
    thought = tagged(text, "thought")
    if answer is None:
        rest = text if thought is None else text.lower().rpartition("</thought>")[2] and text.rpartition(">")[2]
        return thought or "", rest.strip() or text.strip()
    if thought is None:
        thought = text[: text.lower().rfind("<answer>")].strip()
    return thought, answer


def code(text: str, entry_point: str = "") -> str:
    """The last fence that defines the entry point, else the last Python fence, else the text."""
    blocks = [body for language, body in _FENCE.findall(text) if language.lower() in ("", "python", "py", "python3")]
    if not blocks:
        return text.strip()
    if entry_point:
        defining = [block for block in blocks if re.search(rf"\b(?:def|class)\s+{re.escape(entry_point)}\b", block)]
        blocks = defining or blocks
    return blocks[-1].strip("\n")


def looks_like_code(text: str) -> bool:
    """Whether a text is a program rather than an answer: a fence or a whole that parses to definitions or imports."""
    if _FENCE.search(text) and re.search(r"^\s*(?:def|import|from|class)\s", code(text), re.MULTILINE):
        return True
    tree = parse(text.strip())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
    return isinstance(tree, ast.Module) and any(isinstance(node, kinds) for node in tree.body)


def choice(text: str, num_candidates: int) -> int | None:
    """The index of the chosen candidate, or None where the text names none of them.

    Understands `<choice>B</choice>`, "B", "b", "(b)", "Answer: B.", "Solution B is …", and ids beyond Z.
    """
    indices = {letters(i): i for i in range(num_candidates)}
    tag = _CHOICE_TAG.search(text)
    for part in (tag.group(1), text) if tag else (text,):
        alone = _CHOICE_ALONE.fullmatch(part)
        if alone and alone.group(1).upper() in indices:
            return indices[alone.group(1).upper()]
        for pattern in (_CHOICE_WORD, _CAPITAL):
            named = [m for m in pattern.findall(part) if m in indices and not (m in "AI" and pattern is _CAPITAL)]
            if named:
                return indices[named[-1]]
        bracketed = re.findall(r"\(([A-Za-z]{1,3})\)", part)
        if bracketed and bracketed[-1].upper() in indices:
            return indices[bracketed[-1].upper()]
    word = re.search(
        r"\b(?:answer|choice|solution|candidate|option)\b\s*(?:is\b)?[\s:=\"'(]*([a-z]{1,2})\b", text, re.IGNORECASE
    )
    return indices.get(word.group(1).upper()) if word else None


def verdict(text: str) -> tuple[bool | None, str]:
    """`<verdict>true|false</verdict><feedback>…</feedback>`: the verdict (None: unreadable) and the feedback."""
    feedback = tagged(text, "feedback")
    if feedback is None:
        feedback = re.sub(r"<(\w+)>.*?</\1>", "", text, flags=re.DOTALL).strip() or text.strip()
    for found in (_VERDICT_TAG.search(text), _VERDICT_WORD.search(text), _VERDICT_ALONE.match(text)):
        word = found.group(1).lower() if found else ""
        if word in _RIGHT or word in _WRONG:
            return word in _RIGHT, feedback
    return None, feedback


def short_answer(text: str) -> str:
    """The bare answer of `format`: without tags, quotes and a leading label."""
    for name in ("solution", "answer"):
        inner = tagged(text, name)
        if inner is not None:
            return inner
    text = re.sub(r"^\s*(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\s*:\s*", "", text.strip(), flags=re.IGNORECASE)
    return text.strip()
