"""The server's process of the simulated endpoint: OpenAI's chat completions over HTTP on a free loopback port.

`launch` starts it with a `Handover` on stdin; `main` listens, prints the port, and serves `world.World`, with the
latency and the faults that the settings ask for. It ends when its stdin closes or its parent is gone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import select
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from grpo_aflow.run.files import append, open_lines
from grpo_aflow.simulation.handover import Faults, Handover
from grpo_aflow.simulation.request import RequestBody
from grpo_aflow.simulation.world import Draw, World


class SimulatedEndpoint:
    """The routes of the server, and its count of what arrived."""

    def __init__(self, *, world: World, faults: Faults, model: str, seed: int, log: Path | None) -> None:
        self._world, self._faults, self._model, self._seed = world, faults, model, seed
        self._seen: Counter[str] = Counter()  # how often this very body arrived: a retry meets new luck
        self._counts: Counter[str] = Counter()
        self._in_flight = 0
        self._log = (log, open_lines(log)) if log else None

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/counts", self.counts),
            ]
        )

    async def models(self, request: Request) -> Response:
        return JSONResponse(
            {"object": "list", "data": [{"id": self._model, "object": "model", "owned_by": "simulated"}]}
        )

    async def counts(self, request: Request) -> Response:
        """How many requests arrived, by what was answered; not part of OpenAI's interface."""
        return JSONResponse(dict(self._counts))

    async def chat(self, request: Request) -> Response:
        raw = await request.body()
        arrived = time.time()
        digest = hashlib.blake2b(raw, digest_size=12).hexdigest()
        self._seen[digest] += 1
        body: RequestBody = json.loads(raw)
        draw = Draw(self._seed, self._seen[digest], f"fault {digest}", ())
        fault = self._faults.draw(draw("fault"))
        if body.get("model") != self._model:
            fault = "404"
        self._counts["requests"] += 1
        self._counts[fault or "ok"] += 1
        if self._log:
            line = {"t": arrived, "body": digest, "nth": self._seen[digest], "fault": fault, "seed": body.get("seed")}
            path, file = self._log
            append(file, path, json.dumps(line).encode() + b"\n")
        self._in_flight += 1
        self._counts["most_in_flight"] = max(self._counts["most_in_flight"], self._in_flight)
        try:
            if fault == "hang":
                await asyncio.sleep(self._faults.hang_s)
            if fault in ("", "empty", "hang"):
                await asyncio.sleep(self._faults.latency_s(draw("latency")))
            response, tokens = self._response(fault, body)
        finally:
            self._in_flight -= 1
        self._counts["tokens"] += tokens
        return response

    def _response(self, fault: str, body: RequestBody) -> tuple[Response, int]:
        """The response, and the tokens that it bills."""
        if fault == "429":
            error = {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}
            return JSONResponse(error, 429, headers={"retry-after": f"{self._faults.retry_after_s:g}"}), 0
        if fault == "500":
            return JSONResponse({"error": {"message": "The server had an error", "type": "server_error"}}, 500), 0
        if fault == "404":
            error = {"error": {"message": f"The model {body.get('model')!r} does not exist", "code": "model_not_found"}}
            return JSONResponse(error, 404), 0
        if fault == "malformed":
            return Response('{"choices": [{"message": {"cont', media_type="application/json"), 0
        return self._answer(body, empty=fault == "empty")

    def _answer(self, body: RequestBody, *, empty: bool) -> tuple[Response, int]:
        """A chat completion; `empty`: all its tokens were used up before any text."""
        text = "" if empty else self._world.reply(body)
        prompt = sum(4 + _num_tokens(message["content"]) for message in body["messages"])
        completion = _max_tokens(body) if empty else _num_tokens(text)
        answer = {
            "id": "chatcmpl-simulated",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._model,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "length" if empty else "stop",
                    "message": {"role": "assistant", "content": text},
                }
            ],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            },
        }
        return JSONResponse(answer), prompt + completion


def _max_tokens(body: RequestBody) -> int:
    return int(body.get("max_completion_tokens") or body.get("max_tokens") or 0)


def _num_tokens(text: str) -> int:
    """A plausible count: four bytes to a token, as English has it."""
    return math.ceil(len(text.encode()) / 4)


def _end_with_parent(parent: int) -> None:
    """Exit when stdin ends, or when the parent is gone although a child that it forked still holds the pipe."""
    while os.getppid() == parent:
        ready, _, _ = select.select([sys.stdin], [], [], 1.0)
        if ready and not os.read(0, 4096):
            break
    os._exit(0)


def _read_handover() -> Handover:
    """The first line of stdin, read unbuffered so that the watch on the pipe sees its end."""
    chunks: list[bytes] = []
    while not (chunks and chunks[-1].endswith(b"\n")):
        chunk = os.read(0, 1 << 20)
        if not chunk:
            raise SystemExit("the handover on stdin ended before its first line")
        chunks.append(chunk)
    return Handover.from_json(b"".join(chunks))


def main() -> None:
    """Read the handover, listen, print the port, serve until the parent ends."""
    handover = _read_handover()
    threading.Thread(target=_end_with_parent, args=(handover.parent,), daemon=True).start()
    world = World(
        tasks=handover.tasks,
        system_prompts=handover.system_prompts,
        accuracy=handover.accuracy,
        ensemble_power=handover.ensemble_power,
        seed=handover.world_seed,
    )
    endpoint = SimulatedEndpoint(
        world=world,
        faults=handover.faults,
        model=handover.model,
        seed=handover.world_seed,
        log=Path(handover.log) if handover.log else None,
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(listener.getsockname()[1], flush=True)
    server = uvicorn.Server(
        uvicorn.Config(endpoint.app(), log_level="error", access_log=False, lifespan="off", timeout_keep_alive=600)
    )
    asyncio.run(server.serve(sockets=[listener]))


if __name__ == "__main__":
    main()
