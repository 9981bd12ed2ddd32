"""Running generated code and saying what went wrong with it, in the process that is confined for it."""

from __future__ import annotations

import errno
import linecache
import os
import random
import sys
import traceback
import types
from typing import Any

Namespace = dict[str, Any]  # the globals of generated code, which may be anything
SOLUTION = "<solution>"  # the file name of generated code in tracebacks
MAX_ERROR = 2000  # characters of a traceback that are handed on
MAX_SOURCE_BYTES = 16 << 20
_NO_THREAD = "can't start new thread"  # what Python's RuntimeError says where the memory for its stack is not there
_LIMIT_ERRORS = (errno.ENOMEM, errno.EMFILE, errno.EFBIG, errno.EAGAIN, errno.EDQUOT, errno.ENOSPC)


def new_namespace(name: str) -> Namespace:
    """The globals of a new module of that name."""
    sys.set_int_max_str_digits(0)
    random.seed(0)  # the same program gives the same answer each time
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module.__dict__


def execute(source: str, namespace: Namespace) -> None:
    """Run `source` with these globals. Raises whatever it raises."""
    linecache.cache[SOLUTION] = (len(source), None, source.splitlines(keepends=True), SOLUTION)
    exec(compile(source, SOLUTION, "exec", dont_inherit=True), namespace)


def describe(error: BaseException) -> str:
    """The error and its place in the generated code, without frames or paths of the host."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)[-40:] if frame.filename == SOLUTION]
    try:
        what = "".join(traceback.format_exception_only(error))
    except BaseException:  # noqa: BLE001  the exception's own __str__ is generated code
        what = type(error).__name__
    text = "".join([*traceback.format_list(frames[-8:]), what]).replace(os.getcwd(), ".").strip()
    return text if len(text) <= MAX_ERROR else f"{text[: MAX_ERROR // 2]} ... {text[-MAX_ERROR // 2 :]}"


def is_limit(error: BaseException) -> bool:
    """Whether it says that a limit was reached (or that something was denied for want of one)."""
    if type(error) is RuntimeError:
        return error.args == (_NO_THREAD,)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _LIMIT_ERRORS)
