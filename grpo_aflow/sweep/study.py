"""A study in a sweep's folder (`study.sqlite`): Optuna's tree-structured Parzen estimator, told by several processes.

A trial's number is its job's number. The sweep asks for trials and tells their ends; a job tells the value of each of
its steps and learns whether its trial lags behind. A sweep that was killed finds its unfinished trials again.
Needs the extra `sweep`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_aflow.config.parsing import MAX_SEED
from grpo_aflow.sweep.rows import SIGNALLED, Job
from grpo_aflow.types import InfrastructureError, Pruned, UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import Study as OptunaStudy

FILE, NAME = "study.sqlite", "study"
WAIT_S = 60.0  # for other processes' writes


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a study searches, and when it gives a trial up."""

    direction: str = "maximize"  # or minimize
    seed: int = 0
    startup_trials: int = 8  # drawn by chance before the estimator is asked
    prune: bool = True  # give up a trial whose best step so far is worse than the others' median at that step
    prune_after_trials: int = 4  # not before so many have ended
    prune_after_steps: int = 4

    def __post_init__(self) -> None:
        if self.direction not in ("maximize", "minimize"):
            raise UserError(f"hydra.sweeper.direction={self.direction}: must be maximize or minimize")
        if not 0 <= self.seed <= MAX_SEED:
            raise UserError(f"hydra.sweeper.seed={self.seed}: a seed must be from 0 to {MAX_SEED}")
        for name in ("startup_trials", "prune_after_trials", "prune_after_steps"):
            if getattr(self, name) < 0:
                raise UserError(f"hydra.sweeper.{name}={getattr(self, name)}: must be 0 or more")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A trial to be run: its number is its job's, `params` what it tries."""

    number: int
    params: Mapping[str, Any]


class Study:
    """The sweep's side."""

    def __init__(self, folder: Path, settings: Settings, space: Mapping[str, BaseDistribution]) -> None:
        """Open the folder's study, or begin one."""
        optuna = _optuna()
        self._file, self._space = folder / FILE, dict(space)
        with _storage(self._file) as storage:
            self._study = optuna.create_study(
                storage=storage, study_name=NAME, direction=settings.direction, load_if_exists=True
            )
            # another seed after a resume, or the draws before it would come again
            seed = (settings.seed + len(self._study.get_trials(deepcopy=False))) % (MAX_SEED + 1)
            self._study.sampler = _sampler(settings, seed=seed)

    @property
    def num_ended(self) -> int:
        """Trials that have ended, well or badly."""
        with _faults(self._file):
            return sum(trial.state.is_finished() for trial in self._study.get_trials(deepcopy=False))

    def unfinished(self) -> list[Suggestion]:
        """The trials that a killed sweep has left; one that was not even drawn completely is a failure."""
        from optuna.trial import TrialState

        with _faults(self._file):
            running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            for trial in running:
                if trial.params.keys() != self._space.keys():
                    self._study.tell(trial.number, state=TrialState.FAIL)
            whole = [trial for trial in running if trial.params.keys() == self._space.keys()]
            return [Suggestion(trial.number, trial.params) for trial in whole]

    def ask(self) -> Suggestion:
        with _faults(self._file):
            trial = self._study.ask(self._space)
            return Suggestion(trial.number, trial.params)

    def tell(self, job: Job) -> None:
        """A trial's end. One that failed by its parameters counts as pruned: the estimator ranks it among the bad."""
        from optuna.trial import TrialState

        lost = job.code is None or job.code == InfrastructureError.code or job.code >= SIGNALLED  # no parameter's fault
        with _faults(self._file):
            if job.value is not None:
                self._study.tell(job.job, job.value)
            else:
                self._study.tell(job.job, state=TrialState.FAIL if lost else TrialState.PRUNED)


class Trial:
    """A job's side: told the value of each step, it ends the run by Pruned where the trial lags behind."""

    def __init__(self, folder: Path, number: int, settings: Settings) -> None:
        optuna = _optuna()
        self._file = folder / FILE
        with _storage(self._file) as storage:
            self._study: OptunaStudy = optuna.load_study(study_name=NAME, storage=storage, pruner=_pruner(settings))
            found = next(trial for trial in self._study.get_trials(deepcopy=False) if trial.number == number)
            self._trial = optuna.trial.Trial(self._study, found._trial_id)
        self._known = set(found.intermediate_values)  # of the run before it was resumed

    def step(self, step: int, value: float) -> None:
        """Record what a step was worth; raises Pruned where that is worse than most other trials had.

        A step without a value, as where all of it was masked, tells nothing: Optuna would prune for it.
        """
        if not math.isfinite(value):
            return
        with _faults(self._file):
            if step not in self._known:
                self._trial.report(value, step)
            lags = self._trial.should_prune()
        if lags:
            raise Pruned(f"pruned at step {step}: {value:.4f} is worse than the other trials' median there")


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UserError("hydra/sweeper=tpe needs the package optuna: install the extra `sweep`") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _sampler(settings: Settings, *, seed: int) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, n_startup_trials=settings.startup_trials)


def _pruner(settings: Settings) -> BasePruner:
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=settings.prune_after_trials, n_warmup_steps=settings.prune_after_steps)


@contextmanager
def _storage(file: Path) -> Iterator[Any]:
    from optuna.storages import RDBStorage

    with _faults(file):
        yield RDBStorage(f"sqlite:///{file.resolve()}", engine_kwargs={"connect_args": {"timeout": WAIT_S}})


@contextmanager
def _faults(file: Path) -> Iterator[None]:
    """What can be wrong with the file, as one line for the user."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        text = f"{error} {error.__cause__ or ''}"
        if "locked" in text:
            raise UserError(
                f"{file} is locked by another process: stop it, then give the same command with "
                f"hydra.sweep.dir={file.parent}"
            ) from error
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"{file} cannot be used ({reason}): restore it, or choose another hydra.sweep.dir") from error
