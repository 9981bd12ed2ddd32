"""A transport over HTTP: a request through the `openai` client over aiohttp, and what became of it as a value.

`sending` calls `Endpoint.send` once per attempt. `reading` reads what a body says, the table in `outcomes` tells what
an error means; here an attempt is made of both, or a permanent misconfiguration is raised with its fix.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import cast

import httpx2

from grpo_aflow.executor.address import Address, key_of, speaks_tls
from grpo_aflow.executor.errors import read_error
from grpo_aflow.executor.outcomes import Outcome, ServerError, classify, may_be_billed
from grpo_aflow.executor.reading import Answer, Unreadable, read_answer
from grpo_aflow.executor.settings import EndpointSettings
from grpo_aflow.executor.transport import Attempt, Request
from grpo_aflow.executor.waiting import stated_wait_s
from grpo_aflow.types import ChatStatus, UserError

_FINGERPRINT = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")  # of this machine
REFUSALS_BEFORE_ANY_ANSWER = 64  # so many prompts refused and none answered: it is not the prompts


class _TooLarge(Exception):
    """The body is longer than allowed."""


class Endpoint:
    """An OpenAI-compatible server and the key for it."""

    def __init__(self, settings: EndpointSettings, base_url: str, *, answered: bool = False) -> None:
        """
        Args:
            answered: it has answered an earlier part of the run, so the settings are right.
        """
        from openai import AsyncOpenAI, DefaultAioHttpClient, Omit

        self._settings = settings
        self._address = Address.parse(base_url)
        self._key = key_of(settings.api_key_env)
        self._answered = answered
        self._refusals = 0  # before any answer
        self._asked_for_tls = False
        self._pending = 0  # requests that nothing has come back of
        self._known = asyncio.Event()  # whether the settings are right: one request was answered, or none is pending
        connections = httpx2.Limits(
            max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency, keepalive_expiry=60
        )
        http = DefaultAioHttpClient(
            limits=connections,
            timeout=httpx2.Timeout(settings.timeout_s),
            verify=self._address.secure,  # loading certificates takes a third of a second
            trust_env=not self._address.is_loopback,  # a proxy of the environment must not see the loopback
            event_hooks={"response": [self._bound]},
        )
        headers: dict[str, str | Omit] = {f"X-Stainless-{name}": Omit() for name in _FINGERPRINT}
        headers["Accept-Encoding"] = "gzip, deflate"  # what is bounded while it is unpacked
        if self._address.query and self._key:
            headers["api-key"] = self._key  # Azure's name for it
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=self._key or "none",
            http_client=http,
            max_retries=0,
            timeout=settings.timeout_s,
            default_headers=cast(Mapping[str, str], headers),
        )

    @property
    def base_url(self) -> str:
        return self._address.base_url

    async def send(self, request: Request) -> Attempt:
        """One request; see `transport.Transport`."""
        self._pending += 1
        try:
            found = await self._send(request)
        finally:
            self._pending -= 1
            if not self._pending:
                self._known.set()
        if isinstance(found, Attempt):
            return replace(found, error=self._clean(found.error))
        error, response = found
        outcomes = [classify(error, answered=answered).outcome for answered in (False, True)]
        if not self._answered and outcomes[0] is not outcomes[1]:
            await self._wait_for_others()
        return self._classified(error, response)

    async def close(self) -> None:
        await self._client.close()

    async def _send(self, request: Request) -> Attempt | tuple[ServerError, httpx2.Response]:
        """An attempt, or an error of the server with the response that told it."""
        import aiohttp
        import openai

        body = request.body(max_tokens_field=self._settings.max_tokens_field.value)
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                response = await self._client.post(self._address.url, cast_to=httpx2.Response, body=body)
            return self._read(response, request)
        except TimeoutError:
            return self._timed_out()
        except _TooLarge:
            return self._too_large()
        except openai.APIStatusError as error:
            response = error.response
            content_type = response.headers.get("content-type", "")
            return read_error(error.status_code, response.content, content_type), response
        except zlib.error:
            return _malformed("a body that cannot be unpacked")
        except (openai.APIConnectionError, aiohttp.ClientError, ssl.SSLError) as error:  # some come through unwrapped
            return await self._connection_failed(error)

    async def _wait_for_others(self) -> None:
        """An error before any answer may be about its prompt alone: wait for what the others in flight are told."""
        self._known.clear()
        if self._pending:
            await self._known.wait()

    # --- what came back -----------------------------------------------------------------------------------------------

    def _read(self, response: httpx2.Response, request: Request) -> Attempt | tuple[ServerError, httpx2.Response]:
        found = read_answer(response.content, response.headers.get("content-type", ""), request.messages)
        if isinstance(found, ServerError):
            return found, response
        if isinstance(found, Unreadable):
            if found.page and not self._answered:
                raise UserError(
                    f"{self.base_url} answers with a web page, not with JSON; set executor.base_url to the API's "
                    "address, which usually ends in /v1"
                )
            return _malformed(found.what)
        self._answered = True
        self._known.set()
        return _attempt(found)

    def _classified(self, error: ServerError, response: httpx2.Response) -> Attempt:
        """An error as an attempt. Raises UserError where it concerns every call."""
        outcome = classify(error, answered=self._answered).outcome
        said = f"HTTP {error.code}: {self._clean(error.text)}"
        if outcome.stops:
            raise UserError(_STOPS[outcome](self, said))
        if outcome is Outcome.REFUSED:
            self._refusals += not self._answered
            if self._refusals >= REFUSALS_BEFORE_ANY_ANSWER:
                raise UserError(
                    f"{self.base_url} has refused the first {self._refusals} requests and answered none ({said}); "
                    "check executor.max_tokens and executor.model"
                )
            return Attempt(kind="refused_request", status=ChatStatus.REFUSED, error=said)
        limited, body = outcome is Outcome.RATE, response.content.decode("utf-8", "replace")
        wait_s = stated_wait_s(response.headers, body, limited=limited)
        return Attempt(
            kind="half_answer" if error.reason == "half_answer" else f"http_{error.code}",
            status=ChatStatus.INFRASTRUCTURE,
            error=said,
            retry_after_s=wait_s,
            retriable=outcome in (Outcome.RATE, Outcome.RETRY),
            limited=limited or (outcome is Outcome.RETRY and wait_s > 0),
            owed=may_be_billed(error),
        )

    async def _connection_failed(self, error: Exception) -> Attempt:
        """A request that got no response; the HTTP client calls more than timeouts timeouts, so the cause decides."""
        causes = list(_causes(error))
        failures = [cause for cause in causes if isinstance(cause, OSError) and not isinstance(cause, TimeoutError)]
        if not failures and any(isinstance(cause, TimeoutError) for cause in causes):
            return self._timed_out()
        detail = self._clean(str(causes[-1]) or type(causes[-1]).__name__)
        if not self._answered:
            if any(isinstance(cause, socket.gaierror) for cause in failures):
                host = self._address.host
                raise UserError(f"cannot resolve the host {host!r}; correct executor.base_url={self.base_url}")
            if any(isinstance(cause, ssl.SSLError) for cause in causes):
                raise self._address.no_tls(detail)
            if not self._address.secure and not self._asked_for_tls:
                self._asked_for_tls = True
                if await speaks_tls(self._address):
                    raise UserError(
                        f"{self.base_url} speaks https; write executor.base_url={self._address.other_scheme}"
                    )
        return Attempt(
            kind="connection",
            status=ChatStatus.INFRASTRUCTURE,
            error=f"no connection to {self.base_url}: {detail}",
            retriable=True,
            sent=not any(isinstance(cause, ConnectionRefusedError | socket.gaierror) for cause in failures),
        )

    def _timed_out(self) -> Attempt:
        error = f"no answer within executor.timeout_s={self._settings.timeout_s:g}"
        return Attempt(kind="timeout", status=ChatStatus.TIMEOUT, error=error, retriable=True)

    def _too_large(self) -> Attempt:
        error = f"an answer of more bytes than executor.max_answer_bytes={self._settings.max_answer_bytes}"
        return Attempt(kind="too_large", status=ChatStatus.INFRASTRUCTURE, error=error)

    async def _bound(self, response: httpx2.Response) -> None:
        """Called between the response's headers and its body, which then ends at the limit, unpacked."""
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        packed = response.headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip", "deflate")
        if packed:
            del response.headers["content-encoding"]
        response.stream = _Bounded(response.stream, self._settings.max_answer_bytes, packed=packed)

    def _clean(self, text: str) -> str:
        """One line of at most 300 characters without the key, and without lone surrogates, which no file can hold."""
        line = " ".join(text.encode("utf-8", "replace").decode().split())
        if self._key:
            line = line.replace(self._key, "<key>")
        return line if len(line) <= 300 else line[:297] + "..."

    # --- what stops the run -------------------------------------------------------------------------------------------

    def _no_key(self, said: str) -> str:
        name = self._settings.api_key_env
        fix = f"set the environment variable {name} to a valid key" if name else "set executor.api_key_env"
        return f"{self.base_url} refuses the key ({said}); {fix}"

    def _no_credit(self, said: str) -> str:
        return f"{self.base_url}: the account has no credit left ({said}); top it up, then resume"

    def _no_model(self, said: str) -> str:
        return (
            f"{self.base_url} does not serve the model {self._settings.model!r} ({said}); "
            "set executor.model or executor.base_url"
        )

    def _no_such_request(self, said: str) -> str:
        fix = next((fix for words, fix in _FIXES if words.search(said)), "check the executor's settings")
        return f"{self.base_url} refuses the request ({said}); {fix}"


