"""How far the sampler's log-probabilities are from the learner's, on real tokens of a real model.

python experiments/real_model/mismatch.py MODEL_FOLDER DTYPE [NUM_TOKENS [OVERRIDE ...]]

Completions are drawn by vLLM at temperature 1 under an adapter (version 0) and scored again by the learner. A probe of
1,000 of these tokens is then scored on both sides under the base, version 0 and version 1, which is one Adam step away:
what a dropped or a stale adapter looks like beside the noise of the arithmetic. Writes mismatch_DTYPE.json; with
further overrides, such as learner.adapter_products=base, it only prints.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grpo_aflow.config.composing import compose
from grpo_aflow.learner.learner import Learner
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.run.progress import Progress
from grpo_aflow.sampler.settings import AdapterLimits
from grpo_aflow.services import prepare_model
from grpo_aflow.tasks import bundled
from grpo_aflow.types import Completion, SamplingParams

HERE = Path(__file__).parent
GROUP, PROBE_TOKENS = 8, 1000
B_STD, STEP = 2e-3, 3e-4  # of version 0's B; of every weight from version 0 to 1, as in Adam's first step


async def measure(folder: str, dtype: str, num_tokens: int, more: Sequence[str]) -> dict[str, Any]:
    config = compose(
        *("model=qwen25_7b", f"model.path={folder}", "model.device=cpu", f"model.dtype={dtype}"),
        *("model.max_model_len=2048", "model.cpu_threads=2", "warmstart=none", "prompt=compact"),
        *("prompt.problem_chars=600", "sampler.cpu_threads=2", "sampler.kv_cache_gb=1", "sampler.max_num_seqs=32"),
        *more,
    )
    with Progress(num_steps=1, log_every=1) as progress:
        model = await prepare_model(config, [], progress)
    learner = Learner(model.path, config.lora, config.objective, config.learner, "cpu", dtype)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in learner.policy.parameters.items():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * B_STD
    store = AdapterStore()
    sampler = await config.sampler.start(model, AdapterLimits(rank=16, num_versions=3), watchdog=None, seed=0)
    try:
        await sampler.publish(store.publish(learner.save_adapter, 0))
        params = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=128)
        prompts = [model.tokenizer.encode_chat(config.prompt.messages(task)) for task in bundled("train")]

        async def draw(prompt: tuple[int, ...]) -> list[Completion]:
            return [c async for _, c in sampler.sample(prompt, seeds=range(GROUP), params=params, version=0)]

        drawn: list[tuple[tuple[int, ...], list[Completion]]] = []
        began = time.monotonic()
        while (seen := sum(len(c.token_ids) for _, group in drawn for c in group)) < num_tokens:
            chosen = prompts[len(drawn) : len(drawn) + 4]
            drawn += zip(chosen, await asyncio.gather(*map(draw, chosen)), strict=True)
        sampling_s = time.monotonic() - began
        began = time.monotonic()
        pairs = []  # (sampler, learner) of every sampled token
        for prompt, group in drawn:
            scored = learner.policy.evaluate(prompt, [c.token_ids for c in group], temperature=1.0)
            for completion, scores in zip(group, scored, strict=True):
                pairs += zip(completion.logprobs, scores.logprobs.tolist(), strict=True)
        learner_s = time.monotonic() - began
        probe = [token for prompt, group in drawn for c in group[:1] for token in (*prompt, *c.token_ids)]
        probe = probe[: PROBE_TOKENS + 1]
        rows = {
            "base": (await sampler.score(probe, version=None), learner.score(probe, adapter=False)),
            "v0": (await sampler.score(probe, version=0), learner.score(probe)),
        }
        for parameter in learner.policy.parameters.values():
            sign = torch.randint(0, 2, parameter.shape, generator=generator) * 2 - 1
            parameter.data = parameter.data + STEP * sign
        await sampler.publish(store.publish(learner.save_adapter, 1))
        rows["v1"] = (await sampler.score(probe, version=1), learner.score(probe))
    finally:
        await sampler.close()
        store.close()
    return {
        "dtype": dtype,
        "num_tokens": seen,
        "sampling_tokens_per_s": seen / sampling_s,
        "learner_tokens_per_s": seen / learner_s,
        "differences": [round(a - b, 7) for a, b in pairs],
        "sampled_logprobs": [round(a, 5) for a, _ in pairs],
        "probe": {name: {"sampler": list(theirs), "learner": list(ours)} for name, (theirs, ours) in rows.items()},
    }


def main() -> None:
    folder, dtype, *rest = sys.argv[1:]
    num_tokens, more = int(rest[0]) if rest else 5000, rest[1:]
    found = asyncio.run(measure(folder, dtype, num_tokens, more))
    if not more:
        (HERE / f"mismatch_{dtype}.json").write_text(json.dumps(found))
    size = np.abs(found["differences"])
    quantiles = {q: float(np.quantile(size, q)) for q in (0.5, 0.9, 0.99, 0.999)}
    print(dtype, found["num_tokens"], "tokens: mean", size.mean(), "max", size.max(), "quantiles", quantiles)
    print("tokens/s: sampler", found["sampling_tokens_per_s"], "learner", found["learner_tokens_per_s"])


if __name__ == "__main__":
    main()
