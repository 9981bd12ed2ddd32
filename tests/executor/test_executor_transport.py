"""What lies between client and endpoint: TLS, addresses, headers, further fields, first answers, waiting, prices."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from endpoint_answers import BOMB, packed
from executor_cases import GOOD, Scripted, http

from grpo_aflow.executor.address import Address
from grpo_aflow.executor.endpoint import REFUSALS_BEFORE_ANY_ANSWER
from grpo_aflow.executor.prices import price_of
from grpo_aflow.types import ChatStatus, Task, UserError

TASK = Task(id="gsm8k/1", dataset="gsm8k", domain="math", problem="1 + 1?", answers=("2",))
QUICK = {"retries": 1, "backoff_s": 0.001, "max_backoff_s": 0.02, "timeout_s": 5.0}
ODD = http(400, {"error": {"message": "Something about this request is odd"}})
Settings = Callable[..., Any]


@asynccontextmanager
async def serving(serve: Any, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's TLS with a certificate that nobody has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run([*command, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


async def test_a_certificate_that_cannot_be_verified_is_said_at_opening(
    settings: Settings, tmp_path: Path, certified: ssl.SSLContext
) -> None:
    async with serving(Scripted([GOOD]).serve, certified) as port:
        with pytest.raises(UserError, match=r"certificate that cannot be verified .*SSL_CERT_FILE"):
            await settings("local", base_url=f"https://localhost:{port}/v1").open(tmp_path, seed=0)


async def test_https_on_an_http_port_is_said_at_opening(settings: Settings, tmp_path: Path) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(http(400, b"Bad Request", "text/plain"))
        await writer.drain()
        writer.close()

    async with serving(plain) as port:
        with pytest.raises(UserError, match=rf"does not speak https .*executor.base_url=http://localhost:{port}/v1"):
            await settings("local", base_url=f"https://localhost:{port}/v1").open(tmp_path, seed=0)


async def test_http_on_an_https_port_is_no_outage(
    settings: Settings, ask: Any, tmp_path: Path, certified: ssl.SSLContext
) -> None:
    async with serving(Scripted([GOOD]).serve, certified) as port:
        executor = await settings("local", base_url=f"http://localhost:{port}/v1", **QUICK).open(tmp_path, seed=0)
        with pytest.raises(UserError, match=rf"speaks https; write executor.base_url=https://localhost:{port}/v1"):
            await ask(executor, TASK)
        await executor.close()


async def test_a_bomb_is_unpacked_to_the_limit_only(settings: Settings, ask: Any, tmp_path: Path) -> None:
    async with serving(Scripted([GOOD, packed(BOMB, "gzip")]).serve) as port:
        executor = await settings("local", base_url=f"http://127.0.0.1:{port}/v1", **QUICK).open(tmp_path, seed=0)
        await ask(executor, TASK)
        tracemalloc.start()
        reply = await ask(executor, TASK, member=1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        await executor.close()
    assert "max_answer_bytes" in reply.error
    assert peak < 30e6


async def test_azures_query_and_key_go_with_every_request(
    settings: Settings, ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[str] = []

    async def azure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        heads.append(head)
        await reader.readexactly(int(head.partition("content-length: ")[2].split("\r\n")[0]))
        writer.write(GOOD)
        await writer.drain()
        writer.close()

    monkeypatch.setenv("AZURE_KEY", "secret-1")
    async with serving(azure) as port:
        url = f"http://127.0.0.1:{port}/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
        made = settings("local", base_url=url, api_key_env="AZURE_KEY", **QUICK)
        executor = await made.open(tmp_path, seed=0)
        assert (await ask(executor, TASK)).text == "fine"
        assert (await ask(executor, TASK, member=1)).text == "fine"
        await executor.close()
    for head in heads:
        assert head.startswith("post /openai/deployments/gpt/chat/completions?api-version=2024-10-21 ")
        assert "api-key: secret-1" in head


async def test_further_fields_are_sent_and_are_part_of_the_key(settings: Settings, ask: Any, tmp_path: Path) -> None:
    script = Scripted([GOOD])
    async with serving(script.serve) as port:
        for further in ({}, {"reasoning_effort": "low"}, {"chat_template_kwargs": {"enable_thinking": False}}):
            made = settings("local", base_url=f"http://127.0.0.1:{port}/v1", extra_body=further, **QUICK)
            executor = await made.open(tmp_path, seed=0)
            assert not (await ask(executor, TASK)).cached
            assert (await ask(executor, TASK)).cached
            assert further.items() <= script.bodies[-1].items()
            await executor.close()
    assert script.requests == 3
    with pytest.raises(ValueError, match="extra_body.stream is set by the client"):
        settings("local", extra_body={"stream": True})


async def test_a_first_error_waits_for_what_the_others_are_told(settings: Settings, ask: Any, tmp_path: Path) -> None:
    """A refusal is faster than an answer; it may be about its prompt, as long as another one is answered."""

    async def slow_to_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        odd = b"odd" in await reader.readexactly(length)
        await asyncio.sleep(0 if odd else 0.2)
        writer.write(ODD if odd else GOOD)
        await writer.drain()
        writer.close()

    async with serving(slow_to_answer) as port:
        executor = await settings("local", base_url=f"http://127.0.0.1:{port}/v1", **QUICK).open(tmp_path, seed=0)
        replies = await asyncio.gather(ask(executor, TASK), ask(executor, TASK, member=1, extra="odd"))
        assert [reply.status for reply in replies] == [ChatStatus.OK, ChatStatus.INFRASTRUCTURE]
        await executor.close()


async def test_a_resumed_run_does_not_die_of_one_prompt(settings: Settings, ask: Any, tmp_path: Path) -> None:
    async with serving(Scripted([GOOD, ODD]).serve) as port:
        made = settings("local", base_url=f"http://127.0.0.1:{port}/v1", **QUICK)
        for member in (0, 1, 2):
            executor = await made.open(tmp_path, seed=0)
            reply = await ask(executor, TASK, member=member)
            assert reply.status is (ChatStatus.INFRASTRUCTURE if member else ChatStatus.OK)
            await executor.close()


async def test_nothing_but_refusals_is_no_prompts_doing(settings: Settings, ask: Any, tmp_path: Path) -> None:
    too_long = http(400, {"error": {"message": "This model's maximum context length is 10 tokens."}})
    async with serving(Scripted([too_long]).serve) as port:
        executor = await settings("local", base_url=f"http://127.0.0.1:{port}/v1", **QUICK).open(tmp_path, seed=0)
        for member in range(REFUSALS_BEFORE_ANY_ANSWER - 1):
            assert (await ask(executor, TASK, member=member)).status is ChatStatus.REFUSED
        with pytest.raises(UserError, match="maximum context length is 10 tokens.*executor.max_tokens"):
            await ask(executor, TASK, member=99)
        await executor.close()


async def test_a_rate_limit_is_waited_for_by_all_and_the_runs_clock_stands_still(
    settings: Settings, ask: Any, tmp_path: Path
) -> None:
    """Thirty calls, no retries, and an endpoint that says no for longer than any retry would have lasted."""
    until, requests = 0.0, 0

    async def limited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests, until
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
        if not requests:
            until = time.monotonic() + 0.8
        requests += 1
        left_s = until - time.monotonic()
        no = http(429, {"error": {"message": f"Rate limit reached. Please try again in {left_s:.3f}s."}})
        writer.write(no if left_s > 0 else GOOD)
        await writer.drain()
        writer.close()

    async with serving(limited) as port:
        made = settings("local", base_url=f"http://127.0.0.1:{port}/v1", **(QUICK | {"retries": 0}))
        executor = await made.open(tmp_path, seed=0)
        replies = await asyncio.gather(*[ask(executor, TASK, member=member) for member in range(30)])
        paused_s = executor.paused_s
        await executor.close()
    assert {reply.status for reply in replies} == {ChatStatus.OK}
    assert requests <= 30 + 2 * 30  # held back, not tried again and again
    assert paused_s > 0.3


@pytest.mark.parametrize(
    ("url", "base_url", "sent_to"),
    [
        ("http://h:8000/v1/", "http://h:8000/v1", "http://h:8000/v1/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1", "https://h/v1/chat/completions"),
        ("https://h:443/x?api-version=1", "https://h/x", "https://h/x/chat/completions?api-version=1"),
        ("http://[::1]:80/v1", "http://[::1]/v1", "http://[::1]/v1/chat/completions"),
    ],
)
def test_addresses(url: str, base_url: str, sent_to: str) -> None:
    address = Address.parse(url)
    assert (address.base_url, address.url) == (base_url, sent_to)


def test_prices_are_the_settings_own_then_the_providers(settings: Settings) -> None:
    listed = price_of(settings("openai", model="gpt-4o-mini"), "gpt-4o-mini")
    assert (listed.input_usd, listed.output_usd) == pytest.approx((0.15e-6, 0.60e-6))
    own = price_of(settings("openai", usd_per_million_input={"gpt-4o-mini": 3.0}), "gpt-4o-mini")
    assert (own.input_usd, own.output_usd) == pytest.approx((3e-6, 0.60e-6))
    assert price_of(settings("local"), "whatever").usd(1000, 1000) == 0
    with pytest.raises(UserError, match="no price for the model 'nobody-9'"):
        price_of(settings("openai"), "nobody-9")
