"""Everything that an endpoint can answer wrongly: one clear line each, and no storm of retries on what cannot mend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from grpo_aflow.executor.client import Executor
from grpo_aflow.executor.ledger import read_costs
from grpo_aflow.types import ChatStatus, InfrastructureError, Task, UserError

KEY = "sk-secret-0123456789"
TASK = Task(id="gsm8k/1", dataset="gsm8k", domain="math", problem="1 + 1?", answers=("2",))
Settings = Callable[..., Any]


def http(code: int, body: bytes | dict[str, Any], kind: str = "application/json", **headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"HTTP/1.1 {code} X\r\ncontent-type: {kind}\r\ncontent-length: {len(content)}\r\n{head}\r\n".encode() + content
    )


def says(text: str | None, finish_reason: str = "stop", **message: Any) -> bytes:
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text, **message}}
    return http(200, {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


GOOD = says("fine")
HTML = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"


class Scripted:
    """A raw HTTP server that gives the answers in turn, the last one for ever; "close" and "hang" are actions."""

    def __init__(self, answers: Sequence[bytes | str]) -> None:
        self.answers, self.requests = list(answers), 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    int(h.split(b":")[1]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length")
                )
                await reader.readexactly(length)
                answer = self.answers[min(self.requests, len(self.answers) - 1)]
                self.requests += 1
                if answer == "hang":
                    await asyncio.sleep(60)
                if isinstance(answer, str):
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
def endpoint(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """async with endpoint(answers) as (executor, server)"""
    monkeypatch.setenv("TEST_EXECUTOR_KEY", KEY)

    @asynccontextmanager
    async def make(*answers: bytes | str, **changed: Any) -> AsyncIterator[tuple[Executor, Scripted]]:
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
async def test_what_cannot_mend_stops_at_once(endpoint: Any, ask: Any, answer: bytes, line: str) -> None:
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
        (b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{", "no connection"),
        ("close", "no connection"),
        (b"garbage\r\n\r\n", "no connection"),
    ],
)
async def test_faults_are_retried_and_then_masked(endpoint: Any, ask: Any, answer: bytes | str, line: str) -> None:
    async with endpoint(answer, timeout_s=0.5) as (executor, server):
        reply = await ask(executor, TASK)
        assert reply.status in (ChatStatus.INFRASTRUCTURE, ChatStatus.TIMEOUT)
        assert reply.status.masks
        assert line in reply.error or reply.status is ChatStatus.TIMEOUT
        assert "\n" not in reply.error
        assert server.requests == 3
        assert sum(executor.totals().retries.values()) == 2
        assert sum(executor.totals().masked.values()) == 1
    async with endpoint(answer, GOOD, timeout_s=0.5) as (executor, server):
        assert (await ask(executor, TASK, member=5)).text == "fine"


async def test_a_huge_answer_is_not_asked_for_again(endpoint: Any, ask: Any) -> None:
    async with endpoint(says("x" * 10_000_000)) as (executor, server):
        reply = await ask(executor, TASK)
        assert reply.status is ChatStatus.INFRASTRUCTURE
        assert "max_answer_bytes" in reply.error
        assert server.requests == 1


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
        (says("", "length"), ChatStatus.EMPTY),
        (says(None), ChatStatus.EMPTY),
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


async def test_retry_after_is_honoured(endpoint: Any, ask: Any) -> None:
    limit = http(429, {"error": {"message": "slow down"}}, retry_after="0.3")
    async with endpoint(limit, GOOD) as (executor, _):
        start = asyncio.get_running_loop().time()
        assert (await ask(executor, TASK)).text == "fine"
        assert asyncio.get_running_loop().time() - start >= 0.3
        assert executor.totals().retries == {"http_429": 1}


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


async def test_a_server_that_is_down_pauses_the_run_until_it_is_up(
    settings: Settings, ask: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = Scripted([GOOD])
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    changed = {"breaker_failures": 4, "breaker_pause_s": 0.1, "retries": 20, "backoff_s": 0.01, "max_backoff_s": 0.02}
    executor = await settings("local", base_url=f"http://127.0.0.1:{port}/v1", **changed).open(tmp_path, seed=0)
    server.close()
    await server.wait_closed()
    calls = [asyncio.create_task(ask(executor, TASK, member=n)) for n in range(30)]
    await asyncio.sleep(0.5)
    assert not any(call.done() for call in calls)
    server = await asyncio.start_server(script.serve, "127.0.0.1", port)
    replies = await asyncio.wait_for(asyncio.gather(*calls), 20)
    assert {reply.status for reply in replies} == {ChatStatus.OK}
    assert executor.totals().paused_s > 0
    assert caplog.text.count("pausing") >= 1
    assert "going on" in caplog.text
    assert script.requests == 30
    await executor.close()
    server.close()
