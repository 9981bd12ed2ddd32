"""Workload W1: its sizes, its model, the texts of its prompts, and how long its executions wait.

Imported by all sides, each in its own environment: nothing heavy at the top.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from pathlib import Path

PROMPTS, GROUP, PROMPT_TOKENS, COMPLETION_TOKENS = 4, 8, 768, 128
WAIT_S, SIGMA = 1.5, 0.5  # of an execution: lognormal


def wait_s(draw: random.Random, mean_s: float = WAIT_S) -> float:
    """How long an execution takes."""
    return mean_s * draw.lognormvariate(-(SIGMA**2) / 2, SIGMA)


def slowest_wait_s(number: int = PROMPTS * GROUP) -> float:
    """The slowest of `number` executions, in the mean."""
    draw = random.Random(0)
    return statistics.fmean(max(wait_s(draw) for _ in range(number)) for _ in range(10_000))


def text_of(num_tokens: Callable[[str], int], seed: int) -> str:
    """A text that is exactly PROMPT_TOKENS long."""
    draw, text = random.Random(seed), ""
    while num_tokens(text) < PROMPT_TOKENS:
        text += draw.choice("0123456789@#$%&*")
    while num_tokens(text) > PROMPT_TOKENS:
        text = text[:-1]
    return text


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
