"""How many threads models may use on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from grpo_aflow.run import cpu_functions


def use_threads(number: int) -> None:
    """How many threads an operation of this process's models may use on the CPU."""
    import torch

    cpu_functions.settle()
    torch.set_num_threads(number)


@contextmanager
def one_thread() -> Iterator[None]:
    """For operations this small more threads only wait for each other; and the sums no longer depend on the machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
