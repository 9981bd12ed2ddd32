"""How a piece of a command's work ends: its value, or an exit code and the one line that a user gets."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from grpo_aflow.config.parsing import first_line
from grpo_aflow.run.faults import known
from grpo_aflow.run.own_modules import search_working_folder
from grpo_aflow.types import InfrastructureError, UserError

LAUNCHERS = {"joblib", "submitit", "ray"}  # whose own errors are about a worker's process


def outcome(task: Callable[[], Any]) -> tuple[int, Any, str]:
    """(exit code, value, reason) of a piece of work; what a user can correct is printed as one line."""
    try:
        search_working_folder()  # here, since a sweep's jobs may have processes of their own
        return 0, task(), ""
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__  # where Hydra makes an object of ours, as a sweeper
        code, reason = 2, str(cause) if isinstance(cause, UserError) else first_line(error)
    except KeyboardInterrupt:
        code, reason = 130, "interrupted"
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_of_hydra(error):  # its reader has seen enough: --help | head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0, None, ""
        told = known(error) or _from_hydra(error) or _from_launcher(error)
        if told is None:
            raise
        code, reason = told.code, str(told)
    with suppress(OSError, ValueError):  # nobody reads it any more
        quiet = code == 0 or reason == "interrupted"
        print(reason if quiet else f"error: {reason}", file=sys.stderr, flush=True)
    return code, None, reason


def _from_hydra(error: Exception) -> UserError | None:
    """Hydra raises plain errors for some overrides: what comes out of its own code is about the command line."""
    if _is_of_hydra(error):
        return UserError(f"{first_line(error)}; see the command line: {' '.join(sys.argv[1:])}")
    return None


def _is_of_hydra(error: Exception) -> bool:
    innermost = traceback.extract_tb(error.__traceback__)[-1].filename
    return bool({"hydra", "omegaconf"} & set(Path(innermost).parts))


def _from_launcher(error: Exception) -> UserError | None:
    """A worker's process that died is nothing that a job could tell; nor is a machine without a scheduler."""
    innermost = traceback.extract_tb(error.__traceback__)[-1].filename
    if "submitit" in Path(innermost).parts and isinstance(error, RuntimeError):
        return UserError(f"hydra/launcher: {first_line(error)}; choose another, for example hydra/launcher=joblib")
    if type(error).__module__.split(".")[0] in LAUNCHERS:
        return InfrastructureError(
            f"the launcher lost a job ({first_line(error)}); "
            "the same command with hydra.sweep.dir=<the sweep's folder> goes on"
        )
    return None
