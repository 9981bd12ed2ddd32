"""Hydra's side of a config: composing one from the files in `conf/`, and the words of Hydra's errors.

`compose` is for notebooks and tests what the command line is for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, cast, overload

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grpo_aflow import CONF_DIR
from grpo_aflow.config.parsing import SECTIONS, first_line, missing_fields, options, parse
from grpo_aflow.config.schema import EvaluateConfig, TrainConfig
from grpo_aflow.types import UserError

LOGGER = "logger"
NEW_GROUPS = ("cluster",)  # that runs of earlier versions do not have at all


@overload
def compose(*overrides: str, config_name: Literal["config"] = "config") -> TrainConfig: ...
@overload
def compose(*overrides: str, config_name: Literal["evaluate"]) -> EvaluateConfig: ...
def compose(*overrides: str, config_name: str = "config") -> TrainConfig | EvaluateConfig:
    """`compose("lora=r8", "schedule.num_steps=2")` gives a TrainConfig, `config_name="evaluate"` an EvaluateConfig."""
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
            cfg = hydra_compose(config_name, list(overrides))
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # Hydra raises plain ones for some overrides
        raise UserError(first_line(error)) from error
    return parse(cfg, TrainConfig) if config_name == "config" else parse(cfg, EvaluateConfig)


def plain_compose(*overrides: str, config_name: str) -> dict[str, Any]:
    """A composed config as plain data, apart from any running Hydra application."""
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = None
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
            cfg = hydra_compose(config_name, list(overrides))
    finally:
        GlobalHydra.instance().hydra = running  # another instance than before
    return cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True))


def with_defaults(saved: Mapping[str, Any], composed: Mapping[str, Any], config_name: str) -> dict[str, Any]:
    """The config of a run from before some keys existed, with the defaults of these keys.

    composed: this version's config. The defaults of a group are those of the option that makes the same object.
    """
    own = {key: value for key, value in composed.items() if not isinstance(value, Mapping) or key in NEW_GROUPS}
    filled = own | dict(saved) | {key: {**composed[key], **(saved.get(key) or {})} for key in SECTIONS}
    for group, node in saved.items():
        if group == LOGGER:
            filled[group] = _filled_loggers(node, config_name) if group in composed else node
        elif isinstance(node, Mapping) and "_target_" in node:
            filled[group] = _filled(node, partial(_option, group, node, composed, config_name))
    return filled


def _filled_loggers(node: Mapping[str, Any], config_name: str) -> dict[str, Any]:
    """Several options of `logger` may be chosen, each below its name; a run from before has one, without its name."""
    every = plain_compose(f"{LOGGER}=[{','.join(options(LOGGER))}]", config_name=config_name)[LOGGER]
    known = {part["_target_"]: (name, part) for name, part in every.items()}
    if node.get("_target_") in known:
        name, defaults = known[node["_target_"]]
        return {name: _filled(node, lambda: defaults)}
    if "_target_" in node:  # its `none`
        return {}
    return {
        name: _filled(part, partial(_defaults, known, part["_target_"]))
        if isinstance(part, Mapping) and "_target_" in part
        else part  # `parsing.build` says what is wrong with it
        for name, part in node.items()
    }


def _defaults(known: Mapping[str, tuple[str, Mapping[str, Any]]], target: str) -> Mapping[str, Any]:
    return known[target][1] if target in known else {}


def _filled(node: Mapping[str, Any], defaults: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    try:
        missing = missing_fields(get_class(node["_target_"]), node)
    except (ImportError, ValueError, AttributeError, TypeError, HydraException):
        return dict(node)  # `parsing.build` says what is wrong with it
    return {**node, **{key: value for key, value in defaults().items() if key in missing}} if missing else dict(node)


def _option(group: str, node: Mapping[str, Any], composed: Mapping[str, Any], config_name: str) -> Mapping[str, Any]:
    own = composed.get(group)
    if isinstance(own, Mapping) and own.get("_target_") == node["_target_"]:
        return own
    others = (plain_compose(f"{group}={option}", config_name=config_name)[group] for option in options(group))
    return next((c for c in others if isinstance(c, Mapping) and c.get("_target_") == node["_target_"]), {})