_FIXES = (  # of a request whose parameter is refused: the first whose words are there
    (re.compile(r"[Uu]se .?max_completion_tokens"), "set executor.max_tokens_field=max_completion_tokens"),
    (re.compile(r"max_(completion_|output_|new_)?tokens|maxOutputTokens"), "set executor.max_tokens"),
    (re.compile(r"\btemperature\b"), "set executor.temperature"),
    (re.compile(r"\bseed\b"), "set executor.send_seed=false"),
)
_STOPS: Mapping[Outcome, Callable[[Endpoint, str], str]] = {
    Outcome.KEY: Endpoint._no_key,
    Outcome.CREDIT: Endpoint._no_credit,
    Outcome.MODEL: Endpoint._no_model,
    Outcome.SETTINGS: Endpoint._no_such_request,
}


class _Bounded(httpx2.AsyncByteStream):
    """A body that is read, and unpacked, no further than `limit` bytes."""

    def __init__(self, stream: httpx2.AsyncByteStream, limit: int, *, packed: bool) -> None:
        self._stream, self._left, self._packed = stream, limit, packed
        self._unpacker: zlib._Decompress | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            for piece in self._unpacked(chunk) if self._packed else (chunk,):
                self._left -= len(piece)
                if self._left < 0:
                    raise _TooLarge
                yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _unpacked(self, chunk: bytes) -> Iterator[bytes]:
        """The content of a chunk of gzip, zlib or raw deflate, at most one byte more than is left of the limit."""
        if self._unpacker is None:
            wrapped = chunk[:2] == b"\x1f\x8b" or (chunk[:1] == b"\x78" and int.from_bytes(chunk[:2], "big") % 31 == 0)
            self._unpacker = zlib.decompressobj(47 if wrapped else -15)
        while chunk:
            piece = self._unpacker.decompress(chunk, self._left + 1)
            chunk = self._unpacker.unconsumed_tail
            if piece:
                yield piece


def _attempt(answer: Answer) -> Attempt:
    return Attempt(
        kind="ok",
        status=answer.status,
        text=answer.text,
        thinking=answer.thinking,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cost_usd=answer.cost_usd,
        estimated=answer.estimated,
        error=answer.note,
    )


def _malformed(what: str) -> Attempt:
    return Attempt(
        kind="malformed", status=ChatStatus.INFRASTRUCTURE, error=f"the endpoint sent {what}", retriable=True
    )


def _causes(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain
