"""Genomes: what a member is, in a few numbers.

Axes: `n` members, `u` rows of keys and `f` rows of parents (each divides n), `k` genes, `p` parents.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from evo.random import fold_in


class Genome(NamedTuple):
    """Which bases, mixed how, plus which noise, scaled how; the leading axis is the population.

    member i = sum_p mix[i, p] * base[parents[i, p]] + sum_k scale[i, k] * noise(key[i // (n // u), k])

    Members that share noise are neighbours and share one row of keys: an antithetic pair is two members (n = 2u) of
    one key with opposite scales, so its noise is drawn once and its two weights are one weight in `Runtime.sum`.
    Likewise, neighbours of the same parents may share one row of those (without `mix`): the runtime then gathers
    their bases once, and multiplies by them as one matrix.
    """

    key: Key[Array, "u k"]
    scale: Float[Array, "n k"]
    parents: Int[Array, "f p"] | None = None
    mix: Float[Array, "n p"] | None = None  # None: the first parent as it stands


def size(genome: Genome) -> int:
    """The number of members."""
    return genome.scale.shape[0]


def expand(genome: Genome) -> Genome:
    """The same members with a row of keys and of parents each, so that every field can be indexed by member."""
    n = size(genome)
    spread = lambda x: jnp.repeat(x, n // max(x.shape[0], 1), axis=0) if x.shape[0] != n else x  # noqa: E731
    return jax.tree.map(spread, genome)


def member(genome: Genome, index: int | Array) -> Genome:
    """The genome of one member, without the population axis."""
    return jax.tree.map(lambda x: x[index], expand(genome))


def concatenate(*genomes: Genome) -> Genome:
    """One population made of several."""
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *[expand(g) for g in genomes])


def around(
    key: Key[Array, ""], n: int, scale: float | Float[Array, ""] | Int[Array, ""], paired: bool = True
) -> Genome:
    """n members around one centre, a gene each; `paired`: members 2i and 2i + 1 share a key and differ in sign."""
    shared = 2 if paired else 1
    keys = jax.vmap(partial(fold_in, key))(jnp.arange(n // shared))
    sign = jnp.where(jnp.arange(n) % shared == 1, -1, 1).astype(jnp.result_type(scale))
    return Genome(keys[:, None], (scale * sign)[:, None])


def as_they_stand(rows: Int[Array, "n"]) -> Genome:
    """Members that are these base rows, with no noise at all."""
    n = rows.shape[0]
    key = jax.random.split(jax.random.key(0), n)[:, None][:, :0]
    return Genome(key, jnp.zeros((n, 0)), rows[:, None])
