"""All that an endpoint can answer wrongly: one clear line each, and no storm of retries where trying cannot help."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from executor_cases import GOOD, HTML, Cut, Endless, Scripted, faults_of, http, says

from grpo_aflow.executor.client import ExecutorClient
from grpo_aflow.executor.ledger import read_costs
from grpo_aflow.types import BudgetReached, ChatStatus, InfrastructureError, Task, UserError

KEY = "sk-secret-0123456789"
TASK = Task(id="gsm8k/1", dataset="gsm8k", domain="math", problem="1 + 1?", answers=("2",))
Settings = Callable[..., Any]


@pytest.fixture
def endpoint(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """async with endpoint(answers) as (executor, server)"""
    monkeypatch.setenv("TEST_EXECUTOR_KEY", KEY)

    @asynccontextmanager
    async def make(*answers: bytes | str, **changed: Any) -> AsyncIterator[tuple[ExecutorClient, Scripted]]:
        script = Scripted(answers)
        server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        values = {
            "base_url": f"http://127.0.0.1:{port}/v1",
            "api_key_env": "TEST_EXECUTOR_KEY",
            "retries": 2,
            "backoff_s": 0.001,
            "timeout_s": 2.0,
        }
        executor = await settings("openai", **(values | changed)).open(tmp_path, seed=0)
        try:
            yield executor, script
        finally:
            await executor.close()
            server.close()
            secret = [path.name for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
            assert not secret

    return make


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (http(401, {"error": {"message": f"Incorrect API key {KEY}"}}), "TEST_EXECUTOR_KEY"),
        (http(403, {"error": {"message": "no"}}), "TEST_EXECUTOR_KEY"),
        (http(404, {"error": {"message": "The model `x` does not exist"}}), "does not serve the model 'gpt-4o-mini'"),
        (http(404, HTML, "text/html"), "executor.base_url"),
        (http(402, {"error": {"message": "pay"}}), "no credit left"),
        (http(429, {"error": {"message": "quota", "code": "insufficient_quota"}}), "no credit left"),
        (http(400, {"error": {"message": "Unsupported parameter: 'max_tokens'"}}), "Unsupported parameter"),
        (http(200, HTML, "text/html"), "a web page, not with JSON"),
    ],
)
async def test_what_no_retry_can_change_stops_at_once(endpoint: Any, ask: Any, answer: bytes, line: str) -> None:
    async with endpoint(answer) as (executor, server):
        with pytest.raises(UserError, match=line) as first:
            await ask(executor, TASK)
        assert server.requests == 1
        assert "\n" not in str(first.value)
        assert KEY not in str(first.value)
        with pytest.raises(UserError, match=line):
            await ask(executor, TASK, member=1)
        assert server.requests == 1


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (http(200, b'{"choices": [{"mess'), "not JSON"),
        (http(200, {"hello": 1}), "no chat completion"),
        (http(200, {"choices": []}), "no chat completion"),
        (http(200, b"[1, 2]"), "no chat completion"),
        (http(200, b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'), "invalid UTF-8"),
        (http(503, HTML, "text/html"), "HTTP 503: an HTML page"),
        (http(500, {"error": {"message": "boom"}}), "HTTP 500: boom"),
        (Cut(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"), "no connection"),
        (Cut(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"), "no connection"),
        ("close", "no connection"),
        (b"garbage\r\n\r\n", "no connection"),
    ],
)
async def test_faults_are_retried_and_then_masked(
    endpoint: Any, ask: Any, answer: bytes | str, line: str, tmp_path: Path
) -> None:
    async with endpoint(answer, timeout_s=0.5) as (executor, server):
        reply = await ask(executor, TASK)
        assert reply.status is ChatStatus.INFRASTRUCTURE
        assert reply.status.masks
        assert line in reply.error
        assert "\n" not in reply.error
        assert server.requests == 3
        assert faults_of(tmp_path).total() == 3
    async with endpoint(answer, GOOD, timeout_s=0.5) as (executor, server):
        assert (await ask(executor, TASK, member=5)).text == "fine"


async def test_a_huge_answer_is_not_asked_for_again(endpoint: Any, ask: Any) -> None:
    async with endpoint(says("x" * 10_000_000)) as (executor, server):
        reply = await ask(executor, TASK)
        assert reply.status is ChatStatus.INFRASTRUCTURE
        assert "max_answer_bytes" in reply.error
        assert server.requests == 1


@pytest.mark.parametrize("code", [200, 500])
async def test_an_endless_answer_is_read_to_the_limit_only(endpoint: Any, ask: Any, code: int) -> None:
    """Were it read on, the attempt would end in its timeout."""
    async with endpoint(Endless(code)) as (executor, server):
        reply = await ask(executor, TASK)
        assert reply.status is ChatStatus.INFRASTRUCTURE
        assert "max_answer_bytes=4000000" in reply.error
        assert server.requests == 1


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_the_limit_of_an_answer_has_the_name_that_the_endpoint_wants(endpoint: Any, ask: Any, field: str) -> None:
    async with endpoint(GOOD, max_tokens_field=field) as (executor, server):
        await ask(executor, TASK, max_tokens=77)
        [body] = server.bodies
        assert {name: value for name, value in body.items() if name.startswith("max_")} == {field: 77}


async def test_a_hang_ends_in_a_timeout_that_may_be_owed(endpoint: Any, ask: Any, tmp_path: Path) -> None:
    async with endpoint("hang", timeout_s=0.1, retries=1) as (executor, server):
        reply = await ask(executor, TASK)
        assert reply.status is ChatStatus.TIMEOUT
        assert "executor.timeout_s=0.1" in reply.error
        assert server.requests == 2
    assert read_costs(tmp_path / "ledger.jsonl").total.at_most_usd > 0


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (says("half an ans", "length"), ChatStatus.OK),
        (says("bad words", "content_filter"), ChatStatus.REFUSED),
        (says(None, refusal="I cannot help with that"), ChatStatus.REFUSED),
        (http(400, {"error": {"message": "too long", "code": "context_length_exceeded"}}), ChatStatus.REFUSED),
        (http(400, {"error": {"message": "filtered", "code": "content_filter"}}), ChatStatus.REFUSED),
    ],
)
async def test_received_answers_are_kept_and_never_asked_for_again(
    endpoint: Any, ask: Any, answer: bytes, status: ChatStatus
) -> None:
    async with endpoint(answer) as (executor, server):
        first, second = await ask(executor, TASK), await ask(executor, TASK)
        assert first.status is second.status is status
        assert (first.cached, second.cached) == (False, True)
        assert first.cost_usd == second.cost_usd
        assert server.requests == 1


@pytest.mark.parametrize("answer", [says("", "length"), says(None), says("<think>I never come to an end", "length")])
async def test_an_empty_answer_is_paid_and_asked_for_again(
    endpoint: Any, ask: Any, answer: bytes, tmp_path: Path
) -> None:
    async with endpoint(answer, GOOD) as (executor, server):
        first, second = await ask(executor, TASK), await ask(executor, TASK)
        assert (first.status, second.status) == (ChatStatus.EMPTY, ChatStatus.OK)
        assert first.cost_usd > 0
        assert server.requests == 2
    assert read_costs(tmp_path / "ledger.jsonl").total.ok == 2


async def test_a_cancelled_request_counts_at_its_worst_case(endpoint: Any, ask: Any, tmp_path: Path) -> None:
    """It may be billed, so the cap holds with it: 64 tokens at 1 USD, twice, are over 100 USD."""
    prices = {"usd_per_million_input": {"gpt-4o-mini": 0.0}, "usd_per_million_output": {"gpt-4o-mini": 1e6}}
    async with endpoint("hang", GOOD, max_usd=100.0, **prices) as (executor, server):
        call = asyncio.create_task(ask(executor, TASK, max_tokens=64))
        while not server.requests:
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        with pytest.raises(BudgetReached, match="64 USD spent and the next call may take 64"):
            await ask(executor, TASK, member=1, max_tokens=64)
    assert read_costs(tmp_path / "ledger.jsonl").total.at_most_usd == 64
    assert faults_of(tmp_path) == {"cancelled": 1}


async def test_retry_after_is_honoured(endpoint: Any, ask: Any, tmp_path: Path) -> None:
    limit = http(429, {"error": {"message": "slow down"}}, retry_after="0.3")
    async with endpoint(limit, GOOD) as (executor, _):
        start = asyncio.get_running_loop().time()
        assert (await ask(executor, TASK)).text == "fine"
        assert asyncio.get_running_loop().time() - start >= 0.3
        assert faults_of(tmp_path) == {"http_429": 1}


async def test_an_hour_of_retry_after_is_not_waited_for(endpoint: Any, ask: Any) -> None:
    async with endpoint(http(429, {}, retry_after="3600")) as (executor, server):
        assert (await ask(executor, TASK)).status is ChatStatus.INFRASTRUCTURE
        assert server.requests == 1


async def test_a_host_that_does_not_exist_is_named(settings: Settings, ask: Any, tmp_path: Path) -> None:
    made = settings("local", base_url="http://no-such-host.invalid/v1", retries=1, backoff_s=0.001)
    with pytest.raises(UserError, match=r"cannot resolve the host 'no-such-host.invalid'"):
        await made.open(tmp_path, seed=0)


async def test_an_address_where_nothing_listens_is_named_at_once(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"127\.0\.0\.1:9/v1 cannot be reached .*start it"):
        await settings("local", base_url="http://127.0.0.1:9/v1").open(tmp_path, seed=0)
    assert not list(tmp_path.iterdir())
