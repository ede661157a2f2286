"""An archive as one HTML file to explore: opens from disk, holds everything, asks the network for nothing."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from evo.view import embed
from evo.view.archive import ArchiveData, checked, places, summary
from evo.view.scene import Scene
from evo.view.target import target
from evo.view.voronoi import voronoi


def archive_page(
    data: ArchiveData,
    path: str | Path,
    history: Sequence[tuple[int, Float[np.ndarray, "c"]]] | None = None,
    meta: Mapping[str, str] | None = None,
    scenes: Mapping[int, Scene] | None = None,
):
    """Write the page of an archive: a map to hover, zoom and search; a click shows a cell, and plays it.

    `history` is (generation, fitness of every cell) through the run, for a slider. `meta` is shown on top as it is;
    `title` is the heading, and with `run` (its folder) the page offers the commands that rebuild and render a cell.
    `scenes` are the episodes that the page holds, by cell. Raises ValueError for an empty archive.
    """
    path = target(path, (".html",))
    data, meta = checked(data), {str(key): str(value) for key, value in (meta or {}).items()}
    title = meta.get("title") or "Archive"
    content = {
        "title": title,
        "summary": summary(data),
        "meta": [[key, value] for key, value in meta.items() if key != "title"],
        "commands": _commands(meta["run"]) if "run" in meta else [],
        **_cells(data),
        "columns": [_column(str(name), np.asarray(column)) for name, column in (data.columns or {}).items()],
        "history": _history(history or (), len(data.fitness)),
        "scenes": {str(int(cell)): embed.scene(scene) for cell, scene in (scenes or {}).items()},
    }
    path.write_text(embed.template("archive.html", title, content), encoding="utf-8")


def _commands(run: str) -> list[str]:
    """What rebuilds and what renders the elite of a cell; the page puts the cell in place of `{cell}`."""
    folder = shlex.quote(run)
    return [f"evo replay {folder} --cell {{cell}} --out elite.safetensors", f"evo render {folder} --cell {{cell}}"]


def _cells(data: ArchiveData) -> dict[str, Any]:
    fitness = np.where(np.isfinite(data.fitness), data.fitness, np.nan)
    low, high = np.asarray(data.bounds, float).T
    cells: dict[str, Any] = {
        "names": [str(name) for name in data.names],
        "bounds": [[float(a), float(b)] for a, b in data.bounds],
        "shape": None if data.shape is None else [int(n) for n in data.shape],
        "fitness": embed.array(fitness),
        "descriptor": embed.array(data.descriptor),
    }
    if data.shape is None:
        cells["centroids"] = embed.array(places(data))
        if len(data.bounds) == 2:
            corners, counts = voronoi(places(data), data.bounds)
            cells["corners"] = embed.array(np.round((corners - low) / (high - low) * 65535).astype(np.uint16))
            cells["counts"] = embed.array(counts)
    return cells


def _column(name: str, column: np.ndarray) -> dict[str, Any]:
    """Numbers as they are; anything else as its place in the sorted list of what occurs."""
    if column.dtype.kind in "fiub":
        return {"name": name, "values": embed.array(column.astype(np.float32))}
    labels, codes = np.unique(column.astype(str), return_inverse=True)
    return {"name": name, "values": embed.array(codes.astype(np.float32)), "labels": labels.tolist()}


def _history(history: Sequence[tuple[int, np.ndarray]], cells: int) -> dict[str, Any] | None:
    if not history:
        return None
    rows = [np.asarray(fitness, float) for _, fitness in history]
    if any(row.shape != (cells,) for row in rows):
        raise ValueError(f"History has the fitness of all {cells} cells; got {[row.shape for row in rows]}.")
    return {"generations": [int(generation) for generation, _ in history], "fitness": embed.quantised(np.stack(rows))}
