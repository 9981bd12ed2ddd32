"""From a composed config to checked, typed objects, once.

Every group option in `conf/` names a frozen dataclass of the package that uses it (`_target_`) and gives every one of
its fields a value; the yaml is the one place of defaults. `parse` refuses unknown keys (also those added with `+`),
wrong types and values out of range, and builds the objects. Nothing here or in the classes that it builds imports a
heavy library, so that a bad config is refused within a second.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar, cast

from hydra.errors import HydraException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from grpo_aflow import CONF_DIR
from grpo_aflow.config.groups import Paths, Sweep
from grpo_aflow.run.resume import OF_TRAINING
from grpo_aflow.types import UserError

OmegaConf.register_new_resolver("expanduser", os.path.expanduser, replace=True)

SECTIONS: Mapping[str, type] = {"paths": Paths, "sweep": Sweep}  # parts of every config that have no options
MAX_SEED = 2**32 - 1  # NumPy's, which an engine seeds
OF_OMEGACONF = ("full_key:", "object_type=", "reference_type=")  # lines of its errors that tell a user nothing
NAME = re.compile(r"\w[\w.+=,@-]*")  # of a run: the last part of its folder's name

C = TypeVar("C")


def parse(cfg: DictConfig, kind: type[C]) -> C:
    """Check a composed config and build the objects that it names; raises UserError with one clear line.

    kind: TrainConfig or EvaluateConfig; the types of its fields say what each group must be.
    """
    fields = _field_types(cast("type", kind))
    _check_chosen(cast("Any", OmegaConf.to_container(cfg)), fields)  # before values refer to groups that are not there
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{missing[0]}: has no value; give one: {missing[0]}=...")
    try:
        OmegaConf.set_struct(cfg, False)
        plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(first_line(error)) from error
    plain = _at_home(plain)
    plain = {key: value for key, value in plain.items() if key in fields or key not in OF_TRAINING}  # see evaluate.yaml
    _refuse_unknown(plain, fields, "")
    _check_common(plain)
    values: dict[str, Any] = {}
    for name, hint in fields.items():
        if name in SECTIONS:
            values[name] = _checked(hint, plain[name], name)
        elif (option := _one_of_several(hint)) is not None:
            values[name] = {
                part: _suitable(build(node, f"{name}.{part}"), option, f"{name}.{part}")
                for part, node in _parts(plain[name], name).items()
            }
        elif _is_group(hint):
            values[name] = _suitable(build(plain[name], name), hint, name)
        else:
            values |= _typed(kind, {name: hint}, {name: plain[name]}, "")
    return cast("C", cast("Any", kind)(**values, plain=plain))


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


def missing_fields(cls: type, given: Collection[str]) -> set[str]:
    """The fields of a group's dataclass that have no default and no value."""
    return set(_field_types(cls)) - set(given) - _optional(cls)


def options(group: str) -> list[str]:
    """The options of a config group, for messages."""
    folder = CONF_DIR / group
    return sorted(path.stem for path in folder.glob("*.yaml")) if folder.is_dir() else []


def first_line(error: BaseException) -> str:
    """What a user needs of an exception's text, in one line: for Hydra and OmegaConf, all but where they looked."""
    if told := _told_of_key(error.__cause__):
        return told
    told = str(error).split("Config search path:")[0]
    lines = [line for line in told.splitlines() if line.strip() and not any(word in line for word in OF_OMEGACONF)]
    listed = [line.strip() for line in lines if line.startswith("\t")]  # the options of a group
    text = " ".join([*(line.strip() for line in lines if not line.startswith("\t")), ", ".join(listed)])
    return " ".join(text.split()) or type(error).__name__


