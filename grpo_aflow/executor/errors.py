"""Reads what a server says of an error: its code, its own words, its machine-readable words. Pure.

Every kind of server shapes an error in its own way, with an HTTP status or inside a 200. `reading` calls these for the
body of an answer, `endpoint` for one with an error status; `outcomes` says what the error means.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from grpo_aflow.executor.outcomes import ServerError

JsonObject = dict[str, Any]  # as a server sent it: a value may be of any type, and is checked where it is read
QUOTES = ("input", "body", "request", "messages", "prompt", "flagged_input")  # fields that repeat the request
MOST_WORDS = 2000  # characters of an error that are looked at

_WORDED = ("message", "msg", "detail", "error", "error_message", "error_msg", "status_msg")
_NAMES = ("code", "type", "status", "reason", "error_type", "error_code")
_NAMED_CODES = (
    (re.compile(r"rate.?limit|too_many_requests|resource_exhausted|throttl"), 429),
    (re.compile(r"insufficient_quota|payment|billing"), 402),
    (re.compile(r"invalid_api_key|authenti|unauthenticated|unauthorized"), 401),
    (re.compile(r"invalid_(request|argument|prompt|parameter)|bad_?request|context|content"), 400),
    (re.compile(r"overloaded|unavailable"), 503),
)
# MiniMax answers 200 and numbers its errors; the rest of them pass. https://platform.minimax.io/docs/api-reference/errorcode
_MINIMAX_CODES: Mapping[int, int] = {
    **dict.fromkeys((1002, 1039, 1041, 2045, 2056), 429),  # of requests, of tokens, of connections, of growth, of use
    **dict.fromkeys((1004, 2049), 401),
    1008: 402,
    **dict.fromkeys((1026, 1027, 1042, 2013), 400),
}


def read_error(code: int, content: bytes, content_type: str = "") -> ServerError:
    """Read the body of an answer whose HTTP status is an error."""
    text = content.decode("utf-8", "replace")
    if "html" in content_type or "<html" in text[:500].lower():
        title = re.search(r"<title>(.{1,100}?)</title>", text, re.IGNORECASE | re.DOTALL)
        return ServerError(code=code, text=f"an HTML page ({title[1].strip()})" if title else "an HTML page")
    try:
        error = error_of(json.loads(text), default=code)
    except (ValueError, RecursionError):
        return ServerError(code=code, text=_line(text))
    return ServerError(code=code, text=error.text, reason=error.reason)


def error_within(body: JsonObject, choice: JsonObject) -> ServerError | None:
    """The error that the body of a 200, or its first choice, reports instead of an answer; None where it does not."""
    for holder in (choice, body):
        if holder.get("error"):
            return error_of(holder["error"], default=500)
    state = body.get("base_resp")
    number = finite(state.get("status_code")) if isinstance(state, dict) else None
    if isinstance(state, dict) and number:
        code = _MINIMAX_CODES.get(int(number), 500)
        return ServerError(code=code, text=_words(state), reason=str(int(number)))
    return None


def error_of(found: object, *, default: int) -> ServerError:
    """An error from the part of a body that describes it."""
    if isinstance(found, list):
        found = found[0] if found else {}
    if not isinstance(found, dict):
        return ServerError(code=default, text=_words(found))
    inner = found.get("error", found.get("errors"))
    if isinstance(inner, dict | list):
        return error_of(inner, default=default)
    text = _words(found)
    words = [str(found[name]) for name in _NAMES if found.get(name)]
    words += _deeper(found)
    return ServerError(code=_code(found, words, default), text=text, reason=" ".join(words)[:MOST_WORDS])


def finite(value: object) -> float | None:
    """A finite number, also one that is written as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _words(found: object) -> str:
    """What an error says, without what it quotes of the request."""
    if isinstance(found, list):
        return "; ".join(_words(item) for item in found[:3])
    if not isinstance(found, dict):
        return _line(found)
    for name in _WORDED:
        if found.get(name):
            return _place(found) + _words(found[name])
    return _line({name: value for name, value in found.items() if name not in QUOTES})


def _place(found: JsonObject) -> str:
    """Which field of the request an error is about, as FastAPI says it."""
    place = found.get("loc")
    return f"{'.'.join(str(part) for part in place)}: " if isinstance(place, list) and place else ""


def _deeper(found: JsonObject) -> list[str]:
    """The reasons that are kept below the error: Azure's inner error, OpenRouter's metadata, Google's details."""
    keys = ("code", "raw", "reason", "reasons", "error_type", "error_code")
    return [str(inner[key]) for inner in _inner(found) for key in keys if inner.get(key)]


def _inner(found: JsonObject) -> Iterator[JsonObject]:
    for name in ("innererror", "metadata", "details"):
        value = found.get(name)
        yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict))


def _code(found: JsonObject, words: Sequence[str], default: int) -> int:
    for name in ("code", "status", "status_code", "http_status"):
        number = finite(found.get(name))
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
