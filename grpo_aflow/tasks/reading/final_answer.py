"""Finding the final answer in what a model wrote: candidates in the order of one table, the first that states a value.

Both maths graders start here. A candidate counts only when its text is a value of the task's kind (`ValueKind`): a
heading, a working or "the answer is correct" shadows nothing. Within a rank a later candidate beats an earlier one, so
a correction wins. What stands inside `<think>` is never read. The rule that found the answer ends up in `Grade.rule`,
and the answer itself in `Grade.read`, because a reading rule can move accuracy by more than a method does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from grpo_aflow.tasks.reading.quantities import last_number, number_in
from grpo_aflow.thinking import split_thinking

_TAIL = 20_000  # characters; a final answer stands at the end, and every pattern below stays fast on this much
_BARE = 300  # longest text that counts as an answer by itself
_MAX_MATCHES = 40  # of a rule: the last ones are looked at
_MAX_STATEMENT = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalAnswer:
    """What a text states as its answer, and by which rule it was found."""

    text: str
    rule: str  # a name of `READING_ORDER`, or "none"

    @property
    def is_declared(self) -> bool:
        """Whether the writer marked it as the answer, rather than its being the last number in sight."""
        return self.rule not in ("last_number", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueKind:
    """What counts as a value."""

    states: Callable[[str], bool]  # whether a short text states a value of this kind


@dataclass(frozen=True, slots=True)
class AnswerCandidate:
    place: int
    text: str


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """One row of the reading order."""

    name: str
    rank: int  # a lower rank wins; within a rank the later place
    find: Callable[[str, ValueKind], Iterable[AnswerCandidate]]
    example: str
    answer: str  # what is read in the example, as a number and as LaTeX


def find_final_answer(text: str, kind: ValueKind) -> FinalAnswer:
    """The final answer of a model's text; an empty one with rule "none" where there is none."""
    tail = visible(text)[-_TAIL:].strip()
    for rank in sorted({rule.rank for rule in READING_ORDER}):
        found = [
            (c.place, rule.name, c.text) for rule in READING_ORDER if rule.rank == rank for c in rule.find(tail, kind)
        ]
        if found:
            _, name, answer = max(found, key=lambda candidate: candidate[0])
            return FinalAnswer(text=answer, rule=name)
    return FinalAnswer(text="", rule="none")


_THINKING = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.I | re.S)
_END_OF_THINKING = re.compile(r"\A.*</(?:think|thinking|thought)>", re.I | re.S)
_SPECIAL = re.compile(r"<\|[^|<>\s]{1,40}\|>|</s>|<eos>|<end_of_turn>|\[/?INST\]|\ufeff")


def visible(text: str) -> str:
    """The text without what was only thought, and without the tokens that end a turn.

    A `<think>` that is never closed hides all that follows; a `</think>` that was never opened, all before it.
    """
    text = _THINKING.sub(" ", split_thinking(text)[0])
    return _SPECIAL.sub("", _END_OF_THINKING.sub("", text))


# --- boxes ------------------------------------------------------------------------------------------------------------

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])\s*")
_LEADING_BOX = re.compile(r"[\s$]*(?:\\\(|\\\[)?\s*\\(?:boxed|fbox|framebox)(?![A-Za-z])")
_BETWEEN_BOXES = re.compile(r"[\s$]*(?:\\\)|\\\])?[^.=\n]{0,40}?(?:,|;|\band\b|\bor\b|&)[^.\n0-9]{0,40}?", re.I)
_NAMED_BOX = re.compile(r"(?:[A-Za-z]\w{0,2}\s?=\s?)?[\s$]*(?:\\\(|\\\[)?\s*\Z")


def boxes(text: str) -> list[AnswerCandidate]:
    """The contents of all boxes, at any depth of braces; boxes that a comma, "and" or "or" joins are one answer.

    "\\boxed{9} chickens and \\boxed{10} rabbits" is "9, 10"; after a full stop or an equation a new answer begins.
    """
    found: list[AnswerCandidate] = []
    end_of_last = -1
    for match in _last(_BOX, text):
        if match.start() < end_of_last:
            continue  # a box in a box
        content, end = _group(text, match.end())
        if not content or content.isspace():
            continue
        gap = text[end_of_last : match.start()] if found else "."
        name = _NAMED_BOX.search(gap)
        if name and _BETWEEN_BOXES.fullmatch(gap[: name.start()]):
            last = found.pop()
            content = last.text if content == last.text else f"{last.text}, {content}"
        found.append(AnswerCandidate(match.start(), content))
        end_of_last = end
    return found


def last_boxed(text: str) -> str:
    """The answer in the last box (or the last boxes, where they are joined); "" when there is none."""
    found = boxes(text)
    return found[-1].text if found else ""


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


# --- statements -------------------------------------------------------------------------------------------------------

