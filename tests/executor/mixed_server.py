"""A server that answers right, one request in ten as `endpoint_behaviours` has seen it done, and keeps its own bill.

What it answers is a function of the request's seed: with `mixed` off the same texts come plainly and without a fault.
A prompt that it refuses, it refuses always: that belongs to the prompt, not to the fault.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from endpoint_answers import faults, inside_200, rates
from endpoint_behaviours import USUAL, VALUE, packed, raw_deflate
from endpoint_refusals import filtered, other_4xx, too_long
from executor_cases import Cut, http

INPUT_USD, OUTPUT_USD = 0.15e-6, 0.60e-6  # of simulated-solver
PROMPT, COMPLETION, REASONING = 20, 5, 60  # tokens
UNTIMELY = ("10 MB", "without end", "300 MB", "never ends")  # too large to be sent a hundred times, or no single answer
COUNTED = {"prompt_tokens": PROMPT, "completion_tokens": COMPLETION}


def usual_faults() -> list[tuple[str, bytes | str]]:
    """The first answer of every row that ends neither in a refusal nor the run."""
    rows = [*faults(), *inside_200(), *rates(), *other_4xx()]
    return [
        (row.name, row.answers[0])
        for row in rows
        if row.outcome not in (VALUE, "stop") and not any(word in row.name for word in UNTIMELY)
    ]


def usual_refusals() -> list[bytes]:
    rows = [*too_long(), *filtered()]
    return [row.answers[0] for row in rows if row.outcome == VALUE and isinstance(row.answers[0], bytes)]


def body_of(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


def with_usage(text: str, usage: Any) -> bytes:
    choice = {"finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return http(200, {"choices": [choice], "usage": usage})


def plain(text: str) -> bytes:
    return with_usage(text, COUNTED)


def channels(text: str) -> str:
    return f"<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>{text}"


def usd(prompt: int = PROMPT, completion: int = COMPLETION) -> float:
    return prompt * INPUT_USD + completion * OUTPUT_USD


Form = tuple[Callable[[str], bytes], float, bool]  # text -> response, what is billed for it, whether it is counted
FORMS: Sequence[Form] = (
    (plain, usd(), True),
    (lambda t: plain(f"<think>\n{t} or 7?\n</think>\n\n{t}"), usd(), True),
    (lambda t: plain(f"hm, 7?\n</think>\n{t}"), usd(), True),
    (lambda t: plain(channels(t)), usd(), True),
    (lambda t: with_usage([{"type": "text", "text": t}], COUNTED), usd(), True),  # type: ignore[arg-type]
    (lambda t: packed(gzip.compress(body_of(plain(t))), "gzip"), usd(), True),
    (lambda t: packed(zlib.compress(body_of(plain(t))), "deflate"), usd(), True),
    (lambda t: packed(raw_deflate(body_of(plain(t))), "deflate"), usd(), True),
    (lambda t: http(200, b" \n " + body_of(plain(t))), usd(), True),
    (lambda t: with_usage(t, json.dumps(COUNTED)), usd(), True),
    (lambda t: with_usage(t, {"input_tokens": PROMPT, "output_tokens": COMPLETION}), usd(), True),
    (lambda t: with_usage(t, {**COUNTED, "total_tokens": PROMPT + REASONING}), usd(PROMPT, REASONING), True),
    (lambda t: with_usage(t, {**COUNTED, "cost": 0.00001}), 0.00001, True),
    (lambda t: with_usage(t, None), usd(), False),
    (lambda t: with_usage(t, {"prompt_tokens": float("inf"), "completion_tokens": float("nan")}), usd(), False),
    (lambda t: with_usage(t, {"prompt_tokens": -1, "completion_tokens": None}), usd(), False),
)
REFUSALS, FAULTS = usual_refusals(), usual_faults()
BILLED = ("504", "524", "408", "499", "half", "hang", "no answer in time", "broke", "finish_reason", "aborted")


def draw(*of: Any) -> int:
    return int.from_bytes(hashlib.blake2b(json.dumps(of).encode(), digest_size=6).digest(), "big")


@dataclass
class MixedServer:
    """`bill_usd`: everything that it computed, also where the answer was lost on its way."""

    mixed: bool
    share: float = 0.1
    requests: int = 0
    answered: int = 0
    refused: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    counted_usd: float = 0.0  # of answers that said how many tokens they took
    uncounted_usd: float = 0.0
    lost_usd: float = 0.0  # computed, and lost on the way
    tries: Counter[int] = field(default_factory=Counter)

    @property
    def bill_usd(self) -> float:
        return self.counted_usd + self.uncounted_usd + self.lost_usd

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.lower().split(b"\r\n")
                length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
                response = self.respond(json.loads(await reader.readexactly(length)))
                if response == "hang":
                    await asyncio.sleep(60)
                if isinstance(response, str):
                    return
                writer.write(response)
                await writer.drain()
                if isinstance(response, Cut):
                    return
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    def respond(self, body: dict[str, Any]) -> bytes | str:
        self.requests += 1
        seed = body["seed"]
        self.tries[seed] += 1
        if draw("refused", seed) % 50 == 0:
            self.refused += 1
            response = REFUSALS[draw("which", seed) % len(REFUSALS)] if self.mixed else REFUSALS[0]
            if response.startswith(b"HTTP/1.1 200") and b"usage" in response:  # declined after it was written
                self.counted_usd += usd(*USUAL)
            return response
        text = f"so \\boxed{{{4 + draw('wrong', seed) % 3}}}"
        if self.mixed and draw("fault", seed, self.tries[seed]) % 1000 < 1000 * self.share:
            name, response = FAULTS[draw("fault?", seed, self.tries[seed]) % len(FAULTS)]
            self.faults[name] += 1
            if any(word in name for word in BILLED):
                self.lost_usd += usd()
            return response
        form, billed_usd, counted = FORMS[draw("form", seed) % len(FORMS) if self.mixed else 0]
        self.answered += 1
        if counted:
            self.counted_usd += billed_usd
        else:
            self.uncounted_usd += billed_usd
        return form(text)
