"""What a lazy leaf is: a shared array plus thin factors."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

UNROLL = 8  # up to this rank, sums over ranks are written out: XLA fuses them into what comes next

Params = Any


class Lazy(NamedTuple):
    """A leaf that was never made dense: base + sum_r a[..., r] * b[..., r], by broadcasting.

    `a` has the base's axes with the column axes of length 1, `b` with the row axes of length 1; a stacked axis is in
    both; `r` comes last. So a view of the leaf is the same view of all three arrays.
    """

    base: Array
    a: Array
    b: Array


def is_lazy(x) -> bool:
    """Whether x is a lazy leaf."""
    return isinstance(x, Lazy)


def dense(leaf: Lazy | Array) -> Array:
    """The leaf as an ordinary array: the slow twin of every rule. Sums in float32 and rounds once."""
    if not isinstance(leaf, Lazy):
        return leaf
    wide = wider(leaf.base.dtype)
    a, b, rank = leaf.a.astype(wide), leaf.b.astype(wide), leaf.a.shape[-1]
    total = leaf.base.astype(wide)
    if rank > UNROLL:
        return (total + (a * b).sum(-1)).astype(leaf.base.dtype)
    for r in range(rank):
        total = total + a[..., r] * b[..., r]
    return total.astype(leaf.base.dtype)


def densify(params: Params) -> Params:
    """Every leaf as an ordinary array."""
    return jax.tree.map(dense, params, is_leaf=is_lazy)


def is_thin(leaf: Lazy) -> bool:
    """Whether the factors are smaller than the array that they stand for."""
    return leaf.a.size + leaf.b.size < leaf.base.size


def wider(dtype) -> jnp.dtype:
    """The type to sum in: float32 for the half-precision floats, else the type itself."""
    half = jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize < 4
    return jnp.dtype(jnp.float32) if half else jnp.dtype(dtype)


def path_of(path) -> str:
    """A leaf's path as a string, `layers/0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
