"""Archives without cells: elites that lie a distance apart, for novelty and for descriptors that are learned.

Axes: `n` newcomers, `c` places, `d` descriptor, `m` newcomers that might enter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from evo.archive import UNIT, Archive, Bounds, Inserted, Outside, check, checked, filed
from evo.novelty import squared

BLOCK = 256  # elites, or newcomers, that are compared at a time


@dataclass(frozen=True)
class Unstructured:
    """At most `cells` elites, no two nearer than `distance` (Cully & Demiris 2018, section III-A).

    A newcomer with no elite nearer than `distance` takes a free place; one with a single elite so near replaces it if
    it is fitter; one with two or more is turned away. Newcomers that are nearer than `distance` to each other compete:
    the fittest goes first (ties: the lower index), and whoever is too near to one that was taken stays out. So the
    distances hold after every batch. A full archive only replaces, and there only those compete who would replace.

    `bounds` (as in `evo.archive.Grid`) say how many descriptors there are and what pictures show; a descriptor beyond
    them counts as out of bounds and enters all the same, or never (`outside="refuse"`). Coverage is the share of places
    that are taken. Distances are Euclidean, in the descriptors' own units.
    """

    cells: int = 1024
    distance: float = 0.05
    bounds: Bounds = UNIT
    offset: float = 0.0
    outside: Outside = "clip"

    def __post_init__(self):
        if self.cells < 1 or not self.bounds:
            raise ValueError(
                f"An archive has at least 1 place and 1 descriptor; got cells={self.cells}, {self.bounds}."
            )
        if not (self.distance > 0 and math.isfinite(self.distance)):
            raise ValueError(f"`distance` is how far apart elites are, above 0; got {self.distance}.")
        check(self)

    @property
    def learning_rate(self) -> float | None:
        return None

    @property
    def threshold_min(self) -> float:
        return 0.0

    @property
    def surface(self) -> Unstructured:
        return self

    def top(self, archive: Archive) -> Archive:
        return archive

    def compare(self, archive: Archive, fitness: Float[Array, "n"], descriptor: Array | None) -> Inserted:
        """Who moves in where. The status is against the archive before the batch: 2 with no elite near, 1 fitter than
        the only one near, else 0; `cell` is the place taken, or the nearest elite's."""
        descriptor, n = checked(self, descriptor), fitness.shape[0]
        cell, outside = filed(self, descriptor, jnp.zeros(n, jnp.int32))
        valid, count = (cell == 0) & jnp.isfinite(fitness), (~jnp.isneginf(archive.fitness)).sum(dtype=jnp.int32)
        query = jnp.where(valid[:, None], descriptor, 0.0)
        near, first, second = two_nearest(archive.descriptor, count, query)
        radius = jnp.float32(self.distance) ** 2
        far, tenant = first >= radius, archive.fitness[near]
        status = jnp.where(valid & far, 2, jnp.where(valid & (second >= radius) & (fitness > tenant), 1, 0))
        status = jnp.where((status == 2) & (count == self.cells), 0, status)
        order = jnp.lexsort((-fitness, status == 0))
        enters = apart(query[order], (status > 0).sum(dtype=jnp.int32), radius)
        rank = jnp.zeros(n, jnp.int32).at[order].set(jnp.arange(n))
        enters = enters[rank]
        heir = enters & (status == 1)  # of the newcomers that would replace one elite, the first takes its place
        earliest = jax.ops.segment_min(jnp.where(heir, rank, n), near, self.cells)
        heir &= earliest[near] == rank
        free = count + jnp.cumsum((enters & ~heir)[order], dtype=jnp.int32)[rank] - 1
        place = jnp.where(heir, near, free)
        bar = jnp.where(far, jnp.float32(self.offset), tenant)
        return Inserted(
            status.astype(jnp.int32),
            jnp.where(valid, fitness - bar, -jnp.inf),
            enters & (place < self.cells),
            jnp.where(valid, jnp.where(enters & (place < self.cells), place, near), self.cells),
            outside & jnp.isfinite(fitness),
        )


def two_nearest(
    places: Float[Array, "c d"], count: Int[Array, ""], query: Float[Array, "n d"]
) -> tuple[Int[Array, "n"], Float[Array, "n"], Float[Array, "n"]]:
    """The nearest of the first `count` places (ties: the lowest), its squared distance and that of the second nearest;
    infinite where there are fewer. Costs as much as there are places in use."""
    c, n = places.shape[0], query.shape[0]
    block = min(BLOCK, c)

    def step(i, found):
        near, first, second = found
        start = jnp.minimum(i * block, c - block)  # the last block may overlap the one before
        index = start + jnp.arange(block)
        square = squared(query, jax.lax.dynamic_slice_in_dim(places, start, block))
        square = jnp.where(((index >= i * block) & (index < count))[None], square, jnp.inf)
        own = jnp.argmin(square, 1)
        least = square.min(1)
        next_least = jnp.where(jnp.arange(block)[None] == own[:, None], jnp.inf, square).min(1)
        second = jnp.minimum(jnp.minimum(second, next_least), jnp.maximum(first, least))
        return jnp.where(least < first, start + own, near).astype(jnp.int32), jnp.minimum(first, least), second

    far = jnp.full(n, jnp.inf)
    return jax.lax.fori_loop(0, (count + block - 1) // block, step, (jnp.zeros(n, jnp.int32), far, far))


def apart(place: Float[Array, "n d"], count: Int[Array, ""], radius: Float[Array, ""]) -> Bool[Array, "n"]:
    """Which of the first `count` points are taken when each is, in turn, unless it is too near to one taken before."""
    n = place.shape[0]
    block = min(BLOCK, n)
    place = jnp.pad(place, ((0, -n % block), (0, 0)))

    def step(i, taken):
        own = jax.lax.dynamic_slice_in_dim(place, i * block, block)
        index = i * block + jnp.arange(block)

        def before(j, free):
            others = jax.lax.dynamic_slice_in_dim(place, j * block, block)
            there = jax.lax.dynamic_slice_in_dim(taken, j * block, block)
            return free & ~((squared(own, others) < radius) & there[None]).any(1)

        free = jax.lax.fori_loop(0, i, before, index < count)
        near = squared(own, own) < radius
        later = jnp.arange(block)[None] > jnp.arange(block)[:, None]
        turn = lambda j, free: free & ~(free[j] & near[j] & later[j])  # noqa: E731
        return jax.lax.dynamic_update_slice_in_dim(taken, jax.lax.fori_loop(0, block, turn, free), i * block, 0)

    blocks = (count + block - 1) // block
    return jax.lax.fori_loop(0, blocks, step, jnp.zeros(place.shape[0], bool))[:n]
