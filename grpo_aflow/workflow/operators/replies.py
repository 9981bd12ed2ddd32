"""Reads answers, choices and verdicts in the executor's replies. Pure, and tolerant of what real models write.

Programs in replies are read by `programs`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from grpo_aflow.thinking import split_thinking
from grpo_aflow.workflow.operators.instructions import letters

FENCE = re.compile(r"(?:```|~~~)[ \t]*([\w+.-]*)[^\n`]*\n(.*?)(?:\n[ \t]*(?:```|~~~)|\Z)", re.DOTALL)


def without_thinking(text: str) -> str:
    """The text without what was only thought; the whole text where nothing would be left."""
    return split_thinking(text)[0] or text


def tagged(text: str, name: str) -> str | None:
    """The content of the last `<name>…</name>`, closed or not; None where there is none."""
    start = text.lower().rfind(f"<{name}>")
    if start < 0:
        return None
    content = text[start + len(name) + 2 :]
    end = content.lower().find(f"</{name}>")
    return (content if end < 0 else content[:end]).strip()


# A model may repeat itself to the end of its tokens. Where two repetitions side by side share a character, or one goes
# on over lines at each of which a match may begin, reading that takes time that grows with its square.

# --- answers ----------------------------------------------------------------------------------------------------------

_LABEL = re.compile(
    r"(?:^|\n|(?<=[.!?] ))(?:[^\S\n]|[*_#>-])*(?:(?:so|therefore|thus|hence)[, ]+)?(?:the\s+)?"
    r"(?:(?:final|short|correct)\s+)*(?:answer|solution|result)\b[\s*_]*(?:to\b[^:\n]{0,80}?)?(?:is\s*:|:|is\b|=)[\s*_]*([^\n]+)",
    re.IGNORECASE,
)
_ANSWER_IS = re.compile(
    r"^[^\S\n]*(?:(?:so|thus|therefore|hence),?\s+)?the\s+(?:short\s+|final\s+|correct\s+)*answer\s*(?:is[\s:]*|[:=]\s*)"
    r"(.{1,200}?)\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_TAGS = re.compile(r"</?[a-z]{1,12}>", re.IGNORECASE)
_ONLY_THOUGHT = re.compile(r"\s*<thought>([^<\n]{1,80})</thought>\s*", re.IGNORECASE)
_THOUGHT = re.compile(r"<thought>(.*?)(?:</thought>|\Z)", re.IGNORECASE | re.DOTALL)
_WHOLE_SENTENCE = re.compile(r"[.!?)\]}$`\"']\s*\Z")


def thought_and_answer(text: str) -> tuple[str, str]:
    """`<thought>…</thought><answer>…</answer>`: the reasoning and the short answer, as `answer_in` finds it."""
    text = without_thinking(text)
    thought = tagged(text, "thought")
    found = answer_in(text)
    if thought is None:
        begin = text.lower().rfind("<answer>")
        thought = text[:begin].strip() if begin >= 0 else "" if found is None else text.strip()
    if found is None:
        rest = text.rpartition("</thought>")[2]
        found = rest if re.search(r"\w", rest) else text
    return thought, beside_thought(found)


def beside_thought(answer: str) -> str:
    """An answer without `<thought>`, where a reply has mixed the two up.

    A thought behind whole sentences is left out; one that ends a sentence, or is all there is, holds the answer:
    "It is 1532. <thought>The text says so.</thought>" is "It is 1532.", "The total is <thought>45</thought>." is "45".
    """
    parts = _THOUGHT.search(answer)
    if parts is None:
        return re.sub("</?thought>", "", answer, flags=re.IGNORECASE).strip()
    before, after = answer[: parts.start()], answer[parts.end() :]
    if _WHOLE_SENTENCE.search(before) and re.search(r"\w", before):
        return before.strip()
    return (parts[1] if re.search(r"\w", parts[1]) else f"{before} {after}").strip()


def answer_in(text: str) -> str | None:
    r"""The short answer that a reply marks: by tag, as JSON, by a label or sentence, in bold; None where by none.

    A `\boxed{…}` is no mark here: graders read it in its place.
    """
    tag = tagged(text, "answer")
    if tag is not None:
        return tag
    fields = _json(text)
    for name in ("answer", "final_answer", "solution", "result"):
        value = fields.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value)
    prose = FENCE.sub("\n", text)  # a program's `result = …` is no label
    for label in reversed(_LABEL.findall(prose)):
        if bare := _bare(label):
            return bare
    for stated in reversed(_ANSWER_IS.findall(prose)):
        if bare := _bare(_TAGS.sub("", stated)):
            return bare
    if alone := _ONLY_THOUGHT.fullmatch(text):  # the answer in the wrong tag
        return alone[1].strip()
    bold = re.findall(r"\*\*([^*\n]{1,80})\*\*", text)
    if bold and not bold[-1].rstrip().endswith(":") and text.rstrip(" .\n").endswith(f"**{bold[-1]}**"):
        return _bare(bold[-1])
    return None


def short_answer(text: str) -> str:
    """The bare answer of `format`: without tags, quotes, a leading label, and a remark below it."""
    text = without_thinking(text)
    for name in ("solution", "answer"):
        inner = tagged(text, name)
        if inner is not None:
            return beside_thought(inner)
    marked = answer_in(text)
    if marked is not None:
        return beside_thought(marked)
    text = beside_thought(text)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`" and text.count(text[0]) == 2:
        text = text[1:-1]
    return text.strip()


def _json(text: str) -> dict[str, object]:
    """The JSON object that a reply is, alone or in a fence; {} where it is none."""
    fence = FENCE.search(text)
    part = (fence.group(2) if fence else text).strip()
    if not part.startswith("{"):
        return {}
    try:
        value = json.loads(part, strict=False)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _bare(text: str) -> str:
    """An answer without the signs around it: emphasis, quotes, a full stop after a word."""
    text = text.strip().strip("*_`").strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return text.removesuffix(".").strip("*_`").strip() if not text.endswith("..") else text


# --- choices among candidates -----------------------------------------------------------------------------------------

_CHOICE_TAG = re.compile(r"<(?:choice|solution_letter|answer|id)>\s*(.*?)\s*(?:</|\Z)", re.DOTALL | re.IGNORECASE)
_NOUN = r"(?:answer|choice|choose|chosen|solution|candidate|option|best|pick|select(?:ed)?|id)"
_CHOICE_WORD = re.compile(
    rf"\b{_NOUN}\b(?:[\s*_:\"'(\[]*(?:is|id|would be)\b)?[\s*_:=\"'(\[<>]*"
    r"(?:(?:candidate|solution|option)\b[\s*_]*)?([A-Z]{1,3})\b(?![a-z'])"
)
_CHOICE_LOWER = re.compile(
    r"\b(?:answer|choice|solution|candidate|option)\b[\"']?(?:\s*is\b)?[\s:=\"'(*]*([a-z]{1,2})\b(?!\s+[a-z])",
    re.IGNORECASE,
)
_CHOICE_NUMBER = re.compile(
    r"\b(?:choice|choose|solution|candidate|option|pick|select|id)\b[\"']?(?:\s*is\b)?[\s:=#\"'(*]*(\d{1,2})\b(?!\.\d)",
    re.IGNORECASE,
)
_CHOICE_ALONE = re.compile(r"[\s*_\"'(\[`.<]*([A-Za-z]{1,3})[\s*_\"')\]`.:,!>]*")
_CAPITAL = re.compile(r"(?<![A-Za-z'])([A-Z]{1,3})(?![A-Za-z'])")


def choice(text: str, candidates: Sequence[str]) -> int | None:
    """The index of the chosen candidate, or None where the text names none of them.

    Understands `<choice>B</choice>`, "B", "b", "(b)", "Answer: B.", "Solution B is …", ids beyond Z, {"choice": "B"},
    a number for a letter ("Candidate 2"), and a candidate's own text in place of its id.
    """
    indices = {letters(i): i for i in range(len(candidates))}
    text = without_thinking(text)
    tags = _CHOICE_TAG.findall(text)
    for part in (tags[-1], text) if tags else (text,):
        found = _choice_in(part, indices)
        if found is None:
            found = _repeated(part, candidates)
        if found is not None:
            return found
    return None


def _choice_in(part: str, indices: Mapping[str, int]) -> int | None:
    alone = _CHOICE_ALONE.fullmatch(part)
    if alone and alone.group(1).upper() in indices:
        return indices[alone.group(1).upper()]
    named = [m for m in _CHOICE_WORD.findall(part) if m in indices]
    if named:
        return indices[named[-1]]
    bracketed = [m.upper() for m in re.findall(r"[(\[{<]\s*([A-Za-z]{1,3})\s*[)\]}>]", part) if m.upper() in indices]
    if bracketed:
        return indices[bracketed[-1]]
    listed = re.match(r"[\s*_]*([A-Za-z]{1,3})[\s*_]*(?:[).:]|-\s)", part)  # "b) because …"
    if listed and listed.group(1).upper() in indices:
        return indices[listed.group(1).upper()]
    capital = [m for m in _CAPITAL.findall(part) if m in indices and m not in ("A", "I")]
    if capital:
        return indices[capital[-1]]
    word = _CHOICE_LOWER.findall(part)
    if word and word[-1].upper() in indices:
        return indices[word[-1].upper()]
    number = _CHOICE_NUMBER.findall(part) or re.findall(r"^\W*(\d{1,2})\W*$", part)
    if number and 1 <= int(number[-1]) <= len(indices):
        return int(number[-1]) - 1
    return None


def _repeated(part: str, candidates: Sequence[str]) -> int | None:
    """The one candidate whose text the reply repeats, whole or (long ones) within; the first of equal ones."""
    wanted = _squeezed(part)
    same = [i for i, candidate in enumerate(candidates) if _squeezed(candidate) == wanted]
    if same and wanted:
        return same[0]
    within = {_squeezed(c): i for i, c in reversed(list(enumerate(candidates))) if len(c.strip()) >= 20}
    named = [i for text, i in within.items() if text in wanted]
    return named[0] if len(named) == 1 else None


def _squeezed(text: str) -> str:
    return " ".join(text.split()).strip("\"'`*. ").lower()


# --- verdicts ---------------------------------------------------------------------------------------------------------

_VERDICT_TAG = re.compile(r"<(?:verdict|review_result|result|correct)>\s*([^<\n]{1,60})", re.IGNORECASE)
_SAID = r"(?:true|false|yes|no|correct|incorrect|right|wrong|valid|invalid|pass(?:ed)?|fail(?:ed)?|accurate|inaccurate)"
_NOT = r"(?:not\s+|isn['’]t\s+|partially\s+|partly\s+|never\s+)?(?:entirely\s+|completely\s+|fully\s+)?"
_VERDICT_WORD = re.compile(
    rf"\b(?:verdict|review_result|result|is_correct|judgement|judgment)\b(?:\s+is\b)?\W{{1,8}}({_NOT}{_SAID})\b",
    re.IGNORECASE,
)
_VERDICT_ALONE = re.compile(rf"\W*({_NOT}{_SAID}\b|[✓✔✅✗✘❌])", re.IGNORECASE)
_VERDICT_SENTENCE = re.compile(
    rf"\b(?:solution|answer|code|it|result|reasoning|function)\b[^.\n]{{0,40}}?\b(?:is|are|looks|seems)\b\s+"
    rf"({_NOT}{_SAID})\b",
    re.IGNORECASE,
)
_TICKS, _CROSSES = "✓✔✅", "✗✘❌"
_RIGHT = frozenset(["true", "yes", "correct", "right", "valid", "pass", "passed", "accurate", "1"])
_WRONG = frozenset(["false", "no", "incorrect", "wrong", "invalid", "fail", "failed", "inaccurate", "0"])


def verdict(text: str) -> tuple[bool | None, str]:
    """`<verdict>true|false</verdict><feedback>…</feedback>`: the verdict (None: unreadable) and the feedback."""
    text = without_thinking(text)
    feedback = tagged(text, "feedback")
    if feedback is None:
        feedback = re.sub(r"<(\w+)>.*?</\1>", "", text, flags=re.DOTALL).strip() or text.strip()
    tag = _VERDICT_TAG.findall(text)
    parts = [tag[-1]] if tag else []
    parts += [match.group(1) for match in (_VERDICT_WORD.search(text), _VERDICT_ALONE.match(text)) if match]
    parts += _VERDICT_SENTENCE.findall(text)[-1:]
    for part in parts:
        right = _truth(part)
        if right is not None:
            return right, feedback
    return None, feedback


def _truth(words: str) -> bool | None:
    """Whether some words say yes or no: "true", "not correct", "incorrect", "✓"; None where they say neither."""
    if any(mark in words for mark in _CROSSES):
        return False
    if any(mark in words for mark in _TICKS):
        return True
    said: bool | None = None
    negated = False
    for word in re.findall(r"[a-z0-9]+(?:n't)?", words.lower().replace("\u2019", "'")):
        if word in ("not", "isn't", "never", "wasn't", "doesn't", "partially", "partly"):
            negated = True
        elif word in _RIGHT or word in _WRONG:
            said = word in _RIGHT
            break
    return said if said is None or not negated else not said if said else None
