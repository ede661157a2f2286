"""The past of an archive, from its arrivals (evo/arrivals.py). Axes: `r` arrivals, `c` cells, `p` parents."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Int, Shaped

from evo.arrivals import Rows

MOST = 120_000  # arrivals that a page holds
MOMENTS = 100  # of which the archive is kept whole, where there are more


def tenants(rows: Rows, cells: int, generation: int | None = None, depth: int = 1) -> Int[np.ndarray, "c"]:
    """Which arrival lives in each cell after a generation (None: the last); -1 where nobody does.

    Of the `depth` elites of a deep cell it is the fittest (ties: the one that is listed first).
    """
    if generation is not None:
        rows = rows[: np.searchsorted(rows["generation"], generation, "right")]
    last = np.full(cells * depth, -1)
    if not len(rows):
        return last[:cells]
    last[rows["cell"]] = np.arange(len(rows))  # of several in one place, the last stays
    fitness = np.where((last >= 0) & np.isfinite(rows["fitness"])[last], rows["fitness"][last], -np.inf)
    place = fitness.reshape(cells, depth).argmax(1) + np.arange(cells) * depth
    return np.where(np.isfinite(fitness[place]), last[place], -1)


def parents(rows: Rows) -> Int[np.ndarray, "r p"]:
    """The arrivals that each was made of: who lived in those cells when its generation began; -1 where nobody did."""
    if not len(rows):
        return np.full(rows["parents"].shape, -1)
    span = int(rows["generation"].max()) + 2
    place = rows["cell"].astype(np.int64) * span + rows["generation"]
    order = np.argsort(place, kind="stable")
    wanted = rows["parents"].astype(np.int64) * span + rows["generation"][:, None]
    before = order[np.maximum(np.searchsorted(place[order], wanted) - 1, 0)]
    there = (rows["cell"][before] == rows["parents"]) & (rows["generation"][before] < rows["generation"][:, None])
    return np.where(there & np.isfinite(rows["fitness"])[before], before, -1)


def kept(
    rows: Rows, family: Int[np.ndarray, "r p"], cells: int, most: int = MOST, depth: int = 1
) -> Bool[np.ndarray, "r"]:
    """Which arrivals a page holds: all, or (of more than `most`) those whose archive some moments show, and the line
    of first parents behind today's elites."""
    if len(rows) <= most:
        return np.ones(len(rows), bool)
    found = np.zeros(len(rows), bool)
    for generation in np.linspace(0, rows["generation"].max(), MOMENTS).astype(int):
        found[_there(tenants(rows, cells, generation, depth))] = True
    lines, line = np.zeros(len(rows), bool), _there(tenants(rows, cells, depth=depth))
    while len(line) and family.shape[1]:
        line = np.unique(_there(family[line, 0]))
        line = line[~lines[line]]
        lines[line] = True
    return found | lines


def members(
    rows: Rows, fitness: Shaped[np.ndarray, "g n"], descriptor: Shaped[np.ndarray, "g n d"]
) -> Int[np.ndarray, "r"]:
    """Which member of its generation each arrival was, by what it scored: the first of those that are equal, as in
    the archive; -1 where none is."""
    found = np.full(len(rows), -1)
    edges = np.searchsorted(rows["generation"], np.arange(len(fitness) + 1))
    for generation, (first, last) in enumerate(pairwise(edges)):
        if first < last:
            same = rows["fitness"][first:last, None] == fitness[generation][None]
            place = rows["descriptor"][first:last, None] == descriptor[generation][None]
            same &= place.all(-1)
            found[first:last] = np.where(same.any(1), same.argmax(1), -1)
    return found


def _there(index: np.ndarray) -> np.ndarray:
    return index[index >= 0]
