"""Reads a body that an endpoint sent: an answer with its text, thinking and usage, or an error with its words. Pure.

Whatever stands in the body, reading it gives one of three values (`Answer`, `ServerError`, `Unreadable`) and never
raises. `endpoint` makes an attempt of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from grpo_aflow.executor.errors import JsonObject, error_of, error_within, finite
from grpo_aflow.executor.outcomes import ServerError
from grpo_aflow.executor.prices import estimate_text_tokens, estimate_tokens
from grpo_aflow.thinking import split_thinking
from grpo_aflow.types import ChatStatus, Message

MOST_TOKENS = 100_000_000  # of one call; a larger count is no count

_TICKS_PER_USD = 1e10  # xAI's unit of money
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # fields of a message; the first that is filled counts
_STREAM_LINE = re.compile(rb"^(?:\xef\xbb\xbf)?(?:data|event|id|retry)?:", re.MULTILINE)
_DATA = re.compile(r"^data:(.*)$", re.MULTILINE)  # lines end at \n alone: U+2028 and its like may stand in a text
_CUT_OFF = "stream_cut_off"  # the finish_reason of a stream that does not come to its end

_REFUSALS = {"content_filter", "contentfilter", "safety", "recitation", "prohibited_content", "blocklist", "sensitive"}
_REFUSALS |= {"spii", "refusal", "moderation", "content_filtered", "guardrail_intervened"}
_BROKEN = {
    "error",
    "network_error",
    "insufficient_system_resource",
    "abort",
    "aborted",
    "cancelled",
    "timeout",
    _CUT_OFF,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A chat completion as read."""

    status: ChatStatus  # OK, REFUSED or EMPTY
    text: str
    thinking: str
    note: str  # why there is no text
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None  # as the endpoint says, where it says it
    estimated: bool  # the endpoint did not count the tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """A body that is no answer and no error: what it is instead."""

    what: str
    page: bool = False  # a web page


def read_answer(content: bytes, content_type: str, messages: Sequence[Message]) -> Answer | ServerError | Unreadable:
    """Read the body of a 200."""
    try:
        return _read_answer(content, content_type, messages)
    except RecursionError:
        return Unreadable(what="JSON nested too deep")


def _read_answer(content: bytes, content_type: str, messages: Sequence[Message]) -> Answer | ServerError | Unreadable:
    if "html" in content_type or content.lstrip()[:1] == b"<":
        return Unreadable(what="an HTML page instead of JSON", page=True)
    try:
        body = _joined(content.decode("utf-8-sig")) if _is_stream(content) else json.loads(content)
    except UnicodeDecodeError:
        return Unreadable(what="invalid UTF-8")
    except ValueError:
        return Unreadable(what=f"{len(content)} bytes that are not JSON")
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        return Unreadable(what="JSON that is no chat completion")
    choice = _choice(body)
    if (error := error_within(body, choice)) is not None:
        return error
    if "message" not in choice or not isinstance(choice["message"], dict):
        if isinstance(body.get("code"), int | str) and isinstance(body.get("message"), str):
            return error_of(body, default=500)
        if not _counts_a_prompt(body):
            return Unreadable(what="JSON that is no chat completion")
        choice = {"message": {}}
    return _answer(body, choice, messages)


# --- a streamed answer, which some proxies send unasked ------------------------------------------------------------


def _is_stream(content: bytes) -> bool:
    """Whether it is server-sent events: a line of theirs may be a comment or name an event before any data comes."""
    return content.lstrip()[:1] not in (b"{", b"[") and bool(_STREAM_LINE.search(content))


def _joined(stream: str) -> JsonObject:
    """The events as one body: the texts of the message joined, everything else as it came last."""
    body: JsonObject = {}
    choice: JsonObject = {}
    texts: dict[str, list[str]] = {}
    ended = False
    for data in _DATA.findall(stream):
        ended |= data.strip() == "[DONE]"
        if data.strip() in ("", "[DONE]"):
            continue
        event = json.loads(data)
        if not isinstance(event, dict):
            raise ValueError("an event that is no object")
        found = _choice(event)
        body |= {name: value for name, value in event.items() if value}
        choice |= {name: value for name, value in found.items() if value}
        for name, text in _added(found).items():
            texts.setdefault(name, []).append(text)
    if not choice:
        return body
    if not ended:
        choice.setdefault("finish_reason", _CUT_OFF)
    choice["message"] = {name: "".join(parts) for name, parts in texts.items()}
    return body | {"choices": [choice]}


def _added(choice: JsonObject) -> dict[str, str]:
    """What one event adds to the texts of the message; its content may be null, text or parts, each time anew."""
    delta = choice.get("delta") or choice.get("message")
    if not isinstance(delta, dict):
        delta = {"content": delta}
    text, thoughts = _content(delta.get("content"))
    added = {name: delta[name] for name in (*_THOUGHTS, "refusal") if isinstance(delta.get(name), str)}
    if thoughts:
        added["thinking"] = "".join(thoughts)
    return added | {"content": text}


# --- the answer -------------------------------------------------------------------------------------------------------


def _choice(body: JsonObject) -> JsonObject:
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        choice = dict(choices[0])
        if choice.get("message") is None:
            if isinstance(choice.get("text"), str):
                choice["message"] = {"content": choice["text"]}
            elif choice.get("finish_reason"):  # Gemini leaves the message out where there is no text
                choice["message"] = choice.get("delta") or {}
        return choice
    if isinstance(body.get("message"), dict):  # Ollama's own form
        reason = _CUT_OFF if body.get("done") is False else body.get("done_reason")
        return {"message": body["message"], "finish_reason": reason}
    return {}


