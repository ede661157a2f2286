"""The kinds that a config can name: strategies, tasks, networks, noises, schedules, archives and emitters.

Each family is a table of name -> "module:Class", so that naming a kind imports nothing but its own module.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOISES = {
    "gaussian": "evo.noise:Gaussian",
    "low_rank": "evo.noise:LowRank",
    "frozen": "evo.noise:Frozen",
    "integer": "evo.integer:Integer",
}
SCHEDULES = {
    "constant": "evo.schedule:Constant",
    "linear": "evo.schedule:Linear",
    "exponential": "evo.schedule:Exponential",
    "cosine": "evo.schedule:Cosine",
    "hyperbolic": "evo.schedule:Hyperbolic",
}
CELLS = {
    "grid": "evo.archive:Grid",
    "cvt": "evo.cvt:CVT",
    "unstructured": "evo.unstructured:Unstructured",
    "deep": "evo.deep:Deep",
}
EXTRAS = {
    "tensorboardX": "tensorboard",
    "wandb": "wandb",
    "tokenizers": "lm",
    "ale_py": "atari",
    "Box2D": "box2d",
    "envpool": "envpool",
}


@dataclass(frozen=True)
class Family:
    """One table of kinds; `contract` is the type that stands for any of them in a type hint."""

    name: str
    table: str | Mapping[str, str]
    contract: str

    def kinds(self) -> Mapping[str, str]:
        """Name -> "module:Class"."""
        return resolve(self.table) if isinstance(self.table, str) else self.table

    def load(self, kind: str) -> Any:
        """The class of a kind. Raises where the name is unknown, or a package that it needs is missing."""
        if kind not in self.kinds():
            raise ValueError(f"unknown {self.name} {kind!r}; {nearest(kind, self.kinds())}")
        return resolve(self.kinds()[kind])


STRATEGY = Family("strategy", "evo.strategies:STRATEGIES", "evo.strategy:Strategy")
TASK = Family("task", "evo.envs:TASKS", "evo.task:Task")
NETWORK = Family("network", "evo.envs.networks:NETWORKS", "evo.envs.networks:Network")
LANGUAGE_MODEL = Family("language model", "evo.envs.language.model:MODELS", "evo.envs.language.model:LanguageModel")
NOISE = Family("noise", NOISES, "evo.noise:Noise")
SCHEDULE = Family("schedule", SCHEDULES, "evo.schedule:Schedule")
ARCHIVE = Family("archive", CELLS, "evo.archive:Cells")
EMITTER = Family("emitter", "evo.strategies.emitters:EMITTERS", "evo.emitter:Emitter")
QUESTIONS = Family("kind of question", "evo.envs.language.questions:QUESTIONS", "evo.envs.language.questions:Questions")
REWARD = Family("reward", "evo.envs.language.reward:REWARDS", "evo.envs.language.reward:Reward")
FAMILIES = (STRATEGY, TASK, NETWORK, LANGUAGE_MODEL, NOISE, SCHEDULE, ARCHIVE, EMITTER, QUESTIONS, REWARD)


def family_of(hint: Any) -> Family | None:
    """The family that a type hint asks for: by its contract, or by one of its classes."""
    where = address(hint)
    return next((f for f in FAMILIES if where == f.contract or where in f.kinds().values()), None)


def kind_of(verb: object) -> str | None:
    """The name under which an object's class is listed; None where it isn't."""
    where = address(type(verb))
    return next((kind for f in FAMILIES for kind, entry in f.kinds().items() if entry == where), None)


def address(cls: Any) -> str:
    """ "module:Class", as the tables write it."""
    return f"{getattr(cls, '__module__', '')}:{getattr(cls, '__qualname__', '')}"


def resolve(entry: str) -> Any:
    """The object of "module:name". A missing package is a ValueError that names the command to install it."""
    module, name = entry.split(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise missing(error, name) from error


def missing(error: ModuleNotFoundError, what: str) -> Exception:
    """What to tell a user whose environment lacks a package: one sentence with the command."""
    package = (error.name or "").split(".")[0]
    if package in ("", "evo"):
        return error
    wanted = f"'evo-engine[{EXTRAS[package]}]'" if package in EXTRAS else package
    return ValueError(f"{what} needs the package {package}, which isn't installed; run: pip install {wanted}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the known name that looks most like this one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, 1, 0.5)
    if close:
        return f"the nearest known one is {close[0]!r}."
    return f"known: {', '.join(known)}." if known else "there are none."


def describe(family: Family) -> dict[str, str]:
    """Each kind's first docstring line, read from its source: nothing is imported."""
    return {kind: _first_line(entry) for kind, entry in family.kinds().items()}


def _first_line(entry: str) -> str:
    module, name = entry.split(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    nodes = ast.parse(Path(spec.origin).read_text()).body
    found = [n for n in nodes if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == name]
    doc = ast.get_docstring(found[0]) if found else None
    return doc.strip().split("\n")[0] if doc else ""
