"""Which policy versions a sampler serves, and which of them are still held by requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from grpo_aflow.run.weights import missing_file
from grpo_aflow.types import BASE, Adapter, InfrastructureError

Handle = TypeVar("Handle")  # what the engine calls a version


def check_whole(adapter: Adapter) -> None:
    """Raise InfrastructureError when a file is missing; PEFT itself would look for it on the hub."""
    if missing := missing_file(adapter.path):
        raise InfrastructureError(
            f"cannot load the adapter {adapter.path} of version {adapter.version}: it has no {missing}; it was removed "
            "after it was written, or never whole"
        )


class ServedVersions(Generic[Handle]):
    """A version is added once, held by its requests, and removed when the last one has ended."""

    def __init__(self) -> None:
        self._handles: dict[int, Handle] = {}
        self._num_holds: dict[int, int] = {}
        self._released = asyncio.Condition()

    def __contains__(self, version: int) -> bool:
        return version in self._handles

    def check_new(self, version: int) -> None:
        """Raise ValueError when a version cannot be added."""
        if version < 0:
            raise ValueError(f"version must be at least 0; got {version}")
        if version in self._num_holds:
            raise ValueError(f"version {version} is served already; every publish needs a new version")

    def add(self, version: int, handle: Handle) -> None:
        self.check_new(version)
        self._handles[version] = handle
        self._num_holds[version] = 0

    def handle(self, version: int) -> Handle:
        if version not in self._handles:
            raise ValueError(f"version {version} is not served; served: {sorted(self._handles) or 'none'}")
        return self._handles[version]

    @contextmanager
    def hold(self, version: int | None) -> Iterator[Handle | None]:
        """Keep a version alive while a request runs under it; yields None for the base model."""
        if version is None or version == BASE:
            yield None
            return
        handle = self.handle(version)
        self._num_holds[version] += 1
        try:
            yield handle
        finally:
            self._num_holds[version] -= 1
            if version not in self._handles:  # somebody waits in `remove`
                asyncio.get_running_loop().create_task(self._notify())

    async def remove(self, version: int) -> Handle:
        """Refuse new requests for a version, wait until no request holds it, return its handle."""
        handle = self.handle(version)
        del self._handles[version]
        async with self._released:
            await self._released.wait_for(lambda: self._num_holds[version] == 0)
        del self._num_holds[version]
        return handle

    async def _notify(self) -> None:
        async with self._released:
            self._released.notify_all()
