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
    r"(?:<\|start\|>\s*assistant)?\s*<\|channel\|>\s*(\w+)[^<]*<\|message\|>(.*?)"
    r"(?=<\|end\|>|<\|return\|>|<\|call\|>|<\|start\|>|<\|channel\|>|\Z)(?:<\|end\|>|<\|return\|>|<\|call\|>)?",
    re.DOTALL,
)
_BARE_CHANNELS = re.compile(r"\s*analysis(?=\S)(.*?)assistant(?:commentary.*?assistant)?final(?=\S)(.*)", re.DOTALL)


def split_thinking(text: str) -> tuple[str, str]:
    """(answer, thinking) of a reply; thinking that never ends leaves no answer."""
    if "<|channel|>" in text:
        return _channels(text)
    if bare := _BARE_CHANNELS.fullmatch(text):  # a server that dropped the special tokens and kept the names
        return bare[2].strip(), bare[1].strip()
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
    opening, thoughts, at = re.compile(begin, re.IGNORECASE), [], 0
    while found := opening.search(text, at):
        before = text[: found.start()]
        begins_line = not before.rpartition("\n")[2].strip()
        if not begins_line or before.count("```") % 2:
            at = found.end()
            continue
        closing = re.compile(end.format(re.escape(found[1])), re.IGNORECASE).search(text, found.end())
        if closing is None and before.strip():
            break  # a tag that an answer mentions
        thoughts.append(text[found.end() : closing.start() if closing else len(text)])
        text = before + (text[closing.end() :] if closing else "")
        at = len(before)
    return text, thoughts


def _orphan_end(text: str) -> re.Match[str] | None:
    """The last end tag without a beginning: chat templates put the beginning into the prompt."""
    ends = [found for found in _ENDS.finditer(text) if text[: found.start()].count("```") % 2 == 0]
    return ends[-1] if ends else None


def _soft(text: str) -> tuple[str, list[str]]:
    """Tags that a workflow may ask for itself: thinking only where an answer follows outside of any `<answer>` form."""
    found = _SOFT.match(text)
    rest = text[found.end() :] if found else ""
    if found is None or not rest.strip() or "<answer" in rest.lower():
        return text, []
    return rest, [found[2]]
