"""The workloads of the step benchmark: sizes, model, the texts of prompts, and how long an execution waits.

Imported by all sides, each in its own environment: nothing heavy at the top. A workload lies as a file in the folder
that the sides share, beside the model `base`.
"""

from __future__ import annotations

import dataclasses
import json
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

WAIT_S, SIGMA = 1.5, 0.5  # of an execution: lognormal


@dataclass(frozen=True)
class Workload:
    """A step is `prompts` prompts of `prompt_tokens` with `group` completions each, of `completion_tokens` at most."""

    name: str
    prompts: int
    group: int
    prompt_tokens: int
    completion_tokens: int
    steps: int  # measured in a turn of a side; what a pipeline needs to fill and to empty comes on top
    instruction: str = ""  # opens each prompt as a user's message; without one, prompts are random text

    @property
    def rollouts(self) -> int:
        return self.prompts * self.group

    def write(self, folder: Path) -> None:
        (folder / "workload.json").write_text(json.dumps(dataclasses.asdict(self)))

    @staticmethod
    def read(folder: Path) -> Workload:
        return Workload(**json.loads((folder / "workload.json").read_text()))

    def text(self, num_tokens: Callable[[str], int], seed: int) -> str:
        """A prompt's text of exactly `prompt_tokens`. num_tokens: of a text, as the side sends it."""
        draw, text = random.Random(seed), self.instruction
        while num_tokens(text) < self.prompt_tokens:
            text += draw.choice("0123456789@#$%&*")
        while num_tokens(text) > self.prompt_tokens:
            text = text[:-1]
        return text


W1 = Workload(name="W1", prompts=4, group=8, prompt_tokens=768, completion_tokens=128, steps=5)
REAL = Workload(
    name="real",
    prompts=2,
    group=4,
    prompt_tokens=192,
    completion_tokens=48,
    steps=2,
    instruction="Write a long fairy tale in which all of these signs speak: ",
)


def wait_s(draw: random.Random, mean_s: float = WAIT_S) -> float:
    """How long an execution takes."""
    return mean_s * draw.lognormvariate(-(SIGMA**2) / 2, SIGMA)


def slowest_wait_s(number: int) -> float:
    """The slowest of `number` executions, in the mean."""
    draw = random.Random(0)
    return statistics.fmean(max(wait_s(draw) for _ in range(number)) for _ in range(10_000))


def make_base(folder: Path) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from grpo_aflow.learner.preparation import tiny
    from grpo_aflow.learner.preparation.reference_workflows import corpus

    tokenizer = tiny.build_tokenizer([w.source for w in corpus()], vocab_size=1024, max_model_len=1024)
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = Qwen2Config(
        **shape, num_key_value_heads=4, vocab_size=2048, max_position_embeddings=1024, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    print(f"base: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
