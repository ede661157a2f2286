"""Plain data to frozen dataclasses and back, by their type hints: the dataclasses are the schema of a config.

Every error is a ValueError that starts with the path of the field, `strategy.noise.rank`.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union

from evo.express import ByPath
from evo.noise import Noise
from evo.registry import FAMILIES, SCHEDULE, Family, address, family_of, kind_of, nearest

WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", type(None): "null"}
REST = "**"  # the glob of a by-path noise that every leaf matches


def build(hint: Any, raw: Any, path: str) -> Any:
    """An object of type `hint`; raises where the data isn't exactly what the hint asks for."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    if Any in options:
        return _frozen(raw)
    fitting = [option for option in options if _is_scalar(option, raw)]
    if fitting:
        return float(raw) if fitting == [float] else raw
    if isinstance(raw, list):
        for option in options:
            if typing.get_origin(option) is tuple:
                return _sequence(option, raw, path)
    if isinstance(raw, dict | str):
        families = [f for f in map(family_of, options) if f]
        if isinstance(raw, dict) and ByPath in options and _is_by_path(raw, families):
            return _by_path(raw, path)
        if families and not (isinstance(raw, str) and SCHEDULE in families):
            return _kind(options, families, raw, path)
    if isinstance(raw, dict):
        for option in options:
            if is_dataclass(option):
                return build_fields(option, raw, path)
            if typing.get_origin(option) in (dict, Mapping):
                inner = typing.get_args(option)[1]
                return {str(k): build(inner, v, f"{path}.{k}") for k, v in raw.items()}
    raise ValueError(f"{path}: wanted {_words(hint)}, got {_shown(raw)}{_hint_of_literal(options, raw)}")


def build_fields(cls: Any, raw: Mapping[str, Any], path: str) -> Any:
    """A dataclass from a mapping of its fields; what its own checks raise is prefixed with the path."""
    known = {f.name: f for f in fields(cls) if f.init}
    hints = typing.get_type_hints(cls)
    for name in raw:
        if name not in known:
            raise ValueError(f"{_join(path, name)}: unknown field of {cls.__name__}; {nearest(name, known)}")
    for name, field in known.items():
        if name not in raw and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{_join(path, name)}: missing; wanted {_words(hints[name])}.")
    full = {name: _of_default(known[name].default, value) for name, value in raw.items()}
    values = {name: build(hints[name], value, _join(path, name)) for name, value in full.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if path else str(error)) from error


def spelled(raw: Any, families: Iterable[Family] = FAMILIES) -> Any:
    """A kind's short forms written out: `mlp`, `{low_rank: 4}` and `{cosine: {...}}` as `{kind: ..., field: ...}`."""
    if isinstance(raw, str):
        return {"kind": raw}
    if not isinstance(raw, dict) or len(raw) != 1:
        return raw
    [(kind, value)] = raw.items()
    family = next((f for f in families if kind in f.kinds()), None)
    if family is None:
        return raw
    if isinstance(value, dict):
        return {"kind": kind, **value}
    return {"kind": kind} | ({} if value is None else {fields(family.load(kind))[0].name: value})


