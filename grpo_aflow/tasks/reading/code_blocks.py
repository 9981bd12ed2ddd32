"""Where code stands in a text: fences as CommonMark reads them, and bare code between lines of prose.

    text  ──fences()──►  Fence(language, code)        text  ──bare_blocks()──►  program, program, ...

First half of the reading of a code answer; `code_answer` ranks what is found here.
"""

from __future__ import annotations

import ast
import html
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from grpo_aflow.syntax import parse_module
from grpo_aflow.tasks.reading.source_code import parse_source, returns_outside

MAX_MARKDOWN: Final = 64_000  # characters, the last ones of a longer text
MAX_WINDOW: Final = 64_000  # characters of one bare program
MAX_PARSED: Final = 300_000  # characters that the search for bare code parses, all tries together
MAX_BLOCKS: Final = 500
MAX_TRIES: Final = 400  # parses of that search
_EXTENSIONS = 4  # later closing fences that are tried where a docstring holds a fence of its own

PYTHON: Final = frozenset(["python", "py", "python3", "py3", "pycon", "ipython", "ipython3", "python-repl", "pyi"])

_FENCE_LINE = re.compile(r"^[ \t>]*(?:`{3,}|~{3,})", re.M)
_CLOSING = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*")
_LANGUAGE = re.compile(r"\{?\s*\.?([A-Za-z][\w+#-]*)?[ \t]*(?:[\d.]+\b)?\}?:?[ \t]*")
_LIST_MARKER = re.compile(r"[ \t>]*(?:[-*+]|\d{1,9}[.)])?[ \t]*")
CODE_START = re.compile(r"@\w|(?:async[ \t]+)?def[ \t]+\w|class[ \t]+\w|import[ \t]+\w|from[ \t]+\S+[ \t]+import\b")
_MAY_START = re.compile(
    rf"[ \t]*(?:{CODE_START.pattern}|[A-Za-z_][\w., \[\]\"']*(?::[^=\n]+)?[-+*/|&]?=|(?:if|for|while|with|try)\b.*:)"
)
_CONTINUES = re.compile(r"[)\]}]|(?:else|elif|except|finally|case)\b")
_ODD = {
    ord(odd): plain
    for odd, plain in {
        **dict.fromkeys(
            "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "
        ),
        **dict.fromkeys("\ufeff\u200b\u200c\u200d\u2060\u00ad", ""),
        **dict.fromkeys("\u2018\u2019\u201a\u2032", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u2033", '"'),
        **dict.fromkeys("\u2028\u2029\u0085", "\n"),
        "\u2212": "-",
        "\u2013": "-",
        "\uff1a": ":",
        "\uff0c": ",",
        "\uff08": "(",
        "\uff09": ")",
    }.items()
}
_ESCAPED = re.compile(r"\\([_*\[\]#<>])")


def _reader() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False})
    return reader.disable(["reference", "heading", "lheading", "inline"])


_MARKDOWN = _reader()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fence:
    """A fenced block: its language in small letters ("" for none) and its content, out of lists and quotes."""

    language: str
    code: str

    @property
    def may_be_python(self) -> bool:
        return not self.language or self.language in PYTHON


@lru_cache(maxsize=64)
def fences(text: str) -> tuple[Fence, ...]:
    """The fenced blocks of a text, in order: line-anchored, length-matched, of ` or ~, in lists and quotes, unclosed.

    Beyond CommonMark: a fence glued to the end of a line counts, code on the line of an opening fence belongs to the
    block, and a fence at the margin inside a docstring does not end the program around it.
    """
    text = "\n".join(map(_unglued, text[-MAX_MARKDOWN:].split("\n")))
    if not _FENCE_LINE.search(text):
        return ()
    lines = text.split("\n")
    found: list[Fence] = []
    done = 0  # lines up to here belong to a block that is already read
    for token in _MARKDOWN.parse(text):
        if token.type == "code_block" and _FENCE_LINE.search(token.content):
            found += fences(textwrap.dedent(token.content))
        if token.type != "fence" or not token.map or token.map[0] < done or len(found) >= MAX_BLOCKS:
            continue
        fence, done = _fence(token, lines)
        found.append(fence)
    return tuple(found)


def _unglued(line: str) -> str:
    """A line with a fence at its end as two lines: `Here it is: ```python` and `    return a + b``` `."""
    if "```" not in line:
        return line
    bare = line.rstrip()
    word = re.search(r"[\w+.-]{0,16}\Z", bare)[0]  # type: ignore[index]
    ticked = bare[: len(bare) - len(word)].rstrip(" \t")
    before = ticked.rstrip("`")
    inner = before.lstrip(" \t>")
    glued = (
        len(ticked) - len(before) >= 3 and not _LIST_MARKER.fullmatch(before) and (not word or word.lower() in PYTHON)
    )
    if not glued or "`" in (inner.lstrip("`") if inner.startswith("```") and not word else inner):
        return line
    return f"{before}\n{bare[len(before) :]}"