_FORMULA = re.compile(
    r"\$\$(.{1,800}?)\$\$|(?<![\\$])\$((?=\S)(?:\\\$|[^$]){0,499}?[^\s$\\]|\s(?:\\\$|[^$]){1,498}?\s)\$(?!\d)|\\\((.{1,500}?)\\\)|\\\[(.{1,800}?)\\\]",
    re.S,
)
_CUT = re.compile(
    r"\s*(?:\(|\[(?=[A-Za-z])|,?\s*\b(?:because|since|as|which|i\.\s?e\.|where|and so)(?![A-Za-z])|,\s+so\b|"
    r"[.!?](?:\s|$)|\n)",
    re.I,
)
_LEAD = re.compile(
    r"\A[\s*_#:>}\-]*(?:(?:so|thus|therefore|hence|then),?\s+)?(?:the\s+|my\s+|our\s+)?(?:final\s+|correct\s+)?"
    r"(?:answer|result)\s*(?:is|:|=)\s*",
    re.I,
)
_POINTER = re.compile(r"(?:as follows|(?:given |shown )?below|the following|given by|therefore)?\s*[:=]?\s*\Z", re.I)
_LABEL = re.compile(
    r"\A\W*(?:step|part|case|problem|question|solution|explanation|conclusion|verification|summary|calculations?|check|"
    r"reasoning|approach|method|example|note|given|analysis|understanding|answer|final answer|result|option|let)\b",
    re.I,
)


def _value(content: str, kind: ValueKind) -> str:
    """The value that a piece of text states, the surest reading first; "" where it states none."""
    content = _LEAD.sub("", content, count=1)
    for text in _statements(content):
        if text and not _LABEL.match(text) and kind.states(text):
            return text
    return ""


def _statements(content: str) -> Iterator[str]:
    yield unwrapped(content)
    leading = _FORMULA.match(content.lstrip("*_ "))
    if leading:
        yield unwrapped(leading.group())
    clause = _CUT.split(content, maxsplit=1)[0]
    yield unwrapped(clause)
    if formulas := list(_FORMULA.finditer(re.split(r"(?<!\d)\.\s", content, maxsplit=1)[0])):
        yield unwrapped(formulas[-1].group())


def unwrapped(text: str) -> str:
    """Takes off what only marks an answer: a box, dollar signs, bold, quotes, braces of a cut command, a full stop."""
    text = _strip_marks(text)
    if _LEADING_BOX.match(text) and (inner := last_boxed(text)):
        text = inner
    for _ in range(3):
        match = _FORMULA.fullmatch(text.rstrip("."))
        text = _strip_marks(next(part for part in match.groups() if part) if match else text)
    return text


def _strip_marks(text: str) -> str:
    text = text.strip().strip("*_`\"'~ ✓✔✅☑🎉").removesuffix("\\\\").strip()
    while text.endswith("}") and text.count("}") > text.count("{"):
        text = text[:-1].rstrip()
    if text.endswith(".") and not text.endswith("p.m.") and not text.endswith("a.m."):
        text = text[:-1]
    return text.rstrip(",;").strip().strip("*_`\"' ")


def _following(text: str, place: int) -> str:
    """What stands at `place` to the end of its line; where that is nothing, the next block of text."""
    text = text[place : place + _MAX_STATEMENT]
    line, _, rest = text.partition("\n")
    line = line.strip()
    if not _POINTER.fullmatch(re.sub(r"[*_`\\]+", "", line)) and line not in ("$$", "\\[", "```"):
        match = _FORMULA.match(text.lstrip(" *_"))
        return match.group() if match and "\n" in match.group() else line
    block = (line if line in ("$$", "\\[") else "") + "\n" + rest
    block = (
        re.sub(r"\A(?:[\s\\:*_>]|-\s)*(?=\S)", "", block) if not re.match(r"\s*\\[\[(\\a-z]", block) else block.lstrip()
    )
    block = re.sub(r"\A```[a-z]*\n", "", block)
    match = _FORMULA.match(block)
    return match.group() if match else block.partition("\n")[0]


# --- the rules --------------------------------------------------------------------------------------------------------

_TAG = re.compile(r"<(?:final_)?answer>\s*(.{0,2000}?)\s*</(?:final_)?answer>", re.I | re.S)
_OPEN_TAG = re.compile(r"<(?:final_)?answer>\s*([^<]{1,300})\Z", re.I)
_FIELD = re.compile(
    r"(?:^[^A-Za-z0-9\n$<]{0,16}(?:\\text(?:bf)?\s?\{\s*)?(?:the\s+|my\s+)?(?:(?:final|correct|numerical|short)\s+)?"
    r"(?:answer|ans)\b|\bfinal answer\b)(?:\s*\([^()\n]{0,30}\))?[*_\"'`}\s]{0,6}?"
    r"(?:[:=：]|[*_]{1,3}\s*$|(?=\n)|(?=\s*\\boxed))[*_}\s]{0,4}?(?=\S|\s*\n)",
    re.I | re.M,
)
_ANSWER_IS = re.compile(
    r"\banswers?\b(?:\s+(?:to|for|of)\b[^.\n]{0,80}?)?[*_]{0,3}\s+"
    r"(?:is|are|equals|would be|will be|should be|must be|comes to)\b"
    r"(?:\s+(?:therefore|thus|simply|then|indeed|now|just))?\s{0,3}[:=]?",
    re.I,
)
_HASHES = re.compile(r"####+(?!#)")


