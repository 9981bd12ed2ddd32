"""What a text shows, and what it marks as its answer, whatever kind of answer that is.

`final_answer` (maths) and `phrases` (questions) start here: thinking and what was struck out is not read, and a box, a
tag, a field of a record, a label and "the answer is" mark the same for both.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

from grpo_aflow.syntax import parse_expression
from grpo_aflow.thinking import split_thinking

MAX_MATCHES = 40  # of a pattern: the last ones are looked at
_MAX_SHOWN = 40_000  # characters; an answer stands at the end, and every pattern stays fast on this much
_MAX_RECORD = 4_000
_MAX_STATEMENT = 1_000

_THINKING = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.I | re.S)
_END_OF_THINKING = re.compile(r"\A.*</(?:think|thinking|thought)>", re.I | re.S)
_WIDE_GAP = re.compile(r"\s{9,}")
_SPECIAL = re.compile(r"<\|[^|<>\s]{1,40}\|>|</s>|<eos>|<end_of_turn>|\[/?INST\]|\ufeff")
_BOX_TOKENS = re.compile(r"<\|begin_of_box\|>(.{0,2000}?)<\|end_of_box\|>", re.S)  # GLM's way to box an answer
_STRUCK_OUT = re.compile(
    r"<!--.*?(?:-->|\Z)|<(del|s|strike)>.{0,2000}?</\1>|(?<![^\s*_(])~~(?=\S)[^\n]{1,400}?(?<=\S)~~(?![A-Za-z0-9])",
    re.I | re.S,
)


def visible(text: str) -> str:
    """The text as it is shown: without what was only thought, what is struck out, and the tokens that end a turn.

    A `<think>` that is never closed hides all that follows; a `</think>` that was never opened, all before it.
    Of a long text the end is kept, and long white space is cut: the time of many patterns grows with its square.
    """
    text = _END_OF_THINKING.sub("", _THINKING.sub(" ", split_thinking(text)[0]))[-_MAX_SHOWN:]
    text = _BOX_TOKENS.sub(lambda box: f"\\boxed{{{box[1].strip()}}}", text)
    return _WIDE_GAP.sub(_narrow_gap, _SPECIAL.sub("", _STRUCK_OUT.sub(" ", text)))


def _narrow_gap(gap: re.Match[str]) -> str:
    return "\n\n" if "\n" in gap.group() else " "


def last(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """The last matches of a pattern."""
    return [*pattern.finditer(text)][-MAX_MATCHES:]


# --- boxes ------------------------------------------------------------------------------------------------------------

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])\s*")
_LEADING_BOX = re.compile(r"[\s$]*(?:\\\(|\\\[)?\s*\\(?:boxed|fbox|framebox)(?![A-Za-z])")
_BETWEEN_BOXES = re.compile(r"[\s$]*(?:\\\)|\\\])?[^.=\n]{0,40}?(?:,|;|\band\b|\bor\b|&)[^.\n0-9]{0,40}?", re.I)
_NAMED_BOX = re.compile(r"(?:[A-Za-z]\w{0,2}\s?=\s?)?[\s$]{0,16}(?:\\\(|\\\[)?\s{0,8}\Z")


@dataclass(frozen=True, slots=True)
class Box:
    """A boxed answer, or boxes that are one."""

    start: int
    end: int
    content: str


def boxes(text: str) -> list[Box]:
    """All boxes, at any depth of braces; boxes that a comma, "and" or "or" joins are one answer.

    "\\boxed{9} chickens and \\boxed{10} rabbits" is "9, 10"; after a full stop or an equation a new answer begins.
    """
    found: list[Box] = []
    for match in last(_BOX, text):
        end_of_last = found[-1].end if found else -1
        if match.start() < end_of_last:
            continue  # a box in a box
        content, end = _group(text, match.end())
        if not content or content.isspace():
            continue
        start = match.start()
        gap = text[end_of_last:start] if found else "."
        name = _NAMED_BOX.search(gap)
        if name and _BETWEEN_BOXES.fullmatch(gap[: name.start()]):
            before = found.pop()
            content = before.content if content == before.content else f"{before.content}, {content}"
        found.append(Box(start, end, content))
    return found


def last_boxed(text: str) -> str:
    """The answer in the last box (or the last boxes, where they are joined); "" when there is none."""
    found = boxes(text)
    return found[-1].content if found else ""


def begins_with_box(text: str) -> bool:
    return bool(_LEADING_BOX.match(text))


def _group(text: str, start: int) -> tuple[str, int]:
    """The content of the group, the command with its groups, or the word at `start`, and where it ends."""
    if text[start : start + 1] != "{":
        match = re.compile(r"\\[A-Za-z]+(?:\s?\{[^{}]*\})*|[^\s$\\]+").match(text, start)
        return (match.group().rstrip(".,;"), match.end()) if match else ("", start)
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[start + 1 : place].strip(), place + 1
    return "", len(text)


# --- tags and records -------------------------------------------------------------------------------------------------

TAG = re.compile(r"<((?:final_)?answer)>\s*(.{0,2000}?)\s*</\1>|\[ANSWER\]\s*(.{0,2000}?)\s*\[/ANSWER\]", re.I | re.S)
OPEN_TAG = re.compile(r"<(?:final_)?answer>\s*([^<]{1,300})\Z", re.I)
_RECORD_START = re.compile(r"^[ \t]*(?=\{)", re.M)
_FENCE_AT_END = re.compile(r"^[ \t]*```\w*[ \t]*\n((?:(?!```).)*?)\n?[ \t]*```\s*\Z", re.M | re.S)
_ANSWER_KEYS = ("final_answer", "answer", "result")
# A backslash that JSON does not know, or that begins a LaTeX command whose first letter it takes for a control sign.
_SINGLE_BACKSLASH = re.compile(
    r'(?<!\\)\\(?![bfnrtu"\x27/\\])|(?<!\\)\\(?=(?:frac|fbox|binom|beta|boxed|bar|big|begin|neq?|nu|not|rho|right|rangle|'
    r"theta|times|tan|text\w*|tfrac|tau|to|triangle|underline|union)(?![a-z]))"
)


def tags(text: str) -> list[tuple[int, str]]:
    """(place, content) of all answer tags; where none is closed, of one that is open to the end."""
    closed = [(match.start(), match[2] if match[1] else match[3]) for match in TAG.finditer(text)]
    return closed or [(match.start(), match[1]) for match in OPEN_TAG.finditer(text)]


def record_field(text: str) -> tuple[int, Any] | None:
    """(place, value) of the answer's field where the text ends in a record: JSON or a Python dict, bare or fenced."""
    place, content = _at_end(text)
    record = _record(content)
    for name in _ANSWER_KEYS:
        if record is not None and name in record:
            return place, record[name]
    return None


