"""The console scripts: they compose a config with Hydra, check it, and only then import what is heavy.

Whatever a user can correct is one line on stderr that names the fix, with the exit codes of the README; a traceback
means a fault of ours. A job of a sweep that ends badly is a row of the sweep's table, and the sweep goes on.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from grpo_aflow import CONF_DIR
from grpo_aflow.config.composing import with_defaults
from grpo_aflow.config.outcome import outcome
from grpo_aflow.config.parsing import build, options, parse
from grpo_aflow.config.schema import EvaluateConfig, TrainConfig
from grpo_aflow.run.command_line import override
from grpo_aflow.run.resources import starting
from grpo_aflow.run.resume import OF_TRAINING
from grpo_aflow.sweep import rows
from grpo_aflow.sweep.jobs import Watch, check_first_job, keep_in, run_job, sweep_settings
from grpo_aflow.types import UserError

HOME = re.compile(r"^([^=]+=)~(?=/|$)")  # Hydra's grammar has no ~ in values, and a shell leaves it as it is here
OF_A_RUN = re.compile(r"^(resume=(?!null$)|policy\.path=)")
KEY = re.compile(r"^(?=\w+\.[\w.]+=)")  # of a group, as in model.path=...
KEYS = {field.name for field in fields(EvaluateConfig)} | {"experiment", "hydra", "local", *OF_TRAINING}
DOCTOR_HELP = """\
grpo-aflow-doctor [--call] [overrides]: what this very run needs, and whether it is there.

  grpo-aflow-doctor                                          the tiny policy on two CPU cores
  grpo-aflow-doctor --call experiment=seed_7b                the same overrides as grpo-aflow-train
  grpo-aflow-doctor resume=runs/2026-01-31/12-00-00-first_run

Nothing is trained, built or downloaded, except tasks from the hub. --call asks the executor once, for a few tokens.
Exit code: 0 when nothing is missing, else 2; each line of the table says what to do."""


SOLVE_HELP = """\
grpo-aflow-solve [overrides of grpo-aflow-eval] "question": the workflow for it, its trace, answer and cost.

  grpo-aflow-solve policy=checkpoint policy.path=runs/2026-01-31/12-00-00-first_run "How many legs do three cats have?"
  grpo-aflow-solve policy=fixed policy.path=my_workflow.py executor=openai "What is 2+2?"
  grpo-aflow-solve solve_as=qa policy=... "..."      the kind of the question: math, qa or code (default: math)

grpo-aflow-eval --help lists the config groups and keys; --cfg job prints what a command line composes to."""


class SweepFolder(Callback):
    """Hydra's callbacks at both ends of a sweep. Hydra only warns of what they raise: a refusal is a SystemExit."""

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        code, _, _ = outcome(lambda: check_first_job(config))
        if code == 0:
            code, self.lock, _ = outcome(lambda: rows.hold(folder, sweep_settings(config)))
        if code:
            raise SystemExit(code)
        keep_in(folder, config)
        print(f"sweep folder: {folder} ({override('hydra.sweep.dir', folder)} takes it up again)", flush=True)

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        rows.summarise(folder)
        os.close(self.lock)
        _draw(folder)


def train() -> None:
    """Console script `grpo-aflow-train`."""
    _compose_and_run("config", _train)


def evaluate() -> None:
    """Console script `grpo-aflow-eval`."""
    _compose_and_run("evaluate", _evaluate)


def solve() -> None:
    """Console script `grpo-aflow-solve policy=checkpoint policy.path=... "question"`."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(SOLVE_HELP)
        return
    given = get_args_parser().parse_intermixed_args(sys.argv[1:]).overrides  # what is no option, nor its value
    questions = [argument for argument in given if not _is_override(argument)]
    sys.argv = [argument for argument in sys.argv if argument not in questions]  # free text is no Hydra override
    _compose_and_run("evaluate", partial(_solve, questions))


def data() -> None:
    """Console script `grpo-aflow-data`."""
    _compose_and_run("data", _data)


def export() -> None:
    """Console script `grpo-aflow-export RUN_OR_CHECKPOINT OUT [--merged]`."""
    from grpo_aflow.learner.storage.export import main

    _guarded(main)


def compare() -> None:
    """Console script `grpo-aflow-compare RESULTS...`."""
    from grpo_aflow.evaluation.compare_command import main

    _guarded(main)


def doctor() -> None:
    """Console script `grpo-aflow-doctor [--call] [overrides of grpo-aflow-train]`."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(DOCTOR_HELP)
        return
    call = "--call" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--call"]
    if {"-m", "--multirun"} & set(sys.argv[1:]):
        _guarded(_refuse_sweep)
    _compose_and_run("config", partial(_doctor, call))


def watch() -> None:
    """Console script `grpo-aflow-watch RUN`."""
    from grpo_aflow.analysis.watch import main

    _guarded(main)


def report() -> None:
    """Console script `grpo-aflow-report RUN...`."""
    from grpo_aflow.analysis.report.command import main

    _guarded(main)


def pipeline() -> None:
    """Console script `grpo-aflow-pipeline FOLDER`."""
    from grpo_aflow.automation import main

    _guarded(main)


def _train(cfg: DictConfig, watch: Watch) -> float:
    config = parse(_saved(cfg, "config", watch), TrainConfig)
    config.check()
    from grpo_aflow.train import train as run

    return run(config, watch.opened, watch.stepped)


def _doctor(call: bool, cfg: DictConfig, watch: Watch) -> None:
    config = parse(_saved(cfg, "config", watch), TrainConfig)
    from grpo_aflow.training.doctor import examine

    if not examine(config, call=call):
        raise SystemExit(2)


def _refuse_sweep() -> None:
    raise UserError("grpo-aflow-doctor looks at one run: leave out -m and give the overrides of one job")


