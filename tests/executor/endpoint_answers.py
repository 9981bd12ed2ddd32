"""Rows of `endpoint_behaviours`: faults, rate limits, answers in every form, what they cost, and wrong settings."""
# ruff: noqa: E501 - a table in code: one row, one line
# fmt: off

from __future__ import annotations

import gzip
import json
import zlib
from email.utils import formatdate
from typing import Any

from endpoint_behaviours import (
    ANSWER,
    BODY_OF_GOOD,
    BOMB,
    DEEP,
    EDGE,
    ESTIMATE,
    FILTER,
    IN_40_DAYS,
    MASKED,
    NOTHING,
    OWED,
    PASSES,
    READABLE,
    SAYS_LITTLE,
    STOP,
    USUAL,
    VALUE,
    WAITED,
    Behaviour,
    choice_error,
    delta,
    in_200,
    packed,
    raw_deflate,
    refuses,
    streamed,
    usage,
)
from executor_cases import GOOD, HTML, Cut, Endless, http, says

COUNTED = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
EVENTS = (delta({"role": "assistant", "content": "fi"}), delta({"content": "ne"}, "stop"), COUNTED)


def faults() -> list[Behaviour]:
    fives = [
        Behaviour(
            name=f"HTTP {code}, again and again",
            seen_at=at,
            answers=[refuses(code, words)],
            outcome=MASKED,
            tokens=tokens,
            says=words,
            why=PASSES,
        )
        for code, words, at, tokens in [
            (500, "Internal server error", "all", NOTHING),
            (502, "Bad gateway", "gateways", NOTHING),
            (503, "Service unavailable", "all", NOTHING),
            (504, "Gateway timeout", "gateways", OWED),
            (524, "A timeout occurred", "Cloudflare", OWED),
            (529, "Overloaded", "Anthropic", NOTHING),
        ]
    ]
    broken = [
        ("cut off JSON", http(200, b'{"choices": [{"mess'), "not JSON"),
        ("JSON that is no completion", http(200, {"hello": 1}), "no chat completion"),
        ("no choices", http(200, {"choices": []}), "no chat completion"),
        ("an array", http(200, b"[1, 2]"), "no chat completion"),
        ("invalid UTF-8", http(200, b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'), "invalid UTF-8"),
        ("JSON nested 100,000 deep", http(200, DEEP), "nested too deep"),
        ("a web page later on", http(200, HTML, "text/html"), "HTML page"),
        ("gzip that is none", packed(b"nothing of the kind", "gzip"), "cannot be unpacked"),
        ("a body cut short", Cut(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"), "no connection"),
        ("chunks cut short", Cut(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"), "no connection"),
        ("a closed connection", "close", "no connection"),
        ("no HTTP at all", b"garbage\r\n\r\n", "no connection"),
        ("no answer in time", "hang", "no answer within"),
    ]
    lost = [
        Behaviour(
            name=name,
            seen_at="networks, proxies",
            answers=[answer],
            outcome=MASKED,
            tokens=OWED,
            says=says_,
            why=PASSES,
        )
        for name, answer, says_ in broken
    ]
    large = [
        Behaviour(
            name=name,
            seen_at="broken servers",
            answers=[answer],
            outcome=MASKED,
            tokens=OWED,
            says="max_answer_bytes",
            why="read to the limit and no further, not asked for again",
        )
        for name, answer in [
            ("an answer of 10 MB", says("x" * 10_000_000)),
            ("an answer without end", Endless(200)),
            ("0.3 MB of gzip that unpack to 300 MB", packed(BOMB, "gzip")),
        ]
    ]
    return [*fives, *lost, *large]


def inside_200() -> list[Behaviour]:
    half = [
        ("finish_reason error with half an answer", choice_error(None), OWED, "broke off"),
        ("error in the choice", choice_error({"code": 502, "message": "Upstream error"}), NOTHING, "Upstream error"),
        ("finish_reason network_error", says("half", "network_error"), OWED, "broke off"),
        ("insufficient_system_resource", says("half", "insufficient_system_resource"), OWED, "broke off"),
        ("aborted", says("half", "abort"), OWED, "broke off"),
        ("half of a stream", streamed(delta({"content": "half an ans"}), done=False), OWED, "broke off"),
        ("error 500 in the body", in_200({"code": 500, "message": "Internal"}), NOTHING, "Internal"),
        ("error in words only", in_200("something went wrong"), NOTHING, "something went wrong"),
    ]
    rows = [
        Behaviour(
            name=name,
            seen_at="OpenRouter and others",
            answers=[answer],
            outcome=MASKED,
            tokens=tokens,
            says=says_,
            why=PASSES,
        )
        for name, answer, tokens, says_ in half
    ]
    return [
        *rows,
        Behaviour(name="half an answer, then a whole one", seen_at="OpenRouter", answers=[choice_error(None), GOOD], outcome=ANSWER, tokens=OWED, text="fine", why=PASSES),
        Behaviour(name="429 inside a 200", seen_at="OpenRouter", answers=[in_200({"code": 429, "message": "Provider returned error", "metadata": {"raw": "temporarily rate-limited"}}), GOOD], outcome=ANSWER, tokens=USUAL, why=WAITED),
        Behaviour(name="429 in the choice", seen_at="OpenRouter", answers=[choice_error({"code": 429, "message": "Rate limited"}), GOOD], outcome=ANSWER, tokens=USUAL, text="fine", why=WAITED),
        Behaviour(name="402 inside a 200", seen_at="OpenRouter", answers=[in_200({"code": 402, "message": "This request requires more credits"})], outcome=STOP, says="more credits", why="the account cannot pay"),
        Behaviour(name="moderation inside a 200", seen_at="OpenRouter", answers=[in_200({"code": 403, "message": "Input was flagged by moderation"})], outcome=VALUE, why=FILTER),
        Behaviour(name="rate limit by name inside a 200", seen_at="litellm", answers=[in_200({"type": "rate_limit_error", "message": "slow down"}), GOOD], outcome=ANSWER, tokens=USUAL, why=WAITED),
    ]


def rates() -> list[Behaviour]:
    slow = {"message": "slow down"}
    ways: list[tuple[str, str, bytes]] = [
        ("429 without a word", "all", http(429, {})),
        ("Retry-After in seconds", "OpenAI", http(429, {"error": slow}, retry_after="0.02")),
        ("Retry-After as a date", "RFC 9110", http(429, {"error": slow}, retry_after=formatdate(0, usegmt=True))),
        ("retry-after-ms", "OpenAI, Azure", http(429, {"error": slow}, retry_after_ms="20")),
        ("x-ratelimit-reset-requests: 20ms", "OpenAI", http(429, {"error": slow}, x_ratelimit_reset_requests="20ms")),
        ("x-ratelimit-reset-tokens: 0.02s", "Groq", http(429, {"error": slow}, x_ratelimit_reset_tokens="0.02s")),
        ("try again in 20ms", "OpenAI", refuses(429, "Rate limit reached for gpt-4o. Please try again in 20ms.")),
        ("try again in 0.02s", "Groq", refuses(429, "Rate limit reached on tokens per minute. Please try again in 0.02s.")),
        ("retry after 0.02 seconds", "Azure", refuses(429, "Requests have exceeded the token rate limit. Please retry after 0.02 seconds.")),
        ("retryDelay in the details", "Gemini", http(429, json.dumps([{"error": {"code": 429, "message": "You exceeded your current quota, please check your plan and billing details.", "status": "RESOURCE_EXHAUSTED", "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.02s"}]}}]).encode())),
        ("what is left of a minute and of a day", "Cerebras", http(429, {"error": slow}, x_ratelimit_remaining_tokens_minute="117", x_ratelimit_reset_tokens_minute="0.02", x_ratelimit_remaining_requests_day="14211", x_ratelimit_reset_requests_day="33011.4")),
        ("RateLimit with its parameters", "IETF draft", http(429, {"error": slow}, ratelimit='"default";r=0;t=0.02', ratelimit_policy='"default";q=100;w=60')),
        ("less is left than is asked for", "Groq", refuses(429, "Rate limit reached for model `llama` on tokens per minute (TPM): Limit 6000, Used 5526, Requested 1500. Please try again in 20ms.", code="rate_limit_exceeded")),
        ("a usage limit that passes", "gateways", refuses(429, "You have exceeded your current usage limit, retry in 20ms")),
        ("a usage limit per minute", "gateways", refuses(429, "Rate limit reached: API usage limit per minute")),
        ("a limit that credits would raise", "OpenRouter", refuses(429, "Rate limit exceeded: free-models-per-min. Add 10 credits to unlock 1000 free model requests per day", code=429)),
        ("503 with Retry-After", "all", http(503, {"error": slow}, retry_after="0.02")),
        ("loading, estimated_time", "Hugging Face", http(503, {"error": "Model is currently loading", "estimated_time": 0.02})),
    ]
    return [
        *[
            Behaviour(name=f"{name}, six times", seen_at=at, answers=[*[answer] * 6, GOOD], outcome=ANSWER, tokens=USUAL, why=WAITED)
            for name, at, answer in ways
        ],
        Behaviour(name="a rate limit that never ends", seen_at="all", answers=[http(429, {})], outcome=MASKED, says="HTTP 429", why="waited for as long as an outage is", settings={"max_outage_s": 0.1}),
        Behaviour(name="an hour of Retry-After", seen_at="daily limits", answers=[http(429, {}, retry_after="3600")], outcome=MASKED, says="HTTP 429", why="longer than an outage is waited for"),
        Behaviour(name="Retry-After in forty years", seen_at="broken servers", answers=[http(429, {}, retry_after=IN_40_DAYS)], outcome=MASKED, says="HTTP 429", why="longer than an outage is waited for"),
        Behaviour(name="Retry-After that is no time", seen_at="broken servers", answers=[http(429, {}, retry_after="soon"), GOOD], outcome=ANSWER, tokens=USUAL, why=WAITED),
    ]


def thinking() -> list[Behaviour]:
    harmony = "<|channel|>analysis<|message|>2 and 2<|end|><|start|>assistant<|channel|>final<|message|>4"
    texts = [
        ("<think>", "Qwen3, R1", "<think>\n2 and 2\n</think>\n\n4", "2 and 2"),
        ("an end tag alone", "R1's template", "2 and 2\n</think>\n4", "2 and 2"),
        ("<thinking>", "several", "<thinking>2 and 2</thinking>4", "2 and 2"),
        ("<thought>", "Gemma", "<thought>2 and 2</thought>\n4", "2 and 2"),
        ("[THINK]", "Magistral", "[THINK]2 and 2[/THINK]4", "2 and 2"),
        ("◁think▷", "Kimi", "◁think▷2 and 2◁/think▷4", "2 and 2"),
        ("channels", "gpt-oss", harmony, "2 and 2"),
        ("channels without their tokens", "gpt-oss behind old servers", "analysis2 and 2assistantfinal4", "2 and 2"),
    ]
    rows = [
        Behaviour(
            name=name,
            seen_at=at,
            answers=[says(text)],
            outcome=ANSWER,
            tokens=USUAL,
            text="4",
            thinking=thought,
            why=EDGE,
        )
        for name, at, text, thought in texts
    ]
    fields = [
        Behaviour(
            name=f"message.{name}",
            seen_at=at,
            answers=[says("4", **{name: "2 and 2"})],
            outcome=ANSWER,
            tokens=USUAL,
            text="4",
            thinking="2 and 2",
            why=EDGE,
        )
        for name, at in [("reasoning_content", "DeepSeek, vLLM"), ("reasoning", "OpenRouter"), ("thinking", "Ollama")]
    ]
    parts: Any = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "2 and 2"}]},
        {"type": "text", "text": "4"},
    ]
    own = "<thought>what AnswerGenerate asks for</thought><answer>4</answer>"
    return [
        *rows,
        *fields,
        Behaviour(name="thinking in a stream", seen_at="DeepSeek, vLLM", answers=[streamed(delta({"role": "assistant", "content": None, "reasoning_content": "2 "}), delta({"content": None, "reasoning_content": "and 2"}), delta({"content": "4", "reasoning_content": None}, "stop"), COUNTED)], outcome=ANSWER, tokens=USUAL, text="4", thinking="2 and 2", why=EDGE),
        Behaviour(name="thinking as parts of a stream", seen_at="Mistral", answers=[streamed(*[delta({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": piece}]}]}) for piece in ("2", " ", "and 2")], delta({"content": "4"}, "stop"), COUNTED)], outcome=ANSWER, tokens=USUAL, text="4", thinking="2 and 2", why=EDGE),
        Behaviour(name="thinking as a part", seen_at="Mistral", answers=[says(parts)], outcome=ANSWER, tokens=USUAL, text="4", thinking="2 and 2", why=EDGE),
        Behaviour(name="an operator's own <thought>", seen_at="AFlow's prompts", answers=[says(own)], outcome=ANSWER, tokens=USUAL, text=own, thinking="", why="the form that the operator asked for"),
        Behaviour(name="code about <think>", seen_at="coders", answers=[says("```python\n<think>\n```")], outcome=ANSWER, tokens=USUAL, text="```python\n<think>\n```", thinking="", why="text about a tag is no thinking"),
        Behaviour(name="thinking that never ends", seen_at="all", answers=[says("<think>2 and", "length")], outcome=MASKED, tokens=USUAL, why=SAYS_LITTLE),
        Behaviour(name="analysis without a final channel", seen_at="gpt-oss", answers=[says("<|channel|>analysis<|message|>2 and", "length")], outcome=MASKED, tokens=USUAL, why=SAYS_LITTLE),
    ]


def readable() -> list[Behaviour]:
    parts: Any = [{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}]
    ollama = {"message": {"role": "assistant", "content": "fine"}, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3}
    legacy = {"choices": [{"text": "fine", "finish_reason": "stop"}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    rows: list[tuple[str, str, bytes]] = [
        ("content as parts", "Mistral, litellm", says(parts)),
        ("content as strings", "broken servers", says(["fi", "ne"])),  # type: ignore[arg-type]
        ("content as one part", "broken servers", says({"type": "text", "text": "fine"})),  # type: ignore[arg-type]
        ("blanks before the JSON", "OpenRouter", http(200, b"\n \n" + BODY_OF_GOOD)),
        ("a byte order mark", "IIS", http(200, b"\xef\xbb\xbf" + BODY_OF_GOOD)),
        ("no content-type", "hand-made servers", http(200, BODY_OF_GOOD, "text/plain")),
        ("gzip", "all", packed(gzip.compress(BODY_OF_GOOD), "gzip")),
        ("deflate with its header", "all", packed(zlib.compress(BODY_OF_GOOD), "deflate")),
        ("deflate without its header", "IIS", packed(raw_deflate(BODY_OF_GOOD), "deflate")),
        ("no finish_reason", "hand-made servers", says("fine", None)),  # type: ignore[arg-type]
        ("its own chat form", "Ollama", http(200, ollama)),
        ("events that nobody asked for", "streaming proxies", streamed(*EVENTS)),
        ("events whose first content is null", "llama.cpp", streamed(delta({"role": "assistant", "content": None}), *EVENTS)),
        ("events whose content is parts, then text", "Mistral", streamed(delta({"content": [{"type": "text", "text": "fi"}]}), *EVENTS[1:])),
        ("events whose delta is text", "broken servers", streamed(delta("fi"), delta("ne", "stop"), COUNTED)),
        ("events behind a comment", "OpenRouter", streamed(*EVENTS, head=": OPENROUTER PROCESSING\n")),
        ("events with their names", "gateways", streamed(*EVENTS, head="event: message")),
        ("events in lines of \\r\\n", "IIS", streamed(*EVENTS, end="\r\n")),
        ("events without [DONE]", "gateways", streamed(*EVENTS, done=False)),
        ("text instead of a message", "old servers", http(200, legacy)),
    ]
    made = [Behaviour(name=n, seen_at=s, answers=[a], outcome=ANSWER, tokens=USUAL, text="fine", why=READABLE) for n, s, a in rows]
    separator = streamed(delta({"content": "fi\u2028ne"}, "stop"), COUNTED)
    made.append(Behaviour(name="events with U+2028 in the text", seen_at="all", answers=[separator], outcome=ANSWER, tokens=USUAL, text="fi\u2028ne", why=READABLE))
    no_message = {"choices": [{"index": 0, "finish_reason": "length", "message": None}], "usage": COUNTED["usage"]}
    made.append(Behaviour(name="no message (length)", seen_at="Gemini", answers=[http(200, no_message)], outcome=MASKED, tokens=USUAL, why=SAYS_LITTLE))
    empty = [
        Behaviour(
            name=f"no text ({reason})",
            seen_at=at,
            answers=[says(None, reason)],
            outcome=MASKED,
            tokens=USUAL,
            why=SAYS_LITTLE,
        )
        for reason, at in [("length", "reasoning models"), ("stop", "all")]
    ]
    cut_off = Behaviour(name="text cut off (length)", seen_at="all", answers=[says("half an ans", "length")], outcome=ANSWER, tokens=USUAL, text="half an ans", why="what there is of it is the answer")
    return [*made, *empty, cut_off]


def money() -> list[Behaviour]:
    """The prompt of every call is "custom" and "<problem>\\n1 + 1?\\n</problem>": 27 tokens as estimated, "fine" 2."""
    estimated: list[tuple[str, str, bytes]] = [
        ("no usage", "streaming proxies", http(200, {"choices": [{"message": {"content": "fine"}}]})),
        ("usage null", "several", usage(None)),
        ("usage with null fields", "several", usage({"prompt_tokens": None, "completion_tokens": None})),
        ("usage of zeros", "proxies", usage({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})),
        ("negative usage", "broken servers", usage({"prompt_tokens": -7, "completion_tokens": -3})),
        ("infinite usage", "broken servers", usage({"prompt_tokens": float("inf"), "completion_tokens": float("inf")})),
        ("usage NaN", "broken servers", usage({"prompt_tokens": float("nan"), "completion_tokens": float("nan")})),
        ("usage of 10^18", "broken servers", usage({"prompt_tokens": 10**18, "completion_tokens": 10**18})),
        ("usage in words", "broken servers", usage("few tokens")),
        ("usage true", "broken servers", usage({"prompt_tokens": True, "completion_tokens": True})),
        ("usage as a list", "broken servers", usage([7, 3])),
    ]
    counted: list[tuple[str, str, bytes, tuple[int, int]]] = [
        ("usage as JSON in a string", "broken servers", usage('{"prompt_tokens": 7, "completion_tokens": 3}'), (7, 3)),
        ("numbers as text", "several", usage({"prompt_tokens": "7", "completion_tokens": "3"}), (7, 3)),
        ("numbers with a point", "several", usage({"prompt_tokens": 7.0, "completion_tokens": 3.0}), (7, 3)),
        ("input_tokens, output_tokens", "Anthropic", usage({"input_tokens": 7, "output_tokens": 3}), (7, 3)),
        ("total only beside completion", "several", usage({"completion_tokens": 3, "total_tokens": 10}), (7, 3)),
        ("total only beside prompt", "several", usage({"prompt_tokens": 7, "total_tokens": 10}), (7, 3)),
        ("reasoning outside of completion", "xAI, Gemini", usage({"prompt_tokens": 7, "completion_tokens": 105, "total_tokens": 1112}), (7, 1105)),
        ("reasoning outside, no total", "several", usage({"prompt_tokens": 7, "completion_tokens": 105, "completion_tokens_details": {"reasoning_tokens": 1000}}), (7, 1105)),
        ("reasoning inside of completion", "OpenAI", usage({"prompt_tokens": 7, "completion_tokens": 1105, "total_tokens": 1112, "completion_tokens_details": {"reasoning_tokens": 1000}}), (7, 1105)),
    ]
    tokens = {"prompt_tokens": 7, "completion_tokens": 3}
    costs: list[tuple[str, dict[str, Any], float]] = [
        ("usage.cost", tokens | {"cost": 0.00012}, 0.00012),
        ("usage.cost 0, a free model", tokens | {"cost": 0}, 0.0),
        ("usage.cost with a key of one's own", tokens | {"cost": 0.00001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.0002}}, 0.00021),
    ]
    return [
        *[Behaviour(name=n, seen_at=s, answers=[a], outcome=ANSWER, tokens=(27, 2), text="fine", why=ESTIMATE) for n, s, a in estimated],
        *[Behaviour(name=n, seen_at=s, answers=[a], outcome=ANSWER, tokens=t, text="fine", why="what is billed is booked") for n, s, a, t in counted],
        *[Behaviour(name=n, seen_at="OpenRouter", answers=[usage(u)], outcome=ANSWER, usd=c, text="fine", why="the endpoint knows what it bills") for n, u, c in costs],
        Behaviour(name="usage.cost that is none", seen_at="broken servers", answers=[usage(tokens | {"cost": -1})], outcome=ANSWER, tokens=USUAL, text="fine", why="the price table instead"),
    ]


def misconfigured() -> list[Behaviour]:
    keys = [
        ("a key with quotes", '"sk-1"', "quotes"),
        ("a key with a line break", "sk-1\nsk-2", "line break"),
        ("a key with a blank", "sk-1 sk-2", "blank"),
        ("a key that is not ASCII", "sk-ключ", "not ASCII"),
        ("no key", " ", "needs a key"),
    ]
    urls = [
        ("a port out of range", "http://127.0.0.1:99999/v1", "no address"),
        ("a blank in the address", "http://127.0.0.1 :80/v1", "blanks"),
        ("no scheme", "localhost:8000/v1", "write http://localhost:8000/v1"),
        ("no host", "http:///v1", "base_url"),
        ("a password in the address", "https://user:secret@host/v1", "api_key_env"),
        ("a key in the address", "https://host/v1?key=abc", "api_key_env"),
        ("a host that does not exist", "http://no-such-host.invalid/v1", "cannot resolve"),
        ("nothing listens", "http://127.0.0.1:9/v1", "cannot be reached"),
    ]
    prices = Behaviour(name="a model without a price", seen_at="users", answers=[GOOD], outcome=STOP, says="no price for the model", why="no cap could hold", settings={"model": "nobody-9"})
    return [
        *[Behaviour(name=n, seen_at="users", answers=[GOOD], outcome=STOP, says=s, key=k, why="said before anything is sent") for n, k, s in keys],
        *[Behaviour(name=n, seen_at="users", answers=[GOOD], outcome=STOP, says=s, settings={"base_url": u}, why="said before anything is sent") for n, u, s in urls],
        prices,
    ]
