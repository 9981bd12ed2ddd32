"""How long an endpoint asks us to wait, from the headers and the body of its answer. Pure.

Servers say it in a dozen ways: `retry-after` in seconds or as a date, `retry-after-ms`, the reset of a rate window as a
duration, a date or a Unix time, and in the words or the details of the error.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MOST_WORDS = 10_000  # characters of a body that are looked at
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIT = r"(?:milliseconds?|msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)"
_PART = re.compile(rf"(\d+(?:\.\d+)?)\s*({_UNIT})(?![a-z])", re.IGNORECASE)
_DURATION = re.compile(rf"(?:\d+(?:\.\d+)?\s*{_UNIT}(?![a-z])[\s,]*(?:and\s+)?)+", re.IGNORECASE)
_WORDS = re.compile(rf"(?:try(?:ing)? again|retry(?:ing)?|wait)\b[^.\d]{{0,40}}({_DURATION.pattern})", re.IGNORECASE)
_DELAY_FIELD = re.compile(
    r'"(?:retryDelay|retry_after|retryAfter|estimated_time)"\s*:\s*"?(\d+(?:\.\d+)?)(ms|s|m|h)?"?'
)
_RESET_FIELD = re.compile(r'"x-ratelimit-reset(?:-\w+)?"\s*:\s*"?(\d+(?:\.\d+)?)"?', re.IGNORECASE)
_REPLENISHED = re.compile(r"replenished in (?:(\d+)\.)?(\d{2}):(\d{2}):(\d{2})")  # Azure API Management: d.hh:mm:ss
_WINDOW = re.compile(r"(?:x-|anthropic-)?ratelimit(?:bysize)?-(?:(.+)-)?(limit|remaining|reset)(?:-(.+))?")
_PARAMETERS = {"q": "limit", "r": "remaining", "t": "reset"}  # of the header RateLimit; its older form has the words
_LONGEST_S = 30 * 86400.0


def stated_wait_s(headers: Mapping[str, str], body: str, *, limited: bool) -> float:
    """Seconds until the endpoint wants to be asked again; 0 where it does not say.

    Args:
        limited: the answer is a rate limit's. Where it is not, a server may tell the state of its rate windows all the
            same, as OpenAI documents it of every answer: then only a window that is used up is waited for.
    """
    lower, body = {name.lower(): value.strip() for name, value in headers.items()}, body[:MOST_WORDS]
    for wait_s in (
        _number(lower.get("retry-after-ms", ""), 0.001),
        _retry_after_s(lower),
        _from_body_s(body),
        _from_resets_s(lower, limited=limited),
    ):
        if wait_s is not None and math.isfinite(wait_s):
            return min(max(0.0, wait_s), _LONGEST_S)
    return 0.0


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    wait_s = _number(text, 1.0)
    if wait_s is not None or not text:
        return wait_s
    wait_s = _duration_s(text)
    return _moment_s(text, headers) if wait_s is None else wait_s


def _from_body_s(body: str) -> float | None:
    if found := _DELAY_FIELD.search(body):
        return float(found[1]) * _UNIT_S[found[2] or "s"]
    if found := _WORDS.search(body):
        return _duration_s(found[1])
    if found := _REPLENISHED.search(body):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    if found := _RESET_FIELD.search(body):
        return _unix_or_seconds_s(float(found[1]))
    return None


def _from_resets_s(headers: Mapping[str, str], *, limited: bool) -> float | None:
    """The longest reset among the windows that are used up.

    Where none is, a request that was limited needs more than one of them has left: of the one with the smallest share,
    as far as all of them tell theirs, else the shortest, which is the one to try first.
    """
    resets = [
        (_share_left(window), wait_s)
        for window in _windows(headers).values()
        if (wait_s := _reset_s(window.get("reset", ""), headers)) is not None and wait_s > 0
    ]
    shares = [(share, wait_s) for share, wait_s in resets if share is not None]
    if used_up := [wait_s for share, wait_s in shares if share == 0]:
        return max(used_up)
    if not limited:
        return None
    if shares and len(shares) == len(resets):
        return min(shares)[1]
    return min((wait_s for _, wait_s in resets), default=None)


def _windows(headers: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What the headers say of each rate window, by its name: limit, remaining and reset."""
    windows: dict[str, dict[str, str]] = {}
    for header, text in headers.items():
        if found := _WINDOW.fullmatch(header):
            windows.setdefault(found[1] or found[3] or "", {})[found[2]] = text
    for item in f"{headers.get('ratelimit', '')},{headers.get('ratelimit-policy', '')}".split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        if "=" in name:  # limit=100, remaining=0, reset=12: one window without a name
            name, parameters = "", [name]
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            windows.setdefault(name, {})[_PARAMETERS.get(key, key)] = value
    return windows


def _share_left(window: Mapping[str, str]) -> float | None:
    """Which part of a window is left; None where it does not say."""
    remaining, limit = _number(window.get("remaining", ""), 1.0), _number(window.get("limit", ""), 1.0)
    if remaining is not None and remaining <= 0:
        return 0.0
    return remaining / limit if remaining is not None and limit is not None and limit > 0 else None


def _reset_s(text: str, headers: Mapping[str, str]) -> float | None:
    number = _number(text, 1.0)
    if number is not None:
        return _unix_or_seconds_s(number)
    wait_s = _duration_s(text)
    return _moment_s(text, headers) if wait_s is None else wait_s


def _number(text: str, unit_s: float) -> float | None:
    try:
        value = float(text) * unit_s
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _duration_s(text: str) -> float | None:
    """The length of "6m0s", "120ms", "1h2m3.5s" or "20 seconds"."""
    if not _DURATION.fullmatch(text.strip()):
        return None
    return sum(float(value) * _seconds_of(unit.lower()) for value, unit in _PART.findall(text))


def _seconds_of(unit: str) -> float:
    return _UNIT_S["ms"] if unit.startswith(("ms", "milli")) else _UNIT_S[unit[0]]


def _moment_s(text: str, headers: Mapping[str, str]) -> float | None:
    """Seconds until a date, by the server's own clock where it tells the time."""
    moment = _date(text)
    if moment is None:
        return None
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return (moment - now).total_seconds()


def _date(text: str) -> datetime | None:
    for parse in (parsedate_to_datetime, lambda value: datetime.fromisoformat(value.replace("Z", "+00:00"))):
        try:
            moment = parse(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def _unix_or_seconds_s(value: float) -> float:
    """A reset given as a Unix time (in s or ms) or as seconds from now."""
    if value > 1e11:
        return value / 1000 - time.time()
    return value - time.time() if value > 1e8 else value
