"""`evo archive`: maps of an archive, and a page to explore it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from rich.console import Console
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from evo.opened import Run
    from evo.view.archive import ArchiveData

MOMENTS = 40  # of the archive's past, for the page's slider


@dataclass(frozen=True)
class Archive:
    """The archive as pictures (a map, a histogram), and as one HTML page to explore it."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="A run folder.")]
    out: Annotated[Path | None, arg(metavar="DIR", help="Where the files go; the run's folder if left out.")] = None
    scenes: Annotated[int, arg(metavar="N", help="How many elites' episodes the page holds.")] = 9

    def __call__(self, console: Console) -> int:
        from evo.commands.opened import elites, opened
        from evo.view.archive import archive_map, histogram
        from evo.view.page import archive_page

        run = opened(self.run)
        archive, cells = elites(run)
        out, data = self.out or self.run, gathered(run, archive)
        out.mkdir(parents=True, exist_ok=True)
        archive_map(data, out / "archive.png")
        histogram(data, out / "archive-fitness.png")
        meta = {"title": run.path.resolve().name, "run": str(run.path), "generations": str(run.generations)}
        scenes = filmed(run, archive, chosen(data, cells, self.scenes))
        archive_page(data, out / "archive.html", past(run, data), meta, scenes)
        pictures = [out / name for name in ("archive.png", "archive-fitness.png", "archive.html")]
        looks = getattr(archive.record, "looks", None)
        if looks is not None:
            pictures.append(looked_picture(run, archive, out / "archive-corrected.png"))
        for picture in pictures:
            console.print(str(picture), highlight=False, soft_wrap=True)
        return 0


def gathered(run: Run, archive: Any) -> ArchiveData:
    """The archive as the pictures want it. A column each for what its record says of an elite."""
    from evo.checkpoint import flatten
    from evo.view.archive import ArchiveData

    grid = grid_of(run)
    columns = {name: x if x.ndim == 1 else _joined(x) for name, x in flatten(archive.record).items()}
    names = tuple(getattr(run.task, "descriptor_names", ()))
    fitness, descriptor = np.asarray(archive.fitness), np.asarray(archive.descriptor)
    shape, places = getattr(grid, "shape", None), getattr(grid, "centroids", None)
    if shape is None and places is None:  # places fill in their order
        taken = int(np.isfinite(fitness).sum())
        fitness, descriptor = fitness[:taken], descriptor[:taken]
        columns, places = {name: x[:taken] for name, x in columns.items()}, descriptor
    return ArchiveData(fitness, descriptor, shape, grid.bounds, names, places, columns, grid.offset)


def looked_picture(run: Run, archive: Any, path: Path) -> Path:
    """The archive as reported and as the later looks see it, side by side."""
    from evo.luck import refiled, seen_as

    strategy: Any = run.strategy
    every = strategy.elites(run.strategy_state())
    fitness, descriptor, _ = seen_as(every, every.record.looks)
    return corrected_picture(run, archive, refiled(grid_of(run), fitness, descriptor), path)


def corrected_picture(run: Run, archive: Any, left: Any, path: Path) -> Path:
    """The archive as reported, and what is `left` of it, side by side."""
    from evo.view.archive import pair

    reported = gathered(run, archive)._replace(columns=None)
    places: dict[str, Any] = {"fitness": np.asarray(left.fitness), "descriptor": np.asarray(left.descriptor)}
    if reported.shape is None and not hasattr(grid_of(run), "centroids"):
        taken = np.isfinite(places["fitness"])
        places = {name: x[taken] for name, x in places.items()} | {"centroids": places["descriptor"][taken]}
    return pair(reported, reported._replace(**places), path)


def grid_of(run: Run) -> Any:
    """The grid that says which cell a descriptor belongs to."""
    strategy: Any = run.strategy
    return strategy.grid


def past(run: Run, data: ArchiveData) -> list[tuple[int, np.ndarray]]:
    """(generation, fitness of every cell) through the run: the best that the records ever put in each.

    Empty for an archive whose fitness isn't that, because elites leave it or are judged again.
    """
    grid, best = grid_of(run), np.full(len(data.fitness), -np.inf, np.float32)
    if not hasattr(grid, "cell"):
        return []
    kept = set(np.linspace(0, run.generations - 1, min(MOMENTS, run.generations)).astype(int).tolist())
    moments = []
    for generation in range(run.generations):
        record = run.folder.records.read(generation)
        cell, fitness = np.asarray(grid.cell(record["descriptor"])[0]), record["fitness"]
        valid = np.isfinite(fitness) & (cell < len(best))
        np.maximum.at(best, cell[valid], fitness[valid])
        if generation in kept:
            moments.append((generation, best.copy()))
    return moments if np.array_equal(best, np.where(np.isfinite(data.fitness), data.fitness, -np.inf)) else []


def chosen(data: ArchiveData, cells: np.ndarray, count: int) -> list[int]:
    """The cells whose elites are filmed: the fittest, and others spread evenly over the archive."""
    spread = cells[np.linspace(0, len(cells) - 1, max(count - 1, 0)).astype(int)].tolist()
    best = int(cells[data.fitness[cells].argmax()])
    return list(dict.fromkeys([best, *spread]))[: max(count, 0)]


def filmed(run: Run, archive: Any, cells: list[int]) -> dict[int, Any]:
    """An episode of each of these cells' elites; none where the task can't be filmed."""
    import jax

    from evo.commands.look import filmed

    if not hasattr(run.task, "scene"):
        return {}
    return {cell: filmed(run, jax.tree.map(lambda rows, c=cell: rows[c], archive.rows)) for cell in cells}


def _joined(rows: np.ndarray) -> np.ndarray:
    """Rows of several numbers as strings: `12, 40`."""
    return np.array([", ".join(map(str, row)) for row in rows.reshape(len(rows), -1).tolist()])
