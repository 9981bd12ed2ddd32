"""Where a run's figures go besides its own directory: config group `logger`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from grpo_aflow.types import InfrastructureError, UserError


class Log(Protocol):
    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class NoLogger:
    """Nowhere: `metrics.jsonl` alone."""

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> Log:
        return _Silent()


@dataclass(frozen=True, kw_only=True, slots=True)
class WandB:
    """Weights & Biases; offline (written under the run directory) when WANDB_API_KEY is not set."""

    project: str
    entity: str | None
    group: str | None
    init_timeout_s: float

    def start(self, run_dir: Path, config: Mapping[str, Any]) -> Log:
        try:
            import wandb
        except ImportError as error:
            raise UserError("logger=wandb needs the package wandb: install the extra `wandb`") from error
        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        try:
            run = wandb.init(
                project=self.project,
                entity=self.entity,
                group=self.group,
                name=run_dir.name,
                dir=str(run_dir),
                config=dict(config),
                mode=mode,  # type: ignore[arg-type]
                settings=wandb.Settings(init_timeout=self.init_timeout_s, silent=True),
            )
        except (wandb.errors.CommError, wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
            reason = str(error).splitlines()[0]
            raise InfrastructureError(
                f"W&B cannot be used ({reason}); log later with WANDB_MODE=offline, or choose logger=none"
            ) from error
        return _WandBLog(run)


class _Silent:
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


class _WandBLog:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()
