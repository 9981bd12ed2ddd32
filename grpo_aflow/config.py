"""The door's lock: from a composed Hydra config to checked, typed objects, once.

Every group option in `conf/` names a frozen dataclass of the room that uses it (`_target_`) and gives every one of its
fields a value; the yaml is the one place of defaults. `parse` refuses unknown keys (also those added with `+`), wrong
types and values out of range, and builds the objects. Nothing here or in the classes it builds imports a heavy
library, so that a bad config is refused within a second. Below this module nobody knows Hydra or OmegaConf.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grpo_aflow.types import UserError

_PACKAGED = Path(__file__).parent / "conf"
CONF_DIR = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[1] / "conf"

# What an object of an open group must be able to do: (attribute or method names).
ABILITIES: Mapping[str, tuple[str, ...]] = {
    "model": ("prepare", "check"),
    "objective": ("advantage",),
    "sampler": ("start", "params", "memory"),
    "data_mix": ("load",),
    "prompt": ("messages",),
    "executor": ("open", "check"),
    "sandbox": ("open",),
    "reward": ("base", "tiers"),
    "warmstart": (),
    "logger": ("start",),
    "policy": ("resolve",),
}

C = TypeVar("C")


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """Where runs and sweeps are written, and where built models are kept."""

    runs: str
    sweeps: str
    cache: str | None  # null = $GRPO_AFLOW_CACHE, else ~/.cache/grpo-aflow


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run. The fields after `paths` are the objects that the config groups name."""

    name: str
    seed: int
    resume: str | None
    resume_with: list[str]
    paths: Paths
    model: Any
    lora: Any
    objective: Any
    learner: Any
    sampler: Any
    schedule: Any
    data_mix: Any
    prompt: Any
    workflow: Any
    executor: Any
    sandbox: Any
    reward: Any
    warmstart: Any
    eval: Any
    logger: Any
    plain: Mapping[str, Any]  # the composed config as plain data, for the run directory

    def check(self) -> None:
        """Refuse what cannot work, before anything is opened; UserError names the mend."""
        self.model.check()
        self.executor.check(self.model)
        try:
            self.objective.check_sampling(
                top_p=self.sampler.top_p, top_k=self.sampler.top_k, max_staleness=self.schedule.max_staleness
            )
        except ValueError as error:
            raise UserError(f"objective.{first_line(error)}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """One evaluation of a policy; also what `grpo-aflow-solve` needs."""

    name: str
    seed: int
    resume: str | None
    resume_with: list[str]
    solve_as: str
    paths: Paths
    policy: Any
    model: Any
    lora: Any
    learner: Any
    sampler: Any
    prompt: Any
    workflow: Any
    executor: Any
    sandbox: Any
    reward: Any
    warmstart: Any
    eval: Any
    plain: Mapping[str, Any]

    def check(self) -> None:
        """Refuse what cannot work, before anything is opened; UserError names the mend."""
        self.model.check()
        self.executor.check(self.model)


def parse(cfg: DictConfig, kind: type[C]) -> C:
    """Check a composed config and build the objects that it names; raises UserError with one clear line."""
    try:
        OmegaConf.set_struct(cfg, False)
        plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(first_line(error)) from error
    names = {field.name for field in dataclasses.fields(kind) if field.name != "plain"}  # type: ignore[arg-type]
    _refuse_unknown(plain, names, "")
    values = {name: _value(plain[name], name) for name in names if name in plain}
    values["paths"] = _checked(Paths, plain["paths"], "paths")
    scalars = {name: plain[name] for name in names if not isinstance(plain.get(name), Mapping)}
    _check_scalars(kind, scalars)
    made: C = cast(Any, kind)(**values, plain=plain)
    return made


def compose(*overrides: str, config_name: str = "config") -> Any:
    """The same door for notebooks and tests: `compose("lora=r8", "schedule.num_steps=2")` gives a TrainConfig."""
    kinds = {"config": TrainConfig, "evaluate": EvaluateConfig}
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
            cfg = hydra_compose(config_name, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(first_line(error)) from error
    return parse(cfg, kinds[config_name])


def build(node: Mapping[str, Any], where: str) -> Any:
    """The object that a config node names, its keys, types and ranges checked. The only call of `instantiate`."""
    target = node.get("_target_")
    if not isinstance(target, str):
        raise UserError(f"{where}: has no _target_; choose one of the options: {', '.join(options(where)) or 'none'}")
    try:
        cls = get_class(target)
    except (ImportError, ValueError, AttributeError, HydraException) as error:
        raise UserError(f"{where}._target_: {target} cannot be imported ({first_line(error)})") from error
    if not dataclasses.is_dataclass(cls):
        raise UserError(f"{where}._target_: {target} must be a dataclass")
    values = {key: value for key, value in node.items() if key != "_target_"}
    factory = instantiate({"_target_": target, "_partial_": True})
    return _checked(cast(type, cls), values, where, factory)


def options(group: str) -> list[str]:
    """The options of a config group, for messages."""
    folder = CONF_DIR / group
    return sorted(path.stem for path in folder.glob("*.yaml")) if folder.is_dir() else []


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, which for Hydra and OmegaConf is the part that a user needs."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "full_key:" not in line]
    return " ".join(lines[:2]) if lines else type(error).__name__


def _value(raw: Any, where: str) -> Any:
    if isinstance(raw, Mapping) and where != "paths":
        built = build(raw, where)
        missing = [ability for ability in ABILITIES.get(where, ()) if not hasattr(built, ability)]
        if missing:
            raise UserError(f"{where}: {type(built).__name__} cannot be used here: it has no {', '.join(missing)}")
        return built
    if raw is None and where in ABILITIES:
        raise UserError(f"{where}: must be chosen; options: {', '.join(options(where))}")
    return raw


def _checked(cls: type, values: Mapping[str, Any], where: str, factory: Any = None) -> Any:
    """Build `cls` from plain values: nested nodes first, then every other field's type, then its own range checks."""
    types = _field_types(cls)
    _refuse_unknown(values, types, f"{where}.")
    missing = sorted(set(types) - set(values) - _optional(cls))
    if missing:
        raise UserError(f"{where}: {missing[0]} has no value; give one, for example {where}.{missing[0]}=...")
    nested = {k: build(v, f"{where}.{k}") for k, v in values.items() if isinstance(v, Mapping) and "_target_" in v}
    flat = {key: value for key, value in values.items() if key not in nested}
    typed = _typed(cls, {key: types[key] for key in flat}, flat, where)
    try:
        return (factory or cls)(**nested, **typed)
    except ValueError as error:
        raise UserError(f"{where}.{first_line(error)}") from error


def _typed(cls: type, types: Mapping[str, Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    values = {key: _dotted(value) if types[key] == dict[str, float] else value for key, value in values.items()}
    schema = OmegaConf.structured(dataclasses.make_dataclass(cls.__name__, list(types.items()), kw_only=True))
    try:
        return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.merge(schema, dict(values))))
    except OmegaConfBaseException as error:
        key = str(error.full_key or error.key)
        given = f"={values[key]}" if key in values else ""
        raise UserError(f"{where}.{key}{given}: {first_line(error)}") from error


def _dotted(value: Any) -> Any:
    """A table by name whose names have dots: Hydra reads `prices.gpt-5.1=1` as one level more. The deeper one wins."""
    if not isinstance(value, Mapping):
        return value
    deeper = {key: _dotted(inner) for key, inner in value.items() if isinstance(inner, Mapping)}
    flat = {str(key): inner for key, inner in value.items() if key not in deeper}
    return flat | {f"{key}.{name}": inner for key, names in deeper.items() for name, inner in names.items()}


def _check_scalars(kind: type, values: Mapping[str, Any]) -> None:
    types = {name: hint for name, hint in _field_types(kind).items() if name in values}
    checked = {name: hint for name, hint in types.items() if hint is not Any}
    _typed(kind, checked, {name: values[name] for name in checked}, "config")


def _refuse_unknown(values: Mapping[str, Any], known: Collection[str], prefix: str) -> None:
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), list(known), n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known keys: {', '.join(sorted(known))}"
            raise UserError(f"{prefix}{key}: unknown key; {hint}")


@cache
def _field_types(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def _optional(cls: type) -> set[str]:
    unset = dataclasses.MISSING
    return {f.name for f in dataclasses.fields(cls) if f.default is not unset or f.default_factory is not unset}