def unbuild(value: Any) -> Any:
    """Plain data that builds back to an equal object: kinds named, every field written out."""
    if isinstance(value, ByPath):
        return {glob: unbuild(noise) for glob, noise in (*value.rules, (REST, value.otherwise))}
    if is_dataclass(value) and not isinstance(value, type):
        kind = kind_of(value)
        own = {f.name: unbuild(getattr(value, f.name)) for f in fields(value) if f.init}
        return {"kind": kind, **own} if kind else own
    if isinstance(value, Mapping):
        return {key: unbuild(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [unbuild(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"a {type(value).__name__} can't be written in a config; wanted numbers, strings and known kinds.")


def _of_default(default: Any, raw: Any) -> Any:
    """Fields without a kind, `noise: {rank: 4}`, change those of the default."""
    if not isinstance(raw, dict) or not is_dataclass(default) or not raw:
        return raw
    return {**unbuild(default), **raw} if set(raw) <= {f.name for f in fields(default)} else raw


def _is_scalar(option: Any, raw: Any) -> bool:
    if typing.get_origin(option) is Literal:
        return any(raw == value and type(raw) is type(value) for value in typing.get_args(option))
    if option is float:
        return type(raw) in (int, float) and not math.isnan(raw)
    return option in WORDS and type(raw) is option


def _sequence(option: Any, raw: list, path: str) -> tuple:
    inner = typing.get_args(option)
    if len(inner) == 2 and inner[1] is Ellipsis:
        inner = (inner[0],) * len(raw)
    if len(inner) != len(raw):
        raise ValueError(f"{path}: wanted {_words(option)}, got {len(raw)} of them.")
    return tuple(build(hint, item, f"{path}[{i}]") for i, (hint, item) in enumerate(zip(inner, raw, strict=True)))


def _is_by_path(raw: dict, families: list[Family]) -> bool:
    """Whether a noise is a mapping of globs: neither a kind nor the short form of one, nor a misspelt short form."""
    if "kind" in spelled(raw, families):
        return False
    return len(raw) != 1 or isinstance(next(iter(raw.values())), str | dict)


def _by_path(raw: dict, path: str) -> ByPath:
    noises = {glob: build(Noise, value, f"{path}.{glob}") for glob, value in raw.items()}
    rules = tuple((glob, noise) for glob, noise in noises.items() if glob != REST)
    return ByPath(rules, noises[REST]) if REST in noises else ByPath(rules)


def _kind(options: tuple, families: list[Family], raw: Any, path: str) -> Any:
    """A kind of one of these families; where the hint lists classes, one of those."""
    raw = spelled(raw, families)
    classes = [o for o in options if is_dataclass(o)]
    if "kind" not in raw and len(classes) == 1 and len(families) == 1:
        return build_fields(classes[0], raw, path)
    asked = {address(option) for option in options}
    entries = [(f, kind, entry) for f in families for kind, entry in f.kinds().items()]
    known = {kind: f for f, kind, entry in entries if f.contract in asked or entry in asked}
    kind, what = raw.get("kind"), families[0].name
    if not isinstance(kind, str):
        named = f"got {_shown(kind)}" if "kind" in raw else f"got a mapping of {', '.join(map(str, raw)) or 'nothing'}"
        close = nearest(next(iter(raw), ""), known)
        raise ValueError(f"{path}.kind: wanted the name of a {what}, {named}; {close}")
    if kind not in known:
        raise ValueError(f"{path}: unknown {what} {kind!r}; {nearest(kind, known)}")
    try:
        cls = known[kind].load(kind)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return build_fields(cls, {k: v for k, v in raw.items() if k != "kind"}, path)


def _frozen(raw: Any) -> Any:
    return tuple(_frozen(item) for item in raw) if isinstance(raw, list) else raw


def _words(hint: Any) -> str:
    """A type hint in words, for an error message."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    families = any(family_of(option) for option in options)
    said = [_word(option) for option in options if not (families and is_dataclass(option) and not family_of(option))]
    return " or ".join(dict.fromkeys(w for w in said if w))


def _word(option: Any) -> str:
    family, inner = family_of(option), typing.get_args(option)
    if typing.get_origin(option) is Literal:
        return "one of " + ", ".join(repr(value) for value in inner)
    if typing.get_origin(option) is tuple:
        return f"a list, each {_words(inner[0])}" if inner[-1] is Ellipsis else f"a list of {len(inner)} values"
    if family:
        return f"a {family.name} ({', '.join(family.kinds())})"
    return WORDS.get(option, "a mapping of fields" if typing.get_origin(option) or is_dataclass(option) else "a value")


def _shown(raw: Any) -> str:
    names: dict[type, str] = {
        dict: "a mapping",
        list: "a list",
        str: "a string",
        bool: "a truth value",
        float: "a number",
    }
    word = names.get(type(raw), "a whole number" if isinstance(raw, int) else type(raw).__name__)
    return "null" if raw is None else f"{raw!r} ({word})"


def _hint_of_literal(options: tuple, raw: Any) -> str:
    known = [str(v) for option in options if typing.get_origin(option) is Literal for v in typing.get_args(option)]
    close = nearest(raw, known)
    return f"; {close}" if "nearest" in close else "."


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else str(name)
