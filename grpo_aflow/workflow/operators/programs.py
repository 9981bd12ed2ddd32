"""Reads programs in the executor's replies. Pure, and tolerant of what real models write."""

from __future__ import annotations

import ast
import re

from grpo_aflow.workflow.operators.replies import FENCE, without_thinking
from grpo_aflow.workflow.parsing import parse

MAX_PROSE_LINES = 30  # lines of prose below a program without a fence

_CODE_TAG = re.compile(r"<(?:code|python|solution|answer|response)>\s*(.*?)\s*(?:</|\Z)", re.DOTALL | re.IGNORECASE)
_OTHER_LANGUAGES = frozenset(
    ["bash", "sh", "shell", "console", "text", "txt", "plaintext", "output", "json", "yaml", "diff", "markdown", "md"]
)


def code(text: str, entry_point: str = "") -> str:
    """The program in a reply: the last fence that defines the entry point, else the last Python fence, else the text.

    Fences of other languages count where there is no better one (models write ```java over Python); without any
    fence, code in tags, or what is left when the prose around a program is cut off.
    """
    text = without_thinking(text)
    fences = [(language.lower(), body) for language, body in FENCE.findall(text)]
    if not fences:
        return _unfenced(text)
    blocks = [body for language, body in fences if language in ("", "python", "py", "python3")]
    if entry_point:
        defining = re.compile(rf"\b(?:def|class)\s+{re.escape(entry_point)}\b")
        everywhere = [body for language, body in fences if language not in _OTHER_LANGUAGES]
        blocks = [body for body in everywhere if defining.search(body)] or blocks
    blocks = blocks or [body for language, body in fences if language not in _OTHER_LANGUAGES]
    return (blocks or [body for _, body in fences])[-1].strip("\n")


def _unfenced(text: str) -> str:
    tag = _CODE_TAG.search(text)
    if tag and not isinstance(parse(tag.group(1)), SyntaxError):
        return tag.group(1)
    text = re.sub(r"^[^\S\n]*```.*$", "", text.strip(), flags=re.MULTILINE).strip("\n")  # a fence that is not closed
    if isinstance(parse(text), ast.Module):
        return text
    lines = text.split("\n")
    begin = next(
        (i for i, line in enumerate(lines) if re.match(r"(?:def|class|import|from|@|async def)\b", line)), None
    )
    if begin is None:
        return text.strip()
    for end in range(len(lines), max(begin, len(lines) - MAX_PROSE_LINES), -1):
        source = "\n".join(lines[begin:end])
        if isinstance(parse(source), ast.Module):
            return source
    return text.strip()


def solving_program(text: str) -> str:
    """A program that defines `solve()`: the reply's own; else made of its script or of its one other function.

    A script's printed lines become the result; a function without required arguments is called.
    """
    source = code(text, "solve")
    tree = parse(source)
    if isinstance(tree, SyntaxError) or not tree.body:
        return source
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    if "solve" in functions or any(isinstance(n, ast.ClassDef) and n.name == "solve" for n in tree.body):
        return source
    last = tree.body[-1]
    if any(_prints(node) for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)):
        return _with_prints(source)
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    shown = last.value if isinstance(last, ast.Expr) and not isinstance(last.value, ast.Constant) else None
    if shown is not None and (not isinstance(shown, ast.Name) or shown.id in names):
        return f"{source}\n\ndef solve():\n    return ({ast.get_source_segment(source, shown)})\n"
    callable_ = [name for name, node in functions.items() if _takes_nothing(node)]
    if callable_:
        called = "main" if "main" in callable_ else callable_[-1]
        if _prints(functions[called]) and not any(isinstance(n, ast.Return) for n in ast.walk(functions[called])):
            return _with_prints(f"{source}\n{called}()\n")
        return f"{source}\n\ndef solve():\n    return {called}()\n"
    assigned = [n.targets[0].id for n in tree.body if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)]
    return f"{source}\n\ndef solve():\n    return {assigned[-1]}\n" if assigned and not functions else source


def _prints(node: ast.AST) -> bool:
    return any(
        isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "print" for n in ast.walk(node)
    )


def _takes_nothing(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    a = node.args
    required = len(a.posonlyargs) + len(a.args) - len(a.defaults) + sum(default is None for default in a.kw_defaults)
    return isinstance(node, ast.FunctionDef) and required == 0


def _with_prints(source: str) -> str:
    """The script with a `print` of its own, whose last line `solve()` returns."""
    return (
        "_printed = []\n\ndef print(*values, sep=' ', end='\\n', **_):\n"
        "    _printed.append((sep or ' ').join(map(str, values)))\n\n"
        f"__name__ = '__main__'\n{source}\n\n"
        "def solve():\n    return _printed[-1] if _printed else None\n"
    )


def looks_like_code(text: str) -> bool:
    """Whether a text is a program rather than an answer: a fence or a whole that parses to definitions or imports."""
    if FENCE.search(text) and re.search(r"^\s*(?:def|import|from|class)\s", code(text), re.MULTILINE):
        return True
    tree = parse(text.strip())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
    return isinstance(tree, ast.Module) and any(isinstance(node, kinds) for node in tree.body)
