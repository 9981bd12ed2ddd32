"""Where a run's figures go besides its own directory: config group `logger`, of which several may be chosen at once.

Each option is a frozen dataclass: `check` refuses what cannot work before anything is opened, `start` gives a
`background.Log`, which reaches its service from a thread of its own.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_aflow.run.background import CLOSE_S, Log, Say
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.types import UserError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

MODES = ("online", "offline", "disabled", "shared")
WANDB_RUN = "wandb_run"  # in the manifest: the id under which a resumed run goes on
REPORT = "report.html"  # in the run folder: what grpo-aflow-report makes of it
COLUMNS = ("step", "task", "dataset", "status", "reward", "advantage", "num_calls", "cost_usd", "answer", "source")


@dataclass(frozen=True, kw_only=True, slots=True)
class WandB:
    """Weights & Biases; offline (written under the run directory) when WANDB_API_KEY is not set."""

    project: str
    entity: str | None
    group: str | None
    init_timeout_s: float
    table_rows: int

    def __post_init__(self) -> None:
        if self.table_rows < 0:
            raise ValueError(f"table_rows must be 0 (no tables) or more; got {self.table_rows}")

    def check(self) -> None:
        """Refuse a missing package and a mode that there is not. Raises UserError."""
        wandb_mode()
        _need("wandb", "wandb")

    def start(self, run: RunDirectory, config: Mapping[str, Any], *, begin: int) -> Log:
        """A new W&B run, or the one that this run had before it was resumed."""
        name = run.manifest().get(WANDB_RUN) or secrets.token_hex(4)
        run.update_manifest(**{WANDB_RUN: name})
        return _WandBLog(self, run.path, name, config)


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorBoard:
    """TensorBoard's event files, in `tensorboard/` of the run directory."""

    flush_s: int

    def __post_init__(self) -> None:
        if self.flush_s < 1:
            raise ValueError(f"flush_s must be at least 1; got {self.flush_s}")

    def check(self) -> None:
        """Refuse a missing package. Raises UserError."""
        _need("tensorboard", "tensorboard")

    def start(self, run: RunDirectory, config: Mapping[str, Any], *, begin: int) -> Log:
        """Event files; of those that a resumed run has, what came after step `begin` is not shown any more."""
        return _TensorBoardLog(run.path / "tensorboard", self.flush_s, purge_step=begin + 1 if run.resumed else None)


def wandb_mode() -> str:
    """Where W&B's figures go: to its service where there is a key. Raises UserError for a mode that there is not."""
    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    if mode not in MODES:
        raise UserError(f"WANDB_MODE={mode}: must be one of {', '.join(MODES)}; set it, or leave it out")
    return mode


def _need(package: str, extra: str) -> None:
    found = find_spec(package)
    if found is None or found.origin is None:  # a folder of that name, for example W&B's own, is no package
        raise UserError(f"logger={package} needs the package {package}: install the extra `{extra}`")


class _WandBLog(Log):
    def __init__(self, settings: WandB, folder: Path, run_id: str, config: Mapping[str, Any]) -> None:
        self._settings, self._folder, self._id, self._config = settings, folder, run_id, dict(config)
        self._run: Any = None  # wandb's types are not installed everywhere

    def open(self, say: Say) -> None:
        os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")  # it would print advice to install another package
        import wandb

        try:
            self._run = self._init(wandb_mode())
        except (wandb.errors.CommError, wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
            reason = str(error).splitlines()[0]
            say(
                f"W&B cannot be used ({reason}); the run goes on and keeps its figures offline: send them later with "
                f"`wandb sync {self._folder}/wandb/offline-run-*`"
            )
            wandb.teardown()  # of the attempt, which holds the run's id
            self._run = self._init("offline")
        self._run.define_metric("*", step_metric="step")  # W&B's own counter refuses the steps that are done again

    def _init(self, mode: str) -> Any:
        import wandb

        return wandb.init(
            project=self._settings.project,
            entity=self._settings.entity,
            group=self._settings.group,
            name=self._folder.name,
            dir=str(self._folder),
            config=self._config,
            id=self._id,
            resume="allow",
            mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(
                console="off",  # what the run prints goes to no service: that would pass every line through it
                init_timeout=self._settings.init_timeout_s,
                finish_timeout=CLOSE_S * 0.9,
                silent=True,
            ),
        )

    def log(self, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures))

    def rollouts(self, step: int, lines: Sequence[Mapping[str, Any]]) -> None:
        if not self._settings.table_rows:
            return
        import wandb

        rows = [[line.get(column) for column in COLUMNS] for line in lines[: self._settings.table_rows]]
        self._run.log({"step": step, "rollouts": wandb.Table(columns=list(COLUMNS), data=rows)})

    def close(self, error: BaseException | None) -> None:
        import wandb

        if (report := self._folder / REPORT).is_file():
            artifact = wandb.Artifact(f"report-{self._id}", type="report")
            artifact.add_file(str(report))
            self._run.log_artifact(artifact)
        self._run.summary["status"] = "done" if error is None else str(error) or type(error).__name__
        self._run.finish(exit_code=0 if error is None else 1)


class _TensorBoardLog(Log):
    def __init__(self, folder: Path, flush_s: int, *, purge_step: int | None) -> None:
        self._folder, self._flush_s, self._purge_step = folder, flush_s, purge_step
        self._writer: SummaryWriter

    def open(self, say: Say) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=self._purge_step, flush_secs=self._flush_s)

    def log(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            if name != "step":
                self._writer.add_scalar(name, value, int(figures["step"]))

    def close(self, error: BaseException | None) -> None:
        self._writer.close()
