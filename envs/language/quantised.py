"""Quantised weights: int8 by channel and int4 by groups, made from floats or read from GPTQ, and multiplied packed.

Axes: `l` stacked layers, `i o` in and out, `g` groups of `i`, `c` codes as kept (`i`, or half of it).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int8, UInt8


class Quantised(NamedTuple):
    """A matrix w[i, o] = code[i, o] * scale[g, o] * gain[g, o], where i is in group g.

    int8 codes are whole; uint8 ones hold two of 4 bits, the even i low. `zero` is taken from the codes first (left
    out: 8 from 4-bit ones, 0 from int8). `gain` starts at 1: noise on it is relative, noise on `scale` absolute.
    `nudge` is added to the codes, in steps of theirs: zeros, for noise to act on, see `evo.strategies.qes`.
    """

    codes: Int8[Array, "*l c o"] | UInt8[Array, "*l c o"]
    scale: Float[Array, "*l g o"]
    zero: Int8[Array, "*l g o"] | None = None
    gain: Float[Array, "*l g o"] | None = None
    nudge: Float[Array, "*l i o"] | None = None


def quantise(
    w: Float[Array, "*l i o"], bits: int, group: int = 0, relative: bool = False, nudge: bool = False
) -> Quantised:
    """Round to the nearest of 2^bits - 1 symmetric steps: scale = max |w| of the group / (2^(bits - 1) - 1).

    `group` neighbours along `i` share a scale; 0 is the whole channel. A group of zeros has scale 1e-12.
    """
    *stack, i, o = w.shape
    group = group or i
    if bits not in (4, 8):
        raise ValueError(f"`bits` is 4 or 8; got {bits}.")
    if i % group or (bits == 4 and i % 2):
        raise ValueError(f"`group` divides the {i} inputs of every matrix, which are even for 4 bits; got {group}.")
    most = 2 ** (bits - 1) - 1
    rows = w.astype(jnp.float32).reshape(*stack, i // group, group, o)
    scale = jnp.maximum(jnp.abs(rows).max(-2) / most, 1e-12)
    codes = jnp.clip(jnp.round(rows / scale[..., None, :]), -most, most).astype(jnp.int8).reshape(w.shape)
    gain = jnp.ones_like(scale) if relative else None
    still = jnp.zeros(w.shape, jnp.bfloat16) if nudge else None
    return Quantised(codes if bits == 8 else packed(codes + 8), scale, None, gain, still)


def packed(codes: Int[Array, "*l i o"]) -> UInt8[Array, "*l i/2 o"]:
    """Two codes from 0 to 15 in a byte."""
    pairs = codes.astype(jnp.uint8).reshape(*codes.shape[:-2], -1, 2, codes.shape[-1])
    return pairs[..., 0, :] | (pairs[..., 1, :] << 4)


def whole(w: Quantised) -> Int8[Array, "*l g n o"]:
    """The codes without their zeros, by group."""
    *stack, _, o = w.codes.shape
    codes = w.codes
    if codes.dtype == jnp.uint8:
        pairs = jnp.stack([codes & 15, codes >> 4], axis=-2)
        codes = pairs.astype(jnp.int8).reshape(*stack, -1, o)
        codes = codes - jnp.int8(8) if w.zero is None else codes
    codes = codes.reshape(*stack, w.scale.shape[-2], -1, o)
    return codes if w.zero is None else codes - w.zero[..., None, :]


def scale_of(w: Quantised) -> Float[Array, "*l g o"]:
    """The scale with its gain."""
    return w.scale if w.gain is None else w.scale * w.gain


def dense(w: Quantised) -> Float[Array, "*l i o"]:
    """The matrix itself, in the scale's dtype."""
    codes = whole(w).astype(w.scale.dtype)
    codes = codes if w.nudge is None else codes + w.nudge.astype(codes.dtype).reshape(codes.shape)
    rows = codes * scale_of(w)[..., None, :]
    return rows.reshape(*rows.shape[:-3], -1, rows.shape[-1])


def times(x: Float[Array, "*b i"], w: Quantised) -> Float[Array, "*b o"]:
    """x W: one product with the codes, which members share, then each group's part times its scale."""
    codes = whole(w).astype(x.dtype)
    codes = codes if w.nudge is None else codes + w.nudge.astype(x.dtype).reshape(codes.shape)
    parts = x.reshape(*x.shape[:-1], *codes.shape[:2])
    sums = jnp.einsum("...gi,gio->...go", parts, codes, preferred_element_type=jnp.float32)
    return jnp.einsum("...go,go->...o", sums, scale_of(w).astype(jnp.float32)).astype(x.dtype)


def is_quantised(leaf: Any) -> bool:
    """Whether a leaf is a quantised matrix."""
    return isinstance(leaf, Quantised)


def quantised(
    params: dict[str, Any], bits: int, group: int = 0, relative: bool = False, nudge: bool = False
) -> dict[str, Any]:
    """A model's parameters with every matrix of its layers quantised; embeddings, norms and biases stay floats."""
    layers = {
        name: quantise(x, bits, group, relative, nudge)
        if not is_quantised(x) and x.ndim == 3 and min(x.shape[1:]) > 1
        else x
        for name, x in params["layers"].items()
    }
    return {**params, "layers": layers}


def dequantised(params: dict[str, Any], dtype: Any = jnp.float32) -> dict[str, Any]:
    """The parameters with every matrix a matrix again, to save them for example."""
    return jax.tree.map(lambda x: dense(x).astype(dtype) if is_quantised(x) else x, params, is_leaf=is_quantised)


def product(x: Float[Array, "*b i"], w: Any) -> Float[Array, "*b o"]:
    """x W, in x's dtype; W is a matrix or `Quantised`."""
    return times(x, w) if is_quantised(w) else jnp.einsum("...i,io->...o", x, w)
