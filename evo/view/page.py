"""Archives as one HTML file to explore: opens from disk, holds everything, asks the network for nothing.

Axes: `c` cells, `r` arrivals, `n` looks, `m` parameters.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from evo.arrivals import Rows, kind
from evo.files import write
from evo.view import embed
from evo.view.archive import ArchiveData, check_alike, checked, occupied, places, summary
from evo.view.past import kept, parents
from evo.view.scene import Episode
from evo.view.target import target
from evo.view.voronoi import voronoi

LIMIT = 15_000_000  # bytes of a page: episodes beyond it are left out, the last first
NUMBERS = 256  # parameters that are shown of an elite


class Exhibit(NamedTuple):
    """One archive on a page, and what the page can tell of its elites. All strings are shown as they are."""

    data: ArchiveData
    title: str = "Archive"
    meta: Mapping[str, str] = {}
    run: str | None = None  # the run's folder, for commands to copy
    episodes: Mapping[int, Episode] = {}  # by cell
    scores: Mapping[int, Float[np.ndarray, "n"]] = {}  # of an elite that was judged again, by cell
    numbers: Mapping[int, Float[np.ndarray, "m"]] = {}  # of an elite whose task draws nothing, by cell
    members: Int[np.ndarray, "r"] | None = None  # which member of its generation each arrival was, where that is known
    generations: int | None = None  # of the run so far
    emitters: tuple[str, ...] = ()  # their names, by the number that an arrival has
    undrawn: str = ""  # why none of its elites can be filmed, where that is so


def archive_page(exhibits: ArchiveData | Exhibit | Sequence[Exhibit], path: str | Path) -> Path:
    """Write the page of an archive, or of two with the same cells, side by side with their difference.

    A map to hover, zoom and search, with the run's generations on a slider; a click shows a cell: what is known of its
    elite, its line of ancestors, and its episode. Raises ValueError for an empty archive, or two that don't compare.
    """
    path = target(path, (".html",))
    write(path, page(exhibits))
    return path


def page(exhibits: ArchiveData | Exhibit | Sequence[Exhibit], live: bool = False) -> str:
    """The page as text; with `live` it asks the server that it came from for what is new."""
    shown = [Exhibit(exhibits)] if isinstance(exhibits, ArchiveData) else exhibits
    shown = [shown] if isinstance(shown, Exhibit) else list(shown)
    shown = [exhibit._replace(data=checked(exhibit.data)) for exhibit in shown]
    _comparable([exhibit.data for exhibit in shown])
    title = " and ".join(exhibit.title for exhibit in shown)
    runs = [content(exhibit, live) for exhibit in shown]
    left_out = 0
    while True:
        filled = {"title": title, "runs": runs, "live": live, "size": "00.0 MB", "leftOut": left_out}
        text = embed.template("archive.html", title, filled, live)
        if len(text) <= LIMIT or not any(run["episodes"] for run in runs):
            return text.replace('"size":"00.0 MB"', f'"size":"{len(text) / 1e6:.1f} MB"', 1)
        left_out += _shortened(runs, len(text) - LIMIT)


def _shortened(runs: list[dict[str, Any]], excess: int) -> int:
    """Leave out episodes of about so many bytes, the last first and of each run in turn; how many they were."""
    count = 0
    while excess > 0 and (held := [run for run in runs if run["episodes"]]):
        longest = max(held, key=lambda run: len(run["episodes"]))
        _, episode = longest["episodes"].popitem()
        excess -= len(json.dumps(episode))
        count += 1
    return count


def content(exhibit: Exhibit, live: bool = False) -> dict[str, Any]:
    """One archive for the page (story.js); all of its past where the page is `live`, for what comes refers to it."""
    data, episodes = exhibit.data, {str(int(cell)): embed.episode(shown) for cell, shown in exhibit.episodes.items()}
    return {
        "title": exhibit.title,
        "summary": summary(data),
        "meta": [[str(key), str(value)] for key, value in exhibit.meta.items()],
        "folder": None if exhibit.run is None else shlex.quote(exhibit.run),
        "offset": data.offset,
        **_cells(data),
        "columns": columns_of(data),
        "past": past(data, exhibit.members, 0, live),
        "generations": exhibit.generations,
        "emitters": [str(name) for name in exhibit.emitters],
        "undrawn": exhibit.undrawn,
        "shapes": embed.shared(episodes),
        "episodes": episodes,
        "scores": {str(int(cell)): _some(scores, 1000) for cell, scores in exhibit.scores.items()},
        "numbers": _numbers(exhibit.numbers),
    }


def columns_of(data: ArchiveData) -> list[dict[str, Any]]:
    """What else is said of each cell."""
    return [_column(str(name), np.asarray(column)) for name, column in (data.columns or {}).items()]


def past(data: ArchiveData, members: Int[np.ndarray, "r"] | None, first: int = 0, whole: bool = True) -> dict[str, Any]:
    """The arrivals from the `first` on for the page; of an archive without a past, its elites, as if from the start."""
    rows = elites(data) if data.past is None else data.past
    family = parents(rows)
    some = np.ones(len(rows), bool) if whole else kept(rows, family, len(data.fitness), depth=data.depth)
    place = np.cumsum(some) - 1
    family = np.where((family >= 0) & some[family], place[family], -1) if len(rows) else family
    some[:first] = False
    members = np.full(len(rows), -1) if members is None else members
    return {
        "known": data.past is not None,
        "depth": 1 if data.past is None else data.depth,
        "generation": embed.array(rows["generation"][some]),
        "cell": embed.array(rows["cell"][some]),
        "emitter": embed.array(rows["emitter"][some]),
        "fitness": embed.array(np.where(np.isfinite(rows["fitness"]), rows["fitness"], np.nan)[some]),
        "descriptor": embed.array(rows["descriptor"][some]),
        "parents": embed.array(family[some]),
        "fathers": int(family.shape[1]),
        "member": embed.array(members[some]),
    }


def elites(data: ArchiveData) -> Rows:
    """The elites as arrivals of generation 0."""
    cell = np.flatnonzero(occupied(data))
    rows = np.zeros(len(cell), kind(data.descriptor.shape[1], 0))
    rows["cell"], rows["emitter"], rows["fitness"] = cell, -1, data.fitness[cell]
    rows["descriptor"] = data.descriptor[cell]
    return rows


def _comparable(archives: list[ArchiveData]):
    """Raise unless the archives have the same cells."""
    if not 1 <= len(archives) <= 2:
        raise ValueError(f"A page shows one archive, or two side by side; got {len(archives)}.")
    if len(archives) == 2:
        check_alike(*archives)


def _cells(data: ArchiveData) -> dict[str, Any]:
    low, high = np.asarray(data.bounds, float).T
    cells: dict[str, Any] = {
        "names": [str(name) for name in data.names],
        "bounds": [[float(a), float(b)] for a, b in data.bounds],
        "shape": None if data.shape is None else [int(n) for n in data.shape],
        "cells": len(data.fitness),
    }
    if data.shape is None:
        cells["centroids"] = embed.array(places(data))
        if len(data.bounds) == 2 and data.centroids is not None:
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


def _numbers(numbers: Mapping[int, np.ndarray]) -> dict[str, Any] | None:
    """The first parameters of these cells' elites, a row a cell."""
    if not numbers:
        return None
    rows = np.array([np.asarray(row, float).ravel()[:NUMBERS] for row in numbers.values()])
    return {
        "cells": embed.array(np.array(list(numbers), np.int32)),
        "wide": rows.shape[1],
        "values": embed.quantised(rows),
    }


def _some(numbers: np.ndarray, most: int) -> list[float | None]:
    flat = np.asarray(numbers, float).ravel()[:most]
    return [float(f"{x:.6g}") if np.isfinite(x) else None for x in flat]
