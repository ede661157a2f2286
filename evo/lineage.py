"""Lineages: individuals of a genetic algorithm, as chains of mutations and as a cache of their parameters.

Axes: `t` parents, `h` links of a chain, `n` members.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from evo.express import ByPath, Plan, express_dense
from evo.genome import Genome, expand, member
from evo.noise import Noise
from evo.schedule import Schedule, at
from evo.task import Params


class Chain(NamedTuple):
    """An individual: its mutations since the initial parameters, oldest first."""

    key: Key[Array, "h"]
    power: Float[Array, "h"]
    length: Int[Array, ""]  # links beyond it mean nothing


class Lineage(NamedTuple):
    """The parents, as chains and as parameters: a cache, so that a child costs one mutation."""

    rows: Params  # leaves [t, ...]; None where they were left out, see `packed`
    chains: Chain  # leaves [t, h], [t, h], [t]
    base: Params  # the parents' last common ancestor: the parameters after their first `based` links
    based: Int[Array, ""]


def begin(key: Key[Array, ""], params: Params, parents: int, horizon: int) -> Lineage:
    """Every parent is `params`, with an empty chain; `key` only says which kind of key a link has."""
    params = jax.tree.map(jnp.asarray, params)
    rows = jax.tree.map(lambda x: jnp.repeat(x[None], parents, axis=0), params)
    links = (parents, horizon)
    chains = Chain(jnp.broadcast_to(key, links), jnp.zeros(links), jnp.zeros(parents, jnp.int32))
    return Lineage(rows, chains, params, jnp.int32(0))


def mutation_power(sigma: float | Schedule, initial: float | None, generation: Int[Array, ""]) -> Float[Array, ""]:
    """A generation's mutation power: `sigma`, and in the first generation `initial` where it is given."""
    usual = at(sigma, generation)
    return usual if initial is None else jnp.where(generation == 0, jnp.float32(initial), usual)


def children(
    key: Key[Array, ""], parents: int, n: int, power: Float[Array, ""], litters: bool = False
) -> tuple[Genome, Int[Array, "n"]]:
    """Parent 0 unchanged as member 0, then one mutation each of parents drawn uniformly; a trial each.

    In `litters`, every parent has n / parents children instead, side by side, so that they share its matrices: the
    runtime makes one product a parent and not one a member, where the noise is thin.
    """
    key_parent, key_noise = jax.random.split(key)
    drawn = jax.random.randint(key_parent, (n,), 0, parents).at[0].set(0)
    parent = jnp.arange(parents) if litters else drawn
    scale = jnp.full((n, 1), power, jnp.float32).at[0].set(0.0)
    return Genome(jax.random.split(key_noise, n)[:, None], scale, parent[:, None]), jnp.arange(n)


def check_litters(litters: bool, population: int, parents: int):
    """Raises where litters can't be of equal size."""
    if litters and (population + 1) % parents:
        fits = max(1, round((population + 1) / parents)) * parents - 1
        raise ValueError(
            f"`litters` are of one size, so `population` + 1, the elite included, is a multiple of `parents` "
            f"({parents}); got a population of {population}. Use {fits}."
        )


def survivors(fitness: Float[Array, "n"], elite: Int[Array, ""], parents: int) -> Int[Array, "t"]:
    """The next parents: the elite, then the fittest others; where too few are valid, these in turn."""
    count = jnp.maximum(jnp.isfinite(fitness).sum(dtype=jnp.int32), 1)
    order = jnp.argsort(-sure(fitness).at[elite].set(jnp.inf), stable=True)
    return order[jnp.arange(parents) % count]


def sure(fitness: Float[Array, "n"]) -> Float[Array, "n"]:
    """Fitness, -inf where it isn't finite."""
    return jnp.where(jnp.isfinite(fitness), fitness, -jnp.inf)


def fittest(
    noise: Noise | ByPath | Plan,
    bases: Params,
    genome: Genome,
    fitness: Float[Array, "n"],
    best: Params,
    score: Float[Array, ""],
) -> tuple[Params, Float[Array, ""]]:
    """The best so far and its fitness, after these members; a tie keeps the older."""
    first = jnp.argmax(sure(fitness))
    better = sure(fitness)[first] > score
    found = express_dense(noise, bases, member(genome, first))
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, best)
    return best, jnp.maximum(sure(fitness)[first], score)