def _at_end(text: str) -> tuple[int, str]:
    """(place, content) of the fence or the braces in which a text ends; "" where it ends in neither."""
    if fence := _FENCE_AT_END.search(text):
        return fence.start(), fence[1]
    bare = text.rstrip()
    start = _RECORD_START.search(bare) if bare.endswith("}") else None
    return (start.start(), bare[start.end() :]) if start else (0, "")


def _record(text: str) -> dict[str, Any] | None:
    text = text.strip()
    if not text.startswith("{") or len(text) > _MAX_RECORD:
        return None
    text = _SINGLE_BACKSLASH.sub(r"\\\\", text)
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        try:
            record = ast.literal_eval(parse_expression(text))
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            return None
    return record if isinstance(record, dict) else None


# --- labels and sentences ---------------------------------------------------------------------------------------------

# "Answer", as a label and with "is", in the languages that multilingual models fall into.
_ELSEWHERE = (
    r"(?:最终|最終|最后的?|最後の?|正确|正確)?的?(?:答案|答え|解答)|최종\s?(?:답|정답)|정답|(?:окончательный\s)?ответ|"
    r"réponse(?:\sfinale)?|respuesta(?:\sfinal)?|resposta(?:\sfinal)?|risposta(?:\sfinale)?|"
    r"(?:endgültige\s)?antwort|(?:ostateczna\s)?odpowiedź|đáp\s(?:án|số)|jawaban(?:\sakhir)?"
)
FIELD = re.compile(
    r"(?:^[^A-Za-z0-9\n$<]{0,16}(?:\d{1,2}[.)]\s?[*_]{0,3})?(?:\\text(?:bf)?\s?\{\s*)?(?:the\s+|my\s+)?"
    r"(?:(?:final|correct(?:ed)?|numerical|short|reviewed|refined|revised|exact)\s+){0,2}"
    r"(?:answer|ans)\b|\bfinal answer\b)(?:\s*\([^()\n]{0,30}\))?[*_\"'`}\s]{0,6}?"
    r"(?:[:=：]|[-=]>|[→—–]|[*_]{1,3}\s*$|(?=\n)|(?=\s*\\boxed))[*_}\s]{0,4}?(?=\S|\s*\n)"
    rf"|(?:{_ELSEWHERE})[*_\s]{{0,4}}[:：][*_]{{0,3}}"
    # What is returned after a check; before one, it is only what was checked.
    r"|^[^A-Za-z0-9\n$<]{0,16}original answer[*_\s]{0,4}:[*_]{0,3}(?=[^\n]*\s*\Z)",
    re.I | re.M,
)
ANSWER_IS = re.compile(
    r"\banswers?\b(?:\s+(?:to|for|of)\b[^.\n]{0,80}?)?[*_]{0,3}\s+"
    r"(?:is|are|equals|would be|will be|should be|must be|comes to)\b"
    r"(?:\s+(?:therefore|thus|simply|then|indeed|now|just)\b)?\s{0,3}[:=]?"
    rf"|(?:{_ELSEWHERE})\s?(?:是|为|為|は|은|는|es|est|ist|é|è|lautet|adalah|là)(?![a-zé])\s{{0,3}}[:：]?",
    re.I,
)
_POINTER = re.compile(r"(?:as follows|(?:given |shown )?below|the following|given by|therefore)?\s*[:=]?\s*\Z", re.I)
_LATEX_NEXT = re.compile(r"\s*\\[\[(\\a-z]")
_BEFORE_BLOCK = re.compile(r"\A(?:[\s\\:*_>]|-\s)*(?=\S)")
FORMULA = re.compile(
    r"\$\$(.{1,800}?)\$\$|(?<![\\$])\$((?=\S)(?:\\\$|[^$]){0,499}?[^\s$\\]|\s(?:\\\$|[^$]){1,498}?\s)\$(?!\d)|\\\((.{1,500}?)\\\)|\\\[(.{1,800}?)\\\]",
    re.S,
)


def following(text: str, place: int) -> str:
    """What stands at `place` to the end of its line; where that is nothing, or introduces a formula, the next block."""
    text = text[place : place + _MAX_STATEMENT]
    line, _, rest = text.partition("\n")
    line = line.strip()
    if _introduces(line, rest):
        return following(rest, 0)
    if not _POINTER.fullmatch(re.sub(r"[*_`\\]+", "", line)) and line not in ("$$", "\\[", "```"):
        match = FORMULA.match(text.lstrip(" *_"))
        return match.group() if match and "\n" in match.group() else line
    block = (line if line in ("$$", "\\[") else "") + "\n" + rest
    block = block.lstrip() if _LATEX_NEXT.match(block) else _BEFORE_BLOCK.sub("", block)
    block = re.sub(r"\A```[a-z]*\n", "", block)
    match = FORMULA.match(block)
    if match and "\n" in match.group():
        return match.group()
    line, _, rest = block.partition("\n")
    return following(rest, 0) if _introduces(line, rest) else line


def _introduces(line: str, rest: str) -> bool:
    """Whether a line ends in a colon before a formula: "Thus, the cost of the 3 cards is:"."""
    return line.rstrip("*_ ").endswith(":") and bool(FORMULA.match(rest.lstrip()))
