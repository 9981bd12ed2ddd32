"""A reasoning model's thinking, told apart from its answer. Pure.

The executor's client calls it once, at its edge, so that no operator sees any; the graders call it too, since a
workflow's answer may come from anywhere.

Thinking stands in tags at the beginning of the text (or of a later line), before an end tag whose beginning the chat
template has swallowed, or in gpt-oss's channels. Text inside a code fence is left alone: it may be about such tags.
"""

from __future__ import annotations

import re

_PAIRS = (
    (r"<(think|thinking|seed:think)\b[^<>]*>", r"</{0}>"),
    (r"\[(THINK)\]", r"\[/{0}\]"),
    (r"◁(think)▷", r"◁/{0}▷"),
    (r"<\|(begin_of_thought)\|>", r"<\|end_of_thought\|>"),
    (r"<\|(START_THINKING)\|>", r"<\|END_THINKING\|>"),
)
_ENDS = re.compile(
    r"</(?:think|thinking|seed:think)>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>", re.I
)
_SOFT = re.compile(r"\s*<(thought|thoughts|reasoning|scratchpad)>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_ENVELOPE = re.compile(
    r"<\|(?:begin_of_solution|end_of_solution|START_RESPONSE|END_RESPONSE|START_TEXT|END_TEXT)\|>", re.IGNORECASE
)
_CHANNEL = re.compile(
    r"<\|channel\|>\s*+(\w++)[^<]*+<\|message\|>(.*?)"
    r"(?=<\|end\|>|<\|return\|>|<\|call\|>|<\|start\|>|<\|channel\|>|\Z)(?:<\|end\|>|<\|return\|>|<\|call\|>)?",
    re.DOTALL,
)
_BARE_CHANNELS = re.compile(r"\s*analysis(?=\S)(.*?)assistantfinal(?=\S)(.*)", re.DOTALL)


def split_thinking(text: str) -> tuple[str, str]:
    """(answer, thinking) of a reply; thinking that never ends leaves no answer."""
    if "<|channel|>" in text:
        return _channels(text)
    if bare := _BARE_CHANNELS.fullmatch(text):  # a server that dropped the special tokens and kept the names
        return bare[2].strip(), bare[1].partition("assistantcommentary")[0].strip()
    answer, thoughts = text, []
    for begin, end in _PAIRS:
        answer, found = _tagged(answer, begin, end)
        thoughts += found
    if orphan := _orphan_end(answer):
        thoughts.append(answer[: orphan.start()])
        answer = answer[orphan.end() :]
    if not thoughts:
        answer, soft = _soft(answer)
        thoughts += soft
    if not thoughts:
        return text, ""
    return _ENVELOPE.sub("", answer).strip(), "\n".join(thought.strip() for thought in thoughts if thought.strip())


def _channels(text: str) -> tuple[str, str]:
    parts = [(found[1].lower(), found[2].strip()) for found in _CHANNEL.finditer(text)]
    before = text[: text.index("<|channel|>")].replace("<|start|>assistant", "").strip()
    answers = [content for name, content in parts if name == "final"]
    thoughts = [before] if before else []
    thoughts += [content for name, content in parts if name != "final" and content]
    return (answers[-1] if answers else ""), "\n".join(thoughts)


def _tagged(text: str, begin: str, end: str) -> tuple[str, list[str]]:
    """Cut out every block between the tags that begins the text or a line; one that does not end goes to the end."""
    opening, thoughts = re.compile(begin, re.IGNORECASE), []
    kept: list[str] = []
    start = at = num_fences = 0  # text[start:] is not decided yet; the search goes on at `at`
    is_blank_line = is_blank = True  # whether the last line that is kept, and all that is kept, is blank
    while found := opening.search(text, at):
        between = text[start : found.start()]
        line = between.rpartition("\n")
        is_blank_line = (is_blank_line or bool(line[1])) and not line[2].strip()
        is_blank = is_blank and not between.strip()
        num_fences += between.count("```")
        kept.append(between)
        start, at = found.start(), found.end()
        if not is_blank_line or num_fences % 2:
            kept.append(found.group())
            start, is_blank_line, is_blank = at, False, False
            continue
        closing = re.compile(end.format(re.escape(found[1])), re.IGNORECASE).search(text, at)
        if closing is None and not is_blank:
            break  # a tag that an answer mentions
        thoughts.append(text[at : closing.start() if closing else len(text)])
        start = at = closing.end() if closing else len(text)
    return "".join([*kept, text[start:]]), thoughts


def _orphan_end(text: str) -> re.Match[str] | None:
    """The last end tag without a beginning: chat templates put the beginning into the prompt."""
    orphan, num_fences, at = None, 0, 0
    for found in _ENDS.finditer(text):
        num_fences += text.count("```", at, found.start())
        at = found.start()
        orphan = orphan if num_fences % 2 else found
    return orphan


def _soft(text: str) -> tuple[str, list[str]]:
    """Tags that a workflow may ask for itself: thinking only where an answer follows outside of any `<answer>` form."""
    found = _SOFT.match(text)
    rest = text[found.end() :] if found else ""
    if found is None or not rest.strip() or "<answer" in rest.lower():
        return text, []
    return rest, [found[2]]
