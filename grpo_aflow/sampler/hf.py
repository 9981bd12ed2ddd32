"""The sampler on transformers' `generate`: the reference, reproducible to the bit on the CPU.

One group is one batch, and an executor's call is one of its own: a batch of whatever happens to wait would give other
bits each time. Every member draws from its own generator, seeded by the caller, so that neither the global
random state nor the order of events has any part in what is sampled. All model work runs in one worker thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, TypeVarTuple, cast

import torch
from peft import LoraModel, PeftModel
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging

from grpo_aflow.protocols import PreparedModel, Tokenizer
from grpo_aflow.run import cpu_functions
from grpo_aflow.sampler.queued import QueuedThread
from grpo_aflow.sampler.settings import fit
from grpo_aflow.sampler.versions import ServedVersions, check_whole
from grpo_aflow.types import Adapter, Completion, InfrastructureError, SamplingParams

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
Emit = Callable[[int, tuple[int, ...], tuple[float, ...], bool], None]  # member, ids, logprobs, ended with EOS


def processed_logprobs(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Log-probabilities [G, V] after temperature, then top-k, then top-p; temperature 0 leaves the logits as they are.

    Top-p keeps the smallest set of most probable tokens whose mass reaches top_p.
    """
    if params.temperature > 0:
        logits = logits / params.temperature
    if 0 < params.top_k < logits.shape[-1]:
        least = logits.topk(params.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if params.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(dim=-1)
        beyond = probabilities.cumsum(dim=-1) - probabilities >= params.top_p  # the mass before a token suffices
        logits = logits.masked_fill(beyond.scatter(-1, order, beyond), -torch.inf)
    return logits.log_softmax(dim=-1)


class _GroupDraw(LogitsProcessor):
    """Draws each member's next token by the Gumbel trick, so that `generate`'s argmax is a sample, and records it."""

    def __init__(self, seeds: Sequence[int], params: SamplingParams, eos_ids: Sequence[int], emit: Emit) -> None:
        self._params = params
        self._eos_ids = frozenset(eos_ids)
        self._emit = emit
        self.num_members = len(seeds)
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._drawn: dict[int, tuple[list[int], list[float]]] = {member: ([], []) for member in range(len(seeds))}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        logprobs = processed_logprobs(scores.float(), self._params)
        noisy = logprobs
        if self._params.temperature > 0:
            noise = [torch.empty(scores.shape[-1]).exponential_(generator=g) for g in self._generators]
            noisy = logprobs - torch.stack(noise).to(logprobs.device).log()
        chosen = noisy.argmax(dim=-1)
        chosen_logprobs = logprobs.gather(-1, chosen[:, None])[:, 0].tolist()
        for member, token in enumerate(chosen.tolist()):
            self._record(member, token, chosen_logprobs[member])
        return noisy

    def _record(self, member: int, token: int, logprob: float) -> None:
        if member not in self._drawn:  # ended before; `generate` pads it
            return
        ids, logprobs = self._drawn[member]
        ids.append(token)
        logprobs.append(logprob)
        if token in self._eos_ids or len(ids) == self._params.max_tokens:
            del self._drawn[member]
            self._emit(member, tuple(ids), tuple(logprobs), token in self._eos_ids)


class _Cancelled(StoppingCriteria):
    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self._event.is_set(), device=input_ids.device)


