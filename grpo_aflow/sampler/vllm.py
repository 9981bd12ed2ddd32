"""The sampler on vLLM's AsyncLLM: the engine runs in its own process, each sample is a request of its own.

A policy version is a LoRA adapter with a new name and a new integer id; nothing is ever overwritten, so requests in
flight finish under the version they began with, beside those of the next one. The cache salt keeps key-value blocks of
versions apart a second time. No request carries a seed: on the CPU a seeded request whose prefill is chunked kills the
engine.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from grpo_aflow.protocols import PreparedModel, Tokenizer
from grpo_aflow.sampler.cache_use import CacheUse, tokens_held
from grpo_aflow.sampler.colocation import Colocation
from grpo_aflow.sampler.settings import AdapterLimits, VllmSettings, fit
from grpo_aflow.sampler.versions import ServedVersions, check_whole
from grpo_aflow.sampler.vllm_engine import engine_segments, first_line, layers_not_served, start_engine
from grpo_aflow.types import Adapter, Completion, EngineDied, InfrastructureError, SamplingParams, UserError

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm import SamplingParams as EngineParams
    from vllm.logprobs import Logprob
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.async_llm import AsyncLLM

    from grpo_aflow.run.watchdog import Watchdog

SHUTDOWN_S = 0.0  # the engine's process is killed: it keeps nothing, and takes no other signal (see `vllm_engine`)
WATCH_EVERY_S = 0.5  # while the engine starts: its processes are recorded as they appear


class VllmSampler:
    """Implements `protocols.Sampler`. Make one with `start`; after the engine has died, make another."""

    def __init__(
        self,
        engine: AsyncLLM,
        tokenizer: Tokenizer,
        *,
        max_model_len: int,
        colocation: Colocation,
        cache_use: CacheUse,
        layers: Sequence[str] = (),
    ) -> None:
        """layers: names of those that adapters change, for the message where one of them is not served."""
        self._engine: AsyncLLM | None = engine
        self._cache_use = cache_use
        self._colocation = colocation
        self._asleep = False
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len
        self._layers = layers
        self._versions: ServedVersions[LoRARequest] = ServedVersions()
        self._ids = itertools.count(1)  # of adapters and requests

    @classmethod
    async def start(
        cls,
        settings: VllmSettings,
        model: PreparedModel,
        adapters: AdapterLimits,
        *,
        watchdog: Watchdog | None,
        seed: int,
    ) -> VllmSampler:
        """See `opening.Vllm.start`."""
        cache_use = CacheUse()
        starting = asyncio.create_task(
            asyncio.to_thread(start_engine, settings, model, adapters, seed=seed, cache_use=cache_use)
        )
        while not starting.done():
            await asyncio.wait([starting], timeout=WATCH_EVERY_S)
            if watchdog is not None:
                await asyncio.to_thread(watchdog.watch_children)
        engine = starting.result()
        sampler = cls(
            engine,
            model.tokenizer,
            max_model_len=model.max_model_len,
            colocation=settings.colocation,
            cache_use=cache_use,
            layers=adapters.layers,
        )
        await sampler.score([model.tokenizer.end_id] * 2, version=None)  # the first call compiles
        return sampler

    @property
    def cache_tokens(self) -> int:
        """See `routed.TellsCacheUse`."""
        return self._cache_use.tokens

    async def sleep(self) -> None:
        with self._engine_or_fault("cannot give its memory back") as engine:
            self._asleep = True  # from here on nobody may ask it for anything
            await self._colocation.release(engine)

    async def wake(self) -> None:
        if not self._asleep:
            return
        self._asleep = False
        with self._engine_or_fault("cannot take its memory again") as engine:
            awake = await self._colocation.restore(engine)
        if not awake:
            raise InfrastructureError("vLLM: the engine has been woken, and a part of it still sleeps; resume the run")

    async def publish(self, adapter: Adapter) -> None:
        from vllm.lora.request import LoRARequest

        self._versions.check_new(adapter.version)
        check_whole(adapter)
        number = next(self._ids)
        request = LoRARequest(f"policy-v{adapter.version}-{number}", number, str(adapter.path))
        try:
            with self._engine_or_fault(f"cannot load the adapter {adapter.path}") as engine:
                loaded = await engine.add_lora(request)
        except InfrastructureError as error:
            if not (refused := layers_not_served(str(error.__cause__))):
                raise
            others = [layer for layer in self._layers if layer not in refused]
            fix = f"lora.target_modules=[{','.join(others)}]" if others else "other layers as lora.target_modules"
            raise UserError(f"vLLM serves no adapter on {', '.join(refused)} of this model: set {fix}") from error
        if not loaded:
            raise InfrastructureError(f"vLLM did not load the adapter {adapter.path}")
        self._versions.add(adapter.version, request)

    async def retire(self, version: int) -> None:
        request = await self._versions.remove(version)
        with self._engine_or_fault(f"cannot remove version {version}") as engine:
            await engine.remove_lora(request.lora_int_id)

    async def sample(
        self,
        prompt_ids: Sequence[int],
        *,
        seeds: Sequence[int],
        params: SamplingParams,
        version: int,
        priority: int = 0,
    ) -> AsyncGenerator[tuple[int, Completion], None]:
        params = fit(params, len(prompt_ids), self._max_model_len)
        held = tokens_held(len(prompt_ids), len(seeds), params.max_tokens)
        with self._versions.hold(version) as lora, self._cache_use.holding(len(seeds), held):
            requests = [
                asyncio.create_task(self._draw(member, tuple(prompt_ids), params, lora, version, priority))
                for member in range(len(seeds))
            ]
            try:
                for ended in asyncio.as_completed(requests):
                    yield await ended
            finally:  # leaving early aborts what still runs
                for request in requests:
                    request.cancel()
                await asyncio.gather(*requests, return_exceptions=True)

    async def score(self, token_ids: Sequence[int], *, version: int | None) -> tuple[float, ...]:
        from vllm import SamplingParams as EngineParams

        params = EngineParams(temperature=1.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        with self._versions.hold(version) as lora:
            output = await self._request(tuple(token_ids), params, lora, version)
        return _logprobs(output.prompt_logprobs, token_ids)

    async def scores(self, token_ids: Sequence[int], *, version: int | None) -> Mapping[str, tuple[float, ...]]:
        return {"": await self.score(token_ids, version=version)}

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            logging.getLogger("vllm").setLevel(logging.CRITICAL)  # it takes the end that we make for a fault
            left_behind = await asyncio.to_thread(engine_segments)
            await asyncio.to_thread(engine.shutdown, timeout=SHUTDOWN_S)
            for segment in left_behind:
                segment.unlink(missing_ok=True)
            vars(engine)["shutdown"] = lambda: None  # its finaliser calls it again, when its modules are gone

    async def _draw(
        self,
        member: int,
        prompt_ids: tuple[int, ...],
        params: SamplingParams,
        lora: LoRARequest | None,
        version: int,
        priority: int,
    ) -> tuple[int, Completion]:
        from vllm import SamplingParams as EngineParams
        from vllm.sampling_params import RequestOutputKind

        engine_params = EngineParams(
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            max_tokens=params.max_tokens,
            stop_token_ids=list(self._tokenizer.eos_ids),
            logprobs=0,  # of the sampled token alone
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = (await self._request(prompt_ids, engine_params, lora, version, priority)).outputs[0]
        ids = tuple(output.token_ids)
        completion = Completion(
            token_ids=ids,
            logprobs=_logprobs(output.logprobs, ids),
            text=self._tokenizer.decode(ids),
            finish_reason="stop" if output.finish_reason == "stop" else "length",
            version=version,
        )
        return member, completion

    async def _request(
        self,
        prompt_ids: tuple[int, ...],
        params: EngineParams,
        lora: LoRARequest | None,
        version: int | None,
        priority: int = 0,
    ) -> RequestOutput:
        """The last output of one request; cancelling the caller aborts it."""
        from vllm import TokensPrompt

        prompt = TokensPrompt(prompt_token_ids=list(prompt_ids), cache_salt=f"v{version}")
        last: RequestOutput | None = None
        with self._engine_or_fault("a request failed") as engine:
            stream = engine.generate(
                prompt, params, request_id=str(next(self._ids)), lora_request=lora, priority=priority
            )
            async for output in stream:
                last = output
        if last is None:
            raise InfrastructureError("vLLM: a request ended without an output; resume the run")
        return last

    @contextmanager
    def _engine_or_fault(self, what: str) -> Iterator[AsyncLLM]:
        """The engine for one call; that it died, or that the call broke it, becomes one clear line."""
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        if self._engine is None:
            raise InfrastructureError("the sampler is closed")
        if self._asleep:  # an adapter would go to memory that is not there, and a request would wait for ever
            raise RuntimeError(f"vLLM: {what}: the engine sleeps; wake() comes first")
        try:
            yield self._engine
        except (EngineDeadError, EngineGenerateError) as error:
            raise EngineDied(
                f"vLLM: {what}, the engine has died; resume the run, with VLLM_LOGGING_LEVEL=INFO to see why"
            ) from error
        except Exception as error:  # the engine reports a failed call as a bare Exception
            raise InfrastructureError(f"vLLM: {what}: {first_line(error)}") from error


def _logprobs(rows: Sequence[Mapping[int, Logprob] | None] | None, token_ids: Sequence[int]) -> tuple[float, ...]:
    """Of each token; the first one of a prompt has none, as it stands after nothing."""
    if rows is None:
        raise InfrastructureError("vLLM: a request came back without log-probabilities; resume the run")
    return tuple(row[token].logprob for row, token in zip(rows, token_ids, strict=True) if row is not None)
