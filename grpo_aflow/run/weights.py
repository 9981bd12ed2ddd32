"""Whether weights on disk are whole, told from sizes and headers alone: nothing is loaded and no library is needed.

A safetensors file says in its header how long it is, so a cut copy, a failed download and a Git LFS pointer are told
before anything tries to load them.
"""

from __future__ import annotations

import json
from pathlib import Path

from grpo_aflow.types import UserError

MAX_HEADER = 100 << 20  # bytes; the format's own limit
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")  # PEFT's
LFS_POINTER = b"version https://git-lfs"


def missing_file(folder: Path) -> str | None:
    """The file that a folder in PEFT's format lacks; None when an engine can load it."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return ADAPTER_CONFIG
    return None if any((folder / name).is_file() for name in ADAPTER_WEIGHTS) else ADAPTER_WEIGHTS[0]


def check_safetensors(path: Path) -> None:
    """Raise UserError when a safetensors file is not whole, naming the file and what it lacks."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(max(8, len(LFS_POINTER)))
        if start.startswith(LFS_POINTER):
            raise UserError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` there")
        header_size = int.from_bytes(start[:8], "little")
        if size < 8 or not 2 <= header_size <= min(MAX_HEADER, size - 8):
            raise UserError(f"{path} is no whole safetensors file ({size} bytes): copy or download it again")
        file.seek(8)
        expected = 8 + header_size + _data_size(path, file.read(header_size))
    if size != expected:
        raise UserError(f"{path} has {size} bytes of {expected}: it was cut; copy or download it again")


def _data_size(path: Path, header: bytes) -> int:
    try:
        entries = json.loads(header)
        return max((entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{path}: its header cannot be read: copy or download it again") from error