class HfSampler:
    """Implements `protocols.Sampler`. Make one with `start`."""

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, *, max_model_len: int) -> None:
        self._model = model
        self._adapters: PeftModel | None = None  # on the model's own layers, while there are any
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len
        self._versions: ServedVersions[str] = ServedVersions()
        self._thread = QueuedThread("hf-sampler")

    @classmethod
    async def start(cls, model: PreparedModel) -> HfSampler:
        def load() -> HfSampler:
            cpu_functions.settle()
            logging.disable_progress_bar()
            weights = AutoModelForCausalLM.from_pretrained(model.path, dtype=getattr(torch, model.dtype))
            cast(nn.Module, weights).to(model.device)  # transformers' own `to` has no usable type
            weights.eval().requires_grad_(False)
            weights.generation_config = GenerationConfig()  # a model's own sampling defaults must not act here
            return cls(weights, model.tokenizer, max_model_len=model.max_model_len)

        return await asyncio.to_thread(load)

    async def publish(self, adapter: Adapter) -> None:
        name = f"v{adapter.version}"
        self._versions.check_new(adapter.version)
        check_whole(adapter)
        await self._run(self._load_adapter, adapter, name)
        self._versions.add(adapter.version, name)

    async def retire(self, version: int) -> None:
        name = await self._versions.remove(version)
        await self._run(self._delete_adapter, name)

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
        loop = asyncio.get_running_loop()
        ended: asyncio.Queue[tuple[int, Completion] | None] = asyncio.Queue()
        cancelled = threading.Event()

        def emit(member: int, ids: tuple[int, ...], logprobs: tuple[float, ...], stopped: bool) -> None:
            completion = Completion(
                token_ids=ids,
                logprobs=logprobs,
                text=self._tokenizer.decode(ids),
                finish_reason="stop" if stopped else "length",
                version=version,
            )
            loop.call_soon_threadsafe(ended.put_nowait, (member, completion))

        with self._versions.hold(version) as name:
            draw = _GroupDraw(seeds, params, self._tokenizer.eos_ids, emit)
            work = asyncio.wrap_future(
                self._thread.submit(priority, self._generate, tuple(prompt_ids), draw, params, name, cancelled)
            )
            work.add_done_callback(lambda _: ended.put_nowait(None))
            try:
                while (item := await ended.get()) is not None:
                    yield item
                await work  # raises what the thread raised
            finally:
                cancelled.set()
                await asyncio.wait([work])

    async def score(self, token_ids: Sequence[int], *, version: int | None) -> tuple[float, ...]:
        with self._versions.hold(version) as name:
            return await self._run(self._score, tuple(token_ids), name)

    async def scores(self, token_ids: Sequence[int], *, version: int | None) -> Mapping[str, tuple[float, ...]]:
        return {"": await self.score(token_ids, version=version)}

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.close)

    async def _run(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        return await asyncio.wrap_future(self._thread.submit(0, function, *arguments))

    # --- in the worker thread -----------------------------------------------------------------------------------------

    def _load_adapter(self, adapter: Adapter, name: str) -> None:
        if self._adapters is None:
            self._adapters = PeftModel.from_pretrained(self._model, str(adapter.path), adapter_name=name)
        else:
            self._adapters.load_adapter(str(adapter.path), adapter_name=name, is_trainable=False)
        self._adapters.eval()

    def _delete_adapter(self, name: str) -> None:
        assert self._adapters is not None  # a served version has one
        others = [other for other in self._adapters.peft_config if other != name]
        if others:
            self._adapters.set_adapter(others[0])
            self._adapters.delete_adapter(name)
        else:  # PEFT cannot be without any adapter
            cast(LoraModel, self._adapters.base_model).unload()
            self._adapters = None

    def _as(self, name: str | None) -> AbstractContextManager[None]:
        """Select a version: a context in which the model answers as that version."""
        if self._adapters is None:
            return nullcontext()
        if name is None:
            return self._adapters.disable_adapter()
        self._adapters.set_adapter(name)
        return nullcontext()

    def _generate(
        self,
        prompt_ids: tuple[int, ...],
        draw: _GroupDraw,
        params: SamplingParams,
        name: str | None,
        cancelled: threading.Event,
    ) -> None:
        ids = torch.tensor([prompt_ids] * draw.num_members, device=self._model.device)
        config = GenerationConfig(
            max_new_tokens=params.max_tokens,
            do_sample=False,
            use_cache=True,
            eos_token_id=list(self._tokenizer.eos_ids),
            pad_token_id=self._tokenizer.pad_id,
        )
        generate = cast(
            Callable[..., object], self._model.generate
        )  # transformers types it for a private protocol alone
        try:
            with torch.inference_mode(), self._as(name):
                generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=config,
                    logits_processor=LogitsProcessorList([draw]),
                    stopping_criteria=StoppingCriteriaList([_Cancelled(cancelled)]),
                )
        except torch.OutOfMemoryError as error:
            raise InfrastructureError(
                "the device ran out of memory while sampling; lower schedule.group_size or sampler.max_tokens"
            ) from error

    def _score(self, token_ids: tuple[int, ...], name: str | None) -> tuple[float, ...]:
        ids = torch.tensor([token_ids], device=self._model.device)
        with torch.inference_mode(), self._as(name):
            logprobs = self._model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(dim=-1)
        return tuple(logprobs.gather(-1, ids[0, 1:, None])[:, 0].tolist())