def _counts_a_prompt(body: JsonObject) -> bool:
    """Whether a body without an answer is billed all the same, as Gemini's and LiteLLM's are where nothing came."""
    usage = body.get("usage")
    return isinstance(usage, dict) and bool(_count(usage, "prompt_tokens"))


def _answer(body: JsonObject, choice: JsonObject, messages: Sequence[Message]) -> Answer | ServerError:
    message, reason = choice["message"], str(choice.get("finish_reason") or "").lower()
    reasons = re.split(r"[:\s]+", reason)  # Gemini says which filter: "content_filter: PROHIBITED_CONTENT"
    if not _BROKEN.isdisjoint(reasons):
        return ServerError(code=500, text=f"the answer broke off (finish_reason={reason})", reason="half_answer")
    text, thoughts = _content(message.get("content"))
    thoughts = [thought for thought in thoughts if thought.strip()]
    for name in _THOUGHTS:
        if isinstance(message.get(name), str) and message[name].strip():
            thoughts.append(message[name].strip())
            break
    refusal = message.get("refusal") or _refusal(message.get("content"))
    raw = "\n".join([text, *thoughts])
    text, thinking = split_thinking(text)
    thinking = "\n".join([*thoughts, *([thinking] if thinking else [])])
    status, note = ChatStatus.OK, ""
    if not _REFUSALS.isdisjoint(reasons) or refusal:
        status, text, note = ChatStatus.REFUSED, "", str(refusal or reason)
    elif not text.strip():
        status, text, note = ChatStatus.EMPTY, "", f"no text (finish_reason={reason or None})"
    prompt, completion, cost_usd, estimated = _usage(body, choice, raw, messages)
    return Answer(
        status=status,
        text=text,
        thinking=thinking,
        note=note,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost_usd=cost_usd,
        estimated=estimated,
    )


def _content(content: object) -> tuple[str, list[str]]:
    """(text, thoughts) of a message's content: a string, or parts of several kinds."""
    if content is None:
        return "", []
    if isinstance(content, str | int | float):
        return str(content), []
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            kind = str(part.get("type", "text"))
            into = thoughts if "think" in kind or "reason" in kind else texts
            value = part.get("thinking", part.get("reasoning", part.get("text", "")))
            into.append(_part_text(value))
    return "".join(texts), thoughts


def _refusal(content: object) -> str:
    """The words of the parts of a message that refuse."""
    parts = content if isinstance(content, list) else [content]
    refused = [part.get("refusal") for part in parts if isinstance(part, dict) and part.get("type") == "refusal"]
    return "".join(_part_text(words) for words in refused) or ("refusal" if refused else "")


def _part_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return _part_text(value.get("value", value.get("text", "")))
    if isinstance(value, list):
        return "".join(_part_text(item) for item in value)
    return ""


# --- usage ------------------------------------------------------------------------------------------------------------


def _usage(
    body: JsonObject, choice: JsonObject, text: str, messages: Sequence[Message]
) -> tuple[int, int, float | None, bool]:
    """(prompt tokens, completion tokens, cost, estimated): what is not counted is estimated on the high side."""
    usage = body.get("usage") or choice.get("usage")  # Moonshot counts in the choice
    if isinstance(usage, str):
        try:
            usage = json.loads(usage)
        except (ValueError, RecursionError):
            usage = None
    if not isinstance(usage, dict):
        usage = body  # Ollama counts beside the message
    prompt = _count(usage, "prompt_tokens", "input_tokens", "prompt_eval_count", "promptTokens")
    completion = _count(usage, "completion_tokens", "output_tokens", "eval_count", "completionTokens")
    total = _count(usage, "total_tokens", "totalTokens")
    if not prompt and total and completion is not None and total > completion:
        prompt = total - completion
    if prompt and total and total > prompt:
        completion = max(completion or 0, total - prompt)  # some leave reasoning out of completion_tokens
    details = usage.get("completion_tokens_details")
    reasoning = _count(details, "reasoning_tokens") if isinstance(details, dict) else None
    if not total and completion is not None and reasoning and reasoning > completion:
        completion += reasoning
    estimated = not prompt or completion is None or (completion == 0 and bool(text.strip()))
    if not prompt:
        prompt = estimate_tokens(messages)
        if completion is None and total:  # the sum alone is known, and may hold reasoning that nobody shows
            prompt = min(prompt, total)
            completion = max(estimate_text_tokens(text), total - prompt)
    if completion is None or (completion == 0 and text.strip()):
        completion = estimate_text_tokens(text)
    cost_usd = _cost(usage)
    return prompt, completion, cost_usd, estimated and cost_usd is None


def _count(usage: JsonObject, *names: str) -> int | None:
    """The first of the fields that holds a number of tokens; None where none does."""
    for name in names:
        value = finite(usage.get(name))
        if value is not None and 0 <= value <= MOST_TOKENS:
            return int(value)
    return None


def _cost(usage: JsonObject) -> float | None:
    """What the endpoint says that the call cost, in USD; with a key of one's own the provider's part comes on top."""
    given = usage.get("cost", usage.get("estimated_cost"))  # DeepInfra's name for what it bills
    cost = finite(given.get("total_cost") if isinstance(given, dict) else given)  # Perplexity has one for each part
    ticks = finite(usage.get("cost_in_usd_ticks"))
    if cost is None and ticks is not None:
        cost = ticks / _TICKS_PER_USD
    if cost is None or cost < 0:
        return None
    details = usage.get("cost_details")
    upstream = finite(details.get("upstream_inference_cost")) if isinstance(details, dict) else None
    return cost + max(0.0, upstream or 0.0) if usage.get("is_byok") else cost
