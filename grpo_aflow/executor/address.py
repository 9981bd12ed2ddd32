"""Where an endpoint is and with which key it is asked: checked before anything is sent, each mistake with its fix."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import urllib.request
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from grpo_aflow.types import InfrastructureError, UserError

REACH_S = 10.0  # to connect to the endpoint when it is opened
TLS_S = 1.0  # to find out whether a port speaks TLS
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CALL = "/chat/completions"
_SECRETS = ("key", "api_key", "api-key", "apikey", "token", "access_token")


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """The parts of a base_url."""

    scheme: str
    host: str
    port: int
    path: str  # without the call's own part
    query: str  # sent with every request, for example Azure's api-version

    @classmethod
    def parse(cls, base_url: str) -> Address:
        """Raises ValueError with the fix."""
        if base_url != base_url.strip() or any(character.isspace() for character in base_url):
            raise ValueError(f"base_url must not contain blanks; got {base_url!r}")
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            hint = base_url.split("://")[-1].lstrip("/") or "localhost:8000/v1"
            raise ValueError(f"base_url must start with http:// or https://; got {base_url!r}, write http://{hint}")
        if parts.username or parts.password:
            raise ValueError("base_url must not carry a password; put the key into the variable that api_key_env names")
        if any(name.lower() in _SECRETS for name, _ in parse_qsl(parts.query)):
            raise ValueError("base_url must not carry a key; put it into the variable that api_key_env names")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            (parts.hostname or "").encode("idna")
        except ValueError as error:
            raise ValueError(f"base_url={base_url!r} is no address: {error}") from None
        if not parts.hostname:
            raise ValueError(f"base_url={base_url!r} names no host; write for example http://localhost:8000/v1")
        path = parts.path.rstrip("/").removesuffix(_CALL).rstrip("/")
        return cls(scheme=parts.scheme, host=parts.hostname, port=port, path=path, query=parts.query)

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def is_loopback(self) -> bool:
        return self.host in _LOOPBACK

    @property
    def base_url(self) -> str:
        return f"{self.scheme}://{self._netloc}{self.path}"

    @property
    def other_scheme(self) -> str:
        """The same address with https for http, and the other way round."""
        return f"{'http' if self.secure else 'https'}://{self._netloc}{self.path}"

    @property
    def url(self) -> str:
        """Of a chat completion; absolute, which halves the client's parsing per call."""
        return f"{self.base_url}{_CALL}{'?' + self.query if self.query else ''}"

    @property
    def _netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    def no_tls(self, detail: str) -> UserError:
        """What to say when the TLS handshake with it fails."""
        if "certificate" in detail.lower() and "verify" in detail.lower():
            return UserError(
                f"{self.base_url} shows a certificate that cannot be verified ({detail}); correct executor.base_url, "
                "or name its authority's file in the environment variable SSL_CERT_FILE"
            )
        return UserError(
            f"{self.base_url} does not speak https ({detail}); write executor.base_url={self.other_scheme}"
        )


async def reach(address: Address) -> None:
    """Connect to an endpoint once, without a request.

    Raises:
        UserError: the host is unknown, or TLS fails.
        InfrastructureError: nothing listens there.
    """
    if urllib.request.getproxies().get(address.scheme) and not address.is_loopback:
        return  # the proxy connects, not this machine
    try:
        context = await asyncio.to_thread(ssl.create_default_context) if address.secure else None
        async with asyncio.timeout(REACH_S):
            _, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    except socket.gaierror as error:
        raise UserError(
            f"cannot resolve the host {address.host!r}; correct executor.base_url={address.base_url}"
        ) from error
    except ssl.SSLError as error:
        raise address.no_tls(str(error)) from None
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "no answer"
        raise InfrastructureError(
            f"the executor's endpoint {address.base_url} cannot be reached ({reason}); start it, or correct "
            "executor.base_url"
        ) from error
    writer.close()


async def speaks_tls(address: Address) -> bool:
    """Whether a TLS handshake with it succeeds: a server that drops plain requests may expect https."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(TLS_S):
            _, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def key_of(name: str | None) -> str:
    """The endpoint's key, from the environment variable of that name; "" where none is asked for.

    Raises UserError where it is not set or cannot be sent.
    """
    if name is None:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise UserError(
            f"the executor needs a key: set the environment variable {name} (or executor=simulated, which needs none)"
        )
    if key[0] in "\"'`" or key[-1] in "\"'`":
        raise UserError(f"the key in the environment variable {name} has quotes around it; set it without them")
    if any(not 33 <= ord(character) <= 126 for character in key):
        raise UserError(
            f"the key in the environment variable {name} contains a blank, a line break or a letter that is not ASCII; "
            "set it to the key alone"
        )
    return key
