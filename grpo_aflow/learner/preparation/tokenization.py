"""What a model's tokenizer must do: give Python back as it was, and leave room for a completion behind every prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from grpo_aflow.learner.preparation.examples import Prompts
from grpo_aflow.learner.preparation.reference_workflows import corpus
from grpo_aflow.protocols import Tokenizer
from grpo_aflow.types import Task, UserError

LONGEST_PROMPTS = 32  # whose tokens are counted


def check_round_trip(tokenizer: Tokenizer, path: Path) -> None:
    """Raise UserError when the tokenizer does not give back a reference workflow as it was."""
    for workflow in corpus():
        back = tokenizer.decode(tokenizer.encode(workflow.source))
        if back != workflow.source:
            pairs = zip_longest(workflow.source.split("\n"), back.split("\n"), fillvalue="")
            line, other = next(pair for pair in pairs if pair[0] != pair[1])
            raise UserError(
                f"model.path: the tokenizer in {path} cannot write Python: the line {line!r} comes back as {other!r}; "
                "choose a model whose tokenizer keeps case and spaces"
            )


def check_context(num_prompt_tokens: int, max_tokens: int, max_model_len: int) -> None:
    """Refuse a prompt that leaves less room than `max_tokens` in the context. Raises UserError with the figures."""
    excess = num_prompt_tokens + max_tokens - max_model_len
    if excess > 0:
        raise UserError(
            f"a prompt of {num_prompt_tokens} tokens and sampler.max_tokens={max_tokens} are {excess} tokens more than "
            f"model.max_model_len={max_model_len}: raise model.max_model_len, lower sampler.max_tokens, or set "
            "prompt=compact"
        )


def num_prompt_tokens(tokenizer: Tokenizer, prompts: Prompts, tasks: Sequence[Task]) -> int:
    """Tokens of the longest prompt; those of the longest problems are counted."""
    longest = sorted(tasks, key=lambda task: len(task.problem))[-LONGEST_PROMPTS:]
    return max((len(tokenizer.encode_chat(prompts(task))) for task in longest), default=0)
