"""What the formulas of a sentence state: side by side they are one answer, and what is denied is none.

`final_answer` asks here for the formulas of a candidate's text: of "either $2$ or $3$" it gets "2, 3", of "$5$ and not
$7$" it gets "5".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from grpo_aflow.tasks.reading.marks import FORMULA, begins_with_box, last_boxed

DENIED = re.compile(
    r"\b(?:not|isn['’]t|never|instead of|rather than|unlike)\s+(?:(?:a|an|the|equal to)\s+)?"
    r"[\s$*(]{0,8}(?:\\\(|\\\[)?\s*\Z",
    re.I,
)
"""Behind it stands what is not the answer."""
DENIED_BEHIND = re.compile(
    r"[\s$*)]{0,8}(?:\\\)|\\\])?\s{0,8}"
    r"(?:(?:is|was|would be)\s+(?:not\b(?! only)|wrong|incorrect|false|invalid|extraneous|impossible|ruled out)|"
    r"(?:does|do|can|will|would)(?:n['’]t|\s?not)\s+(?:work|satisfy|hold|fit|count|apply|lie|be)\b|isn['’]t\b|fails\b)",
    re.I,
)
"""Before it stands what is not the answer."""
_REFUSED = re.compile(
    r",?\s+(?:which|but (?:this|that|it))\s+(?:is|was)\s+"
    r"(?:incorrect|wrong|false|invalid|not (?:right|correct|valid))\b",
    re.I,
)
_SENTENCE_END = re.compile(r"(?<!\d)\.\s|\.\s+(?=[A-Z])|\n")
_JOINED = re.compile(
    r"[\s*_]*(?:[,;&]|,?\s*(?:and/or|and|or)\b)[\s*_]*"
    r"(?:(?:or|and|else|maybe|possibly|perhaps|also|even|then|either)\b[\s*_]*)*"
    r"|,?\s*(?:and|or)\s[^.,;:$\\\n]{0,40}\b(?:is|are)\s",  # "... is $1$ and the larger root is $3$"
    re.I,
)
_NEAR = 60  # characters before a formula, in which it is denied
_NAME = re.compile(r"\s*([A-Za-z]\w{0,2})\s*=\s*(?=[^=])")


@dataclass(frozen=True, slots=True)
class Stated:
    """What a formula, or formulas side by side, state, and where."""

    place: int
    end: int
    text: str


def stated_formulas(text: str) -> list[Stated]:
    """What the formulas of a text state, in their order."""
    found: list[Stated] = []
    last = -1  # where the formula before ended, if it can be joined
    for match in FORMULA.finditer(text):
        content = unwrapped(match.group())
        if DENIED.search(text[max(0, match.start() - _NEAR) : match.start()]) or DENIED_BEHIND.match(text, match.end()):
            last = -1
            continue
        place = match.start()
        if last >= 0 and _JOINED.fullmatch(text[last:place]):
            before = found.pop()
            place, content = before.place, f"{before.text}, {_without_name_of(before.text, content)}"
        found.append(Stated(place, match.end(), content))
        last = match.end()
    return found


def _without_name_of(before: str, content: str) -> str:
    """Of "x = 2" and "x = 3" the latter is a second value of x: "3"."""
    first, second = _NAME.match(before), _NAME.match(content)
    return content[second.end() :] if first and second and first[1] == second[1] else content


def is_refused(statement: str) -> bool:
    """Whether a sentence itself refuses the answer that it states: "The proposed answer is 5, which is incorrect.\""""
    return bool(_REFUSED.search(_SENTENCE_END.split(statement, maxsplit=1)[0]))


def unwrapped(text: str) -> str:
    """Takes off what only marks an answer: a box, dollar signs, bold, quotes, braces of a cut command, a full stop."""
    text = _without_marks(text)
    if begins_with_box(text) and (inner := last_boxed(text)):
        text = inner
    for _ in range(3):
        match = FORMULA.fullmatch(text.rstrip("."))
        text = _without_marks(next(part for part in match.groups() if part) if match else text)
    return text


def _without_marks(text: str) -> str:
    text = text.strip().strip("*_`\"'~ ✓✔✅☑🎉").removesuffix("\\\\").strip()
    while text.endswith("}") and text.count("}") > text.count("{"):
        text = text[:-1].rstrip()
    if text.endswith(".") and not text.endswith(("p.m.", "a.m.", "..")):
        text = text[:-1]
    return text.rstrip(",;").strip().strip("*_`\"' ")
