"""From settings to a running `Executor`: files in the run directory, price, key, and the address that must answer.

Here are the options of config group `executor` whose server others run; `engine` and the package `simulation` have
the other two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from grpo_aflow.executor.address import Address, key_of, reach
from grpo_aflow.executor.cache import AnswerCache
from grpo_aflow.executor.client import Executor
from grpo_aflow.executor.endpoint import Endpoint
from grpo_aflow.executor.ledger import Costs, Ledger, read_costs
from grpo_aflow.executor.prices import price_of
from grpo_aflow.executor.sending import Sender
from grpo_aflow.executor.settings import CacheMode, EndpointSettings
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
    ) -> Executor:
        """See `protocols.ExecutorConfig.open`.

        Raises:
            UserError: no key in the environment, no price for the model, no base_url.
            InfrastructureError: nobody answers at the address.
        """
        if self.cache is CacheMode.replay:
            return open_replay(self, run_dir, seed=seed, tasks=tasks)
        if self.base_url is None:
            raise UserError(
                "executor.base_url is missing; set it to the API's address, for example http://localhost:8000/v1"
            )
        if self.model is not None:
            price_of(self, self.model)  # what is missing here is said before the network is tried
        key_of(self.api_key_env)
        address = Address.parse(self.base_url)
        await reach(address)
        return connect(self, run_dir, base_url=self.base_url, provider=address.base_url, seed=seed, tasks=tasks)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayExecutor(OpenAIExecutor):
    """`executor=replay`: answers only from a recorded cache; it costs nothing, and a miss is an error."""

    def __post_init__(self) -> None:
        OpenAIExecutor.__post_init__(self)
        if self.cache is not CacheMode.replay:
            raise ValueError(f"cache must be replay in executor=replay; got {self.cache}")


def connect(
    settings: EndpointSettings,
    run_dir: Path,
    *,
    base_url: str,
    provider: str,
    seed: int,
    tasks: Sequence[Task],
    on_close: Callable[[], None] = lambda: None,
) -> Executor:
    """A client of the server at `base_url`; see `open_on`."""
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
        return open_replay(settings, run_dir, seed=seed, tasks=tasks)
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


def open_replay(settings: EndpointSettings, run_dir: Path, *, seed: int, tasks: Sequence[Task]) -> Executor:
    """Answers from the recorded cache alone."""
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