def _fence(token: Token, lines: Sequence[str]) -> tuple[Fence, int]:
    """One block, and the number of the line behind it."""
    assert token.map is not None
    language, start = _info(token.info.strip())
    code = f"{start}\n{token.content}" if start else token.content
    if ('"""' in code or "'''" in code) and parse_program(code) is None:
        closings = (at for at in range(token.map[1], len(lines)) if _CLOSING.fullmatch(lines[at]))
        for end, _ in zip(closings, range(_EXTENSIONS), strict=False):
            longer = textwrap.dedent("\n".join(lines[token.map[0] + 1 : end]))
            if parse_program(longer) is not None:
                return Fence(language=language, code=longer), end + 1
    return Fence(language=language, code=code), token.map[1]


def _info(info: str) -> tuple[str, str]:
    """The language of an info string, and code that stands on the opening line."""
    if CODE_START.match(info):
        return "", info
    match = _LANGUAGE.match(info)
    language = (match[1] or "").lower() if match else ""
    rest = info[match.end() :] if match else info
    return language, rest if CODE_START.match(rest) else ""


def bare_blocks(text: str) -> list[str]:
    """The programs that stand between lines of prose, each the longest run of lines that parses, at any indentation.

    A run ends only where a line at its own margin begins: a function is never cut short.
    """
    lines = text.split("\n")
    budget = _Budget()
    found: list[str] = []
    at = 0
    while at < len(lines) and budget.left:
        if not _MAY_START.match(lines[at]):
            at += 1
            continue
        window = _window(lines, at)
        length, code = longest_program(window, budget=budget)
        if length:
            found.append(code)
        at += length or 1
    return found


@dataclass(slots=True)
class _Budget:
    """What the search may still parse."""

    tries: int = MAX_TRIES
    characters: int = MAX_PARSED

    @property
    def left(self) -> bool:
        return self.tries > 0 and self.characters > 0

    def parse(self, code: str) -> ast.Module | int:
        """The tree, or the number of the line with the error (0: none is known)."""
        self.tries -= 1
        self.characters -= len(code)
        try:
            return parse_module(code)
        except SyntaxError as error:
            return error.lineno or 0
        except (ValueError, RecursionError, MemoryError):
            return 0


def longest_program(window: Sequence[str], *, keep: int = 0, budget: _Budget | None = None) -> tuple[int, str]:
    """The longest run of the first lines that parses to at least one statement: its number of lines and its text.

    Runs of `keep` lines or fewer do not count. (0, "") where there is none.
    """
    budget = budget or _Budget()
    end = len(window)
    while end > keep and budget.left:
        code = "\n".join(window[:end])
        tree = budget.parse(code)
        if isinstance(tree, ast.Module):
            return (end, code) if tree.body else (0, "")
        wrong = min(tree, end) - 1  # the index of the line with the error
        end = next((at for at in range(wrong, keep, -1) if at < end and _is_margin(window[at])), 0)
    return 0, ""


def _window(lines: Sequence[str], start: int) -> list[str]:
    """The lines from `start` on that may belong to one program, without their common indentation."""
    margin = re.match(r"[ \t]*", lines[start])[0]  # type: ignore[index]
    window: list[str] = []
    size = 0
    for line in lines[start:]:
        if _FENCE_LINE.match(line) or size > MAX_WINDOW or (line.strip() and not line.startswith(margin)):
            break
        window.append(line[len(margin) :])
        size += len(line) + 1
    return window


def _is_margin(line: str) -> bool:
    return bool(line.strip()) and not line[0].isspace() and not _CONTINUES.match(line)


def parse_program(code: str) -> tuple[str, ast.Module] | None:
    """A program's text and tree, with odd characters made plain where only that lets it parse; None for no program."""
    for spelling in spellings(code):
        tree = parse_source(spelling)
        if tree is not None:
            return (spelling, tree) if tree.body and not returns_outside(tree.body) else None
    return None


def spellings(text: str) -> list[str]:
    """The text as it stands; then without the spaces, quotes and invisible characters that chat front ends put into
    code; then without their escapes (`\\_`, `&lt;`) either; each as far as it differs, and without a common margin."""
    plain = text.translate(_ODD)
    named = html.unescape(plain) if re.search(r"&(?:lt|gt|quot|amp|#x?\w+);", plain) else plain
    bare = _ESCAPED.sub(r"\1", named) if "\\" in named else named
    return list(dict.fromkeys([text, plain, textwrap.dedent(plain), named, bare, textwrap.dedent(bare)]))
