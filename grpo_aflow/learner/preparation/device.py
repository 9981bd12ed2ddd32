"""The device that a model works on, and how many threads it may use there."""

from __future__ import annotations

import shutil
import subprocess
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


def about_card(device: str) -> str:
    """Name, memory, capability and torch's build, for people."""
    import torch

    card = torch.cuda.get_device_properties(device)
    free, total = (size / 2**30 for size in torch.cuda.mem_get_info(device))
    bf16 = "bf16" if torch.cuda.is_bf16_supported() else "NO bf16"
    capability = f"capability {card.major}.{card.minor}, {bf16}"
    return f"{card.name}, {free:.1f} of {total:.1f} GiB free, {capability}, torch {torch.__version__}"


def driver_version() -> str | None:
    """The version of NVIDIA's driver; None where there is none."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return None
    asked = [smi, "--query-gpu=driver_version", "--format=csv,noheader"]
    return next(iter(subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()), None)


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
