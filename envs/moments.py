"""Running mean and variance of observations, for normalising them.

Axes: `o` numbers in an observation. Merging is by Chan, Golub and LeVeque (1983): sums of squares are always about
their own mean, so float32 is enough. A generation's moments are merged as one, so that at 1e9 observations an increment
is still some 1e-5 of the total, a hundred times float32's resolution.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

LIMIT = 1e4  # an observation with a number beyond this, or NaN, is physics gone wrong and isn't counted
FLOOR = 1e-3  # least standard deviation that an observation is divided by
CLIP = 10.0


class Moments(NamedTuple):
    """Number, mean, and sum of squares about the mean."""

    number: Float[Array, ""]
    mean: Float[Array, "o"]
    m2: Float[Array, "o"]


def nothing(size: int) -> Moments:
    """The moments of no observation."""
    return Moments(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size))


def add(moments: Moments, x: Float[Array, "o"]) -> Moments:
    """One more observation (Welford 1962), left out if it isn't finite or beyond `LIMIT`."""
    good = sane(x)
    number = moments.number + good.astype(jnp.float32)
    delta = jnp.where(good, x - moments.mean, 0)
    mean = moments.mean + delta / jnp.maximum(number, 1)
    return Moments(number, mean, moments.m2 + delta * jnp.where(good, x - mean, 0))


def sane(x: Float[Array, "o"]) -> Bool[Array, ""]:
    """Whether an observation is one to learn from."""
    return (jnp.abs(x) <= LIMIT).all()


def pool(rows: Moments) -> Moments:
    """The moments of all observations behind rows of moments; rows without observations count for nothing."""
    number = rows.number.sum()
    share = (rows.number / jnp.maximum(number, 1))[:, None]
    mean = (share * rows.mean).sum(0)
    between = (rows.number[:, None] * (rows.mean - mean[None]) ** 2).sum(0)
    return Moments(number, mean, rows.m2.sum(0) + between)


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of a's and b's observations together."""
    number = a.number + b.number
    part = b.number / jnp.maximum(number, 1)
    delta = b.mean - a.mean
    return Moments(number, a.mean + delta * part, a.m2 + b.m2 + delta**2 * a.number * part)


def normalise(moments: Moments, x: Float[Array, "o"]) -> Float[Array, "o"]:
    """(x - mean) / std, clipped to +-10; x as it is (clipped) before the first observation was counted."""
    variance = jnp.where(moments.number > 0, moments.m2 / jnp.maximum(moments.number, 1), 1)
    return jnp.clip((x - moments.mean) / jnp.maximum(jnp.sqrt(variance), FLOOR), -CLIP, CLIP)
