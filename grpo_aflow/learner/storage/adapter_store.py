"""Where adapters lie between learner and sampler: one new folder per version, in memory-backed storage.

A folder is written under a temporary name and renamed when it is complete, so that what is visible is whole. Stores of
one machine that publish the same versions keep one copy of each between them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from grpo_aflow.types import Adapter, InfrastructureError

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "grpo-aflow-adapters-"
NEEDED_BYTES = 1 << 30  # free space from which shared memory is used, where the caller does not say

logger = logging.getLogger(__name__)


class AdapterStore:
    """A folder of published versions, removed on `close`.

    Args:
        root: parent of the folder; None takes /dev/shm where it has `needed_bytes` free, else the temporary folder.
        shared_by: names the stores that publish the same versions; empty: there is no other.
    """

    def __init__(self, root: Path | None = None, *, needed_bytes: int = NEEDED_BYTES, shared_by: str = "") -> None:
        parent = root or _memory_backed(needed_bytes)
        self._siblings = f"{PREFIX}{shared_by}-" if shared_by else ""
        try:
            parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix=self._siblings or PREFIX, dir=parent))
        except OSError as error:
            raise InfrastructureError(
                f"cannot write adapters to {parent}: {error.strerror}; free space there"
            ) from error

    def publish(self, save: Callable[[Path], None], version: int) -> Adapter:
        """Write one version with `save(folder)` and make it visible; a version is published once."""
        target = self.folder / f"v{version}"
        if target.exists():
            raise ValueError(f"version {version} is published already; every publish needs a new version")
        temporary = self.folder / f".v{version}"
        try:
            temporary.mkdir()
            save(temporary)
            temporary.rename(target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise InfrastructureError(
                f"cannot write the adapter of version {version} to {self.folder}: {error}; free space there"
            ) from error
        return Adapter(version=version, path=target)

    def publish_files(self, files: Mapping[str, bytes], version: int) -> Adapter:
        """As `publish`; a file that another store has, of those that share, is linked to and not written again."""

        def save(folder: Path) -> None:
            for name, content in files.items():
                if not self._linked(version, name, folder):
                    (folder / name).write_bytes(content)

        with self._turn():
            return self.publish(save, version)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Only one of the stores that share is in here at a time."""
        if not self._siblings:
            yield
            return
        parent = os.open(self.folder.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(parent, fcntl.LOCK_EX)
            yield
        finally:
            os.close(parent)

    def _linked(self, version: int, name: str, folder: Path) -> bool:
        """Whether a store that shares had the file; what is visible there is whole."""
        for other in self.folder.parent.glob(f"{self._siblings}*/v{version}/{name}") if self._siblings else ():
            with suppress(OSError):  # that store is going, or there are no links here: the file is written, then
                os.link(other, folder / name)
                return True
        return False

    def remove(self, version: int) -> None:
        """Delete a version's files; the sampler must have retired it."""
        shutil.rmtree(self.folder / f"v{version}")

    def close(self) -> None:
        """Delete everything. May be called again."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _memory_backed(needed_bytes: int) -> Path:
    temporary = Path(tempfile.gettempdir())
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        logger.warning("no %s here: adapters are published through %s", SHARED_MEMORY, temporary)
        return temporary
    if free >= needed_bytes:
        return SHARED_MEMORY
    logger.warning(
        "%s has %.1f GiB free, less than %.1f: adapters are published through %s",
        SHARED_MEMORY,
        free / 2**30,
        needed_bytes / 2**30,
        temporary,
    )
    return temporary
