"""The short answer to a question, as a text states it: what it marks last, else the whole text.

`graders.qa_scoring` compares the phrase by the published scorers. Only what is marked is taken out of a text: a tag, a
record's field, a box, a label ("Answer:"), or a sentence "the answer is ...". "Yes, both are American" is no "yes".
"""

from __future__ import annotations

import re
from collections.abc import Callable

from grpo_aflow.tasks.reading.marks import (
    ANSWER_IS,
    FIELD,
    begins_with_box,
    boxes,
    following,
    last,
    last_boxed,
    record_field,
    tags,
    visible,
)
from grpo_aflow.tasks.reading.statements import DENIED

_FINISH = re.compile(
    r"^[^\w\n]{0,16}(?:Action(?:\s\d+)?:[ \t]*)?Finish\[([^\]\n]{0,300})\][ \t]*$", re.I | re.M
)  # as ReAct ends
_TEXT_COMMAND = re.compile(r"\\(?:text|mbox|mathrm)[a-z]*\s?\{([^{}]*)\}")
_LEAD = re.compile(
    r"\A[\s*_#:>\"'-]*(?:(?:so|thus|therefore|hence|then),?\s+)?(?:the\s+|my\s+)?(?:(?:final|correct|short)\s+)?"
    r"answers?(?:\s+to\s+(?:the|this)\s+question)?[*_]{0,3}\s*(?:is|are|:|=)\s*[:*_]*\s*",
    re.I,
)
# Where the sentence that states an answer ends, also behind "St. Louis" and "U.S.": at what begins another one.
_NEXT_SENTENCE = re.compile(
    r"[.!?][\"')*_]*\s+(?=(?:The|It|He|She|They|This|That|These|Those|There|In|As|Because|Since|So|Thus|Therefore|"
    r"According|I|We|His|Her|Its|Their|Both|However|Note|Based|Although|While)\b)|\n"
)
_REASON = re.compile(
    r",?\s+(?:because|since)\b|,\s+(?:as (?:stated|mentioned|described|shown|per)|according to|based on)\b", re.I
)
_JUDGED = re.compile(
    r"\s*(?:indeed |already |also )?(?:(?:in)?correct|(?:in)?accurate|(?:properly|correctly) formatted|corrected to|"
    r"in the (?:correct|right|required) format|not (?:numerical|numeric|correct))"
    r"(?:(?: as it (?:is|stands))?(?P<colon>\s?:)|(?=\s*(?:[.,;(]|\Z|and\b|as\b|because\b|since\b)))",
    re.I,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_BOLD_END = re.compile(r"(?<=[\w,\"'’)] )\*\*([^*\n]{1,200})\*\*[.\s]*\Z")

# "The passage does not say", in the forms that models use, compared after normalisation. Closed: nothing is inferred.
_SOURCE = (
    r"(?: (?:in|by|from|within|based on) (?:given |provided |above |this )?"
    r"(?:context|passage|text|paragraph|article|information|document)s?(?: provided| given| above)?)?"
)
_NO_ANSWER = re.compile(
    r"(?:answer |information |(?:this )?question |this |it )?(?:is |was |are )?(?:"
    r"not (?:explicitly |directly |clearly )?(?:answerable|given|mentioned|provided|specified|stated|found|available|"
    r"included|contained|present|known|answered|determined|possible to (?:answer|determine|say))|"
    r"(?:cannot|can not|cant) be (?:answered|determined|found|inferred)|"
    r"unanswerable|unknown|impossible to (?:answer|determine|say)|na|n a|none|null|noanswer|"
    r"no (?:answer|information|mention)(?: (?:found|available|given|provided|exists|possible))?|"
    r"insufficient (?:information|context)|answer not found"
    rf"){_SOURCE}"
    r"|not enough (?:information|context)(?: to (?:answer|determine|say)(?: (?:question|this question|this|it))?)?"
    rf"{_SOURCE}"
    r"|i (?:do not|dont|cannot|cant) (?:know|tell|answer(?: (?:question|this question|this|that|it))?)"
    rf"{_SOURCE}"
    r"|there is no (?:answer|information|mention)(?: (?:of|about) (?:it|this|that))?"
    rf"{_SOURCE}"
    r"|(?:given |provided )?(?:context|passage|text|paragraph|article) (?:does not|doesnt|did not) (?:explicitly )?"
    r"(?:say|mention|specify|state|provide|contain|give|include|tell|answer)"
    r"(?: (?:it|this|that|answer|(?:this )?question|(?:this )?information|anything about (?:it|this)))?"
)

_UNANSWERABLE_FIRST = re.compile(r"\W*(?:the (?:question|answer) is )?unanswerable\W*?(?:[.:;,()\n–—]|\s-\s)", re.I)


def read_phrase(text: str) -> str:
    """The short answer of a model's text; the text as it is shown where nothing in it is marked as the answer."""
    shown = visible(text)
    for find in _READING_ORDER:
        if (phrase := find(shown)) is not None:
            return _bare(phrase)
    return shown


def begins_with_no_answer(text: str) -> bool:
    """Whether it begins with the word that the prompt asks for, before a reason: "Unanswerable. The passage ...\""""
    return bool(_UNANSWERABLE_FIRST.match(text))


def says_no_answer(normalised: str) -> bool:
    """Whether a text (normalised as the scorers do) says, as a whole, that there is no answer."""
    return bool(_NO_ANSWER.fullmatch(normalised))


def _tag(text: str) -> str | None:
    found = tags(text)
    return found[-1][1].strip() if found else None


def _field_of_record(text: str) -> str | None:
    found = record_field(text)
    if found is None or isinstance(found[1], list | dict):
        return None
    value = found[1]
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "null" if value is None else str(value)


def _mark(text: str) -> str | None:
    """The last box, label or ReAct's end."""
    found = [(box.start, box.content) for box in boxes(text)]
    for match in last(FIELD, text):
        content = re.sub(r"\A\*+\s+", "", following(text, match.end()))  # the end of a label in bold
        # A paragraph may end in "so the answer is ...", a sentence in its answer in bold.
        found.append((match.start(), _sentence(content) or _bold_end(content) or content))
    found += [(match.start(), match[1]) for match in last(_FINISH, text)]
    return max(found)[1] if found else None


def _sentence(text: str) -> str | None:
    """What the last "the answer is" states; one that only judges an answer, "the answer is correct", states none."""
    for match in reversed(last(ANSWER_IS, text)):
        judged = _JUDGED.match(text, match.end())
        if judged is None or judged["colon"]:
            end = judged.end() if judged else match.end()
            sentence = _NEXT_SENTENCE.split(following(text, end), maxsplit=1)[0]
            return _REASON.split(sentence, maxsplit=1)[0]
    return None


def _bold_end(sentence: str) -> str | None:
    """The part in bold in which a sentence ends, where no other is and it is not what the sentence denies."""
    bold = _BOLD.findall(sentence)
    end = _BOLD_END.search(sentence)
    return end[1] if end and len(bold) == 1 and not DENIED.search(sentence[: end.start()]) else None


_READING_ORDER: tuple[Callable[[str], str | None], ...] = (_tag, _field_of_record, _mark, _sentence)


def _bare(phrase: str) -> str:
    """The phrase without what only introduces it or marks it."""
    phrase = _LEAD.sub("", phrase, count=1).strip()
    if begins_with_box(phrase):
        phrase = last_boxed(phrase) or phrase
    return _TEXT_COMMAND.sub(r"\1", phrase).strip()
