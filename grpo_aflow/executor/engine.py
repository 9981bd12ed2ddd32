"""`executor=shared`: the operators' calls are answered by the sampler's own engine, with the base model's weights.

One engine and one copy of the weights: policy samples carry an adapter, executor calls carry none. `EngineTransport`
takes the place of an endpoint over HTTP, so ledger, cache, replay, caps and masking are the same.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from grpo_aflow.executor.client import ExecutorClient
from grpo_aflow.executor.opening import open_client, open_replay
from grpo_aflow.executor.settings import CacheMode, EndpointSettings
from grpo_aflow.executor.transport import Attempt, Request
from grpo_aflow.protocols import ExecutingModel, Sampler, ServedModel, Tokenizer
from grpo_aflow.thinking import split_thinking
from grpo_aflow.types import (
    BASE,
    ChatStatus,
    Completion,
    EngineDied,
    InfrastructureError,
    Message,
    SamplingParams,
    Task,
    UserError,
)

BEFORE_THE_POLICY = -1  # priority in the engine's queue: an executor call closes a rollout, a sample opens one
PROBE: tuple[Message, ...] = ({"role": "system", "content": "a"}, {"role": "user", "content": "b"})


class EngineTransport:
    """Implements `executor.transport.Transport` on a sampler that others own; closing it leaves the engine alone."""

    def __init__(self, sampler: Sampler, tokenizer: Tokenizer, *, max_model_len: int, timeout_s: float) -> None:
        self._sampler = sampler
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len
        self._timeout_s = timeout_s

    @property
    def base_url(self) -> str:
        """There is no address: what messages call it."""
        return "the sampler's engine"

    async def send(self, request: Request) -> Attempt:
        """One request, answered by the base model; see `executor.transport.Transport`.

        Raises EngineDied when the engine cannot be started once more: the run ends, saved.
        """
        prompt_ids = self._tokenizer.encode_chat(request.messages)
        if len(prompt_ids) >= self._max_model_len:
            return self._too_long(len(prompt_ids))
        params = SamplingParams(temperature=request.temperature, top_p=1.0, top_k=0, max_tokens=request.max_tokens)
        try:
            async with asyncio.timeout(self._timeout_s):
                completion = await self._completion(prompt_ids, params, seed=request.seed or 0)
        except TimeoutError:
            error = f"no answer within executor.timeout_s={self._timeout_s:g}"
            return Attempt(kind="timeout", status=ChatStatus.TIMEOUT, error=error, retriable=True)
        except EngineDied:
            raise
        except InfrastructureError as error:
            return Attempt(kind="engine", status=ChatStatus.INFRASTRUCTURE, error=str(error), retriable=True)
        return _attempt(completion, num_prompt_tokens=len(prompt_ids))

    async def close(self) -> None:
        """The sampler is closed by whoever opened it."""

    async def _completion(self, prompt_ids: tuple[int, ...], params: SamplingParams, *, seed: int) -> Completion:
        stream = self._sampler.sample(prompt_ids, seeds=[seed], params=params, version=BASE, priority=BEFORE_THE_POLICY)
        async with aclosing(stream):
            async for _, completion in stream:
                return completion
        raise InfrastructureError("the engine ended a request without an answer")

    def _too_long(self, num_prompt_tokens: int) -> Attempt:
        error = (
            f"context length: a prompt of {num_prompt_tokens} tokens, and model.max_model_len={self._max_model_len} "
            "leaves no room for an answer"
        )
        return Attempt(kind="refused_request", status=ChatStatus.REFUSED, error=error)


def _provider(tokenizer: Tokenizer) -> str:
    """Stands beside the model in the addresses of kept answers: the form of its chat, which `model.enable_thinking`
    changes."""
    form = hashlib.blake2b(repr(tuple(tokenizer.encode_chat(PROBE))).encode(), digest_size=4).hexdigest()
    return f"shared {form}"


def _attempt(completion: Completion, *, num_prompt_tokens: int) -> Attempt:
    text, thinking = split_thinking(completion.text)
    empty = not text.strip()
    return Attempt(
        kind="ok",
        status=ChatStatus.EMPTY if empty else ChatStatus.OK,
        text="" if empty else text,
        thinking=thinking,
        prompt_tokens=num_prompt_tokens,
        completion_tokens=len(completion.token_ids),
        error=f"no text (finish_reason={completion.finish_reason})" if empty else "",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedExecutor(EndpointSettings):
    """`executor=shared`. What only a server has (address, key, further fields) must be left out. See conf/executor/."""

    needs_engine: ClassVar[bool] = True

    def __post_init__(self) -> None:
        EndpointSettings.__post_init__(self)
        for name, fix in (
            ("base_url", "executor=local has a server of its own"),
            ("api_key_env", "the engine asks for no key"),
        ):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} must be null in executor=shared: {fix}")
        if self.extra_body:
            raise ValueError(
                "extra_body is for servers; executor=shared reads executor.temperature, executor.max_tokens and "
                "model.enable_thinking"
            )

    def check(self, model: ExecutingModel) -> None:
        """Refuse a model that cannot execute, before anything is opened; UserError names the fix."""
        if not model.follows_instructions:
            raise UserError(
                "executor=shared asks the base model to answer the operators' calls, and model=tiny can only write "
                "workflows; choose a model that follows instructions, for example model=qwen25_coder_05b, or another "
                "executor"
            )
        if self.max_tokens >= model.max_model_len:
            raise UserError(
                f"executor.max_tokens={self.max_tokens} leaves no room for a prompt in model.max_model_len="
                f"{model.max_model_len}; lower the one or raise the other"
            )

    async def open(
        self,
        run_dir: Path,
        *,
        seed: int,
        tasks: Sequence[Task] = (),
        system_prompts: Mapping[str, str] | None = None,
        served: ServedModel | None = None,
    ) -> ExecutorClient:
        """A client of the running sampler, with cache and ledger in `run_dir`; see `protocols.ExecutorConfig.open`."""
        if self.cache is CacheMode.replay:
            return open_replay(self, run_dir, seed=seed)
        assert served is not None  # `needs_engine` says so
        model = served.model
        transport = EngineTransport(
            served.sampler, model.tokenizer, max_model_len=model.max_model_len, timeout_s=self.timeout_s
        )
        return open_client(
            self,
            run_dir,
            transport=transport,
            provider=_provider(model.tokenizer),
            model=self.model or model.name,
            seed=seed,
        )
