"""The simulated endpoint: an OpenAI-compatible HTTP server in a process of its own, on a free loopback port.

`start_server` (in the run's process) hands the tasks, golds and settings over by the child's stdin and reads the port
from its stdout; `main` (in the child) serves `world.World`. The child ends when its stdin closes or its parent changes,
so no kill of the run, however rude, leaves it behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import math
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from grpo_aflow.simulation.settings import SimulatedSettings
from grpo_aflow.simulation.world import Draw, World
from grpo_aflow.types import InfrastructureError, Task

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

START_TIMEOUT_S = 60.0
_BEHAVIOUR = (
    *("model", "world_seed", "accuracy", "ensemble_power", "median_latency_s", "latency_sigma", "rate_429"),
    *("retry_after_s", "rate_500", "rate_hang", "hang_s", "rate_empty", "rate_malformed"),
)


# --- the run's side ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerProcess:
    """A running simulated endpoint."""

    process: subprocess.Popen[bytes]
    base_url: str

    def stop(self) -> None:
        """Close the pipe and wait; idempotent."""
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


def start_server(
    settings: SimulatedSettings, *, tasks: Sequence[Task], system_prompts: Mapping[str, str], log: Path | None
) -> ServerProcess:
    """Start the endpoint and wait until it listens. Blocking (about a second).

    Raises:
        InfrastructureError: it did not come up; the message holds the end of its stderr.
    """
    handover = {
        **{name: getattr(settings, name) for name in _BEHAVIOUR},
        "tasks": [_known_of(task) for task in tasks],
        "system_prompts": dict(system_prompts),
        "log": str(log) if log else None,
        "parent": os.getpid(),
    }
    environment = {
        name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH") if name in os.environ
    }
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-m", "grpo_aflow.simulation.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # a Ctrl-C of the run must reach the run first, which still needs its endpoint
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(handover).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
        port = int(process.stdout.readline()) if ready else 0
    except (BrokenPipeError, ValueError):
        port = 0
    server = ServerProcess(process=process, base_url=f"http://127.0.0.1:{port}/v1")
    if not port:
        server.stop()
        raise InfrastructureError(
            f"the simulated endpoint did not start (exit code {process.returncode}); its error is printed above"
        )
    return server


def _known_of(task: Task) -> dict[str, Any]:
    names = ("id", "dataset", "domain", "problem", "answers", "entry_point")
    return {name: getattr(task, name) for name in names}


# --- the server's side ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Faults:
    """What goes wrong, how often, and how long everything takes."""

    median_latency_s: float
    latency_sigma: float
    rate_429: float
    retry_after_s: float
    rate_500: float
    rate_hang: float
    hang_s: float
    rate_empty: float
    rate_malformed: float

    def draw(self, share: float) -> str:
        """The fault of a request: "", "429", "500", "hang", "empty" or "malformed"; `share` is uniform in [0, 1)."""
        for kind in ("429", "500", "hang", "empty", "malformed"):
            share -= getattr(self, f"rate_{kind}")
            if share < 0:
                return kind
        return ""

    def latency_s(self, share: float) -> float:
        if not self.median_latency_s or not self.latency_sigma:
            return self.median_latency_s
        quantile = NormalDist().inv_cdf(min(max(share, 1e-9), 1 - 1e-9))
        return self.median_latency_s * math.exp(self.latency_sigma * quantile)


class Endpoint:
    """Routes of the server and its count of what arrived."""

    def __init__(self, *, world: World, faults: Faults, model: str, seed: int, log: Path | None) -> None:
        self._world, self._faults, self._model, self._seed = world, faults, model, seed
        self._seen: Counter[str] = Counter()  # how often this very body arrived: a retry meets new luck
        self._counts: Counter[str] = Counter()
        self._in_flight = 0
        self._log = log.open("a", buffering=1) if log else None

    async def models(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        return JSONResponse(
            {"object": "list", "data": [{"id": self._model, "object": "model", "owned_by": "simulated"}]}
        )

    async def counts(self, request: Request) -> Response:
        """How many requests arrived, by what was answered; not part of OpenAI's interface."""
        from starlette.responses import JSONResponse

        return JSONResponse(dict(self._counts))

    async def chat(self, request: Request) -> Response:
        raw = await request.body()
        arrived = time.time()
        digest = hashlib.blake2b(raw, digest_size=12).hexdigest()
        self._seen[digest] += 1
        body = json.loads(raw)
        draw = Draw(self._seed, self._seen[digest], f"fault {digest}", ())
        fault = self._faults.draw(draw("fault"))
        if body.get("model") != self._model:
            fault = "404"
        self._counts["requests"] += 1
        self._counts[fault or "ok"] += 1
        if self._log:
            line = {"t": arrived, "body": digest, "nth": self._seen[digest], "fault": fault, "seed": body.get("seed")}
            self._log.write(json.dumps(line) + "\n")
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

    def _response(self, fault: str, body: Mapping[str, Any]) -> tuple[Response, int]:
        from starlette.responses import JSONResponse, Response

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
        text = "" if fault == "empty" else self._world.reply(body)
        prompt = sum(4 + _num_tokens(message["content"]) for message in body["messages"])
        completion = _max_tokens(body) if fault == "empty" else _num_tokens(text)
        choice = {
            "index": 0,
            "finish_reason": "length" if fault == "empty" else "stop",
            "message": {"role": "assistant", "content": text},
        }
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        answer = {
            "id": "chatcmpl-simulated",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._model,
            "choices": [choice],
            "usage": usage,
        }
        return JSONResponse(answer), prompt + completion


def _max_tokens(body: Mapping[str, Any]) -> int:
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


def _read_handover() -> dict[str, Any]:
    """The first line of stdin, read unbuffered so that the watch on the pipe sees its end."""
    chunks: list[bytes] = []
    while not (chunks and chunks[-1].endswith(b"\n")):
        chunk = os.read(0, 1 << 20)
        if not chunk:
            raise SystemExit("the handover on stdin ended before its first line")
        chunks.append(chunk)
    handover: dict[str, Any] = json.loads(b"".join(chunks))
    return handover


def main() -> None:
    """The child process: read the handover, listen, print the port, serve until the parent ends."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Route

    handover = _read_handover()
    threading.Thread(target=_end_with_parent, args=(handover["parent"],), daemon=True).start()
    tasks = [Task(**{**known, "answers": tuple(known["answers"])}) for known in handover["tasks"]]
    world = World(
        tasks=tasks,
        system_prompts=handover["system_prompts"],
        accuracy=handover["accuracy"],
        ensemble_power=handover["ensemble_power"],
        seed=handover["world_seed"],
    )
    endpoint = Endpoint(
        world=world,
        faults=Faults(**{field.name: handover[field.name] for field in dataclasses.fields(Faults)}),
        model=handover["model"],
        seed=handover["world_seed"],
        log=Path(handover["log"]) if handover["log"] else None,
    )
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", endpoint.chat, methods=["POST"]),
            Route("/v1/models", endpoint.models),
            Route("/counts", endpoint.counts),
        ]
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(listener.getsockname()[1], flush=True)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", timeout_keep_alive=600)
    )
    asyncio.run(server.serve(sockets=[listener]))


if __name__ == "__main__":
    main()
