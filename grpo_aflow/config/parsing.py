"""The door's lock: from a composed Hydra config to checked, typed objects, once.

Every group option in `conf/` names a frozen dataclass of the room that uses it (`_target_`) and gives every one of its
fields a value; the yaml is the one place of defaults. `parse` refuses unknown keys (also those added with `+`), wrong
types and values out of range, and builds the objects. Nothing here or in the classes it builds imports a heavy
library, so that a bad config is refused within a second. Below this module nobody knows Hydra or OmegaConf.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grpo_aflow import CONF_DIR
from grpo_aflow.rollout.reward import base_reward
from grpo_aflow.types import Grade, UserError

OmegaConf.register_new_resolver("expanduser", os.path.expanduser, replace=True)

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

MAX_SEED = 2**32 - 1  # NumPy's, which an engine seeds
NAME = re.compile(r"\w[\w.+=,@-]*")  # of a run: the last part of its folder's name

C = TypeVar("C")


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """Where runs and sweeps are written, and where built models are kept."""

    runs: str
    sweeps: str
    cache: str | None  # null = $GRPO_AFLOW_CACHE, else ~/.cache/grpo-aflow


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """What `--multirun` does with its jobs."""

    stop_on_error: bool  # whether a job that ends badly ends the sweep


PLAIN: Mapping[str, type] = {"paths": Paths, "sweep": Sweep}  # nodes that name no object


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run. The fields after `paths` are the objects that the config groups name."""

    name: str
    seed: int
    resume: str | None
    resume_from: int | None
    resume_with: list[str]
    paths: Paths
    sweep: Sweep
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
        """Refuse what cannot work, before anything is opened; UserError names the fix."""
        self.model.check()
        self.executor.check(self.model)
        check_rubric(self.reward)
        for key in ("temperature", "final_temperature"):
            if not getattr(self.sampler, key) > 0:
                raise UserError(
                    f"sampler.{key}={getattr(self.sampler, key)}: greedy draws are all alike, so nothing can be "
                    "learned from them; give a temperature above 0"
                )
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
    sweep: Sweep
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
        """Refuse what cannot work, before anything is opened; UserError names the fix."""
        self.model.check()
        self.executor.check(self.model)


def parse(cfg: DictConfig, kind: type[C]) -> C:
    """Check a composed config and build the objects that it names; raises UserError with one clear line."""
    try:
        OmegaConf.set_struct(cfg, False)
        plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(first_line(error)) from error
    plain = _at_home(plain)
    names = {field.name for field in dataclasses.fields(kind) if field.name != "plain"}  # type: ignore[arg-type]
    _refuse_unknown(plain, names, "")
    _check_common(plain, kind)
    values = {name: _value(plain[name], name) for name in names}
    values |= {name: _checked(cls, plain[name], name) for name, cls in PLAIN.items()}
    scalars = {name: plain[name] for name in names if not isinstance(plain[name], Mapping)}
    _check_scalars(kind, scalars)
    made: C = cast(Any, kind)(**values, plain=plain)
    return made


def with_defaults(saved: Mapping[str, Any], composed: Mapping[str, Any], config_name: str) -> dict[str, Any]:
    """The config of a run from before some keys existed, with the defaults of these keys.

    composed: this version's config. The defaults of a group are those of the option that makes the same object.
    """
    own = {key: value for key, value in composed.items() if not isinstance(value, Mapping)}
    filled = own | dict(saved) | {key: {**composed[key], **(saved.get(key) or {})} for key in PLAIN}
    for group, node in saved.items():
        if isinstance(node, Mapping) and "_target_" in node:
            filled[group] = _filled(node, partial(_option, group, node, composed, config_name))
    return filled


def _filled(node: Mapping[str, Any], defaults: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    try:
        cls = get_class(node["_target_"])
        missing = set(_field_types(cls)) - set(node) - _optional(cls)
    except (ImportError, ValueError, AttributeError, TypeError, HydraException):
        return dict(node)  # `build` says what is wrong with it
    return {**node, **{key: value for key, value in defaults().items() if key in missing}} if missing else dict(node)


def _option(group: str, node: Mapping[str, Any], composed: Mapping[str, Any], config_name: str) -> Mapping[str, Any]:
    own = composed.get(group)
    if isinstance(own, Mapping) and own.get("_target_") == node["_target_"]:
        return own
    others = (plain_compose(f"{group}={option}", config_name=config_name)[group] for option in options(group))
    return next((c for c in others if isinstance(c, Mapping) and c.get("_target_") == node["_target_"]), {})


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


def check_rubric(rubric: Any) -> None:
    """Ask a rubric for the reward of each tier before anything is paid. Raises UserError; see `reward.base_reward`."""
    for tier in (0.0, 0.2, 0.4, 0.7, 1.0):
        base_reward(rubric, Grade(exact=tier == 1.0, score=tier, tier=tier, rule="check"))


def _at_home(tree: Any) -> Any:
    """`~/...` is the user's home folder in every value, as in a shell."""
    if isinstance(tree, Mapping):
        return {key: _at_home(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_at_home(value) for value in tree]
    return os.path.expanduser(tree) if isinstance(tree, str) and (tree == "~" or tree.startswith("~/")) else tree


def _check_common(plain: Mapping[str, Any], kind: type) -> None:
    """What every config needs: all groups chosen, a name that makes a folder, seeds that every library takes."""
    for name, hint in _field_types(kind).items():
        if name not in plain or (plain[name] is None and (hint is Any or name in PLAIN)):
            choices = f"{name}=<one of {', '.join(options(name))}>" if options(name) else f"give {name}=..."
            raise UserError(f"{name}: must be chosen; {choices}")
        if hint is Any and name != "plain" and not isinstance(plain[name], Mapping):
            raise UserError(f"{name}={plain[name]}: is a group; choose {name}=<one of {', '.join(options(name))}>")
    if not isinstance(plain["name"], str) or not NAME.fullmatch(plain["name"]):
        raise UserError(
            f"name={plain['name']!r}: is the last part of the run folder's name; give letters, digits, - and _"
        )
    for key, value in _seeds(plain, ""):
        if isinstance(value, int) and not 0 <= value <= MAX_SEED:
            raise UserError(f"{key}={value}: a seed must be from 0 to {MAX_SEED}")


def _seeds(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _seeds(value, f"{prefix}{key}.")
        elif key == "seed":
            yield f"{prefix}{key}", value


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
    """What a user needs of an exception's text, in one line: for Hydra and OmegaConf, all but where they looked."""
    told = str(error).split("Config search path:")[0]
    lines = [
        line for line in told.splitlines() if line.strip() and "full_key:" not in line and "object_type=" not in line
    ]
    listed = [line.strip() for line in lines if line.startswith("\t")]  # the options of a group
    text = " ".join([*(line.strip() for line in lines if not line.startswith("\t")), ", ".join(listed)])
    return " ".join(text.split()) or type(error).__name__


def _value(raw: Any, where: str) -> Any:
    if isinstance(raw, Mapping) and where not in PLAIN:
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
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init and f.name != "plain"}


def _optional(cls: type) -> set[str]:
    unset = dataclasses.MISSING
    return {f.name for f in dataclasses.fields(cls) if f.default is not unset or f.default_factory is not unset}
