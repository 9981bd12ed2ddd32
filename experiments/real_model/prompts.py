"""How much of what a published model writes is a valid workflow, by the prompt that it is asked with.

    python experiments/real_model/prompts.py MODEL_FOLDER DTYPE [DATA]      # writes prompts.json and the README's table

Each of the prompts `compact`, `brief` and `full`, with the problem in it, is answered once for each of 60 held-out
tasks (20 of GSM8K, SQuAD v2 and MBPP; DATA: the folder of their files, else the hub) by the model without an adapter.
Valid is what the validator lets through as it stands, or after repair; nothing is executed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

from grpo_aflow.config.composing import compose
from grpo_aflow.config.schema import TrainConfig
from grpo_aflow.evaluation.statistics import wilson
from grpo_aflow.protocols import Sampler, Tokenizer
from grpo_aflow.run.progress import Progress
from grpo_aflow.sampler.settings import AdapterLimits
from grpo_aflow.services import prepare_model
from grpo_aflow.types import BASE, SamplingParams, Task
from grpo_aflow.workflow import check_text

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from readme import write_part  # noqa: E402

PROMPTS, TASKS_PER_DATASET, MAX_TOKENS, PROBLEM_CHARS = ("compact", "brief", "full"), 20, 256, 600
PARAMS = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=MAX_TOKENS)


def config_of(prompt: str, folder: str, dtype: str, source: str) -> TrainConfig:
    return compose(
        *("model=qwen25_coder_05b", f"model.path={folder}", "model.device=cpu", f"model.dtype={dtype}"),
        *("warmstart=none", f"prompt={prompt}", f"prompt.problem_chars={PROBLEM_CHARS}", "model.cpu_threads=2"),
        *("sampler.cpu_threads=2", "sampler.kv_cache_gb=2", "sampler.max_num_seqs=64"),
        *("eval.datasets=[gsm8k,squad2,mbpp]", f"eval.source={source}", "eval.split=test"),
        f"eval.max_tasks_per_dataset={TASKS_PER_DATASET}",
    )


async def measure(folder: str, dtype: str, source: str) -> dict[str, Any]:
    configs = {prompt: config_of(prompt, folder, dtype, source) for prompt in PROMPTS}
    config = configs[PROMPTS[0]]
    tasks = config.eval.load()
    with Progress(num_steps=1, log_every=1) as progress:
        model = await prepare_model(config, [], progress)
    limits = AdapterLimits(rank=1, num_versions=0)
    sampler = await config.sampler.start(model, limits, watchdog=None, seed=0)
    try:
        found = {}
        for prompt, one in configs.items():
            found[prompt] = await asked(one, tasks, sampler, model.tokenizer)
            print(prompt, json.dumps(found[prompt]), flush=True)
    finally:
        await sampler.close()
    return {"dtype": dtype, "num_tasks": len(tasks), "prompts": found}


async def asked(config: TrainConfig, tasks: list[Task], sampler: Sampler, tokenizer: Tokenizer) -> dict[str, Any]:
    """What came of one prompt."""
    prompts = [tokenizer.encode_chat(config.prompt.messages(task)) for task in tasks]

    async def draw(number: int) -> tuple[str, bool, int]:
        stream = sampler.sample(prompts[number], seeds=[number], params=PARAMS, version=BASE)
        [completion] = [completion async for _, completion in stream]
        return completion.text, completion.finish_reason == "length", len(completion.token_ids)

    began = time.monotonic()
    drawn = await asyncio.gather(*map(draw, range(len(tasks))))
    checked = [
        check_text(text, domain=task.domain, rules=config.workflow)
        for task, (text, _, _) in zip(tasks, drawn, strict=True)
    ]
    errors = Counter(one.findings[0].code for one in checked if not one.valid)
    return {
        "prompt_tokens": fmean(map(len, prompts)),
        "valid": sum(one.valid for one in checked),
        "repaired": sum(bool(one.repairs) for one in checked),
        "cut_off": sum(cut for _, cut, _ in drawn),
        "completion_tokens": fmean(number for _, _, number in drawn),
        "errors": dict(errors.most_common(4)),
        "seconds": time.monotonic() - began,
    }


def table(found: dict[str, Any]) -> str:
    lines = [
        "| prompt | its tokens | valid [95 %] | repaired | cut off | tokens written | errors of the others |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for prompt, one in found["prompts"].items():
        mean, low, high = wilson(one["valid"], found["num_tasks"])
        errors = ", ".join(f"{code} {number}×" for code, number in one["errors"].items())
        cells = [
            prompt,
            f"{one['prompt_tokens']:.0f}",
            f"{mean:.2f} [{low:.2f}, {high:.2f}]",
            str(one["repaired"]),
            str(one["cut_off"]),
            f"{one['completion_tokens']:.0f}",
            errors,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    folder, dtype, *source = sys.argv[1:]
    found = asyncio.run(measure(folder, dtype, source[0] if source else "null"))
    (HERE / "prompts.json").write_text(json.dumps(found, indent=1) + "\n")
    write_part(HERE / "README.md", "prompts", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
