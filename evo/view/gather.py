"""A run's archive as pictures and pages want it, from the run folder. Axes: `c` cells, `n` members, `d` descriptor."""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

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
    filed in the cell) and, where elites were judged again, `corrected` (their mean fitness then), `luck` (what let
    them in minus that) and `looks` (how many times). Raises for a run without an archive.
    """
    data = told(run)
    columns = dict(data.columns or {})
    if hasattr(cells_of(run), "cell"):
        columns["visits"] = visits(run)
    columns |= judged_again(run, data.fitness, looked(run))
    return data._replace(columns=columns)


def told(run: Run) -> ArchiveData:
    """What the arrivals alone tell of the archive, which is quick; of a run without them, what its state does."""
    cells, rows = cells_of(run), run.folder.arrivals.read()
    if not len(rows):
        archive = run.archive()
        fitness, descriptor = np.asarray(archive.fitness), np.asarray(archive.descriptor)
        columns: dict[str, np.ndarray] = {}
    else:
        last = tenants(rows, cells.cells, depth=depth(run))
        fitness = np.where(last >= 0, rows["fitness"][last], np.float32(-np.inf))
        descriptor = np.where(last[:, None] >= 0, rows["descriptor"][last], 0)
        columns = {"generation": rows["generation"][last]}
        made_by = emitters(run)
        if made_by:
            columns["emitter"] = np.array([*made_by, "?"])[np.clip(rows["emitter"][last], -1, len(made_by))]
    names = tuple(getattr(run.task, "descriptor_names", ()))
    shape, centroids = getattr(cells, "shape", None), getattr(cells, "centroids", None)
    past, deep = (rows, depth(run)) if len(rows) else (None, 1)
    return ArchiveData(fitness, descriptor, shape, cells.bounds, names, centroids, columns, cells.offset, past, deep)


def cells_of(run: Run) -> Any:
    """What says which cell a descriptor belongs to. Raises where the run keeps no archive."""
    strategy: Any = run.strategy
    if not hasattr(strategy, "archive"):
        raise ValueError(f"{run.path} has no archive: {type(strategy).__name__} keeps none.")
    return strategy.grid


def depth(run: Run) -> int:
    """How many elites a cell has."""
    cells = cells_of(run)
    return getattr(run.strategy, "cells", cells).cells // cells.cells


def emitters(run: Run) -> list[str]:
    """A name for each emitter: its kind, with its number where there are two of that kind."""
    strategy = getattr(run.strategy, "qd", run.strategy)
    kinds = [type(emitter).__name__ for emitter in getattr(strategy, "emitters", ())]
    return [kind if kinds.count(kind) == 1 else f"{kind} {i + 1}" for i, kind in enumerate(kinds)]


def visits(run: Run, of: Callable[[Run, int], Int[np.ndarray, "c"]] | None = None) -> Int[np.ndarray, "c"]:
    """How many valid newcomers of the whole run were filed in each cell: the sum of `of` (None: `visited`)."""
    of, blocks = of or visited, range(-(-run.generations // block(run)))
    return sum((of(run, i) for i in blocks), np.zeros(cells_of(run).cells, int))


def block(run: Run) -> int:
    """How many generations `visited` counts at a time."""
    return max(1, BATCH // run.folder.records.column("fitness").shape[1])


def visited(run: Run, index: int) -> Int[np.ndarray, "c"]:
    """Visits in one block of generations. Its last ones may be still to come; they are NaN, so that shapes stay."""
    cells, records, most = cells_of(run), run.folder.records, block(run)
    n, first = getattr(run.strategy, "offspring", None), index * most
    fitness = records.column("fitness")[first : first + most, :n]
    descriptor = records.column("descriptor")[first : first + most, :n]
    lacks = ((0, most - len(fitness)), (0, 0))
    fitness = np.pad(fitness, lacks, constant_values=np.nan)
    place = np.pad(descriptor, (*lacks, (0, 0))).reshape(fitness.size, -1)
    cell = np.where(np.isfinite(fitness.ravel()), np.asarray(cells.cell(place)[0]), cells.cells)
    return np.bincount(cell, minlength=cells.cells + 1)[:-1]


class Again(NamedTuple):
    """What the elites of some moment scored when the run judged them again."""

    fitness: Float[np.ndarray, "c"]  # what let each in, which tells whether it is still the same
    mean: Float[np.ndarray, "c"]
    number: Int[np.ndarray, "c"]  # how many times


def looked(run: Run, g: int | None = None) -> Again | None:
    """The run's own later looks, as they stood before generation g (None: after the last); None where it takes none."""
    if not getattr(run.strategy, "looks", 0):
        return None
    archive = run.archive(g)
    looks = archive.record.looks
    return Again(*(np.asarray(x) for x in (archive.fitness, looks.fitness, looks.number)))


def judged_again(run: Run, fitness: Float[np.ndarray, "c"], again: Again | None) -> dict[str, np.ndarray]:
    """Columns of what elites showed later, in the run (`again`) or by `evo eval`: `corrected`, their mean fitness then
    (NaN where nobody looked), `luck`, what let them in minus that, and `looks`, how many times; {} where none was."""
    mean, count = np.full(len(fitness), np.nan, np.float32), np.zeros(len(fitness), int)
    if again is not None:
        same = (again.number > 0) & (again.fitness.astype(np.float32) == fitness.astype(np.float32))
        mean, count = np.where(same, again.mean, mean), np.where(same, again.number, count)
    if (run.path / "eval.csv").exists():
        with (run.path / "eval.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                cell = int(row["cell"])
                if cell < len(fitness) and np.float32(row["recorded"]) == np.float32(fitness[cell]):
                    mean[cell], count[cell] = float(row["mean"]), int(row.get("valid") or 0)
    if not np.isfinite(mean).any():
        return {}
    return {"corrected": mean, "luck": fitness - mean, "looks": count}