def descend(noise: Noise | ByPath | Plan, lineage: Lineage, genome: Genome, chosen: Int[Array, "t"]) -> Lineage:
    """The lineage whose parents are these members; a mutation without power is no link.

    What all new chains have in common is replayed onto `base`: on average one link a generation.
    """
    key, power, parent, _ = jax.tree.map(lambda x: x[chosen, 0], expand(genome))
    rows = jax.lax.map(
        lambda m: link(noise, jax.tree.map(lambda x: x[m[2]], lineage.rows), m[0], m[1]), (key, power, parent)
    )
    old = jax.tree.map(lambda x: x[parent], lineage.chains)
    horizon = old.power.shape[1]
    slot = jnp.arange(len(chosen)), jnp.where(power != 0, old.length, horizon)
    chains = Chain(
        old.key.at[slot].set(key, mode="drop"),
        old.power.at[slot].set(power, mode="drop"),
        old.length + (power != 0).astype(jnp.int32),
    )
    based = common(chains)
    return Lineage(rows, chains, replay(noise, lineage.base, member_of(chains, 0), lineage.based, based), based)


def link(noise: Noise | ByPath | Plan, params: Params, key: Key[Array, ""], power: Float[Array, ""]) -> Params:
    """One mutation: params + power * noise(key), the one way in which children become parents and chains are replayed.

    XLA contracts the product and the sum into one rounding where it fuses them (an optimization barrier doesn't stop
    it on the CPU), so the bits are those of this expression in a loop of its own: in `lax.map` as in `fori_loop`, and
    for Gaussian noise also under `vmap` and outside `jit`; low-rank noise under `vmap` may differ in the last bit.
    """
    return express_dense(noise, params, Genome(key[None], power[None]))


def member_of(chains: Chain, slot: int | Int[Array, ""] = 0) -> Chain:
    """The chain of one parent; slot 0 is the elite."""
    return jax.tree.map(lambda x: x[slot], chains)


def replay(
    noise: Noise | ByPath | Plan,
    start: Params,
    chain: Chain,
    first: int | Int[Array, ""] = 0,
    last: int | Int[Array, ""] | None = None,
) -> Params:
    """The parameters after the links `first` to `last` of a chain (None: its end), from those before them.

    Link by link, and so bit for bit what the parents' cache holds (see `link`).
    """
    step = lambda i, params: link(noise, params, chain.key[i], chain.power[i])  # noqa: E731
    last = chain.length if last is None else last
    return jax.lax.fori_loop(jnp.int32(first), jnp.int32(last), step, jax.tree.map(jnp.asarray, start))


def common(chains: Chain) -> Int[Array, ""]:
    """How many links, from the first, all these chains share."""
    words = jax.random.key_data(chains.key)
    same = (words == words[:1]).all((0, 2)) & (chains.power == chains.power[:1]).all(0)
    same &= jnp.arange(same.shape[0]) < chains.length.min()
    return jnp.cumprod(same.astype(jnp.int32)).sum(dtype=jnp.int32)


def rebased(chain: Chain, links: int) -> Chain:
    """A chain without its first links, for a start that has them: `replay` of those gives the new start."""
    length = int(chain.length)
    if not 0 <= links <= length:
        raise ValueError(f"A chain of {length} links can be re-based by 0 to {length} of them; got {links}.")
    key, power = jax.tree.map(lambda x: jnp.roll(x, -links, 0), (chain.key, chain.power))
    return Chain(key, power, jnp.int32(length - links))


def packed(lineage: Lineage) -> Lineage:
    """Without the cache, which `unpacked` can rebuild: what a checkpoint keeps."""
    return lineage._replace(rows=None)


def unpacked(noise: Noise | ByPath | Plan, lineage: Lineage) -> Lineage:
    """With the cache, rebuilt from the chains, from where they part: bit for bit what it was."""
    rows = jax.lax.map(lambda chain: replay(noise, lineage.base, chain, lineage.based), lineage.chains)
    return lineage._replace(rows=rows)
