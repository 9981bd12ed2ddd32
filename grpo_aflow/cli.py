"""The doors: console scripts that compose a config with Hydra, check it, and only then import what is heavy.

Whatever a user got wrong is one line on stderr that names the mend, with the exit codes of the README; a traceback
means a fault of ours.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grpo_aflow.config import CONF_DIR, EvaluateConfig, TrainConfig, first_line, parse
from grpo_aflow.types import InfrastructureError, UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_question = ""  # of grpo-aflow-solve: free text is no Hydra override


def train() -> None:
    """Console script `grpo-aflow-train`."""
    _open("config", _train)


def evaluate() -> None:
    """Console script `grpo-aflow-eval`."""
    _open("evaluate", _evaluate)


def solve() -> None:
    """Console script `grpo-aflow-solve policy.path=... "question"`."""
    global _question
    questions = [argument for argument in sys.argv[1:] if " " in argument or not _is_hydra(argument)]
    _question = questions[0] if questions else ""
    sys.argv = [argument for argument in sys.argv if argument not in questions]
    _open("evaluate", _solve)


def data() -> None:
    """Console script `grpo-aflow-data`."""
    _open("data", _data)


def export() -> None:
    """Console script `grpo-aflow-export RUN_OR_CHECKPOINT OUT [--merged]`."""
    from grpo_aflow.export import main

    _guarded(main)


def _train(cfg: DictConfig) -> float:
    config = parse(_saved(cfg), TrainConfig)
    config.check()
    from grpo_aflow.train import train as run

    return run(config)


def _evaluate(cfg: DictConfig) -> float:
    config = parse(_saved(cfg), EvaluateConfig)
    config.check()
    from grpo_aflow.measure import measure

    return measure(config)


def _saved(cfg: DictConfig) -> DictConfig:
    """The config as composed; where a run is resumed, its own with the changes that are allowed."""
    if not cfg.get("resume"):
        return cfg
    from grpo_aflow.record import saved_config
    from grpo_aflow.resume import resumed_config

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    named = [override.lstrip("+~").split("=")[0] for override in HydraConfig.get().overrides.task]
    return OmegaConf.create(resumed_config(saved_config(cfg.resume), plain, named))


def _solve(cfg: DictConfig) -> None:
    config = parse(cfg, EvaluateConfig)
    config.check()
    if not _question:
        raise UserError(
            'grpo-aflow-solve: no question; for example grpo-aflow-solve policy.path=runs/... "What is 2+2?"'
        )
    from grpo_aflow.solve import solve as run

    run(config, _question)


def _data(cfg: DictConfig) -> None:
    from grpo_aflow.config import build

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    build({key: value for key, value in plain.items() if key != "hydra"}, "data").run()


def _open(config_name: str, task: Callable[[DictConfig], Any]) -> None:
    """Compose with Hydra and run `task` once per job of a sweep (once without one)."""

    @hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)
    def main(cfg: DictConfig) -> Any:
        code, value = _outcome(lambda: task(cfg))
        if code:
            raise SystemExit(code)
        return value

    # Hydra prints its own errors over several lines; with this it raises them, and we print the one that matters.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    _guarded(main)


def _guarded(task: Callable[[], Any]) -> None:
    code, _ = _outcome(task)
    sys.exit(code)


def _outcome(task: Callable[[], Any]) -> tuple[int, Any]:
    """(exit code, value) of a piece of work; what a user can mend is printed as one line."""
    try:
        return 0, task()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code, None
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2, None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        print(f"error: cannot write {error.filename or 'a file'}: {error.strerror}; make room there", file=sys.stderr)
        return InfrastructureError.code, None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130, None


def _is_hydra(argument: str) -> bool:
    return argument.startswith("-") or "=" in argument
