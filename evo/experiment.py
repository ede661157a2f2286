"""Experiments: a task, a strategy and how long, as data. A YAML file of `configs/` is one experiment."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from evo.archive import placed
from evo.configs import configs
from evo.registry import address, kind_of, nearest
from evo.schema import build_fields, spelled, unbuild
from evo.strategy import Strategy
from evo.task import Task

LEAST = {
    "generations": 1,
    "seed": 0,
    "chunk": 1,
    "devices": 1,
    "fuse": 1,
    "checkpoint_every": 1,
    "keep": 1,
    "eval_every": 0,
    "eval_episodes": 1,
}
FREE = ("generations", "chunk", "devices", "checkpoint_every", "keep", "eval_every", "eval_episodes", "log")


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run.

    `chunk` is how many members are evaluated at a time (None: as many as fit the memory), `devices` how many share
    them (None: all there are), `fuse` how many generations are one program, `keep` how many checkpoints stay,
    `eval_every` how many generations lie between evaluations of the solution on fresh luck (0: none), `log` where
    metrics go besides metrics.jsonl.
    """

    task: Task
    strategy: Strategy
    generations: int = 100
    seed: int = 0
    chunk: int | None = None
    devices: int | None = 1
    fuse: int = 1
    checkpoint_every: int = 10
    keep: int = 3
    eval_every: int = 0
    eval_episodes: int = 32
    log: tuple[Literal["tensorboard", "wandb"], ...] = ()

    def __post_init__(self):
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: wanted at least {least}, got {value}.")
        if self.seed >= 2**32:
            raise ValueError(f"seed: wanted a number below 2**32, got {self.seed}.")


def load(source: str, overrides: Iterable[tuple[str, str]] = ()) -> Experiment:
    """The experiment of a name in `configs/` or of a YAML file, with some fields set to other values.

    An override is a path and YAML text: `("strategy.sigma", "0.1")`, or `("strategy.emitters.0.iso", "0.1")` for the
    first of a list. Bounds that an archive isn't given are the task's.
    """
    raw = parse(read(source), source)
    if not isinstance(raw, dict):
        raise ValueError(f"{source}: wanted a mapping with `task` and `strategy`, got {type(raw).__name__}.")
    for path, text in overrides:
        _set(raw, path, parse(text, f"--{path}"))
    built = build_fields(Experiment, raw, "")
    return replace(built, strategy=placed(built.strategy, built.task))


def dump(experiment: Experiment) -> str:
    """YAML with every field written out; `load` makes an equal experiment of it."""
    return render(unbuild(experiment))


def written(task: Any, strategy: Any, **settings: Any) -> str:
    """The config.yaml of a run that a program made: loadable where task and strategy are known kinds."""
    return render({"task": _plain(task), "strategy": _plain(strategy), **settings})


def difference(mine: Any, other: Any, path: str = "") -> str | None:
    """The first field in which two experiments as plain data differ, as `path: ours, not theirs`; None if in none."""
    if isinstance(mine, dict) and isinstance(other, dict):
        found = (difference(mine.get(k), other.get(k), f"{path}.{k}" if path else k) for k in {**other, **mine})
        return next((f for f in found if f), None)
    return None if mine == other else f"{path}: {mine!r} here, {other!r} there"


def searched(raw: dict[str, Any]) -> dict[str, Any]:
    """The part of an experiment that decides what each generation finds; the rest may change when a run goes on."""
    return {name: value for name, value in raw.items() if name not in FREE}


def render(raw: Any) -> str:
    """Plain data as YAML, in its own order."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output, yaml.width = None, False, 110
    out = io.StringIO()
    yaml.dump(raw, out)
    return out.getvalue()


def parse(text: str, source: str) -> Any:
    """YAML 1.2 (1e-3 is a number, `yes` a string) as plain data; raises with the line where it isn't YAML."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{source}{line}: not valid YAML: {error.problem}.") from error
    except YAMLError as error:
        raise ValueError(f"{source}: not valid YAML: {str(error).splitlines()[0]}.") from error


def read(source: str) -> str:
    """The text of a config, by its name in `configs/` or by its path."""
    named = configs()
    if source in named:
        return named[source]
    path = Path(source)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"config {source}: can't be read as text: {error}.") from error
    if path.suffix in (".yaml", ".yml") or "/" in source:
        raise ValueError(f"config {source}: there is no such file; give a YAML file, or a name that `evo list` shows.")
    raise ValueError(f"unknown config {source!r}; {nearest(source, named)} Or give the path of a YAML file.")


def _plain(verb: Any) -> Any:
    try:
        return unbuild(verb) if kind_of(verb) else {"python": address(verb if callable(verb) else type(verb))}
    except ValueError:
        return {"python": repr(verb)}


def _set(raw: Any, path: str, value: Any):
    names = path.split(".")
    for i, name in enumerate(names):
        at = _place(raw, name, ".".join(names[:i]), path)
        if i == len(names) - 1:
            raw[at] = value
        else:
            raw[at] = spelled(raw.get(at, {}) if isinstance(raw, dict) else raw[at])
            raw = raw[at]


def _place(raw: Any, name: str, above: str, path: str) -> Any:
    """Where an override goes next: a field by its name, an entry of a list by its number."""
    if isinstance(raw, dict):
        return name
    if not isinstance(raw, list):
        raise ValueError(f"{path}: {above} is {raw!r}, which has no fields to set.")
    if not name.isdecimal() or int(name) >= len(raw):
        raise ValueError(f"{path}: {above} is a list of {len(raw)}, counted from 0; got {name!r}.")
    return int(name)
