"""An archive's history on disk: who moved into which cell, and when.

One row of fixed size an arrival, appended generation by generation to arrivals.bin; `arrivals.json` says how many
descriptors and parents a row has. What is known of a cell is compared with what was known of it a generation before, so
the rows are what happened, whatever the archive's rules. Where cells hold several elites (evo/deep.py), each of their
places is a cell here. Axes: `c` cells, `m` moves of a generation, `r` rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from evo.archive import SLICE, Archive, running_count
from evo.files import append, read_json, write

Rows = Shaped[np.ndarray, "r"]  # fields as in `kind`


class Moves(NamedTuple):
    """The cells whose elite changed in a generation, lowest first, and who lives there now."""

    cell: Int[Array, "m"]  # -1: no such cell, and the rest means nothing
    emitter: Int[Array, "m"]  # -1: none is told
    fitness: Float[Array, "m"]  # -inf: the elite left, and nobody came
    parents: Int[Array, "m p"]
    descriptor: Float[Array, "m d"]


@partial(jax.jit, static_argnums=2)
def moved(before: Archive, after: Archive, most: int) -> Moves:
    """Compare an archive with itself a generation earlier, in which at most `most` cells changed. Needs no rows.

    A slice of the moves at a time, so that those there are cost something, not those there could be.
    """
    c, record = after.fitness.shape[0], after.record
    elsewhere = (before.descriptor != after.descriptor).any(1) & jnp.isfinite(after.fitness)
    changed = (before.fitness != after.fitness) | elsewhere
    rank = running_count(changed)
    emitter = getattr(record, "emitter", jnp.full(c, -1, jnp.int32))
    parents = getattr(record, "parents", jnp.zeros((c, 0), jnp.int32))
    known = Moves(jnp.arange(c), emitter, after.fitness, parents, after.descriptor)
    most, chunk = min(most, c), min(most, c, SLICE)
    cells = jnp.zeros(most, jnp.int32).at[jnp.where(changed, rank - 1, most)].set(jnp.arange(c), mode="drop")

    def step(i, moves):
        start = jnp.minimum(i * chunk, most - chunk)  # the last slice may overlap the one before
        number = start + jnp.arange(chunk)
        cell = jax.lax.dynamic_slice_in_dim(cells, start, chunk)
        new = jax.tree.map(lambda x: x.at[cell].get(mode="clip"), known)
        new = new._replace(cell=jnp.where(number < rank[-1], cell, -1))
        return jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, start, 0), moves, new)

    nothing = jax.tree.map(lambda x: jnp.full((most, *x.shape[1:]), -1, x.dtype), known)
    return jax.lax.fori_loop(0, (rank[-1] + chunk - 1) // chunk, step, nothing)


def kind(descriptors: int, parents: int) -> np.dtype:
    """A row: generation, cell, emitter (-1: none is told), fitness (-inf: the elite left, and nobody came), the rows
    it was made of (-1: none), descriptor; little-endian, 4 bytes each."""
    numbers = [("generation", "<i4"), ("cell", "<i4"), ("emitter", "<i4"), ("fitness", "<f4")]
    return np.dtype([*numbers, ("parents", "<i4", (parents,)), ("descriptor", "<f4", (descriptors,))])


@dataclass(frozen=True)
class Arrivals:
    """The history of the run in the folder `path`."""

    path: Path

    def append(self, generation: int, moves: Moves):
        """Write down who moved in a generation."""
        known: Any = jax.tree.map(np.asarray, moves)
        rows = np.zeros(len(known.cell), kind(known.descriptor.shape[1], known.parents.shape[1]))
        rows["generation"] = generation
        for name, column in known._asdict().items():
            rows[name] = column
        if not (self.path / "arrivals.json").exists():
            sizes = {"descriptors": known.descriptor.shape[1], "parents": known.parents.shape[1]}
            write(self.path / "arrivals.json", json.dumps(sizes))
        append(self.path / "arrivals.bin", rows[known.cell >= 0].tobytes())

    def read(self, first: int = 0) -> Rows:
        """The rows from the `first` on, in the order in which they were written; a torn one is left out.

        Empty where the run keeps no archive.
        """
        if not ((self.path / "arrivals.json").exists() and (self.path / "arrivals.bin").exists()):
            return np.zeros(0, kind(0, 0))
        sizes = read_json(self.path / "arrivals.json")
        row = kind(sizes["descriptors"], sizes["parents"])
        with (self.path / "arrivals.bin").open("rb") as file:
            file.seek(first * row.itemsize)
            content = file.read()
        return np.frombuffer(content[: len(content) // row.itemsize * row.itemsize], row)

    def __len__(self) -> int:
        """How many rows are there whole."""
        return len(self.read())

    def cut(self, generations: int):
        """Forget what came in generation `generations` or later."""
        if (self.path / "arrivals.bin").exists():
            rows = self.read()
            kept = int(np.searchsorted(rows["generation"], generations))
            with (self.path / "arrivals.bin").open("r+b") as file:
                file.truncate(kept * rows.dtype.itemsize)
