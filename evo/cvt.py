"""Centroidal Voronoi cells (Vassiliades et al. 2018): any number of cells in any dimension.

In up to four dimensions the nearest centroid is found by buckets: a fine grid over the bounds lists, for each of its
boxes, every centroid that can be the nearest to a point of that box. Axes: `n` descriptors, `c` centroids, `d`
descriptor, `b` buckets, `w` the longest list.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from evo.archive import UNIT, Archive, Bounds, Inserted, Outside, boxes, check, checked, contest, filed
from evo.random import kept

SAMPLES = 100_000  # points that the centroids are the means of, at least; ten a cell where there are many cells
ROUNDS = 30  # of Lloyd's algorithm, at most
STILL = 1e-3  # of the mean distance to the centroid: who moves less than that on average has arrived
BUCKETS = 4  # boxes a centroid
MOST = 1 << 18  # boxes
SHORT = 32  # entries of a list that are compared without a loop
BLOCK = 256  # centroids that are compared at a time, where there are no buckets


@dataclass(frozen=True)
class CVT:
    """Cells around `cells` centroids spread evenly over the box of descriptors `bounds`, by k-means from `seed`.

    A descriptor belongs to the nearest centroid (Euclidean, in the descriptors' own units; ties: the lowest cell); one
    out of bounds is first moved to the edge (`outside="clip"`), or never enters (`"refuse"`). The other settings are
    those of `evo.archive.Grid`.
    """

    cells: int = 1024
    bounds: Bounds = UNIT
    offset: float = 0.0
    learning_rate: float | None = None
    threshold_min: float = 0.0
    outside: Outside = "clip"
    seed: int = 0

    def __post_init__(self):
        if self.cells < 1 or not self.bounds:
            raise ValueError(f"A CVT has at least 1 cell and 1 descriptor; got cells={self.cells}, {self.bounds}.")
        check(self)

    @property
    def centroids(self) -> Float[np.ndarray, "c d"]:
        """The centroids, made once in a process."""
        return centroids(self.cells, self.bounds, self.seed)

    def cell(self, descriptor: Float[Array, "n d"] | None) -> tuple[Int[Array, "n"], Bool[Array, "n"]]:
        """The cell of each descriptor, `cells` (none) where nobody may enter; and whether it is out of bounds."""
        descriptor = checked(self, descriptor)
        low, high = np.asarray(self.bounds, np.float32).T
        within = jnp.clip(jnp.nan_to_num(descriptor), low[None], high[None])
        table = buckets(self.cells, self.bounds, self.seed)
        found = brute(self.centroids, within) if table is None else looked_up(table, within, self.bounds)
        return filed(self, descriptor, kept(found))  # who uses it would search again

    @property
    def surface(self) -> CVT:
        return self

    def top(self, archive: Archive) -> Archive:
        return archive

    def compare(self, archive: Archive, fitness: Float[Array, "n"], descriptor: Array | None) -> Inserted:
        """Each newcomer against its cell's tenant and its rivals in the batch; see `evo.archive.contest`."""
        cell, outside = self.cell(descriptor)
        return contest(archive, cell, fitness, self.offset, outside)


class Buckets(NamedTuple):
    """For each box of a fine grid (row-major), the centroids that can be the nearest, lowest first."""

    cell: Int[np.ndarray, "b w"]  # short lists repeat their first
    place: Float[np.ndarray, "b w*d"]  # where these are
    sides: tuple[int, ...]


def brute(centroids: Float[np.ndarray, "c d"], descriptor: Float[Array, "n d"]) -> Int[Array, "n"]:
    """The nearest centroid by comparing with all of them, a block at a time: the slow twin, exact in any dimension."""
    c, d = centroids.shape
    blocks = np.full((-(-c // BLOCK) * BLOCK, d), np.inf, np.float32)
    blocks[:c] = centroids

    def step(found, block):
        number, places = block
        squares = squared(descriptor, [places[None, :, j] for j in range(d)])
        own = jnp.argmin(squares, 1)
        square = jnp.take_along_axis(squares, own[:, None], 1)[:, 0]
        nearer = square < found[0]
        return (jnp.where(nearer, square, found[0]), jnp.where(nearer, own + number * BLOCK, found[1])), None

    start = jnp.full(descriptor.shape[0], jnp.inf), jnp.zeros(descriptor.shape[0], jnp.int32)
    numbered = jnp.arange(len(blocks) // BLOCK), jnp.asarray(blocks.reshape(-1, BLOCK, d))
    return jax.lax.scan(step, start, numbered)[0][1]


def looked_up(table: Buckets, descriptor: Float[Array, "n d"], bounds: Bounds) -> Int[Array, "n"]:
    """The nearest centroid of points within the bounds, by the list of the point's bucket."""
    bucket = boxes(descriptor, bounds, table.sides)
    d, w = descriptor.shape[1], table.cell.shape[1]
    place = jnp.asarray(table.place)[bucket].reshape(-1, w, d)
    entry = first_least(squared(descriptor, [place[:, :, j] for j in range(d)]))
    return jnp.asarray(table.cell).reshape(-1)[bucket * w + entry]


def first_least(x: Float[Array, "n w"]) -> Int[Array, "n"]:
    """`argmin` of rows; of short ones by comparisons written out, which take a CPU half as long."""
    if x.shape[1] > SHORT:
        return jnp.argmin(x, 1).astype(jnp.int32)
    found, least = jnp.zeros(len(x), jnp.int32), x[:, 0]
    for i in range(1, x.shape[1]):
        found = jnp.where(x[:, i] < least, i, found)
        least = jnp.minimum(x[:, i], least)
    return found


def squared(descriptor: Array, place: list[Array]) -> Array:
    """Squared distances, summed in the order of the descriptors wherever they are computed, so that all agree."""
    total = (descriptor[:, :1] - place[0]) ** 2
    for j in range(1, descriptor.shape[1]):
        total = total + (descriptor[:, j : j + 1] - place[j]) ** 2
    return total


@lru_cache(maxsize=8)
def centroids(cells: int, bounds: Bounds, seed: int = 0) -> Float[np.ndarray, "c d"]:
    """Means of points drawn uniformly from the box, by Lloyd's k-means from random ones of them.

    The nearest centroid of every point comes from a k-d tree, so a round costs points x log(cells).
    """
    from scipy.spatial import cKDTree

    rng, (low, high) = np.random.default_rng(seed), np.asarray(bounds, np.float64).T
    points = rng.uniform(low, high, (max(SAMPLES, 10 * cells), len(bounds)))
    found = points[rng.choice(len(points), cells, replace=False)]
    for _ in range(ROUNDS):
        distance, nearest = cKDTree(found).query(points)
        count = np.bincount(nearest, minlength=cells)
        total = np.stack([np.bincount(nearest, x, cells) for x in points.T], 1)
        moved = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], found)
        still = np.linalg.norm(moved - found, axis=1).mean() < STILL * distance.mean()
        found = moved
        if still:
            break
    return found.astype(np.float32)


@lru_cache(maxsize=8)
def buckets(cells: int, bounds: Bounds, seed: int = 0) -> Buckets | None:
    """The buckets of `centroids`; None in more than four dimensions, where comparing with all is as fast.

    A centroid is listed if its least distance to the box is at most the least over centroids of the greatest one.
    """
    from scipy.spatial import cKDTree

    d = len(bounds)
    if d > 4:
        return None
    found, (low, high) = centroids(cells, bounds, seed).astype(np.float64), np.asarray(bounds, np.float64).T
    side = math.ceil(min(BUCKETS * cells, MOST) ** (1 / d))
    corner = low + (high - low) * np.indices((side,) * d).reshape(d, -1).T / side
    half = (high - low) / side / 2
    tree, radius = cKDTree(found), float(np.linalg.norm(half))
    reach = tree.query(corner + half)[0] + 2.001 * radius  # who is nearest to a point of the box is not further off
    lists = tree.query_ball_point(corner + half, reach, return_sorted=True)
    length = np.fromiter(map(len, lists), int, len(lists))
    box, cell = np.repeat(np.arange(len(lists)), length), np.concatenate(lists).astype(np.int32)
    off = np.abs(found[cell] - (corner + half)[box])
    least, greatest = (np.linalg.norm(x, axis=1) for x in (np.maximum(off - half, 0), off + half))
    bound = np.minimum.reduceat(greatest, np.cumsum(length) - length)
    kept = least <= bound[box] * 1.00001 + 1e-6 * radius
    box, cell = box[kept], cell[kept]
    length = np.bincount(box, minlength=len(lists))
    start = np.cumsum(length) - length
    slot = np.arange(length.max())
    table = cell[start[:, None] + np.where(slot < length[:, None], slot, 0)]
    return Buckets(table, found[table].astype(np.float32).reshape(len(table), -1), (side,) * d)
