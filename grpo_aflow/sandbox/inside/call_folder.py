"""The temporary folder of one call: how much is in it, and how it is emptied whatever generated code made of it."""

from __future__ import annotations

import contextlib
import os

MAX_ENTRIES = 1000  # files and folders of one call


def used_bytes(root: str, limit: int) -> int:
    """Bytes under a folder; more than `limit` when it holds too many entries to count."""
    total = num_entries = 0
    folders = [root]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                num_entries += 1
                if num_entries > MAX_ENTRIES:
                    return limit + 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def remove(folder: str) -> None:
    """Remove a folder however deep it is and whatever its modes are: what is nested moves up before it is emptied."""
    pending = [folder]
    num_moved = 0
    while pending:
        current = pending.pop()
        os.chmod(current, 0o700)
        with os.scandir(current) as entries:
            found = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for path, is_folder in found:
            if is_folder:
                num_moved += 1
                os.chmod(path, 0o700)
                os.rename(path, f"{folder}.{num_moved}")
                pending.append(f"{folder}.{num_moved}")
            else:
                os.unlink(path)
        os.rmdir(current)
