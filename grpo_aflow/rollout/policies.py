"""Where completions come from: the policy that a sampler serves, or workflows that are given."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from grpo_aflow.protocols import Sampler, ServedModel, TaskPrompt, Tokenizer
from grpo_aflow.types import Completion, Domain, SamplingParams, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledPolicy:
    """The policy under training, or a checkpoint of it; implements `protocols.Policy`."""

    sampler: Sampler
    tokenizer: Tokenizer
    prompt: TaskPrompt

    def prompt_ids(self, task: Task) -> tuple[int, ...]:
        return self.tokenizer.encode_chat(self.prompt.messages(task))

    async def draw(
        self,
        task: Task,
        prompt_ids: tuple[int, ...],
        *,
        seeds: Sequence[int],
        members: Sequence[int],
        params: SamplingParams,
        version: int,
    ) -> AsyncGenerator[tuple[int, Completion]]:
        stream = self.sampler.sample(prompt_ids, seeds=seeds, params=params, version=version)
        async for member, completion in stream:
            if member in members:
                yield member, completion


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedPolicy:
    """Workflows as they are, one per domain: published graphs, users' own, the best references."""

    sources: Mapping[Domain, str]

    def prompt_ids(self, task: Task) -> tuple[int, ...]:
        return ()

    async def draw(
        self,
        task: Task,
        prompt_ids: tuple[int, ...],
        *,
        seeds: Sequence[int],
        members: Sequence[int],
        params: SamplingParams,
        version: int,
    ) -> AsyncGenerator[tuple[int, Completion]]:
        text = self.sources[task.domain]
        for member in members:
            yield (
                member,
                Completion(token_ids=(), logprobs=(), text=text, finish_reason="stop", version=version),
            )


def sampled(served: ServedModel, prompt: TaskPrompt) -> SampledPolicy:
    """The policy that a served model is, asked with `prompt`."""
    return SampledPolicy(sampler=served.sampler, tokenizer=served.model.tokenizer, prompt=prompt)
