"""Finds the Python source in what the policy wrote. Fences, prose around them and end tokens are expected."""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from grpo_aflow.workflow.parsing import parse

_END_TOKENS = re.compile(r"<\|(?:im_end|endoftext|eot_id|end_of_text|end)\|>|</s>|<\|im_start\|>")
_THOUGHT = "</think>"
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*([\w+.-]*)[ \t]*\r?$", re.MULTILINE)
_CLASS = re.compile(r"^[ \t]*class[ \t]+Workflow\b", re.MULTILINE)
_CALL = re.compile(r"\bdef[ \t]+__call__\b")
_START = re.compile(
    r"^[ \t]*(?:import[ \t]+\w|from[ \t]+[\w.]+[ \t]+import\b|class[ \t]+Workflow\b"
    r"|[A-Z][A-Z0-9_]*[ \t]*(?::[ \t]*str[ \t]*)?=)",
    re.MULTILINE,
)
_BLANK_LINES = re.compile(r"(?:[ \t]*\n)*")
_CONSTANT = re.compile(r"\b[A-Z][A-Z0-9_]+\b")
_ASSIGNED = re.compile(r"^[ \t]*([A-Z][A-Z0-9_]+)[ \t]*(?::[^=\n]*)?=(?!=)", re.MULTILINE)
_MARGIN = re.compile(r"^[^\s)\]}#'\"@]", re.MULTILINE)  # how a line of prose below the class begins
_GRAPH = re.compile(r"<graph>(.*?)(?:</graph>|\Z)", re.DOTALL | re.IGNORECASE)
_PROMPT = re.compile(r"<prompt>(.*?)(?:</prompt>|\Z)", re.DOTALL | re.IGNORECASE)
MAX_ENDS = 3  # tried, of end tokens
MAX_TRIES = 6  # of ends of a fence, and of lines of prose cut off


def has_class(text: str) -> bool:
    """Whether a line begins a `class Workflow`."""
    return _CLASS.search(text) is not None


def extract_source(text: str) -> str:
    """The workflow's source in a policy's output: the fence that has the class, or the text without its prose.

    Returns the text itself, trimmed, where there is no class at all; never raises.
    """
    text = text.replace("\r\n", "\n").replace("\ufeff", "")
    *_, last_class = [0, *(found.start() for found in _CLASS.finditer(text))]
    thought = text.rfind(_THOUGHT, 0, last_class)
    if thought >= 0:
        return _source(text[thought + len(_THOUGHT) :])
    if _THOUGHT in text and _THOUGHT in (source := _source(text)) and _is_python(source):
        return source  # it stands in a string of the workflow, which splits replies at it
    return _source(text.rpartition(_THOUGHT)[2])


def _source(text: str) -> str:
    """The workflow's source up to the first end token behind the class that is no part of it, as in a string."""
    first_class = _CLASS.search(text)
    found = _END_TOKENS.finditer(text, first_class.end()) if first_class else ()
    ends = [end.start() for end in itertools.islice(found, MAX_ENDS)]
    for end in ends:
        if _is_python(source := _without_prose(text[:end])):
            return source
    whole = _without_prose(text)
    return whole if not ends or _is_python(whole) else _without_prose(text[: ends[0]])


def _without_prose(text: str) -> str:
    text = _tagged(text)
    fenced = _fenced(text)
    source = fenced if fenced is not None else _unfenced(text)
    return textwrap.dedent(source).strip("\n").rstrip() + "\n"


def _is_python(source: str) -> bool:
    return isinstance(parse(source), ast.Module)


def _tagged(text: str) -> str:
    """The workflow in `<graph>…</graph>` with the constants in `<prompt>…</prompt>`, as AFlow's optimizer writes them.

    The prompts come last, so that the class keeps its place; a text without such tags is given back as it is.
    """
    graphs = [graph for graph in _GRAPH.findall(text) if has_class(graph)]
    if not graphs:
        return text
    graph = _inner(graphs[-1])
    prompts = [_inner(prompt) for prompt in _PROMPT.findall(text)]
    sound = [prompt for prompt in prompts if prompt.strip() and isinstance(parse(prompt), ast.Module)]
    return "\n\n".join([graph.rstrip(), *sound])


def _inner(block: str) -> str:
    """What stands in a tag, without a fence around it."""
    text = textwrap.dedent(block).strip("\n")
    if _FENCE.search(text):
        text = _fenced(text) or text
    return textwrap.dedent(text)


def _fenced(text: str) -> str | None:
    """The first fence with class and `__call__`; else the first with the class; else, if none has one, the first.

    AFlow's replies give `prompt.py` a fence of its own: constants that the class uses are put below it.
    """
    blocks = list(_blocks(text))
    found = [block for block in blocks if _CLASS.search(block)]
    whole = next((block for block in found if _CALL.search(block)), None)
    if whole is not None:
        return _with_constants(whole, blocks)
    if not found and blocks and not has_class(text):
        return blocks[0]
    return found[0] if found else None


