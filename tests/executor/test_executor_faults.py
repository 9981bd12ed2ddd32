"""Issue by issue what a run must survive: faults of every kind at once, and kill -9 in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from executor_cases import faults_of

from grpo_aflow.executor.cache import AnswerCache
from grpo_aflow.executor.ledger import read_costs
from grpo_aflow.simulation.launch import start_server
from grpo_aflow.types import ChatReply, ChatStatus, InfrastructureError

WORKFLOWS = 2000
FAULTS = {"rate_429": 0.10, "rate_500": 0.05, "rate_hang": 0.03, "rate_empty": 0.02}


def arrived(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
async def test_two_thousand_workflows_through_faults(
    settings: Callable[..., Any], ask: Any, tasks: Any, prompts: Any, tmp_path: Path
) -> None:
    """One to three calls one after another per workflow; it ends at the first call that masks it."""
    limits = {"requests_per_minute": 900, "tokens_per_minute": 200_000, "window_s": 2.0, "concurrency": 100}
    pace = {
        "timeout_s": 1.5,
        "hang_s": 4.0,
        "retries": 6,
        "breaker_pause_s": 0.5,
        "backoff_s": 0.02,
        "retry_after_s": 0.1,
    }
    made = settings(**FAULTS, **limits, **pace, request_log=True)
    executor = await made.open(tmp_path, seed=5, tasks=tasks, system_prompts=prompts)
    draw = random.Random(0)
    lengths = [draw.randint(1, 3) for _ in range(WORKFLOWS)]

    async def workflow(member: int) -> list[ChatReply]:
        replies: list[ChatReply] = []
        for ordinal in range(lengths[member]):
            replies.append(await ask(executor, tasks[member % len(tasks)], member=member, ordinal=(ordinal,)))
            if replies[-1].status.masks:
                break
        return replies

    ended = await asyncio.gather(*[workflow(member) for member in range(WORKFLOWS)])
    with pytest.raises(InfrastructureError) as stopped:
        executor.check_masked(where="all", num_masked=1, num_rollouts=1)
    await executor.close()

    statuses = Counter(reply.status for replies in ended for reply in replies)
    assert len(ended) == WORKFLOWS
    assert statuses[ChatStatus.EMPTY] > 20
    for replies, length in zip(ended, lengths, strict=True):
        masked = [reply for reply in replies if reply.status.masks]
        assert bool(masked) != (len(replies) == length and replies[-1].status is ChatStatus.OK)  # graded, or no reward
        assert all(reply.text for reply in replies if reply.status is ChatStatus.OK)
    masks = ", ".join(f"{status} {count}" for status, count in sorted(statuses.items()) if status.masks)
    assert f"(calls without an answer so far: {masks};" in str(stopped.value)
    assert {"http_429", "http_500", "timeout"} <= set(faults_of(tmp_path))

    requests = arrived(tmp_path / "endpoint.jsonl")
    costs = read_costs(tmp_path / "ledger.jsonl")
    assert costs.total.attempts == len(requests)
    faults = Counter(line["fault"] for line in requests)
    reasons = Counter(entry.reason for entry in costs.entries)
    answered: set[str] = set()
    for entry in costs.entries:  # in the order of their ends
        assert entry.key not in answered  # no received answer was asked for again
        answered |= {entry.key} if entry.outcome == "ok" else set()
    # What came after the deadline, on a busy machine: refusals, and answers.
    late = [faults[code] - reasons[f"http_{code}"] for code in ("429", "500")]
    late.append(faults[""] + faults["empty"] - costs.total.ok)
    assert min(late) >= 0
    assert reasons["timeout"] == faults["hang"] + sum(late)
    assert costs.total.usd == pytest.approx(sum(reply.cost_usd for replies in ended for reply in replies))
    times = sorted(line["t"] for line in requests)
    assert all(later - first >= 2.0 for first, later in zip(times, times[900:], strict=False))


WORKER = """
import asyncio, json, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from executor_cases import values_of
from grpo_aflow.simulation.expected_accuracy import TASKS
from grpo_aflow.executor.opening import OpenAIExecutor
from grpo_aflow.types import CallContext

async def main():
    values = values_of("local") | {{"model": "simulated-solver", "base_url": {url!r}, "price": "table"}}
    values["concurrency"] = 20
    values.pop("_target_")
    executor = await OpenAIExecutor(**values).open(Path({folder!r}), seed=3)
    async def call(n):
        task = TASKS[n % len(TASKS)]
        who = CallContext(step=0, task_id=task.id, dataset=task.dataset, member=n, operator="custom", ordinal=(0,),
                          domain=task.domain)
        text = f"<problem>\\n{{task.problem}}\\n</problem>"
        return await executor.chat([{{"role": "system", "content": "custom"}}, {{"role": "user", "content": text}}],
                                   context=who, temperature=0.7, max_tokens=64)
    replies = await asyncio.gather(*[call(n) for n in range(600)])
    await executor.close()
    print(json.dumps([reply.text for reply in replies]))

asyncio.run(main())
"""


@pytest.mark.slow
def test_kill_minus_nine_and_start_again(
    settings: Callable[..., Any], tasks: Any, prompts: Any, tmp_path: Path
) -> None:
    """The endpoint is shared by both lives of the run, as a paid one would be."""
    log, folder = tmp_path / "endpoint.jsonl", tmp_path / "run"
    server = start_server(settings(median_latency_s=0.02), tasks=tasks, system_prompts=prompts, log=log)
    try:
        source = WORKER.format(here=str(Path(__file__).parent), url=server.base_url, folder=str(folder))
        first = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while (not log.exists() or len(arrived_so_far(log)) < 150) and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
        ledger = read_costs(folder / "ledger.jsonl")
        kept = {entry.key for entry in ledger.entries if entry.outcome == "ok"}
        assert 0 < len(kept) < 600
        cache = AnswerCache(folder / "cache.sqlite", read_only=True)
        assert all(cache.get(bytes.fromhex(key)) for key in kept)
        cache.close()

        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=120)
        assert len(json.loads(done.stdout)) == 600
    finally:
        server.stop()
    lines = (folder / "ledger.jsonl").read_bytes()
    assert lines.endswith(b"\n")
    assert all(json.loads(line) for line in lines.splitlines())
    entries = read_costs(folder / "ledger.jsonl").entries
    answered = Counter(entry.key for entry in entries if entry.outcome == "ok")
    assert len(answered) == 600
    assert set(answered.values()) == {1}
    assert {entry.key for entry in entries if entry.outcome == "cached"} >= kept
    unknown = [entry for entry in entries if entry.outcome == "unknown"]
    assert all(entry.reason == "interrupted" for entry in unknown)
    assert len(arrived(log)) <= 600 + len(unknown)


def arrived_so_far(log: Path) -> list[str]:
    return log.read_text().splitlines()
