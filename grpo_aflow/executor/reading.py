"""Reads a body that an endpoint sent: an answer with its text, thinking and usage, or an error with its words. Pure.

Whatever stands in the body, reading it gives one of three values (`Answer`, `ServerError`, `Unreadable`) and never
raises. `endpoint` makes an attempt of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grpo_aflow.executor.outcomes import ServerError
from grpo_aflow.executor.prices import estimate_text_tokens, estimate_tokens
from grpo_aflow.thinking import split_thinking
from grpo_aflow.types import ChatStatus, Message

JsonObject = dict[str, Any]  # as a server sent it: a value may be of any type, and is checked where it is read
QUOTES = ("input", "body", "request", "messages", "prompt", "flagged_input")  # fields that repeat the request
MOST_WORDS = 2000  # characters of an error that are looked at
MOST_TOKENS = 100_000_000  # of one call; a larger count is no count

_THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # fields of a message; the first that is filled counts
_STREAM_LINE = re.compile(rb"^(?:\xef\xbb\xbf)?(?:data|event|id|retry)?:", re.MULTILINE)
_DATA = re.compile(r"^data:(.*)$", re.MULTILINE)  # lines end at \n alone: U+2028 and its like may stand in a text
_CUT_OFF = "stream_cut_off"  # the finish_reason of a stream that does not come to its end

_REFUSALS = {"content_filter", "contentfilter", "safety", "recitation", "prohibited_content", "blocklist", "sensitive"}
_REFUSALS |= {"spii", "refusal", "moderation"}
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
_NAMED_CODES = (
    (re.compile(r"rate.?limit|too_many_requests|resource_exhausted|throttl"), 429),
    (re.compile(r"insufficient_quota|payment|billing"), 402),
    (re.compile(r"invalid_api_key|authenti|unauthenticated|unauthorized"), 401),
    (re.compile(r"invalid_(request|argument|prompt|parameter)|bad_?request|context|content"), 400),
    (re.compile(r"overloaded|unavailable"), 503),
)


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


def read_error(code: int, content: bytes, content_type: str = "") -> ServerError:
    """Read the body of an answer whose HTTP status is an error."""
    text = content.decode("utf-8", "replace")
    if "html" in content_type or "<html" in text[:500].lower():
        title = re.search(r"<title>(.{1,100}?)</title>", text, re.IGNORECASE | re.DOTALL)
        return ServerError(code=code, text=f"an HTML page ({title[1].strip()})" if title else "an HTML page")
    try:
        error = _error_of(json.loads(text), default=code)
    except (ValueError, RecursionError):
        return ServerError(code=code, text=_line(text))
    return ServerError(code=code, text=error.text, reason=error.reason)


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
    for holder in (choice, body):
        if holder.get("error"):
            return _error_of(holder["error"], default=500)
    if "message" not in choice or not isinstance(choice["message"], dict):
        if isinstance(body.get("code"), int | str) and isinstance(body.get("message"), str):
            return _error_of(body, default=500)
        return Unreadable(what="JSON that is no chat completion")
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
        return {"message": body["message"], "finish_reason": body.get("done_reason")}
    return {}


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
    raw = "\n".join([text, *thoughts])
    text, thinking = split_thinking(text)
    thinking = "\n".join([*thoughts, *([thinking] if thinking else [])])
    status, note = ChatStatus.OK, ""
    if not _REFUSALS.isdisjoint(reasons) or message.get("refusal"):
        status, text, note = ChatStatus.REFUSED, "", str(message.get("refusal") or reason)
    elif not text.strip():
        status, text, note = ChatStatus.EMPTY, "", f"no text (finish_reason={reason or None})"
    prompt, completion, cost_usd, estimated = _usage(body, raw, messages)
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


def _part_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return _part_text(value.get("value", value.get("text", "")))
    if isinstance(value, list):
        return "".join(_part_text(item) for item in value)
    return ""


# --- usage ------------------------------------------------------------------------------------------------------------


def _usage(body: JsonObject, text: str, messages: Sequence[Message]) -> tuple[int, int, float | None, bool]:
    """(prompt tokens, completion tokens, cost, estimated): what is not counted is estimated on the high side."""
    usage = body.get("usage")
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
    if completion is not None and reasoning and reasoning > completion:
        completion += reasoning
    estimated = not prompt or completion is None or (completion == 0 and bool(text.strip()))
    if not prompt:
        prompt = estimate_tokens(messages)
    if completion is None or (completion == 0 and text.strip()):
        completion = estimate_text_tokens(text)
    cost_usd = _cost(usage)
    return prompt, completion, cost_usd, estimated and cost_usd is None


def _count(usage: JsonObject, *names: str) -> int | None:
    """The first of the fields that holds a number of tokens; None where none does."""
    for name in names:
        value = _finite(usage.get(name))
        if value is not None and 0 <= value <= MOST_TOKENS:
            return int(value)
    return None


def _cost(usage: JsonObject) -> float | None:
    """What the endpoint says that the call cost, in USD; with a key of one's own the provider's part comes on top."""
    cost = _finite(usage.get("cost"))
    if cost is None or cost < 0:
        return None
    details = usage.get("cost_details")
    upstream = _finite(details.get("upstream_inference_cost")) if isinstance(details, dict) else None
    return cost + max(0.0, upstream or 0.0) if usage.get("is_byok") else cost


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


# --- errors -----------------------------------------------------------------------------------------------------------


def _error_of(found: object, *, default: int) -> ServerError:
    """An error from the part of a body that describes it, which every kind of server shapes in its own way."""
    if isinstance(found, list):
        found = found[0] if found else {}
    if not isinstance(found, dict):
        return ServerError(code=default, text=_words(found))
    inner = found.get("error", found.get("errors"))
    if isinstance(inner, dict | list):
        return _error_of(inner, default=default)
    text = _words(found)
    words = [str(found[name]) for name in ("code", "type", "status", "error_type") if found.get(name)]
    words += _deeper(found)
    return ServerError(code=_code(found, words, default), text=text, reason=" ".join(words)[:MOST_WORDS])


def _words(found: object) -> str:
    """What an error says, without what it quotes of the request."""
    if isinstance(found, list):
        return "; ".join(_words(item) for item in found[:3])
    if not isinstance(found, dict):
        return _line(found)
    for name in ("message", "msg", "detail", "error", "error_message"):
        if found.get(name):
            return _words(found[name])
    return _line({name: value for name, value in found.items() if name not in QUOTES})


def _deeper(found: JsonObject) -> list[str]:
    """The reasons that are kept below the error: Azure's inner error, OpenRouter's metadata, Anthropic's details."""
    words: list[str] = []
    for name in ("innererror", "metadata", "details"):
        inner = found.get(name)
        if isinstance(inner, dict):
            keys = ("code", "raw", "reasons", "error_type", "error_code")
            words += [str(inner[key]) for key in keys if inner.get(key)]
    return words


def _code(found: JsonObject, words: Sequence[str], default: int) -> int:
    for name in ("code", "status", "status_code", "http_status"):
        number = _finite(found.get(name))
        if number is not None and 400 <= number < 600:
            return int(number)
    named = " ".join(words).lower()
    return next((code for pattern, code in _NAMED_CODES if pattern.search(named)), default)


def _line(value: object) -> str:
    if not isinstance(value, str):
        try:
            value = json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            value = str(type(value).__name__)
    return " ".join(value[:MOST_WORDS].split()) or "no words"
