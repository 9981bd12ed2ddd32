"""Finding the final answer in what a model wrote: candidates in the order of one table, the first that states a value.

Both maths graders start here. A candidate counts only when its text is a value of the task's kind (`ValueKind`): a
heading, a working or "the answer is correct" shadows nothing. Within a rank a later candidate beats an earlier one, and
what is taken back ("Wait, that is wrong") gives way to the answer that is stated behind it. Values side by side are one
answer: of "$2$ or $3$" none is chosen. The rule that found the answer ends up in `Grade.rule`, and the answer itself in
`Grade.read`, because a reading rule can move accuracy by more than a method does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from grpo_aflow.tasks.reading.marks import (
    ANSWER_IS,
    FIELD,
    boxes,
    following,
    last,
    last_boxed,
    record_field,
    tags,
    visible,
)
from grpo_aflow.tasks.reading.quantities import last_number, names_two_numbers, number_in
from grpo_aflow.tasks.reading.statements import DENIED, DENIED_BEHIND, is_refused, stated_formulas, unwrapped

_TAIL = 20_000  # characters; a final answer stands at the end, and every pattern below stays fast on this much
_BARE = 300  # longest text that counts as an answer by itself
_DECLARED = 3  # the last rank whose candidates somebody called the answer


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
    tail = visible(text)[-_TAIL:].translate(_WIDE_PUNCTUATION).strip()
    place, found = _best(tail, kind)
    if found.is_declared and (taken_back := _TAKEN_BACK.search(tail, place)):
        behind = _SUPPOSED.sub("", tail[taken_back.end() :])
        _, instead = _best(_CALLED_RESULT.sub("The answer is", behind), kind, _DECLARED)
        return instead if instead.text else found
    return found


def _best(text: str, kind: ValueKind, last_rank: int = 99) -> tuple[int, FinalAnswer]:
    """The candidate that counts, of the ranks up to `last_rank`, and its place."""
    for rank in sorted({rule.rank for rule in READING_ORDER if rule.rank <= last_rank}):
        found = [
            (c.place, rule.name, c.text) for rule in READING_ORDER if rule.rank == rank for c in rule.find(text, kind)
        ]
        if found:
            place, name, answer = max(found, key=lambda candidate: candidate[0])
            return place, FinalAnswer(text=answer, rule=name)
    return 0, FinalAnswer(text="", rule="none")


_WIDE_PUNCTUATION = str.maketrans(
    {"。": ". ", "，": ", ", "、": ", ", "：": ": ", "；": "; ", "（": " (", "）": ") ", "！": "! ", "？": "? "}
)
_TAKEN_BACK = re.compile(
    r"\b(?:wait|hmm+|oops|correction|on second thought|let me (?:re-?(?:check|do|compute|calculate|consider|examine)|"
    r"correct|double-?check)|(?:i|we) (?:made (?:an?|the) (?:\w+ )?(?:error|mistake)|"
    r"was wrong|were wrong|miscalculated)|"
    r"(?:is|was) (?:wrong|incorrect|not (?:right|correct)|an? (?:\w+ )?(?:error|mistake)))\b",
    re.I,
)
_SUPPOSED = re.compile(r"\b(?:if|suppose|assum\w+|whether|unless)\b[^.!?\n]*", re.I)  # "if the answer is 17, then"
_CALLED_RESULT = re.compile(
    r"\b(?:the|a)\s+(?:(?:final|correct|right|actual|real)\s+)?(?:result|value|total|number|amount)\s+"
    r"(?:is|should be)\b",
    re.I,
)

# --- statements -------------------------------------------------------------------------------------------------------

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
    stated = stated_formulas(re.split(r"(?<!\d)\.\s", content, maxsplit=1)[0])
    if stated and not content[: stated[0].place].strip("*_ "):
        yield stated[0].text
    if not names_two_numbers(content):
        yield unwrapped(_CUT.split(content, maxsplit=1)[0])
    if stated:
        yield stated[-1].text


# --- the rules --------------------------------------------------------------------------------------------------------

_HASHES = re.compile(r"####+(?!#)")
_BOLD = re.compile(r"\*\*([^*\n]{1,80})\*\*")
# What stands outside of a box and makes another value of what is in it.
_MINUS = re.compile(r"(?:\A|[$=(\[:,\n])\s*-\s?\Z")
_FACTOR = re.compile(r"\s?\\(?:pi|sqrt\s?\{[^{}]*\})(?![A-Za-z])")


def _tags(text: str, kind: ValueKind) -> Iterator[AnswerCandidate]:
    for place, content in tags(text):
        yield AnswerCandidate(place, _marked(content, kind))


def _marked(content: str, kind: ValueKind) -> str:
    """The answer within what was marked as a whole: a value, what a sentence of it boxes, or all of it."""
    return _value(content, kind) or last_boxed(content) or unwrapped(content)


def _record_fields(text: str, kind: ValueKind) -> Iterator[AnswerCandidate]:
    found = record_field(text)
    if found is not None and isinstance(found[1], str | int | float):
        yield AnswerCandidate(found[0], _marked(str(found[1]), kind))


def _boxed(text: str, kind: ValueKind) -> Iterator[AnswerCandidate]:
    return (candidate for candidate in _other_boxes(text, kind) if kind.states(candidate.text))


def _other_boxes(text: str, _: ValueKind) -> Iterator[AnswerCandidate]:
    for box in boxes(text):
        before, behind = text[max(0, box.start - 40) : box.start], text[box.end : box.end + 40]
        if not DENIED.search(before) and not DENIED_BEHIND.match(behind):
            sign = "-" if _MINUS.search(before) else ""
            factor = _FACTOR.match(behind)
            yield AnswerCandidate(box.start, f"{sign}{unwrapped(box.content)}{factor[0] if factor else ''}")


def _fields(text: str, kind: ValueKind) -> Iterator[AnswerCandidate]:
    for match in last(FIELD, text):
        content = following(text, match.end())
        if not is_refused(content) and (value := _boxed_again(content, text[: match.start()]) or _value(content, kind)):
            yield AnswerCandidate(match.start(), value)


def _boxed_again(content: str, before: str) -> str:
    """What was boxed before, where a sentence with several formulas has it as one of them; else ""."""
    stated = [formula.text for formula in stated_formulas(re.split(r"(?<!\d)\.\s", content, maxsplit=1)[0])]
    boxed = unwrapped(last_boxed(before)) if len(stated) > 1 else ""
    return boxed if boxed in stated else ""


def _hashes(text: str, kind: ValueKind) -> Iterator[AnswerCandidate]:
    for match in last(_HASHES, text):
        if value := _value(following(text, match.end()), kind):
            yield AnswerCandidate(match.start(), value)


def _declared(text: str, kind: ValueKind) -> Iterator[AnswerCandidate]:
    for match in last(ANSWER_IS, text):
        content = following(text, match.end())
        if not is_refused(content) and (value := _value(content, kind)):
            yield AnswerCandidate(match.start(), value)


def _sentences(text: str, _: ValueKind) -> Iterator[AnswerCandidate]:
    for pattern in (FIELD, ANSWER_IS):
        for match in last(pattern, text):
            content = following(text, match.end())
            if not is_refused(content) and (value := _in_bold(content) or number_in(content)):
                yield AnswerCandidate(match.start(), value)


def _in_bold(sentence: str) -> str:
    """The one number that a sentence has in bold, with its words; "" where it has none or several."""
    numbers = [found for bold in _BOLD.findall(sentence) if (found := number_in(bold))]
    return numbers[0] if len(numbers) == 1 else ""


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
    start = text.rstrip().rfind("\n") + 1
    for formula in stated_formulas(text):
        if formula.end > start and kind.states(formula.text):
            yield AnswerCandidate(formula.place, formula.text)


def _last_number(text: str, _: ValueKind) -> Iterator[AnswerCandidate]:
    if value := last_number(text):
        yield AnswerCandidate(0, value)


READING_ORDER: tuple[AnswerRule, ...] = (
    AnswerRule("tag", 0, _tags, "12 was a guess. <answer>15</answer> as 3 * 5", "15"),
    AnswerRule("json", 0, _record_fields, '{"answer": "15", "steps": 3}', "15"),
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
