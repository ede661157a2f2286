"""What the commands that look at a run share: opening it, and its elites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from evo.opened import Run


def opened(path: Path) -> Run:
    """The run in a folder. Raises where its files can't be read, or no generation is on record."""
    from evo.opened import open

    try:
        run = open(path)
        _ = run.config["task"], run.config["strategy"], run.metrics
        count = run.generations
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        said = (
            f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        )
        raise ValueError(f"{path} can't be read as a run folder: {said}.") from None
    if count == 0:
        raise ValueError(f"{path} has no generation on record yet; let the run go on: evo run CONFIG --resume.")
    return run


def elites(run: Run) -> tuple[Any, np.ndarray]:
    """The archive and its occupied cells. Raises where it is empty, or the run has none."""
    archive = run.archive()
    cells = np.flatnonzero(np.isfinite(np.asarray(archive.fitness)))
    if cells.size == 0:
        raise ValueError(
            f"the archive of {run.path} is empty: no member has entered it yet, for want of a finite fitness and "
            "descriptor, or of a fitness above `threshold_min`."
        )
    return archive, cells


def elite(run: Run, cell: int) -> Any:
    """The parameters in one cell of the archive. Raises with the nearest occupied cell where there are none."""
    import jax

    archive, cells = elites(run)
    check_occupied(cell, cells, len(archive.fitness))
    return jax.tree.map(lambda rows: rows[cell], archive.rows)


def check_occupied(cell: int, occupied: np.ndarray, count: int, said: str = ""):
    """Raise, beginning with `said`, unless it is one of the `count` cells and occupied."""
    if not 0 <= cell < count:
        raise ValueError(f"{said}the archive has cells 0 to {count - 1}; got {cell}.")
    if cell not in occupied:
        near = occupied[np.abs(occupied - cell).argmin()]
        raise ValueError(f"{said}cell {cell} of the archive is empty; the nearest occupied one is {near}.")
