"""Memory between the learner and what else is on the machine: halved micro-batches where a card's runs out in spite of
the plan, and what a processor's allocator has kept goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from grpo_aflow.learner.policy.model import PolicyModel
from grpo_aflow.learner.policy.rows import TokenRow
from grpo_aflow.types import UserError

T = TypeVar("T")


def within_memory(
    policy: PolicyModel, prompt_ids: Sequence[int], rows: Sequence[TokenRow], work: Callable[[], T], *, planned: str
) -> T:
    """Do `work` on rows, twice where memory runs out the first time; the smaller micro-batches then stay.

    A single row is tried again as it is, with the memory that the allocator had kept. planned: what the memory plan had
    said. Raises UserError when memory runs out again, and at once where the base is sharded: the other ranks stand in
    the midst of the pass that failed.
    """
    try:
        return work()
    except torch.OutOfMemoryError as error:  # what the failed attempt held goes with its frames: the second is outside
        if policy.is_sharded:
            raise _out_of_memory(policy, planned) from error
    policy.limits = policy.limits.halved(rows, policy.num_carried(prompt_ids))
    for parameter in policy.parameters.values():
        parameter.grad = None  # of the attempt's first micro-batches
    if policy.device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        return work()
    except torch.OutOfMemoryError as error:
        raise _out_of_memory(policy, planned) from error


def _out_of_memory(policy: PolicyModel, planned: str) -> UserError:
    return UserError(
        f"out of memory on {policy.device}, also with micro-batches of {policy.limits.rows} rows and "
        f"{policy.limits.tokens} tokens ({planned}): lower learner.max_tokens_per_micro_batch, "
        "learner.logits_chunk or sampler.gpu_memory_utilization, or set learner.gradient_checkpointing=true"
    )


def give_back(device: torch.device) -> None:
    """On a processor, return what the C library's allocator keeps of freed activations; nothing elsewhere.

    The engine on the same machine needs it: a 0.5 B model's learner kept 6 GB behind 3 GB in use between two groups.
    """
    if device.type == "cpu" and sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim is not None:
            trim(0)
