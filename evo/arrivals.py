"""An archive's history on disk: who moved into which cell, and when.

One row of fixed size an arrival, appended generation by generation to arrivals.bin; `arrivals.json` says how many
descriptors and parents a row has. What is told of a cell is compared with what was told of it a generation before, so
the rows are what happened, whatever the archive's rules. Axes: `c` cells, `r` rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from evo.archive import Archive

Rows = Shaped[np.ndarray, "r"]  # fields as in `kind`


def kind(descriptors: int, parents: int) -> np.dtype:
    """A row: generation, cell, emitter (-1: none is told), fitness (-inf: the elite left, and nobody came), the rows
    it was made of (-1: none), descriptor; little-endian, 4 bytes each."""
    numbers = [("generation", "<i4"), ("cell", "<i4"), ("emitter", "<i4"), ("fitness", "<f4")]
    return np.dtype([*numbers, ("parents", "<i4", (parents,)), ("descriptor", "<f4", (descriptors,))])


@dataclass(frozen=True)
class Arrivals:
    """The history of the run in the folder `path`."""

    path: Path

    def append(self, generation: int, before: Archive, after: Archive):
        """Write down every cell whose elite isn't the one before. Neither archive needs rows.

        Between the two may lie several generations, up to this one: then the record says when an elite came, and who
        moved in and out again between them isn't told.
        """
        old, new = np.asarray(before.fitness), np.asarray(after.fitness)
        moved = (np.asarray(before.descriptor) != np.asarray(after.descriptor)).any(1)
        cell = np.flatnonzero((old != new) | (moved & np.isfinite(new)))
        rows = made(generation, cell, after)
        told: Any = after.record
        if hasattr(told, "generation"):
            came, known = np.asarray(told.generation)[cell], int(np.asarray(before.record.generation).max())
            rows["generation"] = np.where(came > known, np.minimum(came, generation), generation)
            rows = rows[np.argsort(rows["generation"], kind="stable")]
        if not (self.path / "arrivals.json").exists():
            sizes = {"descriptors": rows["descriptor"].shape[1], "parents": rows["parents"].shape[1]}
            (self.path / "arrivals.json").write_text(json.dumps(sizes))
        with (self.path / "arrivals.bin").open("ab") as file:
            file.write(rows.tobytes())

    def read(self, first: int = 0) -> Rows:
        """The rows from the `first` on, in the order in which they were written; a torn one is left out.

        Empty where the run keeps no archive.
        """
        if not (self.path / "arrivals.json").exists():
            return np.zeros(0, kind(0, 0))
        sizes = json.loads((self.path / "arrivals.json").read_text())
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


def made(generation: int, cell: np.ndarray, archive: Archive) -> Rows:
    """The rows of these cells' elites."""
    record: Any = archive.record
    parents = np.asarray(getattr(record, "parents", np.zeros((len(archive.fitness), 0))))
    rows = np.zeros(len(cell), kind(archive.descriptor.shape[1], parents.shape[1]))
    emitter = getattr(record, "emitter", None)
    rows["generation"], rows["cell"] = generation, cell
    rows["emitter"] = -1 if emitter is None else np.asarray(emitter)[cell]
    rows["fitness"], rows["descriptor"] = np.asarray(archive.fitness)[cell], np.asarray(archive.descriptor)[cell]
    rows["parents"] = parents[cell]
    return rows
