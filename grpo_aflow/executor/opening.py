"""From settings to a running client: files in the run directory, price, key, and the address that must answer.

Here are the options of config group `executor` whose server others run. `engine` has `executor=shared`, the package
`simulation` has `executor=simulated`; both open their clients by the functions below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from grpo_aflow.executor.address import Address, key_of, reach
from grpo_aflow.executor.cache import AnswerCache
from grpo_aflow.executor.client import ExecutorClient
from grpo_aflow.executor.endpoint import Endpoint
from grpo_aflow.executor.ledger import Ledger, read_costs
from grpo_aflow.executor.prices import known_price, price_of
from grpo_aflow.executor.sending import Sender
from grpo_aflow.executor.settings import CacheMode, EndpointSettings
from grpo_aflow.executor.source import Recorded
from grpo_aflow.executor.transport import Transport
from grpo_aflow.protocols import ExecutingModel, ServedModel
from grpo_aflow.types import Task, UserError

CACHE_FILE, LEDGER_FILE = "cache.sqlite", "ledger.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenAIExecutor(EndpointSettings):
    """`executor=openai` and `executor=local`: a server that others run. Implements `protocols.ExecutorConfig`."""

    needs_engine: ClassVar[bool] = False

    def check(self, model: ExecutingModel) -> None:
        """A server of its own works beside every policy."""

    async def open(
        self,
        run_dir: Path,
        *,
        seed: int,
        tasks: Sequence[Task] = (),
        system_prompts: Mapping[str, str] | None = None,
        served: ServedModel | None = None,
    ) -> ExecutorClient:
        """See `protocols.ExecutorConfig.open`; a server of others needs neither tasks nor an engine.

        Raises:
            UserError: no key in the environment, no price for the model, no base_url.
            InfrastructureError: nobody answers at the address.
        """
        if self.cache is CacheMode.replay:
            return open_replay(self, run_dir, seed=seed)
        if self.base_url is None:
            raise UserError(
                "executor.base_url is missing; set it to the API's address, for example http://localhost:8000/v1"
            )
        if self.model is not None:
            price_of(self, self.model)  # a missing price or key is said before the network is tried
        key_of(self.api_key_env)
        address = Address.parse(self.base_url)
        await reach(address)
        return open_endpoint(self, run_dir, base_url=self.base_url, provider=address.base_url, seed=seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayExecutor(OpenAIExecutor):
    """`executor=replay`: answers only from a recorded cache; it costs nothing, and a miss is an error."""

    def __post_init__(self) -> None:
        OpenAIExecutor.__post_init__(self)
        if self.cache is not CacheMode.replay:
            raise ValueError(f"cache must be replay in executor=replay; got {self.cache}")


def open_endpoint(
    settings: EndpointSettings,
    run_dir: Path,
    *,
    base_url: str,
    provider: str,
    seed: int,
    on_close: Callable[[], None] = lambda: None,
) -> ExecutorClient:
    """A client of the server at `base_url`; see `open_client`."""
    if settings.model is None:
        raise UserError("executor.model is missing; set it to the endpoint's name of the model")
    answered = read_costs(run_dir / LEDGER_FILE).total.ok > 0
    return open_client(
        settings,
        run_dir,
        transport=Endpoint(settings, base_url, answered=answered),
        provider=provider,
        model=settings.model,
        seed=seed,
        on_close=on_close,
    )


def open_client(
    settings: EndpointSettings,
    run_dir: Path,
    *,
    transport: Transport,
    provider: str,
    model: str,
    seed: int,
    on_close: Callable[[], None] = lambda: None,
) -> ExecutorClient:
    """A client whose requests go through `transport`, with its cache and ledger in `run_dir`.

    What an earlier part of the run has spent counts against the caps. Arguments: see `ExecutorClient`.
    """
    price = price_of(settings, model)
    cache = None
    if settings.cache is CacheMode.read_write:
        cache = AnswerCache(_cache_path(settings, run_dir))
        cache.add_source(provider, model)
    ledger = _open_ledger(run_dir, cache)
    past = read_costs(run_dir / LEDGER_FILE)
    sender = Sender(settings, transport=transport, cache=cache, ledger=ledger, price=price, seed=seed)
    for step, spend in past.by("step").items():
        sender.usd.book(step, spend.usd + spend.at_most_usd)
        sender.tokens.book(step, spend.prompt_tokens + spend.completion_tokens + spend.at_most_tokens)
    return ExecutorClient(
        settings,
        source=sender,
        cache=cache,
        ledger=ledger,
        price=price,
        provider=provider,
        model=model,
        seed=seed,
        on_close=on_close,
    )


def open_replay(settings: EndpointSettings, run_dir: Path, *, seed: int) -> ExecutorClient:
    """A client that answers from the recorded cache alone."""
    cache = AnswerCache(_cache_path(settings, run_dir), read_only=True)
    recorded = [(p, m) for p, m in cache.sources() if settings.model in (None, m)]
    if len(recorded) != 1:
        known = "; ".join(f"{model} at {provider}" for provider, model in cache.sources()) or "nothing"
        cache.close()
        raise UserError(
            f"replay needs exactly one recorded source, {cache.path} has {known}; set executor.model to one"
        )
    provider, model = recorded[0]
    return ExecutorClient(
        settings,
        source=Recorded(cache.path),
        cache=cache,
        ledger=_open_ledger(run_dir, cache),
        price=known_price(settings, model),
        provider=provider,
        model=model,
        seed=seed,
    )


def _cache_path(settings: EndpointSettings, run_dir: Path) -> Path:
    return (Path(settings.cache_folder).expanduser() if settings.cache_folder else run_dir) / CACHE_FILE


def _open_ledger(run_dir: Path, cache: AnswerCache | None) -> Ledger:
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / LEDGER_FILE
    return Ledger(path) if cache is None else Ledger(path, kept=cache.get)
