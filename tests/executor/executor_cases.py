"""Settings of the executor as conf/executor/ has them, a raw server that answers by a script, and faults counted."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from grpo_aflow.executor.ledger import read_costs

CONF = Path(__file__).parents[2] / "conf" / "executor"


def values_of(option: str) -> dict[str, Any]:
    values = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    merged: dict[str, Any] = {}
    for part in values.pop("defaults", ["_self_"]):
        merged.update(values if part == "_self_" else values_of(part))
    return merged


def faults_of(run_dir: Path) -> Counter[str]:
    """How many attempts of a run got no answer, by why."""
    entries = read_costs(run_dir / "ledger.jsonl").entries
    return Counter(entry.reason for entry in entries if entry.outcome in ("failed", "unknown"))


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


class Cut(bytes):
    """An answer after whose last byte the server closes the connection."""


class Endless(bytes):
    """An answer whose body never ends."""

    def __new__(cls, code: int) -> Endless:
        return super().__new__(cls, f"HTTP/1.1 {code} X\r\ncontent-length: {10**15}\r\n\r\n".encode())


class Scripted:
    """A raw HTTP server that gives the answers in turn, the last one for ever; "close" and "hang" are actions."""

    def __init__(self, answers: Sequence[bytes | str]) -> None:
        self.answers, self.requests = list(answers), 0
        self.bodies: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    int(h.split(b":")[1]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length")
                )
                self.bodies.append(json.loads(await reader.readexactly(length)))
                answer = self.answers[min(self.requests, len(self.answers) - 1)]
                self.requests += 1
                if answer == "hang":
                    await asyncio.sleep(60)
                if isinstance(answer, str):
                    return
                writer.write(answer)
                await writer.drain()
                while isinstance(answer, Endless):
                    writer.write(b"x" * 65536)
                    await writer.drain()
                if isinstance(answer, Cut):
                    return
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()
