"""What endpoints do, row by row: who does it, what it must come to, what it may cost, and why.

`test_endpoint_table` plays each against a real client and writes the outcomes down. Wordings are those of public bug
reports and of the servers' documentation.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from executor_cases import GOOD, http

ANSWER, VALUE, MASKED, STOP = "answer", "value", "masked", "stop"
OWED = "owed"  # nobody knows whether it was computed: the worst case is set aside
NOTHING = (0, 0)
USUAL = (7, 3)  # tokens of `GOOD`


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """One row: the endpoint answers `answers` in turn, the last for ever."""

    name: str
    seen_at: str
    answers: Sequence[bytes | str]
    outcome: str
    tokens: tuple[int, int] | str = NOTHING  # prompt and completion tokens that are booked, or OWED
    usd: float | None = None  # booked where the endpoint says itself what it cost
    why: str
    first: bool = False  # before the endpoint has answered anything
    says: str = ""  # part of the reply's error or of the message
    text: str | None = None  # of the answer
    thinking: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None  # the key's variable


def refuses(http_code: int, message: str, /, **more: Any) -> bytes:
    return http(http_code, {"error": {"message": message, **more}})


def flat(http_code: int, message: str, /, **more: Any) -> bytes:
    """vLLM's and SGLang's older form: no `error` around it."""
    return http(http_code, {"object": "error", "message": message, **more})


def usage(given: Any, text: str = "fine", **body: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    content = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}], "usage": given, **body}
    return http(200, json.dumps(content).encode())


def in_200(error: Any, **body: Any) -> bytes:
    return http(200, {"error": error, **body})


def choice_error(error: Any, text: str = "half an ans", reason: str = "error") -> bytes:
    choice = {"finish_reason": reason, "message": {"role": "assistant", "content": text}, "error": error}
    return http(200, {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


def delta(more: Any, finish_reason: str | None = None) -> dict[str, Any]:
    """One event of a streamed answer."""
    return {"choices": [{"index": 0, "delta": more, "finish_reason": finish_reason}]}


def streamed(*events: dict[str, Any], head: str = "", end: str = "\n", done: bool = True) -> bytes:
    """Server-sent events behind the line `head`; each line ends in `end`, and the last says so where it is `done`."""
    lines = [head] if head else []
    lines += [f"data: {json.dumps(event, ensure_ascii=False)}{end}" for event in events]
    lines += [f"data: [DONE]{end}"] if done else []
    return http(200, "".join(line + end for line in lines).encode(), "text/event-stream")


def packed(content: bytes, encoding: str) -> bytes:
    return http(200, content, content_encoding=encoding)


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(content) + packer.flush()


def bomb(megabytes: int) -> bytes:
    """gzip of so many MB of blanks, a thousandth as long."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([packer.compress(b" " * 1_000_000) for _ in range(megabytes)]) + packer.flush()


BODY_OF_GOOD = GOOD.partition(b"\r\n\r\n")[2]
BOMB = bomb(300)
DEEP = b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
IN_40_DAYS = formatdate(4e9, usegmt=True)

TOO_LONG = "this prompt does not fit: the workflow's own doing"
FILTER = "this prompt was declined: a value"
PASSES = "a fault that may pass: retried, then masked"
WAITED = "a rate limit: waited for"
NOBODY = "the settings have worked, so it may be anybody's: masked and counted"
FIRST = "nothing has ever worked: the settings, with the server's words"
ESTIMATE = "the endpoint does not count: estimated on the high side"
EDGE = "thinking is no part of the answer"
READABLE = "it can be read, so it is read"
SAYS_LITTLE = "an empty answer is paid and no answer"
