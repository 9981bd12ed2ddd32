"""The device that a model works on, and how many threads it may use there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from grpo_aflow.types import UserError


def check_device(device: str) -> str:
    """Return `device` when torch has it; raises UserError with the fix otherwise."""
    import torch

    if device != "cpu" and not device.startswith("cuda"):
        raise UserError(f"model.device must be cpu or cuda; got {device}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("model.device=cuda, but torch finds no NVIDIA card here; set model.device=cpu")
    return device


def use_threads(number: int) -> None:
    """How many threads an operation of this process's models may use on the CPU."""
    import torch

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
