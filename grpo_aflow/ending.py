"""How a run ends: its folder is closed with a status, or removed where there is nothing in it to go on with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from grpo_aflow.interrupt import Interrupt, Interrupted
from grpo_aflow.record import RunDirectory
from grpo_aflow.types import BudgetReached, InfrastructureError, UserError


@contextmanager
def ending(run: RunDirectory, interrupt: Interrupt) -> Iterator[None]:
    """Close `run` at the end of the block, however that comes; a run that never began leaves nothing behind."""
    try:
        yield
    except asyncio.CancelledError:
        _leave(run, "interrupted", begun=interrupt.graceful)
        interrupt.check("interrupted before the first step")
        raise
    except BaseException as error:
        with suppress(InfrastructureError):  # a full disk: the error that ended the run is the one to tell
            _leave(run, _status(error), begun=interrupt.graceful)
        raise
    run.close("done")


def _leave(run: RunDirectory, status: str, *, begun: bool) -> None:
    if run.resumed or begun:
        run.close(status)
    else:
        run.discard()


def _status(error: BaseException) -> str:
    if isinstance(error, Interrupted):
        return "interrupted"
    if isinstance(error, BudgetReached):
        return "budget reached"
    return "failed: " + (str(error).splitlines() or [""])[0] if isinstance(error, UserError) else "crashed"
