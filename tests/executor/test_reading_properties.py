"""Whatever a body or a header holds, reading it gives a value."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_aflow.executor.errors import read_error
from grpo_aflow.executor.outcomes import ServerError, classify
from grpo_aflow.executor.reading import MOST_TOKENS, Answer, Unreadable, read_answer
from grpo_aflow.executor.waiting import stated_wait_s
from grpo_aflow.thinking import split_thinking

MESSAGES = [{"role": "user", "content": "2 + 2?"}]
FIELDS = """choices message content usage error code type status text delta prompt_tokens completion_tokens total_tokens
cost finish_reason refusal reasoning reasoning_content thinking metadata details innererror detail
completion_tokens_details cost_details is_byok"""
HEADERS = """retry-after retry-after-ms x-ratelimit-reset-tokens x-ratelimit-remaining-tokens x-ratelimit-limit-tokens
ratelimit-reset ratelimit-remaining ratelimit-limit ratelimit ratelimit-policy date"""
KEYS = st.sampled_from(FIELDS.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
TAGS = ("<think>", "</think>", "<thought>", "</thought>", "[THINK]", "[/THINK]", "```", "\n", "<answer>", "a")
TAGS += ("<|channel|>", "<|message|>", "final", "analysis", "assistant")


def checked(found: Any) -> None:
    assert isinstance(found, Answer | ServerError | Unreadable)
    if isinstance(found, Answer):
        assert 0 <= found.prompt_tokens <= 2 * MOST_TOKENS
        assert 0 <= found.completion_tokens <= 2 * MOST_TOKENS
        assert found.cost_usd is None or (math.isfinite(found.cost_usd) and found.cost_usd >= 0)
    if isinstance(found, ServerError):
        assert "\n" not in found.text
        classify(found, answered=False)
        classify(found, answered=True)


@settings(max_examples=400, deadline=None)
@given(JSON)
def test_any_json(body: Any) -> None:
    checked(read_answer(json.dumps(body).encode(), "application/json", MESSAGES))
    checked(read_error(400, json.dumps(body).encode()))


@settings(max_examples=400, deadline=None)
@given(JSON, JSON, JSON, JSON)
def test_any_parts_of_an_answer(content: Any, usage: Any, reason: Any, more: Any) -> None:
    choice = {"message": {"content": content, "reasoning": more}, "finish_reason": reason, "error": None}
    checked(read_answer(json.dumps({"choices": [choice], "usage": usage}).encode(), "", MESSAGES))
    event = {"choices": [{"delta": {"content": content}, "finish_reason": reason}], "usage": usage, "error": more}
    checked(read_answer(b"data: " + json.dumps(event).encode(), "", MESSAGES))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("delta", "message", "text", "error")), JSON, JSON), max_size=4), JSON)
def test_any_events(parts: list[tuple[str, Any, Any]], content: Any) -> None:
    events: list[Any] = [{"choices": [{name: value, "finish_reason": reason}]} for name, value, reason in parts]
    events += [{"choices": [{"delta": {"content": value, "reasoning": more}}]} for _, value, more in parts]
    events += [{"choices": [{"delta": {"content": content}}]}, content]
    for end in ("\n", "\r\n"):
        for last in ("", "data: [DONE]"):
            lines = [": comment", "event: message", *(f"data: {json.dumps(event)}" for event in events), last]
            checked(read_answer(end.join(lines).encode(), "text/event-stream", MESSAGES))


@given(st.lists(st.none() | st.text(max_size=8), max_size=8), st.sampled_from(("stop", None)), st.booleans())
def test_whatever_pieces_a_text_is_streamed_in(pieces: list[str | None], reason: str | None, done: bool) -> None:
    events = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in ["4 ", *pieces]]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    lines = [f"data: {json.dumps(event, ensure_ascii=False)}\n" for event in events]
    found = read_answer("\n".join([*lines, "data: [DONE]" if done else ""]).encode(), "text/event-stream", MESSAGES)
    if reason or done:
        assert isinstance(found, Answer)
        assert found.text == "4 " + "".join(piece or "" for piece in pieces)
    else:
        assert isinstance(found, ServerError)
        assert found.reason == "half_answer"


def test_any_depth() -> None:
    for name in ("error", "message", "detail"):
        for depth in (100, 900, 5000):
            body = (f'{{"{name}":' * depth + "1" + "}" * depth).encode()
            checked(read_error(400, body))
            checked(read_answer(body, "", MESSAGES))
            checked(read_answer(b'{"choices":[{"message":{"content":' + body + b"}}]}", "", MESSAGES))


@given(st.binary(max_size=60))
def test_any_bytes(body: bytes) -> None:
    checked(read_answer(body, "", MESSAGES))
    checked(read_answer(b"data:" + body, "", MESSAGES))
    checked(read_answer(b": comment\n\ndata: " + body + b"\n\n", "text/event-stream", MESSAGES))
    checked(read_error(500, body))


@given(
    st.dictionaries(
        st.sampled_from(HEADERS.split()),
        st.text(max_size=30) | st.floats().map(str) | st.datetimes().map(str) | st.just('"a";q=1;r=0;t=-5, b;r;t=x'),
    ),
    st.text(max_size=40) | st.from_regex(r"try again in \d{1,400}(\.\d+)?(ms|s|h)", fullmatch=True),
)
def test_any_wait(headers: dict[str, str], body: str) -> None:
    for limited in (True, False):
        assert 0 <= stated_wait_s(headers, body, limited=limited) < math.inf


@given(st.lists(st.sampled_from(TAGS), max_size=12).map("".join))
def test_thinking_and_answer_are_parts_of_the_text(text: str) -> None:
    answer, thinking = split_thinking(text)
    assert len(answer) + len(thinking) <= len(text)
    assert split_thinking(text) == (answer, thinking)
    if "<|channel|>" not in text and "think" not in text.lower() and "thought" not in text and "analysis" not in text:
        assert answer == text
