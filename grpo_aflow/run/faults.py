"""What can go wrong around a run without being a fault of this program, as the one line that a user gets."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import traceback
from pathlib import Path

from grpo_aflow.types import InfrastructureError, UserError

NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)


def cannot_write(path: Path | str, error: OSError) -> InfrastructureError:
    """A file or folder that does not take what is to be written."""
    return InfrastructureError(f"cannot write {path}: {error.strerror or error}; {_remedy(error)}")


def as_os_error(error: BaseException) -> OSError | None:
    """The OSError that an error is, or that a library in Rust (safetensors, tokenizers) has put into its own words.

    Where a folder could not be copied, that of its first file.
    """
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        _, target, reason = error.args[0][0]
        found = re.search(r"\[Errno (\d+)\]", reason)
        return OSError(int(found[1]), os.strerror(int(found[1])), target) if found else error
    if isinstance(error, OSError):
        return error
    found = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def known(error: BaseException) -> UserError | None:
    """The error for the user; None for one that is a fault of this program, and for what is no fault at all."""
    if isinstance(error, UserError):
        return error
    refused = as_os_error(error)
    if refused is not None and refused.errno and refused.filename:
        return InfrastructureError(f"cannot use {refused.filename}: {refused.strerror}; {_remedy(refused)}")
    if refused is not None and refused.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE):
        return InfrastructureError(f"{refused.strerror}; {_remedy(refused)}")
    if isinstance(error, sqlite3.Error):
        return InfrastructureError(f"the answers in cache.sqlite cannot be used ({error}): restore it from a copy")
    if isinstance(error, MemoryError):
        return InfrastructureError("this machine has no memory left; give the run more, or a smaller one")
    return None


def raised_at(error: BaseException) -> str:
    """The place in a user's own code, for the line that tells of it: its file and line."""
    innermost = traceback.extract_tb(error.__traceback__)[-1]
    return f"{innermost.filename}, line {innermost.lineno}"


def _remedy(error: OSError) -> str:
    if error.errno in NOT_ALLOWED:
        return "make it writable for this user, or give another place"
    if error.errno in GONE:
        return "it was moved or deleted; put it back"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (ulimit -n)"
    return "make room on its disk"
