"""What an LM head in fp32 does for the agreement of sampler and learner over a bf16 base.

python experiments/real_model/head.py MODEL_FOLDER [SAMPLES_PER_PROMPT] [MAX_TOKENS]

vLLM draws completions of a few questions at temperature 1; then both sides score the same tokens, the head in bf16 and
in fp32, and every pair is compared. Prints mean, 99th percentile and largest difference of log-probabilities.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from grpo_aflow.config.composing import compose
from grpo_aflow.config.schema import TrainConfig
from grpo_aflow.learner.learner import Learner
from grpo_aflow.protocols import PreparedModel
from grpo_aflow.sampler.settings import AdapterLimits
from grpo_aflow.sampler.tokenizer import ChatTokenizer
from grpo_aflow.types import BASE, SamplingParams

QUESTIONS = (
    "Write a Python function that sums the squares of a list, and explain it.",
    "What is the capital of France, and which river flows through it?",
    "A train travels 60 km in 45 minutes. How fast is it?",
    "Name three uses of copper.",
)
Drawn = list[tuple[tuple[int, ...], tuple[int, ...]]]  # prompt, completion


async def sampled(config: TrainConfig, model: PreparedModel, drawn: Drawn, num: int, max_tokens: int) -> list[float]:
    """The sampler's log-probabilities of `drawn`, which is filled first where it is empty."""
    sampler = await config.sampler.start(model, AdapterLimits(rank=8, num_versions=0), watchdog=None, seed=0)
    params = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=max_tokens)
    try:
        if not drawn:
            for question in QUESTIONS:
                prompt = model.tokenizer.encode_chat([{"role": "user", "content": question}])
                stream = sampler.sample(prompt, seeds=range(num), params=params, version=BASE)
                drawn += [(tuple(prompt), completion.token_ids) async for _, completion in stream]
        scores = [(await sampler.score(p + c, version=None))[len(p) - 1 :] for p, c in drawn]
    finally:
        await sampler.close()
    return [value for row in scores for value in row]


def learned(config: TrainConfig, model: PreparedModel, drawn: Drawn) -> list[float]:
    """The learner's log-probabilities of the same tokens, under the base."""
    learner = Learner(model.path, config.lora, config.objective, config.learner, model.device, model.dtype)
    scores = [learner.score(p + c, adapter=False)[len(p) - 1 :] for p, c in drawn]
    return [value for row in scores for value in row]


def main() -> None:
    path = Path(sys.argv[1])
    num, max_tokens = (int(each) for each in (sys.argv[2:] or ["2", "64"]))
    model = PreparedModel(
        path=path,
        name=str(path),
        tokenizer=ChatTokenizer(path, enable_thinking=False),
        adapter=None,
        device="cpu",
        sampler_device="cpu",
        dtype="bfloat16",
        max_model_len=512,
    )
    config = compose("sampler.kv_cache_gb=0.1", "sampler.max_num_seqs=8", "sampler.cpu_threads=2")
    drawn: Drawn = []
    found: dict[tuple[str, bool], list[float]] = {}
    for fp32 in (False, True):
        sampler = replace(config.sampler, lm_head_fp32=fp32)
        one = replace(config, sampler=sampler, learner=replace(config.learner, lm_head_fp32=fp32))
        found["sampler", fp32] = asyncio.run(sampled(one, model, drawn, num, max_tokens))
        found["learner", fp32] = learned(one, model, drawn)
    print(f"{len(found['sampler', False])} tokens; |difference of log-probabilities|")
    for theirs in (False, True):
        for ours in (False, True):
            size = np.abs(np.subtract(found["sampler", theirs], found["learner", ours]))
            heads = f"sampler {'fp32' if theirs else 'bf16'}, learner {'fp32' if ours else 'bf16'}"
            print(f"{heads}: mean {size.mean():.5f}, p99 {np.quantile(size, 0.99):.4f}, largest {size.max():.4f}")


if __name__ == "__main__":
    main()
