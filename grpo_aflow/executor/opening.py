"""From settings to a running `Executor`: files in the run directory, price, key, and the simulated endpoint's process.

Imported by `settings` at the moment of opening, never before.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from grpo_aflow.executor.address import Address, key_of, reach
from grpo_aflow.executor.cache import AnswerCache
from grpo_aflow.executor.client import Executor
from grpo_aflow.executor.endpoint import Endpoint
from grpo_aflow.executor.ledger import Costs, Ledger, read_costs
from grpo_aflow.executor.prices import price_of
from grpo_aflow.executor.sending import Sender
from grpo_aflow.executor.settings import CacheMode, EndpointSettings, SimulatedSettings
from grpo_aflow.executor.transport import Transport
from grpo_aflow.simulation.server import start_server
from grpo_aflow.types import Task, UserError

CACHE_FILE, LEDGER_FILE, REQUEST_LOG_FILE = "cache.sqlite", "ledger.jsonl", "endpoint.jsonl"


async def open_endpoint(settings: EndpointSettings, run_dir: Path, *, seed: int, tasks: Sequence[Task]) -> Executor:
    """A client of a server that others run, or of a recorded cache."""
    if settings.cache is CacheMode.replay:
        return _open_replay(settings, run_dir, seed=seed, tasks=tasks)
    if settings.base_url is None:
        raise UserError(
            "executor.base_url is missing; set it to the API's address, for example http://localhost:8000/v1"
        )
    if settings.model is not None:
        price_of(settings, settings.model)  # what is missing here is said before the network is tried
    key_of(settings)
    address = Address.parse(settings.base_url)
    await reach(address)
    return _connect(settings, run_dir, base_url=settings.base_url, provider=address.base_url, seed=seed, tasks=tasks)


async def open_simulated(
    settings: SimulatedSettings, run_dir: Path, *, seed: int, tasks: Sequence[Task], system_prompts: Mapping[str, str]
) -> Executor:
    """The simulated endpoint in a process of its own, and a client of it."""
    if settings.cache is CacheMode.replay:
        return _open_replay(settings, run_dir, seed=seed, tasks=tasks)
    run_dir.mkdir(parents=True, exist_ok=True)
    log = run_dir / REQUEST_LOG_FILE if settings.request_log else None
    server = await asyncio.to_thread(start_server, settings, tasks=tasks, system_prompts=system_prompts, log=log)
    try:
        return _connect(
            settings,
            run_dir,
            base_url=server.base_url,
            provider=_world_name(settings),
            seed=seed,
            tasks=tasks,
            on_close=server.stop,
        )
    except BaseException:
        server.stop()
        raise


def _connect(
    settings: EndpointSettings,
    run_dir: Path,
    *,
    base_url: str,
    provider: str,
    seed: int,
    tasks: Sequence[Task],
    on_close: Callable[[], None] = lambda: None,
) -> Executor:
    if settings.model is None:
        raise UserError("executor.model is missing; set it to the endpoint's name of the model")
    answered = read_costs(run_dir / LEDGER_FILE).total.ok > 0
    endpoint = Endpoint(settings, base_url, answered=answered)
    return open_on(
        endpoint,
        settings,
        run_dir,
        provider=provider,
        model=settings.model,
        seed=seed,
        tasks=tasks,
        on_close=on_close,
    )


def open_on(
    transport: Transport,
    settings: EndpointSettings,
    run_dir: Path,
    *,
    provider: str,
    model: str,
    seed: int,
    tasks: Sequence[Task],
    on_close: Callable[[], None] = lambda: None,
) -> Executor:
    """An executor whose requests go through `transport`, or into a recorded cache alone.

    Args:
        provider, model: who answers; both are part of the addresses of kept answers.
        on_close: called, from a thread, when the executor is closed.
    """
    if settings.cache is CacheMode.replay:
        return _open_replay(settings, run_dir, seed=seed, tasks=tasks)
    price = price_of(settings, model)
    past = read_costs(run_dir / LEDGER_FILE)
    cache = None
    if settings.cache is CacheMode.read_write:
        cache = AnswerCache(_cache_path(settings, run_dir))
        cache.add_source(provider, model)
    ledger = _open_ledger(run_dir, tasks)
    sender = Sender(settings, transport=transport, cache=cache, ledger=ledger, price=price)
    _book_the_past(sender, past)
    return Executor(
        settings,
        sender=sender,
        cache=cache,
        ledger=ledger,
        provider=provider,
        model=model,
        seed=seed,
        on_close=on_close,
    )


def _open_replay(settings: EndpointSettings, run_dir: Path, *, seed: int, tasks: Sequence[Task]) -> Executor:
    cache = AnswerCache(_cache_path(settings, run_dir), read_only=True)
    recorded = [(p, m) for p, m in cache.sources() if settings.model in (None, m)]
    if len(recorded) != 1:
        known = "; ".join(f"{model} at {provider}" for provider, model in cache.sources()) or "nothing"
        cache.close()
        raise UserError(
            f"replay needs exactly one recorded source, {cache.path} has {known}; set executor.model to one"
        )
    provider, model = recorded[0]
    return Executor(
        settings,
        sender=None,
        cache=cache,
        ledger=_open_ledger(run_dir, tasks),
        provider=provider,
        model=model,
        seed=seed,
    )


def _cache_path(settings: EndpointSettings, run_dir: Path) -> Path:
    return (Path(settings.cache_folder).expanduser() if settings.cache_folder else run_dir) / CACHE_FILE


def _open_ledger(run_dir: Path, tasks: Sequence[Task]) -> Ledger:
    run_dir.mkdir(parents=True, exist_ok=True)
    return Ledger(run_dir / LEDGER_FILE, datasets={task.id: task.dataset for task in tasks})


def _book_the_past(sender: Sender, past: Costs) -> None:
    """Count what an earlier part of the run spent against the caps."""
    for step, spend in past.by("step").items():
        sender.usd.book(step, spend.usd + spend.at_most_usd)
        sender.tokens.book(step, spend.prompt_tokens + spend.completion_tokens)


def _world_name(settings: SimulatedSettings) -> str:
    """The provider's name in cache keys: another world gives other answers, another port the same ones."""
    world = {"seed": settings.world_seed, "accuracy": settings.accuracy, "power": settings.ensemble_power}
    return "simulated:" + hashlib.sha256(json.dumps(world, sort_keys=True).encode()).hexdigest()[:16]
