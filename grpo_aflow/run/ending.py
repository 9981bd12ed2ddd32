"""How a run ends: its folder is closed with a status, or removed where there is nothing in it to go on with."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from grpo_aflow.run.command_line import override
from grpo_aflow.run.faults import known
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.signals import Interrupt, Interrupted
from grpo_aflow.types import BudgetReached, Pruned, UserError


@contextmanager
def ending(run: RunDirectory, interrupt: Interrupt) -> Iterator[None]:
    """Close `run` at the end of the block, however that comes; a run that never began leaves nothing behind."""
    interrupt.at_once = lambda number: _at_once(run, number)
    try:
        yield
    except BaseException as error:
        with suppress(UserError, OSError):  # a full disk: the error that ended the run is the one to tell
            _leave(run, _status(error), begun=interrupt.graceful)
        if isinstance(error, asyncio.CancelledError):
            interrupt.check("interrupted before the first step")
        raise
    run.close("done")


def _leave(run: RunDirectory, status: str, *, begun: bool) -> None:
    if begun:
        run.close(status)
    else:
        run.discard()


def _at_once(run: RunDirectory, number: int) -> None:
    """Say and record that a second signal ended the run where it stood."""
    name = signal.Signals(number).name
    with suppress(UserError, OSError):
        run.close(f"ended at once by a second {name}")
    again = override("resume", run.path)
    with suppress(OSError, ValueError):
        print(
            f"error: ended at once by a second {name}; what was saved before it is kept; {again}",
            file=sys.stderr,
            flush=True,
        )


def _status(error: BaseException) -> str:
    if isinstance(error, Interrupted | asyncio.CancelledError):
        return "interrupted"
    if isinstance(error, BudgetReached):
        return "budget reached"
    if isinstance(error, Pruned):
        return "pruned"
    told = known(error)
    return "crashed" if told is None else "failed: " + (str(told).splitlines() or [""])[0]
