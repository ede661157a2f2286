"""A run folder: what is written where. One object a folder; everything in it is plain files.

config.yaml, leaves.json (how noise acts on each leaf), metrics.jsonl (a line a generation), fitness/ (what every member
scored), arrivals.bin (who moved into the archive), checkpoints/, solution.safetensors, task.safetensors (the task's
state), versions.json.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evo.arrivals import Arrivals
from evo.checkpoint import Checkpoints, flatten, nest
from evo.express import Leaf, Plan
from evo.files import append, read_json, write, write_safetensors
from evo.noise import Noise
from evo.records import Records
from evo.registry import NOISES, resolve

PACKAGES = (
    "evo-engine",
    "jax",
    "jaxlib",
    "numpy",
    "optax",
    "orbax-checkpoint",
    "evosax",
    "brax",
    "mujoco",
    "mujoco-mjx",
)
BEGUN = {"config.yaml", "leaves.json", "checkpoints"}  # what a run writes before versions.json


@dataclass(frozen=True)
class Folder:
    """The files of the run at `path`."""

    path: Path

    @property
    def records(self) -> Records:
        return Records(self.path / "fitness")

    @property
    def arrivals(self) -> Arrivals:
        return Arrivals(self.path)

    def checkpoints(self, keep: int = 3) -> Checkpoints:
        return Checkpoints(self.path / "checkpoints", keep)

    def exists(self) -> bool:
        """Whether a run is there, more than one that was killed as it began. Raises where something else is."""
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return False
        if (self.path / "versions.json").exists():
            return True
        if self.path.is_dir() and {file.name.removeprefix("part.") for file in self.path.iterdir()} <= BEGUN:
            return False
        raise ValueError(f"{self.path} is not a run folder: it has no versions.json.")

    def begin(self, config: str, plan: Plan, params: Any):
        """Write what doesn't change during a run; versions.json, by which a run is known, last."""
        self.configure(config)
        write(self.path / "leaves.json", json.dumps(_describe(plan, params), indent=1))
        write(self.path / "versions.json", json.dumps(versions(), indent=1))

    def make(self):
        """The folder itself. Raises where it can't be made."""
        if "[" in str(self.path.absolute()):  # Orbax takes it for a pattern, and reads no checkpoint back
            raise ValueError(f"a run folder's path can't have a [ in it; got {self.path}. Choose another `out`.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"can't make the run folder {self.path}: {error.strerror}. Choose another `out`."
            ) from None

    def hold(self) -> int | None:
        """Keep other processes from running in this folder, until what is returned is closed. Raises if one does."""
        try:
            import fcntl
        except ImportError:  # not on Windows
            return None
        held = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            raise ValueError(f"another process is running in {self.path}. Choose another `out`, or wait.") from None
        except OSError:  # a file system without locks
            pass
        return held

    def unmake(self):
        """Take back what a run writes until its first row."""
        for name in (*sorted(BEGUN), "versions.json", "fitness", "metrics.jsonl", "lost.jsonl"):
            file = self.path / name
            shutil.rmtree(file, ignore_errors=True) if file.is_dir() else file.unlink(missing_ok=True)

    def configure(self, config: str):
        """Write config.yaml, whole or not at all."""
        write(self.path / "config.yaml", config)

    def config(self) -> str:
        return (self.path / "config.yaml").read_text()

    def plan(self) -> Plan:
        """How noise acted on every leaf."""
        rows = read_json(self.path / "leaves.json")
        return Plan(tuple(Leaf(r["path"], _noise(r["noise"]), tuple(r["rows"]), tuple(r["cols"])) for r in rows))

    def template(self) -> Any:
        """Shapes and dtypes of the parameters as nested dicts by path."""
        rows = read_json(self.path / "leaves.json")
        return nest({r["path"]: jax.ShapeDtypeStruct(r["shape"], jnp.dtype(r["dtype"])) for r in rows})

    def log(self, row: Mapping[str, Any], name: str = "metrics.jsonl"):
        """Append a line to metrics.jsonl, or to another such file."""
        append(self.path / name, json.dumps(row) + "\n")

    def rows(self, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, or of another such file, that are whole."""
        file = self.path / name
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise ValueError(f"{file} is damaged: a line isn't JSON ({error}).") from None

    def cut(self, generations: int):
        """Forget everything from generation `generations` on."""
        for name in ("metrics.jsonl", "lost.jsonl"):
            if (self.path / name).exists():
                rows = [row for row in self.rows(name) if row["generation"] < generations]
                write(self.path / name, "".join(json.dumps(row) + "\n" for row in rows))
        self.records.cut(generations)
        self.arrivals.cut(generations)

    def save(self, name: str, tree: Any):
        """Write a pytree as `name`.safetensors, whole or not at all."""
        write_safetensors(self.path / f"{name}.safetensors", flatten(tree))

    def load(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of `name`.safetensors by path."""
        from safetensors.numpy import load_file

        file = self.path / f"{name}.safetensors"
        if not file.exists():
            raise ValueError(f"{self.path} has no {file.name} yet: the run was stopped before it wrote one.")
        return load_file(file)


def columns(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Rows of metrics as columns; NaN where a row lacks one."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: np.array([_number(row.get(name)) for row in rows]) for name in names}


def versions() -> dict[str, Any]:
    """What this run was made with."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    prng = str(jax.random.key_impl(jax.random.key(0)))
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **found,
        "prng": prng,
        "device": f"{device.platform} {device.device_kind}",
    }


def _number(x) -> float:
    return float("nan") if x is None else float(x)


def _describe(plan: Plan, params: Any) -> list[dict[str, Any]]:
    """Each leaf's path, shape and dtype, and how noise acts on it."""
    return [
        {
            "path": leaf.path,
            "shape": jnp.shape(x),
            "dtype": str(jnp.result_type(x)),
            "noise": {"kind": type(leaf.noise).__name__, **_fields(leaf.noise)},
            "rows": leaf.rows,
            "cols": leaf.cols,
        }
        for leaf, x in zip(plan.of(params), jax.tree.leaves(params), strict=True)
    ]


def _fields(noise: Any) -> dict[str, Any]:
    return {field.name: getattr(noise, field.name) for field in fields(noise)}


def _noise(row: dict[str, Any]) -> Noise:
    known = {cls.__name__: cls for cls in map(resolve, NOISES.values())}
    return known[row["kind"]](**{name: x for name, x in row.items() if name != "kind"})
