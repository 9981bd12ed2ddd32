"""torch's elementary functions on the CPU: each called once by one thread, before several call them at once.

torch takes them from oneMKL, which looks for a function's kernel at its first call. Where two threads make that call
together, one of them may be given a kernel of low accuracy for this one time (1e-4 off in cos(x), for a model's rotary
embedding; pytorch/pytorch#188792, oneMKL 2024.2, which is in torch's wheels). A learner would then score one text
otherwise than the sampler beside it, or an engine keep such a table for good.
"""

from __future__ import annotations

from functools import cache

# Those for which torch's ATen/cpu/vml.h calls oneMKL.
FUNCTIONS = (
    "acos",
    "asin",
    "atan",
    "cos",
    "erf",
    "erfc",
    "erfinv",
    "exp",
    "log",
    "log10",
    "log2",
    "sin",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
)


@cache
def settle() -> None:
    """To be called in every process that computes with torch, before its first computation; again, it does nothing."""
    import torch

    for dtype in (torch.float32, torch.float64):
        values = torch.full((16,), 0.5, dtype=dtype)
        for name in FUNCTIONS:
            getattr(torch, name)(values)
