"""Tasks of the user's own, by import path, so that a config can name them."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evo.registry import nearest
from evo.task import Task, as_evaluation


@dataclass(frozen=True)
class Custom:
    """Your own fitness function, named by import path: "file.py:function" or "package.module:function".

    `fitness` names a function (params, key) -> fitness or `evo.Evaluation`, in JAX; higher is better. `params` names a
    function key -> params that makes a member's parameters; by default it is `init` beside the fitness function.
    `fitness` may also name a whole task (an object or a class with init, evaluate, absorb); `params` is then unused,
    and whatever else a task may have is its own. A function may have a `scene` beside it: scene(params, key), which
    gives an `evo.view.Scene` or an `evo.view.Film` (one picture is a drawing). File paths are relative to the working
    directory. A descriptor's names and bounds are said here, or by the whole task itself.
    """

    fitness: str
    params: str = ""
    descriptor_names: tuple[str, ...] = ()
    descriptor_bounds: tuple[tuple[float, float], ...] = ()

    def __post_init__(self):
        _ = self.task, self.maker  # a wrong path is told now
        if isinstance(self.task, Task):
            for name in ("descriptor_names", "descriptor_bounds"):
                said, own = getattr(self, name), tuple(getattr(self.task, name, ()))
                if said and own and said != own:
                    raise ValueError(f"{self.fitness} has its own `{name}`, {own}; leave them out. Got {said}.")
                object.__setattr__(self, name, said or own)
        if len(self.descriptor_names) != len(self.descriptor_bounds):
            raise ValueError(
                "`descriptor_names` and `descriptor_bounds` describe the same numbers; "
                f"got {len(self.descriptor_names)} names and {len(self.descriptor_bounds)} bounds."
            )

    def __getattr__(self, name: str) -> Any:
        """What a whole task has besides: `unit`, `measure`, `sample` and the like."""
        if name.startswith("_") or not isinstance(self.task, Task):
            raise AttributeError(f"{type(self).__name__} has no {name!r}.")
        return getattr(self.task, name)

    @cached_property
    def task(self) -> Any:
        """What `fitness` names: a function, or a task."""
        found = load(self.fitness)
        found = found() if inspect.isclass(found) and hasattr(found, "evaluate") else found
        if not callable(found) and not isinstance(found, Task):
            raise ValueError(f"{self.fitness!r} is neither a function nor a task; got a {type(found).__name__}.")
        return found

    @cached_property
    def maker(self) -> Any:
        """What makes parameters: `params`, or `init` beside the fitness function."""
        if isinstance(self.task, Task):
            return self.task.init
        path = self.params or f"{self.fitness.rpartition(':')[0]}:init"
        found = load(path)
        if not callable(found):
            raise ValueError(f"{path!r} isn't a function of a key; got a {type(found).__name__}.")
        return found

    @cached_property
    def scene(self) -> Any:
        """What draws a member: the task's own `scene`, or that beside the fitness function. AttributeError without."""
        if isinstance(self.task, Task):
            return self.task.scene  # type: ignore[attr-defined]
        try:
            found = load(f"{self.fitness.rpartition(':')[0]}:scene")
        except ValueError:
            raise AttributeError(f"{self.fitness} has no `scene` beside it.") from None
        return lambda params, state, key: found(params, key)

    def init(self, key):
        return self.maker(key) if isinstance(self.task, Task) else (self.maker(key), ())

    def evaluate(self, params, state, key):
        if isinstance(self.task, Task):
            return self.task.evaluate(params, state, key)
        return as_evaluation(self.task(params, key))

    def absorb(self, state, aux):
        return self.task.absorb(state, aux) if isinstance(self.task, Task) else state


def load(path: str) -> Any:
    """The object of "file.py:name" or "package.module:name". Raises ValueError, saying which half is wrong."""
    place, _, name = path.rpartition(":")
    if not place or not name:
        raise ValueError(f'wanted "file.py:function" or "package.module:function"; got {path!r}.')
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    if not hasattr(module, name):
        raise ValueError(f"{place} has no {name!r}; {nearest(name, [n for n in vars(module) if n[0] != '_'])}")
    return getattr(module, name)


def _file(path: Path) -> Any:
    """A file as a module; one file is one module, however often it is named."""
    if not path.is_file():
        raise ValueError(f"there is no file {path} in {Path.cwd()}.")
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.append(folder)  # for the files beside it
    name = f"evo_custom_{path.resolve().as_posix().replace('/', '_').removesuffix('.py')}"
    if name not in sys.modules:
        loader = importlib.machinery.SourceFileLoader(name, str(path))
        spec = importlib.machinery.ModuleSpec(name, loader, origin=str(path))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            loader.exec_module(sys.modules[name])
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise ValueError(f"there is no module {name!r}; a file is named with its .py ending.") from error
        raise