def _at_home(tree: Any) -> Any:
    """`~/...` is the user's home folder in every value, as in a shell."""
    if isinstance(tree, Mapping):
        return {key: _at_home(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_at_home(value) for value in tree]
    return os.path.expanduser(tree) if isinstance(tree, str) and (tree == "~" or tree.startswith("~/")) else tree


def _check_chosen(plain: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Every group is there, and one of its options."""
    for name, hint in fields.items():
        chosen = _is_group(hint) or _one_of_several(hint) is not None or name in SECTIONS
        if name not in plain or (plain[name] is None and chosen):
            choices = f"{name}=<one of {', '.join(options(name))}>" if options(name) else f"give {name}=..."
            raise UserError(f"{name}: must be chosen; {choices}")
        if chosen and not isinstance(plain[name], Mapping):
            raise UserError(f"{name}={plain[name]}: is a group; choose {name}=<one of {', '.join(options(name))}>")


def _check_common(plain: Mapping[str, Any]) -> None:
    """A name that makes a folder, seeds that every library takes."""
    check_name(plain["name"])
    for key, value in _seeds(plain, ""):
        if isinstance(value, int) and not 0 <= value <= MAX_SEED:
            raise UserError(f"{key}={value}: a seed must be from 0 to {MAX_SEED}")


def check_name(name: Any) -> None:
    """Refuse a `name` that cannot be the last part of a folder's name."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UserError(f"name={name!r}: is the last part of the run folder's name; give letters, digits, - and _")


def _seeds(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _seeds(value, f"{prefix}{key}.")
        elif key == "seed":
            yield f"{prefix}{key}", value


def _is_group(hint: Any) -> bool:
    """Whether a field of a config is a group with options: its type is a class of ours (or several), no plain data."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    ours = [part for part in parts if isinstance(part, type) and part.__module__ != "builtins"]
    return len(ours) == len(parts) and hint not in SECTIONS.values()


def _one_of_several(hint: Any) -> Any:
    """What each option of a group must be of which several may be chosen (`Mapping[str, Option]`); None for others."""
    if typing.get_origin(hint) is not Mapping:
        return None
    option = typing.get_args(hint)[1]
    return option if _is_group(option) else None


def _parts(node: Mapping[str, Any], where: str) -> Mapping[str, Mapping[str, Any]]:
    """The chosen options of such a group, by their names."""
    for name, part in node.items():
        if not isinstance(part, Mapping):
            raise UserError(
                f"{where}.{name}: unknown key; the keys of an option stand below its name ({where}.<name>.{name}=...), "
                f"and the options are {', '.join(options(where))}"
            )
    return node


def _suitable(built: Any, hint: Any, where: str) -> Any:
    """What was built for a group, if it is what the field asks for; UserError otherwise."""
    if getattr(hint, "_is_protocol", False):
        missing = sorted(name for name in _members(hint) if not hasattr(built, name))
        if missing:
            raise UserError(f"{where}: {type(built).__name__} cannot be used here: it has no {', '.join(missing)}")
    elif not isinstance(built, hint):
        wanted = getattr(hint, "__name__", str(hint))
        raise UserError(f"{where}: {type(built).__name__} cannot be used here: it is no {wanted}")
    return built


def _members(protocol: type) -> set[str]:
    """The public attributes and methods of a protocol and those that it extends."""
    parts = [part for part in protocol.__mro__ if getattr(part, "_is_protocol", False)]
    names = {name for part in parts for name in (*vars(part), *vars(part).get("__annotations__", {}))}
    return {name for name in names if not name.startswith("_")}


def _checked(cls: type, values: Mapping[str, Any], where: str, factory: Any = None) -> Any:
    """Build `cls` from plain values: nested nodes first, then every other field's type, then its own range checks."""
    fields = _field_types(cls)
    _refuse_unknown(values, fields, f"{where}.")
    missing = sorted(missing_fields(cls, values))
    if missing:
        raise UserError(f"{where}: {missing[0]} has no value; give one, for example {where}.{missing[0]}=...")
    nested = {k: build(v, f"{where}.{k}") for k, v in values.items() if isinstance(v, Mapping) and "_target_" in v}
    flat = {key: value for key, value in values.items() if key not in nested}
    typed = _typed(cls, {key: fields[key] for key in flat}, flat, where)
    try:
        return (factory or cls)(**nested, **typed)
    except ValueError as error:
        raise UserError(f"{where}.{first_line(error)}") from error


def _typed(cls: type, fields: Mapping[str, Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    values = {key: _dotted(value) if fields[key] == dict[str, float] else value for key, value in values.items()}
    schema = OmegaConf.structured(dataclasses.make_dataclass(cls.__name__, list(fields.items()), kw_only=True))
    try:
        return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.merge(schema, dict(values))))
    except OmegaConfBaseException as error:
        key = str(error.full_key or error.key)
        named, given = f"{where}.{key}".removeprefix("."), f"={values[key]}" if key in values else ""
        told = first_line(error)
        if typing.get_origin(fields.get(key)) is list and isinstance(values[key], str):
            told = f"is a list: {named}=[{values[key]}]"
        raise UserError(f"{named}{given}: {told}") from error


def _dotted(value: Any) -> Any:
    """A table by name whose names have dots: Hydra reads `prices.gpt-5.1=1` as one level more. The deeper one wins."""
    if not isinstance(value, Mapping):
        return value
    deeper = {key: _dotted(inner) for key, inner in value.items() if isinstance(inner, Mapping)}
    flat = {str(key): inner for key, inner in value.items() if key not in deeper}
    return flat | {f"{key}.{name}": inner for key, names in deeper.items() for name, inner in names.items()}


def _refuse_unknown(values: Mapping[str, Any], known: Collection[str], prefix: str) -> None:
    for key in values:
        if key not in known:
            raise UserError(_unknown(str(key), known, prefix))


def _unknown(key: str, known: Collection[str], prefix: str) -> str:
    near = difflib.get_close_matches(key, list(known), n=1)
    listed = ", ".join(sorted(name for name in known if name != "_target_"))
    where = prefix.removesuffix(".")
    if not listed:
        of_others = ", ".join(options(where))
        return f"{prefix}{key}: unknown key; {where} has no keys" + (f"; its options: {of_others}" if of_others else "")
    hint = f"did you mean {prefix}{near[0]}?" if near else f"known keys: {listed}"
    return f"{prefix}{key}: unknown key; {hint}"


def _told_of_key(error: BaseException | None) -> str:
    """What to say of an override of a key that a composed config does not have; Hydra's own advice is to add it.

    Empty where that advice is right, as for a field that has a default in its class and no value in the yaml.
    """
    if not isinstance(error, ConfigAttributeError | ConfigKeyError) or not isinstance(error.parent_node, DictConfig):
        return ""
    node, key = error.parent_node, str(error.key)
    prefix = str(error.full_key).removesuffix(key)
    if key in _optional_of(node):
        return ""
    told = _unknown(key, [str(name) for name in node], prefix)
    return f"{told} (+{prefix}{key}=... adds it)" if _is_table(node) else told


def _optional_of(node: DictConfig) -> set[str]:
    cls = _class_of(node)
    return _optional(cls) if cls else set()


def _is_table(node: DictConfig) -> bool:
    """Whether this is a field of a group that holds whatever names a user gives."""
    parent = node._get_parent()
    cls = _class_of(parent) if isinstance(parent, DictConfig) else None
    hint = _field_types(cls).get(str(node._key())) if cls else None
    return typing.get_origin(hint) in (dict, Mapping)


def _class_of(node: DictConfig) -> type | None:
    """The dataclass that a composed group names; None where it names none."""
    try:
        cls = get_class(node["_target_"])
    except (ImportError, ValueError, AttributeError, TypeError, HydraException, OmegaConfBaseException):
        return None
    return cls if isinstance(cls, type) and dataclasses.is_dataclass(cls) else None


@cache
def _field_types(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init and f.name != "plain"}


def _optional(cls: type) -> set[str]:
    unset = dataclasses.MISSING
    return {f.name for f in dataclasses.fields(cls) if f.default is not unset or f.default_factory is not unset}
