"""Memory between the learner and what else is on the machine: halved micro-batches where a card's runs out in spite of
the plan, and what a processor's allocator has kept goes back to the system where that is short of it."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from grpo_aflow.learner.memory.plan import free_memory
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
    policy.forget_gradients()  # of the attempt's first micro-batches
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
    """On a processor whose memory is short, return what the C library's allocator keeps of freed activations.

    A 0.5 B model's learner keeps 2.4 GB between two groups. While the machine has more than that to spare they stay:
    to get the same pages anew from the system takes 9 % of that model's step, and 14 % of a small one's.
    """
    if device.type != "cpu" or sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim") and _kept_bytes(library) > free_memory("cpu"):
        library.malloc_trim(0)


class _Mallinfo2(ctypes.Structure):
    """glibc's `struct mallinfo2` (mallinfo(3))."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def _kept_bytes(library: ctypes.CDLL) -> float:
    """Of freed blocks, over all threads; infinite where the C library does not say (glibc before 2.33)."""
    if not hasattr(library, "mallinfo2"):
        return math.inf
    library.mallinfo2.restype = _Mallinfo2
    return float(library.mallinfo2().fordblks)
