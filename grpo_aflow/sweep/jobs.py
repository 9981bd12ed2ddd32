"""One job of a sweep, in whatever process the launcher runs it: from its composed config to its row.

A job whose process was killed goes on with the run that it had begun, when its sweep is taken up again.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from grpo_aflow.config.outcome import outcome
from grpo_aflow.config.parsing import check_name, first_line
from grpo_aflow.run.objective import intermediate
from grpo_aflow.sweep.cards import take_card
from grpo_aflow.sweep.rows import SIGNALLED, Job, goes_on, read_job, summarise
from grpo_aflow.types import UserError

IN_ONE_PROCESS = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
FOLDER_KEY = "hydra.sweep.dir"


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """Who is told of a run as it goes: where its folder is, and the figures of each step."""

    run: str | None = None  # the run of this job, to be gone on with as it was
    opened: Callable[[Path], None] = lambda folder: None
    stepped: Callable[[Mapping[str, float]], None] = lambda figures: None


def sweep_settings(config: DictConfig) -> dict[str, Any]:
    """What makes a sweep this one: its command line, the config under it, and what it searches."""
    own, sweeper = config.hydra, config.hydra.sweeper
    groups = OmegaConf.masked_copy(config, [str(key) for key in config if key not in ("hydra", "paths", "sweep")])
    return {
        "overrides": [one for one in own.overrides.task if not one.startswith(("paths.", "sweep."))],
        "sweeper": sweeper._target_,
        "params": dict(sweeper.get("params") or {}),
        "direction": sweeper.get("direction", "maximize"),
        "config": OmegaConf.to_container(groups),
    }


def check_first_job(config: DictConfig) -> None:
    """Compose the first job of a sweep, so that what no job can be composed from is refused before anything is written.

    config: the one under the sweep, before any job; raises Hydra's errors, and UserError where no job can be.
    """
    if "name" in config:
        check_name(config.name)
    loader = GlobalHydra.instance().config_loader()
    given = OverridesParser.create(config_loader=loader).parse_overrides(list(config.hydra.overrides.task))
    loader.load_sweep_config(config, [_first_value(one) for one in given])


def keep_in(folder: Path, config: DictConfig) -> None:
    """Have all jobs of a sweep know its folder, whose name may be made of what they differ in, as `name` or a group.

    config: the one under the sweep, before any job; the jobs are composed with its `hydra.overrides`.
    """
    quoted = str(folder).replace("'", r"\'")
    with read_write(config.hydra), open_dict(config.hydra):
        others = [one for one in config.hydra.overrides.hydra if one.lstrip("+").partition("=")[0] != FOLDER_KEY]
        config.hydra.overrides.hydra = [*others, f"{FOLDER_KEY}='{quoted}'"]


def _first_value(override: Override) -> str:
    if override.is_interval_sweep():
        return f"{override.get_key_element()}={cast('IntervalSweep', override.value()).start}"
    if override.is_discrete_sweep():
        for value in override.sweep_string_iterator():
            return f"{override.get_key_element()}={value}"
        raise UserError(f"{override.input_line}: holds no value, so there is nothing to sweep over")
    return str(override.input_line)


def run_job(cfg: DictConfig, task: Callable[[DictConfig, Watch], Any]) -> float:
    """Run a job of a sweep: however it ends, that is a row of the table. One that ended well is not run again."""
    own = HydraConfig.get()
    folder = Path(own.sweep.dir)
    job = read_job(folder, own.job.num)
    if job is None or not job.ended_well:
        if own.launcher._target_ != IN_ONE_PROCESS:
            take_card(own.job.num)
        job = _run_row(cfg, task, Job(job=own.job.num, overrides=tuple(own.overrides.task), run=_unfinished(job)))
    if not goes_on(job.code or 0, stop_on_error=OmegaConf.select(cfg, "sweep.stop_on_error", default=False)):
        if own.launcher._target_ == IN_ONE_PROCESS:
            summarise(folder)
        raise SystemExit(job.code)
    return math.nan if job.value is None else job.value


def _run_row(cfg: DictConfig, task: Callable[[DictConfig, Watch], Any], job: Job) -> Job:
    """Run a job, or go on with the run that it had before the sweep was killed; its row is written at both ends."""
    folder = Path(HydraConfig.get().sweep.dir)
    rows = [job]

    def opened(run: Path) -> None:
        rows.append(job.begun(run))
        rows[-1].write(folder)

    def work() -> Any:
        return task(cfg, Watch(run=job.run, opened=opened, stepped=_told_to_study(cfg)))

    try:
        code, value, reason = outcome(work)
    except Exception as error:  # noqa: BLE001 - a fault of ours, which is to cost one job and no sweep
        traceback.print_exc()
        code, value, reason = 1, None, f"{type(error).__name__}: {first_line(error)}"
    rows.append(rows[-1].ended(code=code, value=value, reason=reason, pruned=code == 0 and bool(reason)))
    rows[-1].write(folder)
    return rows[-1]


def _unfinished(before: Job | None) -> str | None:
    """The run that a job began and did not end, because its process was killed or interrupted; None for a bad one."""
    if before is None or before.run is None or not (before.code is None or before.code >= SIGNALLED):
        return None
    return before.run if (Path(before.run) / "config.yaml").is_file() else None


def _told_to_study(cfg: DictConfig) -> Callable[[Mapping[str, float]], None]:
    """What tells a job's steps to the search that it belongs to; nothing where it belongs to none."""
    own = HydraConfig.get()
    if not own.sweeper.get("prune"):
        return lambda figures: None
    from grpo_aflow.sweep.study import Settings, Trial

    values = {field.name: own.sweeper[field.name] for field in fields(Settings)}
    trial = Trial(Path(own.sweep.dir), own.job.num, Settings(**values))
    metric = cfg.get("objective_metric")
    return lambda figures: trial.step(int(figures["step"]), intermediate(metric, figures))
