"""Lines of the append-only files that a resumed run reads again: each is written whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from grpo_aflow.run.faults import cannot_write


def append(file: int, path: Path, line: bytes) -> None:
    """Write one line, newline included, to the descriptor `file` of `path`, which is open for appending.

    A disk that fills up takes a part of it: that part is cut off again, or the next line would be joined to it.
    Raises InfrastructureError.
    """
    size, written = os.fstat(file).st_size, 0
    try:
        while written < len(line):
            written += os.write(file, line[written:])
    except OSError as error:
        os.ftruncate(file, size)
        raise cannot_write(path, error) from error
