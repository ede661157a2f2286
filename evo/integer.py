"""Noise in whole numbers, for int8 leaves: what EGG is trained with (arXiv 2511.16652, appendix H).

Weights are fixed point with 4 binary places, 16 stands for 1. So are the two factors, and their product has 8 places:
`evo.leaf.FRACTION` more than a weight shows. Axes: `m n` rows and columns, `r` rank, `i` members.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int8, Key

from evo.noise import accumulate, sizes_of, thin
from evo.random import packed

ONE = 16  # what 1 is in fixed point


@dataclass(frozen=True)
class Integer:
    """E = a b^T in whole numbers, `a` and `b` int8: low-rank noise for int8 leaves, in units of 1/256 of their steps.

    Entries of a have a standard deviation of 16; those of b one of 16 * 2^(4 - shift) / sqrt(rank), so that those of E
    have 256 * 2^(4 - shift): sigma = 2^-shift, where weights of 16 stand for 1. `law` is that of the entries: `normal`,
    the 256 quantiles (i + 1/2) / 256 of the normal law, rounded (a random byte looks one up), or `sign`, plus or minus
    the deviation. A leaf whose factors would be no smaller than itself gets E = sum_r a_r * b_r, entry by entry: the
    same law. The laws of noise hold exactly; nothing is a float.
    """

    rank: int = 1
    shift: int = 4
    law: Literal["normal", "sign"] = "normal"

    def __post_init__(self):
        if self.rank < 1:
            raise ValueError(f"The rank of integer noise must be at least 1; got {self.rank}.")
        if not 2 <= self.shift <= 8 or self._deviations[1] < 1:
            raise ValueError(
                f"`shift` is 2 to 8, and its deviation 16 * 2^(4 - shift) / sqrt(rank) at least 1 in int8; got "
                f"shift {self.shift}, rank {self.rank}."
            )

    @cached_property
    def spread(self) -> float:
        """The standard deviation of an entry of E, as it comes out after rounding."""
        return math.sqrt(self.rank) * math.prod(float(table.std()) for table in self._tables)

    @cached_property
    def largest(self) -> int:
        """The largest entry that E can have."""
        return self.rank * math.prod(int(np.abs(table.astype(int)).max()) for table in self._tables)

    def dense(self, key, shape, dtype=jnp.int32):
        if (factors := self.factors(key, shape)) is not None:
            return jnp.einsum("...mr,...nr->...mn", *factors, preferred_element_type=jnp.int32).astype(dtype)
        a, b = (self._draw(key, (self.rank, *shape), stream).astype(jnp.int32) for stream in (0, 1))
        return (a * b).sum(0, dtype=jnp.int32).astype(dtype)

    def words(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """How many random words of each stream a leaf takes, for one hash of all leaves."""
        sizes = sizes_of(shape, self.rank) if thin(shape, self.rank) else [self.rank * math.prod(shape)] * 2
        return tuple(-(-size // (32 if self.law == "sign" else 4)) for size in sizes)

    def factors(self, key, shape, dtype=jnp.int8):
        if not thin(shape, self.rank):
            return None
        *stack, m, n = shape
        return self._draw(key, (*stack, m, self.rank), 0), self._draw(key, (*stack, n, self.rank), 1)

    def total(self, keys, weights, shape, dtype=jnp.int32):
        if not thin(shape, self.rank):
            sum_of = lambda keys, weights: self._sum(keys, weights, shape)  # noqa: E731
            return accumulate(sum_of, keys, weights, self.rank * math.prod(shape), shape, jnp.int32)
        *stack, m, n = shape

        def block(keys, weights):
            a, b = jax.vmap(lambda key: self.factors(key, shape), out_axes=(-1, 0))(keys)
            a = a * weights.astype(jnp.int8).reshape([1] * (a.ndim - 1) + [-1])
            return jnp.einsum("...mri,i...nr->...mn", a, b, preferred_element_type=jnp.int32)

        return accumulate(block, keys, weights, self.rank * (m + n) * math.prod(stack), shape, jnp.int32)

    def _sum(self, keys, weights, shape):
        rows = jax.vmap(lambda key: self.dense(key, shape))(keys)
        return jnp.tensordot(weights.astype(jnp.int32), rows, 1)

    @property
    def _deviations(self) -> tuple[float, float]:
        return float(ONE), ONE * 2.0 ** (4 - self.shift) / math.sqrt(self.rank)

    @cached_property
    def _tables(self) -> tuple[Int8[np.ndarray, "levels"], Int8[np.ndarray, "levels"]]:
        """The entries of a and of b, equally likely: two of them, or 256."""
        a, b = (_levels(self.law, deviation) for deviation in self._deviations)
        return a, b

    def _draw(self, key: Key[Array, ""], shape: tuple[int, ...], stream: int) -> Int8[Array, "..."]:
        """Independent entries of a (stream 0) or b (stream 1)."""
        table, count = self._tables[stream], math.prod(shape)
        if self.law == "sign":
            word = packed(key, -(-count // 32), stream)
            bit = (word[:, None] >> jnp.arange(32, dtype=jnp.uint32)[None]).reshape(-1)[:count] & np.uint32(1)
            return (np.int8(table[0]) * (1 - 2 * bit.astype(jnp.int8))).reshape(shape)
        word = packed(key, -(-count // 4), stream)
        byte = (word[:, None] >> (8 * jnp.arange(4, dtype=jnp.uint32))[None]).reshape(-1)[:count] & np.uint32(0xFF)
        return jnp.asarray(table)[byte.astype(jnp.int32)].reshape(shape)


def _levels(law: str, deviation: float) -> Int8[np.ndarray, "levels"]:
    if law == "sign":
        size = max(1, round(deviation))
        return np.array([size, -size], np.int8)
    exact = [deviation * NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)]
    return np.clip(np.round(exact), -127, 127).astype(np.int8)