def _last(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    return [*pattern.finditer(text)][-_MAX_MATCHES:]


def _tags(text: str, kind: ValueKind) -> Iterator[AnswerCandidate]:
    found = list(_TAG.finditer(text)) or list(_OPEN_TAG.finditer(text))
    for match in found:
        yield AnswerCandidate(match.start(), _value(match[1], kind) or unwrapped(match[1]))


def _json_fields(text: str, _: ValueKind) -> Iterator[AnswerCandidate]:
    bare = re.sub(r"\A```[a-z]*\n|\n```\Z", "", text)
    if not bare.startswith("{") or len(bare) > 4_000:
        return
    try:
        record = json.loads(bare)
    except (ValueError, RecursionError):
        return
    for name in ("final_answer", "answer", "result"):
        if isinstance(record, dict) and isinstance(record.get(name), str | int | float):
            yield AnswerCandidate(0, unwrapped(str(record[name])))
            return


def _boxed(text: str, kind: ValueKind) -> Iterator[AnswerCandidate]:
    for box in boxes(text):
        if kind.states(value := unwrapped(box.text)):
            yield AnswerCandidate(box.place, value)


def _other_boxes(text: str, _: ValueKind) -> Iterator[AnswerCandidate]:
    for box in boxes(text):
        yield AnswerCandidate(box.place, unwrapped(box.text))


def _fields(text: str, kind: ValueKind) -> Iterator[AnswerCandidate]:
    for match in _last(_FIELD, text):
        if value := _value(_following(text, match.end()), kind):
            yield AnswerCandidate(match.start(), value)


def _hashes(text: str, kind: ValueKind) -> Iterator[AnswerCandidate]:
    for match in _last(_HASHES, text):
        if value := _value(_following(text, match.end()), kind):
            yield AnswerCandidate(match.start(), value)


def _declared(text: str, kind: ValueKind) -> Iterator[AnswerCandidate]:
    for match in _last(_ANSWER_IS, text):
        if value := _value(_following(text, match.end()), kind):
            yield AnswerCandidate(match.start(), value)


def _sentences(text: str, _: ValueKind) -> Iterator[AnswerCandidate]:
    for pattern in (_FIELD, _ANSWER_IS):
        for match in _last(pattern, text):
            if value := number_in(_following(text, match.end())):
                yield AnswerCandidate(match.start(), value)


def _bare(text: str, kind: ValueKind) -> Iterator[AnswerCandidate]:
    if (
        len(text) <= _BARE
        and "\n" not in text
        and (value := unwrapped(text))
        and not _LABEL.match(value)
        and kind.states(value)
    ):
        yield AnswerCandidate(0, value)


def _last_formula(text: str, kind: ValueKind) -> Iterator[AnswerCandidate]:
    *_, last_line = text.rstrip().splitlines() or [""]
    start = text.rstrip().rfind(last_line)
    for match in _FORMULA.finditer(text):
        if match.end() > start and kind.states(value := unwrapped(match.group())):
            yield AnswerCandidate(match.start(), value)


def _last_number(text: str, _: ValueKind) -> Iterator[AnswerCandidate]:
    if value := last_number(text):
        yield AnswerCandidate(0, value)


READING_ORDER: tuple[AnswerRule, ...] = (
    AnswerRule("tag", 0, _tags, "12 was a guess. <answer>15</answer> as 3 * 5", "15"),
    AnswerRule("json", 0, _json_fields, '{"answer": "15", "steps": 3}', "15"),
    AnswerRule("boxed", 1, _boxed, "Since $3x=45$, we get $\\boxed{15}$, not 16.", "15"),
    AnswerRule("field", 1, _fields, "**Final Answer:**\n\n$15$\n\nThis took 3 steps.", "15"),
    AnswerRule("####", 1, _hashes, "3 * 5 = 15\n#### 15", "15"),
    AnswerRule("boxed", 2, _other_boxes, "There is $\\boxed{15}$.", "15"),
    AnswerRule("answer_is", 3, _declared, "So the answer is 15. This answer is correct.", "15"),
    AnswerRule("answer_sentence", 4, _sentences, "Answer: He has 15 apples left, from 30.", "15"),
    AnswerRule("bare", 5, _bare, "15 apples", "15"),
    AnswerRule("last_formula", 6, _last_formula, "It took 3 steps:\nall in all the angle measures $15$.", "15"),
    AnswerRule("last_number", 7, _last_number, "She sold 3 first\nand then more, so she sold 15 in all", "15"),
)
