"""Noise: how a key acts on one weight.

A noise draws `E` for a matrix of shape `[*stack, m, n]` (stacked matrices are independent) or for a vector. Every
entry of `E` has mean zero and variance one, whatever the law or rank.

Axes: `m n` rows and columns of a matrix, `r` rank, `i` members.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from evo.leaf import wider
from evo.random import Law, draw

SMALL_LEAF = 1 << 12  # numbers of a leaf up to which drawing them again for each use costs more than keeping them
CHUNK = 1 << 24  # numbers of noise alive at a time in a `total`


class Noise(Protocol):
    """The contract; law 1: `a @ b.mT == dense`, law 2: `total == sum_i w_i dense(key_i)`.

    With a method `words(shape)`, as `LowRank` has, a noise gets its keys as a `Stock`, so many words ready in each.
    """

    def dense(self, key: Key[Array, ""], shape: tuple[int, ...], dtype) -> Array:
        """E itself: the slow twin."""
        ...

    def factors(self, key: Key[Array, ""], shape: tuple[int, ...], dtype) -> tuple[Array, Array] | None:
        """Thin `a [*stack, m, r]` and `b [*stack, n, r]` with E = a b^T; None where E has no thinner form."""
        ...

    def total(self, keys: Key[Array, "i"], weights: Float[Array, "i"], shape: tuple[int, ...], dtype) -> Array:
        """sum_i w_i E_i, without the E_i: factors and weights in `dtype`, added up in float32 or wider."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Every entry an independent draw: OpenAI-ES (Salimans et al. 2017), Deep GA (Such et al. 2017).

    `law` is that of the entries, see `evo.random.draw`: normal unless another is asked for, e.g. because it is cheaper.
    """

    law: Law = "normal"

    def dense(self, key, shape, dtype=jnp.float32):
        return draw(key, shape, self.law, dtype, keep=math.prod(shape) <= SMALL_LEAF)

    def factors(self, key, shape, dtype=jnp.float32):
        return None

    def total(self, keys, weights, shape, dtype=jnp.float32):
        return _dense_total(self, keys, weights, shape, dtype)


@dataclass(frozen=True)
class LowRank:
    """E = a b^T / sqrt(rank), with a and b drawn independently: EGGROLL (arXiv 2511.16652, section 4).

    `law` is that of the entries of a and b, see `evo.random.draw`; signs learn as normal ones do, at a tenth of their
    price (docs/performance.md). A leaf whose factors would be no smaller than
    itself (vectors, `[64, 1]` heads) gets dense noise of the same law.
    """

    rank: int = 1
    law: Law = "sign"

    def __post_init__(self):
        if self.rank < 1:
            raise ValueError(
                f"The rank of low-rank noise must be at least 1; got {self.rank}. Use 1, or Gaussian noise."
            )

    def dense(self, key, shape, dtype=jnp.float32):
        factors = self.factors(key, shape, dtype)
        return draw(key, shape, self.law, dtype) if factors is None else factors[0] @ factors[1].mT

    def words(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """How many random words of each stream a leaf takes; none where one hash for all leaves doesn't pay."""
        sizes = sizes_of(shape, self.rank) if thin(shape, self.rank) else [math.prod(shape)]
        return tuple(-(-size // 32) for size in sizes) if self.law == "sign" else ()

    def factors(self, key, shape, dtype=jnp.float32):
        if not thin(shape, self.rank):
            return None
        *stack, m, n = shape
        a = draw(key, (*stack, m, self.rank), self.law, dtype, stream=0)
        b = draw(key, (*stack, n, self.rank), self.law, dtype, stream=1)
        return a, b * jnp.asarray(self.rank**-0.5, dtype)

    def total(self, keys, weights, shape, dtype=jnp.float32):
        if not thin(shape, self.rank):
            return _dense_total(self, keys, weights, shape, dtype)
        *stack, m, n = shape

        def block(keys, weights):
            a, b = jax.vmap(lambda key: self.factors(key, shape, dtype))(keys)
            a = a * weights.astype(dtype).reshape((-1,) + (1,) * (a.ndim - 1))
            return jnp.einsum("i...mr,i...nr->...mn", a, b, preferred_element_type=wider(dtype))

        return accumulate(block, keys, weights, self.rank * (m + n) * math.prod(stack), shape, wider(dtype))


@dataclass(frozen=True)
class Frozen:
    """No noise: the leaf is neither perturbed nor updated, and costs nothing."""

    def dense(self, key, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def factors(self, key, shape, dtype=jnp.float32):
        return None

    def total(self, keys, weights, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)


def thin(shape: tuple[int, ...], rank: int) -> bool:
    """Whether factors of this rank are smaller than a leaf of this shape."""
    return len(shape) >= 2 and rank * (shape[-2] + shape[-1]) < shape[-2] * shape[-1]


def sizes_of(shape: tuple[int, ...], rank: int) -> list[int]:
    """How many numbers each factor of this rank has."""
    *stack, m, n = shape
    return [math.prod((*stack, own, rank)) for own in (m, n)]


def _dense_total(noise: Noise, keys, weights, shape, dtype):
    """sum_i w_i E_i from dense draws, a slice of members at a time."""

    def block(keys, weights):
        rows = jax.vmap(lambda key: noise.dense(key, shape, dtype))(keys)
        return jnp.tensordot(weights.astype(dtype), rows, 1, preferred_element_type=wider(dtype))

    return accumulate(block, keys, weights, math.prod(shape), shape, wider(dtype))


def accumulate(block, keys, weights, numbers: int, shape, dtype):
    """Sum `block(keys, weights)` over slices of the keys small enough that their noise fits `CHUNK` numbers."""
    count = weights.shape[0]
    chunk = max(1, min(count, CHUNK // max(numbers, 1)))
    whole = count // chunk * chunk
    cut = lambda start, stop: jax.tree.map(lambda x: x[start:stop], (keys, weights))  # noqa: E731
    total = jnp.zeros(shape, dtype)
    if whole == chunk:
        total = block(*cut(0, whole))
    elif whole:
        slices = jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), cut(0, whole))
        total, _ = jax.lax.scan(lambda sum, slice: (sum + block(*slice), None), total, slices)
    return total if whole == count else total + block(*cut(whole, count))
