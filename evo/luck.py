"""Luck: how much of an archive is real. Elites are judged again, and what they show then is kept beside what they
were let in for. Axes: `n` looks, `c` cells, `d` descriptor."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from evo.archive import Archive, Cells, settle
from evo.elites import occupied, stats


class Looks(NamedTuple):
    """What the later looks at each elite said; the one that let it in doesn't count, for it was chosen for its luck."""

    number: Int[Array, "c"]
    fitness: Float[Array, "c"]  # their mean
    variance: Float[Array, "c"]  # of one look, sum of squares / count; 0 after one
    descriptor: Float[Array, "c d"]  # their mean


def unseen(dims: int) -> Looks:
    """Of one elite that has just moved in."""
    return Looks(jnp.int32(0), jnp.float32(0), jnp.float32(0), jnp.zeros(dims))


def look(
    looks: Looks, cell: Int[Array, "n"], valid: Bool[Array, "n"], fitness: Float[Array, "n"], descriptor: Array
) -> Looks:
    """Take in one look at each of these cells (Welford's update); no cell twice among the valid ones. One that isn't
    finite doesn't count."""
    valid = valid & jnp.isfinite(fitness) & jnp.isfinite(descriptor).all(-1)
    old = Looks(*(x[cell] for x in looks))
    count = old.number + 1
    share = 1 / count.astype(jnp.float32)
    off = fitness - old.fitness
    mean = old.fitness + off * share
    variance = old.variance + (off * (fitness - mean) - old.variance) * share
    place = old.descriptor + (descriptor - old.descriptor) * share[:, None]
    where = jnp.where(valid, cell, looks.number.shape[0])
    return Looks(
        *(x.at[where].set(new, mode="drop") for x, new in zip(looks, (count, mean, variance, place), strict=True))
    )


def gathered(fitness: Float[Array, "e"], descriptor: Float[Array, "e d"]) -> Looks:
    """What these looks at one elite said. One that isn't finite doesn't count; without any, the mean fitness is NaN."""
    valid = jnp.isfinite(fitness) & jnp.isfinite(descriptor).all(-1)
    count = valid.sum(dtype=jnp.int32)
    share = jnp.where(valid, 1.0, 0.0) / jnp.maximum(count, 1).astype(jnp.float32)
    fitness, descriptor = jnp.where(valid, fitness, 0.0), jnp.where(valid[:, None], descriptor, 0.0)
    mean = (share * fitness).sum()
    variance = (share * (fitness - mean) ** 2).sum()
    return Looks(count, jnp.where(count > 0, mean, jnp.nan), variance, share @ descriptor)


def refiled(cells: Cells, fitness: Float[Array, "n"], descriptor: Float[Array, "n d"]) -> Archive:
    """An archive that these alone were put in; its rows are their indices. Whose fitness is NaN stays out."""
    fitness, descriptor = jnp.asarray(fitness, jnp.float32), jnp.asarray(descriptor, jnp.float32)
    empty, places = jnp.full(cells.cells, -jnp.inf), jnp.zeros((cells.cells, len(cells.bounds)))
    nobody = Archive(jnp.full(cells.cells, -1), empty, places)
    inserted = cells.compare(nobody, fitness, descriptor)
    return settle(nobody, inserted, fitness, descriptor, jnp.arange(fitness.shape[0]))


def seen_as(archive: Archive, looks: Looks) -> tuple[Float[Array, "c"], Float[Array, "c d"], Bool[Array, "c"]]:
    """Each elite's fitness (NaN where there is none) and descriptor by the later looks, as reported where there are
    none; and who has been looked at."""
    taken = occupied(archive)
    seen = taken & (looks.number > 0)
    fitness = jnp.where(taken, jnp.where(seen, looks.fitness, archive.fitness), jnp.nan)
    return fitness, jnp.where(seen[:, None], looks.descriptor, archive.descriptor), seen


def corrected(cells: Cells, archive: Archive, looks: Looks) -> dict[str, Array]:
    """The archive as the later looks see it: every elite moves to the cell of its mean descriptor, with its mean
    fitness, and the best in a cell counts (Flageat & Cully 2023). Elites that nobody has looked at again count as
    reported, so read these numbers beside `looked`, the share that somebody has.

    `descriptor_error`: mean distance between the descriptor that let an elite in and the mean of the later ones;
    `luck`: mean fitness that let elites in, minus the mean of the later ones; both NaN where nobody was looked at.
    """
    fitness, descriptor, seen = seen_as(archive, looks)
    taken, filed = occupied(archive), stats(refiled(cells.surface, fitness, descriptor), cells.offset)
    count = seen.sum(dtype=jnp.int32).astype(jnp.float32)
    mean = lambda x: jnp.where(count > 0, jnp.where(seen, x, 0.0).sum() / jnp.maximum(count, 1), jnp.nan)  # noqa: E731
    apart = jnp.sqrt(((archive.descriptor - looks.descriptor) ** 2).sum(-1))
    return {
        "corrected_qd_score": filed["qd_score"],
        "corrected_coverage": filed["coverage"],
        "looked": count / jnp.maximum(taken.sum(dtype=jnp.int32), 1).astype(jnp.float32),
        "luck": mean(archive.fitness - looks.fitness),
        "descriptor_error": mean(apart),
    }