def _evaluate(cfg: DictConfig, watch: Watch) -> float:
    _refuse_training_keys()
    config = parse(_settings(_saved(cfg, "evaluate", watch)), EvaluateConfig)
    config.check()
    from grpo_aflow.evaluation.command import run_evaluation

    return run_evaluation(config, watch.opened)


def _saved(cfg: DictConfig, config_name: str, watch: Watch) -> DictConfig:
    """The config as composed; where a run is resumed, its own with the changes that are allowed."""
    if watch.run is not None:
        cfg.resume = watch.run
        if "resume_from" in cfg and not any(Path(watch.run).glob("checkpoints/step_*")):
            cfg.resume_from = 0  # killed before its first checkpoint: from the beginning, with the answers that it has
    if not cfg.get("resume"):
        if cfg.get("resume_from") is not None:
            raise UserError(f"resume_from={cfg.resume_from}: of which run? give its folder, too: resume=...")
        return cfg
    from grpo_aflow.run.resume import check_kind, resumed_config
    from grpo_aflow.run.saved import saved_config

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    plain["resume"] = os.path.expanduser(str(plain["resume"]))
    saved = saved_config(plain["resume"])
    check_kind(saved, plain["resume"], training=config_name == "config")
    named = [] if watch.run is not None else _named()
    saved = with_defaults(saved, plain, config_name)
    try:
        return OmegaConf.create(resumed_config(saved, plain, named))
    except UserError:  # a key that does not exist is told as such, before it is offered as a change
        changed = resumed_config(saved, {**plain, "resume_with": named}, named)
        parse(OmegaConf.create(changed), TrainConfig if config_name == "config" else EvaluateConfig)
        raise


def _settings(cfg: DictConfig) -> DictConfig:
    """The config of an evaluation, with the settings of the run whose policy it measures."""
    if cfg.get("resume"):
        return cfg
    from grpo_aflow.run.settings_of import source_run, with_settings_of

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    run = source_run(plain)
    if run is None or "experiment" in _named():
        return cfg
    print(f"settings of model, prompt, workflow, executor and the like are those of {run} (settings_of=none: defaults)")
    try:
        settled = with_settings_of(run, plain, _named(), lambda saved: with_defaults(saved, plain, "evaluate"))
    except UserError as error:
        raise UserError(f"{error}; or give settings_of=none and the run's settings on the command line") from error
    return OmegaConf.create(settled)


def _refuse_training_keys() -> None:
    for name in _named():
        if name.split(".")[0] in OF_TRAINING:
            raise UserError(f"{name}: unknown key; it is of training alone: leave it out")


def _named() -> list[str]:
    """The groups and keys that the command line names."""
    return [override.lstrip("+~").split("=")[0].split("@")[0] for override in HydraConfig.get().overrides.task]


def _solve(questions: Sequence[str], cfg: DictConfig, watch: Watch) -> None:
    _refuse_training_keys()
    config = parse(_settings(cfg), EvaluateConfig)
    config.check()
    if not questions:
        raise UserError(
            "grpo-aflow-solve: no question; for example "
            'grpo-aflow-solve policy=checkpoint policy.path=runs/... "What is 2+2?"'
        )
    if len(questions) > 1:
        listed = ", ".join(map(repr, questions[:4])) + (", ..." if len(questions) > 4 else "")
        raise UserError(f"grpo-aflow-solve: one question at a time, in quotes; these are {len(questions)}: {listed}")
    from grpo_aflow.evaluation.solve import solve as run

    run(config, questions[0])


def _data(cfg: DictConfig, watch: Watch) -> None:
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    if not isinstance(plain["mix"], dict):
        raise UserError(
            f"mix={plain['mix']}: is a group; choose data_mix@mix=<one of {', '.join(options('data_mix'))}>"
        )
    try:
        build({key: value for key, value in plain.items() if key != "hydra"}, "data").run()
    except UserError as error:  # the mix is `data_mix` everywhere else, and the keys of this command are at the top
        raise UserError(str(error).replace("data_mix.", "mix.").removeprefix("data.")) from error


def _compose_and_run(config_name: str, task: Callable[[DictConfig, Watch], Any]) -> None:
    """Compose with Hydra and run `task` once per job of a sweep (once without one)."""

    @hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)
    def main(cfg: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return run_job(cfg, task)
        code, value, _ = outcome(lambda: task(cfg, Watch()))
        if code:
            raise SystemExit(code)
        return value

    sys.argv = [HOME.sub(lambda found: found[1] + os.path.expanduser("~"), argument) for argument in sys.argv]
    if any(map(OF_A_RUN.match, sys.argv)):  # keys are its config's, which may have other groups than the defaults
        sys.argv = [KEY.sub("++", argument) for argument in sys.argv]
    # Hydra prints its own errors over several lines; with this it raises them, and we print the one that matters.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    _guarded(main)


def _draw(folder: Path) -> None:
    """The sweep's picture, where what draws is installed."""
    try:
        from grpo_aflow.analysis.sweeps import draw

        picture = draw(folder)
    except ImportError as error:
        print(f"no picture of the sweep ({error}): install the extra `analysis`", flush=True)
    else:
        if picture:
            print(f"picture: {picture}", flush=True)


def _guarded(task: Callable[[], Any]) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # closed, or no file
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with starting():
        code, _, _ = outcome(task)
    sys.exit(code or rows.code())


def _is_override(argument: str) -> bool:
    """Whether an argument of grpo-aflow-solve is Hydra's: `x=3 and y=4: what is x+y?` is a question."""
    key = re.match(r"[+~]{0,2}(\w+)[\w./@:-]*=", argument)
    if " " in argument:
        return key is not None and key[1] in KEYS
    return "=" in argument or argument.startswith("~")
