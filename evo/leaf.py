"""What a lazy leaf is: a shared array plus thin factors."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

FRACTION = 8  # binary places by which a whole-number leaf's factors are finer than itself
UNROLL = 8  # up to this rank, sums over ranks are written out: XLA fuses them into what comes next

Params = Any
Axes = tuple[tuple[int, ...], tuple[int, ...]]  # the row axes and the column axes of a leaf; the others are stacked


class Lazy(NamedTuple):
    """A leaf that was never made dense: base + scale * sum_r a[..., r] * b[..., r], by broadcasting.

    `a` has the base's axes with the column axes of length 1, `b` with the row axes of length 1; a stacked axis is in
    both; `r` comes last. So a view of the leaf is the same view of all three arrays. Of a whole-number leaf the
    factors' product counts in units of 2^-FRACTION: it is summed as it is, and rounded down where it is used.
    """

    base: Array
    a: Array
    b: Array
    scale: Array | None = None  # a number; apart, so that members who differ in it alone share factors. None: 1


def is_lazy(x) -> bool:
    """Whether x is a lazy leaf."""
    return isinstance(x, Lazy)


def absorbed(leaf: Lazy) -> Lazy:
    """The same leaf with its scale in b."""
    return leaf if leaf.scale is None else Lazy(leaf.base, leaf.a, leaf.scale.astype(leaf.b.dtype) * leaf.b)


def dense(leaf: Lazy | Array) -> Array:
    """The leaf as an ordinary array: the slow twin of every rule. Sums in float32 and rounds once; whole numbers are
    rounded down and kept within their type's range, its most negative number excluded."""
    if not isinstance(leaf, Lazy):
        return leaf
    leaf = absorbed(leaf)
    if is_whole(leaf.base):
        fine = (leaf.a.astype(jnp.int32) * leaf.b.astype(jnp.int32)).sum(-1, dtype=jnp.int32)
        return shifted(leaf.base, fine)
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


def is_whole(x) -> bool:
    """Whether an array holds whole numbers."""
    return jnp.issubdtype(jnp.result_type(x), jnp.signedinteger)


def shifted(base: Array, fine: Array) -> Array:
    """base + fine / 2^FRACTION, rounded down, saturating at plus and minus the largest number of base's type."""
    limit = jnp.iinfo(base.dtype).max
    return jnp.clip(base.astype(jnp.int32) + (fine >> FRACTION), -limit, limit).astype(base.dtype)


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
