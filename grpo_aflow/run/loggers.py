"""Where a run's figures go besides its own directory: config group `logger`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.types import InfrastructureError, UserError

MODES = ("online", "offline", "disabled", "shared")
WANDB_RUN = "wandb_run"  # in the manifest: the id under which a resumed run goes on


class Log(Protocol):
    def log(self, figures: Mapping[str, float]) -> None:
        """Figures of one step, which is among them as `step`."""
        ...

    def close(self, error: BaseException | None) -> None:
        """The run ended, by `error` or well."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class NoLogger:
    """Nowhere: `metrics.jsonl` alone."""

    def start(self, run: RunDirectory, config: Mapping[str, Any]) -> Log:
        return _Silent()


@dataclass(frozen=True, kw_only=True, slots=True)
class WandB:
    """Weights & Biases; offline (written under the run directory) when WANDB_API_KEY is not set."""

    project: str
    entity: str | None
    group: str | None
    init_timeout_s: float

    def start(self, run: RunDirectory, config: Mapping[str, Any]) -> Log:
        """Begin a W&B run, or go on with the one that this run had before it was resumed."""
        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        if mode not in MODES:
            raise UserError(f"WANDB_MODE={mode}: must be one of {', '.join(MODES)}; set it, or leave it out")
        try:
            import wandb
        except ImportError as error:
            raise UserError("logger=wandb needs the package wandb: install the extra `wandb`") from error
        try:
            logged = wandb.init(
                project=self.project,
                entity=self.entity,
                group=self.group,
                name=run.path.name,
                dir=str(run.path),
                config=dict(config),
                id=run.manifest().get(WANDB_RUN) or secrets.token_hex(4),
                resume="allow",
                mode=mode,  # type: ignore[arg-type]
                settings=wandb.Settings(init_timeout=self.init_timeout_s, silent=True),
            )
        except (wandb.errors.CommError, wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
            reason = str(error).splitlines()[0]
            raise InfrastructureError(
                f"W&B cannot be used ({reason}); log later with WANDB_MODE=offline, or choose logger=none"
            ) from error
        run.update_manifest(**{WANDB_RUN: logged.id})
        logged.define_metric("*", step_metric="step")  # W&B's own counter refuses the steps that are done again
        return _WandBLog(logged)


class _Silent:
    def log(self, figures: Mapping[str, float]) -> None:
        pass

    def close(self, error: BaseException | None) -> None:
        pass


class _WandBLog:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures))

    def close(self, error: BaseException | None) -> None:
        self._run.summary["status"] = "done" if error is None else str(error) or type(error).__name__
        self._run.finish(exit_code=0 if error is None else 1)
