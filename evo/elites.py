"""What an archive holds: which cells have an elite, draws of them, neighbours, novelty, and the archive in numbers.

Axes: `n` queries, `c` cells, `d` descriptor, `k` neighbours.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from evo.archive import Archive, running_count
from evo.random import integers


def occupied(archive: Archive) -> Bool[Array, "c"]:
    """Which cells have an elite."""
    return ~jnp.isneginf(archive.fitness)


def filled(archive: Archive) -> tuple[Int[Array, "c"], Int[Array, ""]]:
    """The occupied cells, lowest first and then zeros, and how many they are."""
    taken = occupied(archive)
    cells, rank = taken.shape[0], running_count(taken)
    place = jnp.where(taken, rank - 1, cells)
    return jnp.zeros(cells, jnp.int32).at[place].set(jnp.arange(cells), mode="drop"), rank[-1]


def sample(key: Key[Array, ""], archive: Archive, n: int) -> Int[Array, "n"]:
    """Cells drawn uniformly from the occupied ones, with replacement; cell 0 where the archive is empty."""
    cells, count = filled(archive)
    return cells[integers(key, n, count)]


def nearest(archive: Archive, descriptor: Float[Array, "n d"], k: int = 1) -> tuple[Int[Array, "n k"], Array]:
    """The cells of the k elites that were seen nearest to each descriptor, nearest first, and how far they are;
    infinitely far where there are fewer than k, or where the descriptor isn't finite."""
    taken = occupied(archive)

    def one(place):
        square = ((archive.descriptor - place[None]) ** 2).sum(-1)
        least, cell = jax.lax.top_k(-jnp.where(taken & jnp.isfinite(square), square, jnp.inf), k)
        return cell, jnp.sqrt(-least)

    return jax.lax.map(one, descriptor, batch_size=64)


def novelty(
    archive: Archive, descriptor: Float[Array, "n d"], k: int = 10, within: Bool[Array, "n"] | None = None
) -> Float[Array, "n"]:
    """Mean distance to the k nearest elites, of however many there are (Lehman & Stanley 2011); -inf where invalid.

    Those who may be `within` the archive themselves aren't their own neighbours: one elite at no distance is left out.
    """
    k = min(k, archive.fitness.shape[0])
    if within is None:
        _, distance = nearest(archive, descriptor, k)
    else:
        _, distance = nearest(archive, descriptor, min(k + 1, archive.fitness.shape[0]))
        itself = within & (distance[:, 0] == 0)
        distance = jnp.where(itself[:, None], jnp.roll(distance.at[:, 0].set(jnp.inf), -1, 1), distance)[:, :k]
    there = jnp.isfinite(distance)
    mean = jnp.where(there, distance, 0.0).sum(-1) / jnp.maximum(there.sum(-1), 1).astype(jnp.float32)
    return jnp.where(jnp.isfinite(descriptor).all(-1), mean, -jnp.inf)


def best(archive: Archive) -> Int[Array, ""]:
    """The cell of the fittest elite (ties: the lowest cell); cell 0 where the archive is empty."""
    return jnp.argmax(archive.fitness)


def stats(archive: Archive, offset: float = 0.0) -> dict[str, Array]:
    """The archive in numbers: `coverage` (share of cells with an elite, 0..1), `elites` (how many those are),
    `qd_score` (sum over elites of fitness - offset), `elite_best` and `elite_mean` (-inf where it is empty)."""
    taken = occupied(archive)
    count = taken.sum(dtype=jnp.int32)
    total = jnp.where(taken, archive.fitness, 0.0).sum()
    mean = jnp.where(count > 0, total / jnp.maximum(count, 1).astype(jnp.float32), -jnp.inf)
    score = jnp.where(taken, archive.fitness - jnp.float32(offset), 0.0).sum()
    coverage = count.astype(jnp.float32) / taken.shape[0]
    return {
        "coverage": coverage,
        "elites": count,
        "qd_score": score,
        "elite_best": archive.fitness.max(),
        "elite_mean": mean,
    }