def _with_constants(graph: str, blocks: list[str]) -> str:
    """The workflow, and below it those fences of constants alone that hold one which it uses and does not define."""
    missing = set(_CONSTANT.findall(graph)) - set(_ASSIGNED.findall(graph))
    used = [block for block in map(textwrap.dedent, blocks) if missing & set(_ASSIGNED.findall(block))]
    prompts = [block for block in used if not _CLASS.search(block) and _only_constants(block)]
    return "\n\n".join([textwrap.dedent(graph).rstrip(), *prompts]) if prompts else graph


def _only_constants(block: str) -> bool:
    tree = parse(block)
    plain = (ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.Expr)
    return isinstance(tree, ast.Module) and all(isinstance(node, plain) for node in tree.body)


def _blocks(text: str) -> Iterator[str]:
    """What stands in the fences of a text, one after the other."""
    fences = list(_FENCE.finditer(text))
    bare = [i for i, fence in enumerate(fences) if not fence.group(1)]  # those that can close one
    classes = [found.start() for found in _CLASS.finditer(text)]
    i = 0
    while i < len(fences):
        opening = fences[i]
        following = fences[i + 1] if i + 1 < len(fences) else None
        if following and following.group(1) and not text[opening.end() : following.start()].strip():
            i += 1  # a stray opening: ```python and, below it, ```python again
            continue
        first = bisect_right(bare, i)
        closings = bare[first : first + MAX_TRIES]
        if closings and not text[opening.end() : fences[closings[0]].start()].strip():
            i = closings[0] + (0 if _opens(text, fences, closings[0]) else 1)  # an empty fence, then the real one
            continue
        ends = [fences[j].start() for j in closings]
        if len(ends) < MAX_TRIES:
            ends.append(len(text))  # of a fence that is not closed
        block, used = _block(text, opening.end() + 1, ends, classes)
        yield block
        i = closings[used] + 1 if used < len(closings) else len(fences)


def _opens(text: str, fences: list[re.Match[str]], i: int) -> bool:
    """Whether the bare fence that ends an empty one opens the class itself: ``` ``` class Workflow … ```."""
    begin, end = fences[i].end(), fences[i + 1].start() if i + 1 < len(fences) else len(text)
    blank = _BLANK_LINES.match(text, begin)
    return (
        _CLASS.search(text, begin, end) is not None and _START.match(text, blank.end() if blank else begin) is not None
    )


def _block(text: str, start: int, ends: list[int], classes: list[int]) -> tuple[str, int]:
    """The text of a fence and which end it took: the first that leaves sound Python, since prompts hold fences.

    Only for the sake of the class: a fence from which none can be reached ends where it is closed first.
    """
    first, place = text[start : ends[0]], bisect_left(classes, start)
    begin = classes[place] if place < len(classes) else len(text)
    if begin >= ends[-1] or _is_python(textwrap.dedent(first)):
        return first, 0
    for i, end in enumerate(ends[1:], start=1):
        if begin < end and _is_python(textwrap.dedent(text[start:end])):
            return text[start:end], i
    return first, 0


def _unfenced(text: str) -> str:
    """The text from the first line of code on, without the prose at its end."""
    found, begin = _CLASS.search(text), _START.search(text)
    if found is None or begin is None or _bare(text, begin, found) or isinstance(parse(text), ast.Module):
        return text
    source = textwrap.dedent(text[begin.start() :])
    for _ in range(MAX_TRIES):
        tree = parse(source)
        if not isinstance(tree, SyntaxError) or not tree.lineno:
            break
        lines = source.split("\n")
        cut = _prose_line(lines, tree.lineno)
        if cut is None:
            break
        source = "\n".join(lines[:cut])
    return source


def _bare(text: str, begin: re.Match[str], found: re.Match[str]) -> bool:
    """Whether no prose can stand around the code: then it need not be parsed to find out."""
    at_margin = text[found.start()] == "c"
    return at_margin and not text[: begin.start()].strip(" \t\n") and _MARGIN.search(text, found.end()) is None


def _prose_line(lines: list[str], error_line: int) -> int | None:
    """The index of the line at which prose after the class begins, if the error is in such a line.

    Only a line at the margin, below the class, is prose: cutting inside the class would change what it does.
    """
    class_line = next((i for i, line in enumerate(lines) if _CLASS.match(line)), len(lines))
    for i in (error_line - 1, error_line - 2):
        if class_line < i < len(lines) and _MARGIN.match(lines[i]):
            return i
    return None
