"""A run's archive as pictures and pages want it, from the run folder. Axes: `c` cells, `n` members, `d` descriptor."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from evo.view.archive import ArchiveData
from evo.view.past import tenants

if TYPE_CHECKING:
    from evo.opened import Run

BATCH = 1 << 16  # members whose cells are computed at a time


def gathered(run: Run) -> ArchiveData:
    """A run's archive to look at: `evo.view.archive_map(evo.view.gathered(evo.open(folder)), ax=ax)`.

    Its columns: `generation` (when the elite came, from 0), `emitter` (what made it), `visits` (newcomers that were
    filed in the cell) and, where elites were judged again, `corrected` (their mean fitness then) and `luck` (what let
    them in minus that). Raises for a run without an archive.
    """
    cells, rows = cells_of(run), run.folder.arrivals.read()
    if not len(rows):
        archive = run.archive()
        fitness, descriptor = np.asarray(archive.fitness), np.asarray(archive.descriptor)
        columns: dict[str, np.ndarray] = {}
    else:
        last = tenants(rows, cells.cells)
        fitness = np.where(last >= 0, rows["fitness"][last], np.float32(-np.inf))
        descriptor = np.where(last[:, None] >= 0, rows["descriptor"][last], 0)
        columns = {"generation": rows["generation"][last]}
        names = emitters(run)
        if len(names) > 1:
            columns["emitter"] = np.array([*names, "?"])[np.clip(rows["emitter"][last], -1, len(names))]
    columns["visits"] = visits(run, cells)
    again = corrected(run, fitness)
    if again is not None:
        columns |= {"corrected": again, "luck": fitness - again}
    names = tuple(getattr(run.task, "descriptor_names", ()))
    shape, centroids = getattr(cells, "shape", None), getattr(cells, "centroids", None)
    past = rows if len(rows) else None
    return ArchiveData(fitness, descriptor, shape, cells.bounds, names, centroids, columns, cells.offset, past)


def cells_of(run: Run) -> Any:
    """What says which cell a descriptor belongs to. Raises where the run keeps no archive."""
    strategy: Any = run.strategy
    if not hasattr(strategy, "archive"):
        raise ValueError(f"{run.path} has no archive: {type(strategy).__name__} keeps none.")
    return strategy.grid


def emitters(run: Run) -> list[str]:
    """A name for each emitter: its kind, with its number where there are two of that kind."""
    kinds = [type(emitter).__name__ for emitter in getattr(run.strategy, "emitters", ())]
    return [kind if kinds.count(kind) == 1 else f"{kind} {i + 1}" for i, kind in enumerate(kinds)]


def visits(run: Run, cells: Any) -> Int[np.ndarray, "c"]:
    """How many valid newcomers of the whole run were filed in each cell."""
    count, records = np.zeros(cells.cells + 1, int), run.folder.records
    n = getattr(run.strategy, "offspring", None)
    for fitness, descriptor in _batches(records.column("fitness")[:, :n], records.column("descriptor")[:, :n]):
        cell = np.asarray(cells.cell(descriptor)[0])
        count += np.bincount(np.where(np.isfinite(fitness), cell, cells.cells), minlength=cells.cells + 1)
    return count[:-1]


def corrected(run: Run, fitness: Float[np.ndarray, "c"]) -> Float[np.ndarray, "c"] | None:
    """The mean fitness of each elite when it was judged again, in the run or by `evo eval`; NaN where it wasn't, None
    where none was."""
    found = np.full(len(fitness), np.nan, np.float32)
    if getattr(run.strategy, "looks", 0):
        looks = run.archive().record.looks
        found = np.where(np.asarray(looks.number) > 0, np.asarray(looks.fitness), found)
    if (run.path / "eval.csv").exists():
        with (run.path / "eval.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                cell = int(row["cell"])
                if cell < len(fitness) and np.float32(row["recorded"]) == np.float32(fitness[cell]):
                    found[cell] = float(row["mean"])
    return found if np.isfinite(found).any() else None


def _batches(fitness: np.ndarray, descriptor: np.ndarray):
    """Members of several generations at a time, always as many (the last ones filled up with NaN)."""
    if not fitness.size:
        return
    most = max(1, BATCH // fitness.shape[1])
    for first in range(0, len(fitness), most):
        some, place = fitness[first : first + most].ravel(), descriptor[first : first + most]
        lacks = min(most, len(fitness)) * fitness.shape[1] - len(some)
        place = np.pad(place.reshape(-1, place.shape[-1]), ((0, lacks), (0, 0)))
        yield np.pad(some, (0, lacks), constant_values=np.nan), place
