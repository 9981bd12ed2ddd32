"""One attempt: a request through the `openai` client over aiohttp, and what became of it as a value.

`client` calls `Endpoint.send` once per attempt. Everything that an endpoint can do is sorted here into an answer, a
fault worth another attempt, or a permanent misconfiguration, which is raised with its mend.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import httpx2

from grpo_aflow.executor.settings import EndpointSettings
from grpo_aflow.executor.transport import Attempt
from grpo_aflow.types import ChatStatus, UserError

if TYPE_CHECKING:
    from openai import APIStatusError

_TOO_LONG = ("context_length_exceeded", "string_above_max_length")
_FILTERED = ("content_filter", "content_policy_violation")
_FINGERPRINT = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")  # of this machine
_RETRIED = (408, 409, 425, 429)


class _TooLarge(Exception):
    """The body is longer than allowed."""


class _Bounded(httpx2.AsyncByteStream):
    """A body that is read no further than `limit` bytes."""

    def __init__(self, stream: httpx2.AsyncByteStream, limit: int) -> None:
        self._stream, self._limit = stream, limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._limit
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise _TooLarge
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class Endpoint:
    """An OpenAI-compatible server and the key for it."""

    def __init__(self, settings: EndpointSettings, base_url: str) -> None:
        from openai import AsyncOpenAI, DefaultAioHttpClient, Omit

        self._settings = settings
        self.base_url = base_url
        self._url = f"{base_url.rstrip('/')}/chat/completions"  # absolute: half the URL parsing per call
        self._key = key_of(settings)
        self._ever_answered = False
        connections = httpx2.Limits(
            max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency, keepalive_expiry=60
        )
        http = DefaultAioHttpClient(
            limits=connections,
            timeout=httpx2.Timeout(settings.timeout_s),
            verify=urlsplit(base_url).scheme == "https",  # loading certificates takes a third of a second
            trust_env=not _is_loopback(base_url),  # a proxy of the environment must not see the loopback
            event_hooks={"response": [self._bound]},
        )
        silent = cast(Mapping[str, str], {f"X-Stainless-{name}": Omit() for name in _FINGERPRINT})
        self._client = AsyncOpenAI(
            base_url=base_url,
            api_key=self._key or "none",
            http_client=http,
            max_retries=0,
            timeout=settings.timeout_s,
            default_headers=silent,
        )

    async def send(self, body: Mapping[str, Any]) -> Attempt:
        """One request.

        Raises:
            UserError: trying again cannot help (wrong key, unknown model, wrong base_url, refused parameters).
        """
        import aiohttp
        import openai

        start = time.perf_counter()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                response = await self._client.post(self._url, cast_to=httpx2.Response, body=dict(body))
            attempt = self._read(response.content, response.headers.get("content-type", ""))
        except TimeoutError:
            attempt = self._timed_out()
        except _TooLarge:
            attempt = self._too_large()
        except openai.APIStatusError as error:
            attempt = self._sort_status(error)
        except (openai.APIConnectionError, aiohttp.ClientError) as error:  # some of aiohttp's come through unwrapped
            attempt = self._sort_connection(error)
        return replace(attempt, latency_s=time.perf_counter() - start)

    async def close(self) -> None:
        await self._client.close()

    def _read(self, content: bytes, content_type: str) -> Attempt:
        if len(content) > self._settings.max_answer_bytes:  # compressed it was shorter
            return self._too_large()
        if "html" in content_type or content[:1] == b"<":
            if not self._ever_answered:
                raise UserError(
                    f"{self.base_url} answers with a web page, not with JSON; set executor.base_url to the API's "
                    "address, which usually ends in /v1"
                )
            return _malformed("an HTML page instead of JSON")
        try:
            answer = json.loads(content)
            choice, usage = answer["choices"][0], answer.get("usage") or {}
            message = choice["message"]
            text = message.get("content") or ""
            if not isinstance(text, str):
                return _malformed(f"content of type {type(text).__name__}")
            prompt_tokens = int(usage.get("prompt_tokens") or 0)
            completion_tokens = int(usage.get("completion_tokens") or 0)
        except UnicodeDecodeError:
            return _malformed("invalid UTF-8")
        except ValueError:
            return _malformed(f"{len(content)} bytes that are not JSON")
        except (KeyError, IndexError, TypeError, AttributeError):
            return _malformed("JSON that is no chat completion")
        self._ever_answered = True
        reason = choice.get("finish_reason")
        status, error = ChatStatus.OK, ""
        if reason == "content_filter" or message.get("refusal"):
            status, text, error = ChatStatus.REFUSED, "", str(message.get("refusal") or "content filter")
        elif not text.strip():
            status, text, error = ChatStatus.EMPTY, "", f"no text (finish_reason={reason})"
        return Attempt(
            kind="ok",
            status=status,
            text=text,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            error=self._clean(error),
        )

    def _sort_status(self, error: APIStatusError) -> Attempt:
        code, says = error.status_code, self._clean(_message_of(error))
        reason = str(getattr(error, "code", None) or "")
        settings = self._settings
        if code in (401, 403):
            name = settings.api_key_env
            mend = f"set the environment variable {name} to a valid key" if name else "set executor.api_key_env"
            raise UserError(f"{self.base_url} refuses the key (HTTP {code}); {mend}")
        if code == 402 or reason == "insufficient_quota":
            raise UserError(f"{self.base_url}: the account has no credit left (HTTP {code}); top it up, then resume")
        if code in (404, 405):
            raise UserError(
                f"{self.base_url} does not serve the model {settings.model!r} (HTTP {code}: {says}); "
                "set executor.model or executor.base_url"
            )
        if code in _RETRIED or code >= 500:
            wait_s = _retry_after_s(error.response.headers)
            text = f"HTTP {code}: {says}"
            return Attempt(
                kind=f"http_{code}", status=ChatStatus.INFRASTRUCTURE, error=text, retry_after_s=wait_s, retriable=True
            )
        if code == 413 or reason in (*_TOO_LONG, *_FILTERED) or "maximum context length" in says:
            self._ever_answered = True
            return Attempt(kind="refused_request", status=ChatStatus.REFUSED, error=f"HTTP {code}: {says}")
        raise UserError(f"{self.base_url} refuses the request (HTTP {code}: {says}); check the executor's settings")

    def _sort_connection(self, error: Exception) -> Attempt:
        """The transport calls refused and dropped connections timeouts too, so what caused it decides."""
        causes = list(_causes(error))
        failures = [cause for cause in causes if isinstance(cause, OSError) and not isinstance(cause, TimeoutError)]
        if not failures and any(isinstance(cause, TimeoutError) for cause in causes):
            return self._timed_out()
        if any(isinstance(cause, socket.gaierror) for cause in failures) and not self._ever_answered:
            host = urlsplit(self.base_url).hostname
            raise UserError(f"cannot resolve the host {host!r}; correct executor.base_url={self.base_url}") from None
        detail = self._clean(str(causes[-1]) or type(causes[-1]).__name__)
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
        """Called between the response's headers and its body, which then ends at the limit."""
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream, self._settings.max_answer_bytes)

    def _clean(self, text: str) -> str:
        """One line of at most 300 characters without the key."""
        line = " ".join(text.split())
        if self._key:
            line = line.replace(self._key, "<key>")
        return line if len(line) <= 300 else line[:297] + "..."


def key_of(settings: EndpointSettings) -> str:
    """The endpoint's key, from the variable that the settings name. Raises UserError where it is not set."""
    if settings.api_key_env is None:
        return ""
    key = os.environ.get(settings.api_key_env, "").strip()
    if not key:
        raise UserError(
            f"the executor needs a key: set the environment variable {settings.api_key_env} "
            "(or executor=simulated, which needs none)"
        )
    return key


def _is_loopback(base_url: str) -> bool:
    return urlsplit(base_url).hostname in ("127.0.0.1", "localhost", "::1")


def _malformed(what: str) -> Attempt:
    return Attempt(
        kind="malformed", status=ChatStatus.INFRASTRUCTURE, error=f"the endpoint sent {what}", retriable=True
    )


def _message_of(error: APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        return str(inner.get("message", inner) if isinstance(inner, dict) else inner)
    text = str(body or error.message)
    return "an HTML page" if "<html" in text.lower() else text


def _retry_after_s(headers: Mapping[str, str]) -> float:
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit_s)
        except (KeyError, ValueError):
            continue
    return 0.0


def _causes(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain
