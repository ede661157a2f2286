"""Novelty: how far a behaviour is from those that were seen before (Lehman & Stanley 2011, eq. 1).

Axes: `n` members, `c` places of the archive, `d` descriptor, `k` neighbours.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from evo.task import Evaluation

BLOCK = 4096  # archive members that all queries of a slice are compared with at a time
QUERIES = 1024  # queries in a slice: with BLOCK, what bounds the memory
UNROLLED = 32  # numbers of a descriptor up to which XLA's CPU code is many times faster without a loop over them


class Seen(NamedTuple):
    """Behaviours that were admitted, without structure or order: a ring, in which the newest replaces the oldest."""

    descriptor: Float[Array, "c d"]  # place i holds the latest admission whose number is i modulo c
    admitted: Int[Array, ""]  # ever; the first min(admitted, c) places are taken


def unseen(capacity: int, descriptors: int) -> Seen:
    """An empty archive."""
    if capacity < 1 or descriptors < 1:
        raise ValueError(f"An archive has room for at least 1 behaviour of 1 number; got {capacity} of {descriptors}.")
    return Seen(jnp.zeros((capacity, descriptors)), jnp.int32(0))


def admit(seen: Seen, descriptor: Float[Array, "n d"], wanted: Bool[Array, "n"]) -> Seen:
    """The archive with the `wanted` behaviours, in their order. One that isn't finite never enters.

    A full archive forgets its oldest members, and a batch larger than the archive leaves its last ones.
    """
    capacity = seen.descriptor.shape[0]
    wanted = wanted & jnp.isfinite(descriptor).all(-1)
    number = jnp.cumsum(wanted, dtype=jnp.int32) - 1
    total = number[-1] + 1
    stays = wanted & (number >= total - capacity)
    place = jnp.where(stays, (seen.admitted + number) % capacity, capacity)
    return Seen(seen.descriptor.at[place].set(descriptor, mode="drop"), seen.admitted + total)


def novelty(seen: Seen, descriptor: Float[Array, "n d"], k: int, peers: bool = True) -> Float[Array, "n"]:
    """Mean distance to the k nearest among the archive and, with `peers`, the other members of the batch.

    Distances are Euclidean, of differences and not of expanded squares, so they are exact to rounding; a member is
    not its own neighbour, but another with the same behaviour, or itself as it was admitted before, is one at
    distance 0. With fewer than k neighbours it is the mean of those there are, 0 where there is none. A descriptor
    that isn't finite has novelty -inf and is nobody's neighbour. Costs no more than the archive is full.
    """
    n, capacity = descriptor.shape[0], seen.descriptor.shape[0]
    finite = jnp.isfinite(descriptor).all(-1)
    query = jnp.where(finite[:, None], descriptor, 0.0)
    block = min(BLOCK, capacity)
    blocks = (jnp.minimum(seen.admitted, capacity) + block - 1) // block

    def judged(query, own):
        def step(i, nearest):
            start = jnp.minimum(i * block, capacity - block)  # the last block may overlap the one before
            place = start + jnp.arange(block)
            fresh = (place >= i * block) & (place < seen.admitted)
            some = jax.lax.dynamic_slice(seen.descriptor, (start, 0), (block, descriptor.shape[1]))
            return _merged(nearest, jnp.where(fresh[None], squared(query, some), jnp.inf))

        nearest = jnp.full((query.shape[0], k), jnp.inf)
        if peers:
            other = finite[None] & (jnp.arange(n)[None] != own[:, None])
            nearest = _merged(nearest, jnp.where(other, squared(query, descriptor), jnp.inf))
        return _mean(jax.lax.fori_loop(0, blocks, step, nearest))

    own = jnp.arange(n)
    if n <= QUERIES:
        return jnp.where(finite, judged(query, own), -jnp.inf)
    missing = -n % QUERIES
    slices = [jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)) for x in (query, own)]
    slices = [x.reshape(-1, QUERIES, *x.shape[1:]) for x in slices]
    found = jax.lax.map(lambda s: judged(*s), tuple(slices)).reshape(-1)[:n]
    return jnp.where(finite, found, -jnp.inf)


def mean_of_valid(novelty: Float[Array, "n"]) -> Float[Array, ""]:
    """The mean of what is finite; 0 where nothing is."""
    valid = jnp.isfinite(novelty)
    return jnp.where(valid, novelty, 0.0).sum() / jnp.maximum(valid.sum(dtype=jnp.int32), 1).astype(jnp.float32)


def described(evaluation: Evaluation, descriptors: int) -> Float[Array, "n d"]:
    """The descriptors of a generation. Raises where the task gives none, or another number of them."""
    descriptor = evaluation.descriptor
    if descriptor is None:
        raise ValueError("Novelty search needs a descriptor, and this task gives none. Return `evo.Evaluation`.")
    if descriptor.ndim != 2 or descriptor.shape[1] != descriptors:
        raise ValueError(
            f"`descriptors` is how many numbers describe a behaviour: {descriptors}; the task gives an array of shape "
            f"{descriptor.shape[1:]} for each member. Use descriptors={descriptor.shape[-1]}."
        )
    return descriptor


def squared(query: Float[Array, "n d"], others: Float[Array, "c d"]) -> Float[Array, "n c"]:
    """Squared distances; not finite where `others` isn't."""
    if query.shape[1] > UNROLLED:
        return jnp.square(query[:, None] - others[None]).sum(-1)
    return functools.reduce(jnp.add, [jnp.square(a[:, None] - b[None]) for a, b in zip(query.T, others.T, strict=True)])


def _merged(nearest: Float[Array, "n k"], distance: Float[Array, "n c"]) -> Float[Array, "n k"]:
    """The k least of both."""
    return -jax.lax.top_k(-jnp.concatenate([nearest, distance], 1), nearest.shape[1])[0]


def _mean(squared: Float[Array, "n k"]) -> Float[Array, "n"]:
    there = jnp.isfinite(squared)
    count = jnp.maximum(there.sum(1, dtype=jnp.int32), 1).astype(jnp.float32)
    return jnp.sqrt(jnp.where(there, squared, 0.0)).sum(1) / count
