"""Looks at this machine's cards: what torch, the driver and the installed packages say, as a `run.cards.Hardware`."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata

import psutil

from grpo_aflow.run.cards import BF16_CAPABILITY, VLLM_BUILDS, Card, Hardware

SMI_S = 30.0  # for nvidia-smi to answer; without its persistence mode it wakes every card first


def read_hardware(*, cards: bool = True) -> Hardware:
    """What torch and the driver say; without `cards` only which build of vLLM is here, and torch is not imported."""
    if not cards:
        return Hardware(vllm_build=_vllm_build(), cores=_cores(), free_memory=int(psutil.virtual_memory().available))
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a driver that is too old: we say it ourselves
        number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    rows = _smi("uuid,driver_version,memory.free")
    free = {row[0].removeprefix("GPU-"): int(row[2]) << 20 for row in rows if row[2].isdecimal()}
    found_cards = []
    for i in range(number):
        found = torch.cuda.get_device_properties(i)
        found_cards.append(
            Card(
                name=found.name,
                capability=(found.major, found.minor),
                total_bytes=found.total_memory,
                free_bytes=free.get(str(getattr(found, "uuid", ""))),
            )
        )
    return Hardware(
        cards=tuple(found_cards),
        num_installed=len(rows) or None,
        driver=rows[0][1] if rows else None,
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        torch_has_cuda=torch.version.cuda is not None,
        vllm_build=_vllm_build(),
        cores=_cores(),
        free_memory=int(psutil.virtual_memory().available),
    )


def _cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def about_card(device: str) -> str:
    """Name, memory, capability and torch's build, for people."""
    import torch

    card = torch.cuda.get_device_properties(device)
    free, total = (size / 2**30 for size in torch.cuda.mem_get_info(device))
    # Not torch.cuda.is_bf16_supported(): that is of the current card, and true where bf16 is merely emulated.
    bf16 = "bf16" if (card.major, card.minor) >= BF16_CAPABILITY else "NO bf16"
    capability = f"capability {card.major}.{card.minor}, {bf16}"
    return f"{card.name}, {free:.1f} of {total:.1f} GiB free, {capability}, torch {torch.__version__}"


def driver_version() -> str | None:
    """The version of NVIDIA's driver; None where there is none, or it does not answer."""
    return next((row[1] for row in _smi("uuid,driver_version")), None)


def release_cached() -> None:
    """Give back to the driver what this process's allocator keeps of a card for later: an engine is about to start, and
    what a warm start or earlier steps have left would count as taken."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def _smi(query: str) -> Sequence[list[str]]:
    """One row per card, of several columns; none where nvidia-smi is missing, fails or hangs, as it does with a card
    that fell off its bus."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SMI_S)
    except (subprocess.TimeoutExpired, OSError):
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    rows = [[value.strip() for value in line.split(",")] for line in lines]
    return [row for row in rows if len(row) == len(query.split(",")) and all(row)]  # it mixes in what it complains of


def _vllm_build() -> str | None:
    for package, build in VLLM_BUILDS.items():
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        return build
    return None
