"""Hydra's plugin `hydra/sweeper=tpe`: Optuna's search with resuming and pruning, over any launcher.

Hydra looks for plugins in the namespace package `hydra_plugins` only, and reads all of them whenever a command starts:
what is heavy is imported in `grpo_aflow.sweep.study`, when a search begins. The search space is written in Hydra's
sweep syntax, on the command line or in `hydra.sweeper.params`:

    lora.rank=8,16,32                                       one of these
    schedule.learning_rate=tag(log,interval(1e-4,1e-2))     a number between, on a logarithmic scale
    schedule.group_size=range(4,17,4)                       4, 8, 12 or 16
"""

# No `from __future__ import annotations`: Hydra executes this file before sys.modules has it, where dataclasses looks.

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from optuna.distributions import BaseDistribution

    from grpo_aflow.sweep.study import Study, Suggestion


@dataclass
class TpeConfig:
    """Config group `hydra/sweeper`, option `tpe`; the fields of `grpo_aflow.sweep.study.Settings`, and three more."""

    _target_: str = "hydra_plugins.grpo_aflow_tpe.TpeSweeper"
    n_trials: int = 20
    n_jobs: int = 1  # trials under way at once: the launcher must be able to run as many
    params: dict[str, str] = field(default_factory=dict)  # the search space, beside the command line
    direction: str = "maximize"
    seed: int = 0
    startup_trials: int = 8
    prune: bool = True
    prune_after_trials: int = 4
    prune_after_steps: int = 4


ConfigStore.instance().store(group="hydra/sweeper", name="tpe", node=TpeConfig, provider="grpo_aflow")


class TpeSweeper(Sweeper):
    """Asks the study for trials, launches them as jobs, and tells it what their rows say."""

    def __init__(self, *, n_trials: int, n_jobs: int, params: Mapping[str, str], **settings: Any) -> None:
        from grpo_aflow.sweep.study import Settings

        self.n_trials, self.n_jobs, self.params = n_trials, n_jobs, params
        self.settings = Settings(**settings)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        from grpo_aflow.sweep.study import Study

        written = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        overrides = OverridesParser.create(config_loader=self.hydra_context.config_loader).parse_overrides(written)
        fixed = [override.input_line for override in overrides if not override.is_sweep_override()]
        space = {o.get_key_element(): distribution(o) for o in overrides if o.is_sweep_override()}
        _check(space, self.n_trials, self.n_jobs)
        study = Study(Path(self.config.hydra.sweep.dir), self.settings, space)
        for batch in self._batches(study):
            self._launch(study, batch, [str(line) for line in fixed])

    def _batches(self, study: "Study") -> Iterator[Sequence["Suggestion"]]:
        """What a killed sweep has left first; then as many at a time as run at once, until enough have ended."""
        yield from consecutive(study.unfinished())
        while (left := self.n_trials - study.num_ended) > 0:
            yield [study.ask() for _ in range(min(left, self.n_jobs))]

    def _launch(self, study: "Study", batch: Sequence["Suggestion"], fixed: Sequence[str]) -> None:
        from grpo_aflow.sweep.rows import Job, read_job

        jobs = [(*fixed, *(f"{key}={value}" for key, value in trial.params.items())) for trial in batch]
        self.launcher.launch(jobs, initial_job_idx=batch[0].number)
        for trial, overrides in zip(batch, jobs, strict=True):
            row = read_job(Path(self.config.hydra.sweep.dir), trial.number)
            study.tell(row or Job(job=trial.number, overrides=overrides))


def consecutive(trials: Sequence["Suggestion"]) -> list[list["Suggestion"]]:
    """Trials by runs of consecutive numbers: a launcher counts on from the first."""
    runs = itertools.groupby(enumerate(trials), key=lambda pair: pair[1].number - pair[0])
    return [[trial for _, trial in run] for _, run in runs]


def distribution(override: "Override") -> "BaseDistribution":
    """What a sweep of Hydra's syntax draws from; UserError for one that has no values to draw."""
    from grpo_aflow.types import UserError

    try:
        if (found := _distribution(override)) is not None:
            return found
        reason = ""
    except ValueError as error:  # Optuna's word on the bounds
        reason = f" ({error})"
    raise UserError(
        f"{override.input_line}: cannot be searched{reason}; give a,b,c or interval(low,high) or range(low,high,step), "
        "low before high, and low above 0 with tag(log,...)"
    )


def _distribution(override: "Override") -> "BaseDistribution | None":
    """None for a sweep of another kind; ValueError for bounds between which there is nothing."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = override.value()
    if override.is_choice_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    if override.is_range_sweep():
        numbers = sorted(value.range())
        if not numbers:
            raise ValueError("it holds no number")
        whole = all(isinstance(number, int) for number in numbers)
        return (IntDistribution if whole else FloatDistribution)(numbers[0], numbers[-1], step=abs(value.step))
    if override.is_interval_sweep():
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        return (IntDistribution if whole else FloatDistribution)(value.start, value.end, log="log" in value.tags)
    return None


def _check(space: Mapping[str, Any], n_trials: int, n_jobs: int) -> None:
    from grpo_aflow.types import UserError

    if not space:
        raise UserError(
            "hydra/sweeper=tpe: nothing to search; give for example lora.rank=8,16 or "
            "'schedule.learning_rate=tag(log,interval(1e-4,1e-2))'"
        )
    if n_trials < 1 or n_jobs < 1:
        raise UserError(f"hydra.sweeper: n_trials={n_trials}, n_jobs={n_jobs}: must be at least 1")
