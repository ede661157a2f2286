"""The rules for products of activations with a lazy leaf: the base's product is one for all members, the rest is thin.

Axes: `r` rank, `g` feature groups, `q` window places, `p` phases of a stride. Sums are in float32 where the product
is of half precision, and the thin part is added before rounding.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from evo.leaf import FRACTION, Lazy, is_lazy, is_whole, wider
from evo.rules import base_of, bind, rule, shape_of

WINDOWS = 64  # up to this many window places a convolution is shifts of one product


def shared(eqn: JaxprEqn, *operands) -> Array:
    """The product as it stands, with the base for the leaf, not rounded yet."""
    wide = wider(shape_of(eqn.outvars[0]).dtype)
    return bind(eqn, *map(base_of, operands), preferred_element_type=wide)[0]


@rule("dot_general")
def _(eqn, lhs, rhs):
    """x (W + sum_r a_r b_r) = x W + sum_r (x a_r) b_r, in every orientation (EGGROLL, arXiv 2511.16652, section 4).

    Of whole numbers the second sum is taken in full, then shifted and rounded down (appendix H).
    """
    if is_lazy(lhs) and is_lazy(rhs):
        return NotImplemented
    left, right, out = labels_of(eqn)
    w, lw, x, lx = (lhs, left, rhs, right) if is_lazy(lhs) else (rhs, right, lhs, left)
    total = shared(eqn, lhs, rhs)
    if is_whole(w.base) and not is_whole(total):
        return NotImplemented
    thin = thin_part(w, lw, x, lx, out, total.dtype, eqn.params["precision"])
    total += thin >> FRACTION if is_whole(w.base) else thin
    return [total.astype(shape_of(eqn.outvars[0]).dtype)]


def labels_of(eqn: JaxprEqn) -> tuple[list[int], list[int], list[int]]:
    """A number for each axis of a dot's operands and of its output, as einsum has letters."""
    (lc, rc), (lb, rb) = eqn.params["dimension_numbers"]
    left = list(range(shape_of(eqn.invars[0]).ndim))
    right = [len(left) + axis for axis in range(shape_of(eqn.invars[1]).ndim)]
    for i, j in zip((*lc, *lb), (*rc, *rb), strict=True):
        right[j] = left[i]
    out = [left[i] for i in lb] + [i for i in left if i not in right] + [j for j in right if j not in left]
    return left, right, out


def thin_part(w: Lazy, lw, x: Array, lx, out, dtype, precision) -> Any:
    """scale sum_r (x a_r) b_r: x with the factor that holds most of what is contracted, then with the other."""
    held = [math.prod(n for n, label in zip(f.shape, lw, strict=False) if label not in out) for f in (w.a, w.b)]
    first, second = (w.a, w.b) if held[0] >= held[1] else (w.b, w.a)
    rank = max(*lx, *lw) + 1
    (x, lx), (f, lf), (s, ls) = squeezed(x, lx), squeezed(first, [*lw, rank]), squeezed(second, [*lw, rank])
    middle = [label for label in dict.fromkeys([*lx, *lf]) if label in out or label in ls]
    present = [label for label in out if label in middle or label in ls]
    if x.dtype != f.dtype:
        x, f = x.astype(dtype), f.astype(dtype)
    how = {"precision": precision, "preferred_element_type": dtype}
    thin = jnp.einsum(x, lx, f, lf, middle, **how)
    thin = thin if w.scale is None else thin * w.scale.astype(dtype)
    return aligned(jnp.einsum(thin, middle, s.astype(dtype), ls, present, **how), present, out)


def squeezed(x: Array, labels) -> tuple[Array, list[int]]:
    """x without its axes of length 1."""
    keep = [i for i, n in enumerate(x.shape) if n != 1]
    return x.reshape([x.shape[i] for i in keep]), [labels[i] for i in keep]


def aligned(x: Array, labels, out) -> Array:
    """x with the axes of `out` in their order, length 1 where it has none."""
    order = sorted(range(x.ndim), key=lambda i: out.index(labels[i]))
    shape = [1] * len(out)
    for i in order:
        shape[out.index(labels[i])] = x.shape[i]
    return x.transpose(order).reshape(shape)


@rule("ragged_dot_general")
def _(eqn, x, w, sizes):
    """x [t, i] times its row's matrix of w [g, i, o]: rows of other groups are zeros, as in JAX's own on CPUs.

    JAX can't map its own over members, shared weights or not; this can be.
    """
    if not is_lazy(w) or is_lazy(x) or is_lazy(sizes) or ragged_roles(eqn) is None:
        return NotImplemented
    groups, rank = w.base.shape[0], w.a.shape[-1]
    pair = next(((f, s) for f, s in ((w.a, w.b), (w.b, w.a)) if f.shape[2] == 1 and s.shape[1] == 1), None)
    if pair is None:
        return NotImplemented
    first, second = (jnp.broadcast_to(f, (groups, *f.shape[1:])).reshape(groups, -1, rank) for f in pair)
    end = jnp.cumsum(sizes)[:, None]
    row = jnp.arange(x.shape[0], dtype=end.dtype)[None]
    own = ((end - sizes[:, None] <= row) & (row < end))[..., None]
    wide = wider(shape_of(eqn.outvars[0]).dtype)
    how = {"precision": eqn.params["precision"], "preferred_element_type": wide}
    rows = jnp.where(own, x[None], jnp.zeros((), x.dtype))
    thin = jnp.einsum("gtr,gor->to", jnp.einsum("gti,gir->gtr", rows, first, **how), second.astype(wide), **how)
    return [(jnp.einsum("gti,gio->to", rows, w.base, **how) + thin).astype(shape_of(eqn.outvars[0]).dtype)]


def ragged_roles(eqn: JaxprEqn) -> tuple[list[int], list[int]] | None:
    """The contracted and the free axes of the matrices of a ragged product, groups first; None for any other kind."""
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    (contracted, batch), ragged, groups = (
        numbers.dot_dimension_numbers,
        numbers.lhs_ragged_dimensions,
        numbers.rhs_group_dimensions,
    )
    found = [list(map(tuple, contracted)), list(map(tuple, batch)), tuple(ragged), tuple(groups)]
    known = found == [[(1,), (1,)], [(), ()], (0,), (0,)] and eqn.params["group_offset"] is None
    return ([1], [2]) if known else None


# --- convolutions -----------------------------------------------------------------------------------------------


@rule("conv_general_dilated")
def _(eqn, x, w):
    """A convolution with the factor of window and inputs, giving r channels, then a product with the other."""
    parts = None if is_lazy(x) or eqn.params["batch_group_count"] > 1 else window_and_outputs(eqn, w)
    if parts is None or 0 in (*x.shape, *shape_of(eqn.outvars[0]).shape):
        return NotImplemented
    window, outputs = parts
    total, groups = shared(eqn, x, w), eqn.params["feature_group_count"]
    thin = slide(eqn, x, window, total) if slides(eqn) else convolve(eqn, x, window, total)
    spread = jnp.einsum("...gr,gor->...go", thin, outputs.reshape(groups, -1, outputs.shape[-1]).astype(thin.dtype))
    spread = spread.reshape(*spread.shape[:-2], -1)
    batch, feature, *space = eqn.params["dimension_numbers"].out_spec
    order = sorted(range(spread.ndim), key=lambda i: [batch, *space, feature][i])
    return [(total + spread.transpose(order)).astype(shape_of(eqn.outvars[0]).dtype)]


def window_and_outputs(eqn: JaxprEqn, w: Lazy) -> tuple[Array, Array] | None:
    """The factors as [*window, inputs, r] and [outputs, r]; None where they split the kernel in another way."""
    outputs, inputs, *space = eqn.params["dimension_numbers"].rhs_spec
    shape = w.base.shape
    for f, s in ((w.a, w.b), (w.b, w.a)):
        if f.shape[outputs] == 1 and all(s.shape[axis] == 1 for axis in (inputs, *space)):
            f = jnp.broadcast_to(f, [1 if i == outputs else n for i, n in enumerate(shape)] + [f.shape[-1]])
            s = jnp.broadcast_to(s, [n if i == outputs else 1 for i, n in enumerate(shape)] + [f.shape[-1]])
            f = f.transpose(outputs, *space, inputs, len(shape))[0]
            return f, s.reshape(shape[outputs], -1)
    return None


def slides(eqn: JaxprEqn) -> bool:
    """Whether shifts of one product do: no holes in the input, no holes in a window that also strides."""
    p = eqn.params
    plain = all(s == 1 or d == 1 for s, d in zip(p["window_strides"], p["rhs_dilation"], strict=True))
    return plain and set(p["lhs_dilation"]) <= {1} and math.prod(places(eqn)) <= WINDOWS


def places(eqn: JaxprEqn) -> list[int]:
    """How many places a window has along each axis, once the phases of a stride are channels."""
    shape, (_, _, *space) = shape_of(eqn.invars[1]).shape, eqn.params["dimension_numbers"].rhs_spec
    return [-(-shape[axis] // s) for axis, s in zip(space, eqn.params["window_strides"], strict=True)]


def slide(eqn: JaxprEqn, x: Array, window: Array, total: Array) -> Any:
    """[batch, *space, g, r]: one product of each position with all places of the window, shifted and summed.

    A convolution whose kernel differs by member is slow, on CPU above all; this one is a matmul and additions.
    """
    p, dims = eqn.params, len(window.shape) - 2
    numbers, stride, q = p["dimension_numbers"], p["window_strides"], places(eqn)
    length = [total.shape[axis] for axis in numbers.out_spec[2:]]
    steps = [d if s == 1 else 1 for d, s in zip(p["rhs_dilation"], stride, strict=True)]
    x = x.transpose(numbers.lhs_spec[0], *numbers.lhs_spec[2:], numbers.lhs_spec[1])
    need = [(n + (k - 1) * d) * s for n, k, d, s in zip(length, q, steps, stride, strict=True)]
    low = [pair[0] for pair in p["padding"]]
    high = [n - m - lo for n, m, lo in zip(need, x.shape[1:], low, strict=False)]
    inner = [(lo, hi, 0) for lo, hi in zip(low, high, strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *inner, (0, 0, 0)])
    x = split_phases(x, 1, stride)
    x = x.reshape(*x.shape[:-1], p["feature_group_count"], -1)
    short = [(0, k * s - n, 0) for k, s, n in zip(q, stride, window.shape, strict=False)]
    window = lax.pad(window, jnp.zeros((), window.dtype), [*short, (0, 0, 0), (0, 0, 0)])
    window = split_phases(window, 0, stride)

    batch, group, channel, rank, *axes = range(4 + 3 * dims)
    space, phase, place = axes[:dims], axes[dims : 2 * dims], axes[2 * dims :]
    out = [batch, *space, group, *place, rank]
    if x.dtype != window.dtype:
        x, window = x.astype(total.dtype), window.astype(total.dtype)
    how = {"precision": p["precision"], "preferred_element_type": total.dtype}
    every = jnp.einsum(x, [batch, *space, *phase, group, channel], window, [*place, *phase, channel, rank], out, **how)
    terms = []
    for at in itertools.product(*map(range, q)):
        cut = [slice(i * d, i * d + n) for i, d, n in zip(at, steps, length, strict=True)]
        terms.append(every[(slice(None), *cut, slice(None), *at)])
    return sum(terms)


def split_phases(x: Array, start: int, stride) -> Array:
    """Each spatial axis as (position, phase), positions first: [.., *positions, *phases, ..]."""
    dims = len(stride)
    shape, space = [], x.shape[start : start + dims]
    for n, s in zip(space, stride, strict=True):
        shape += [n // s, s]
    x = x.reshape(*x.shape[:start], *shape, *x.shape[start + dims :])
    moved = [start + 2 * i for i in range(dims)] + [start + 2 * i + 1 for i in range(dims)]
    return x.transpose(*range(start), *moved, *range(start + 2 * dims, x.ndim))


def convolve(eqn: JaxprEqn, x: Array, window: Array, total: Array) -> Array:
    """[batch, *space, g, r] by a convolution, for what `slide` can't do."""
    p, dims = eqn.params, window.ndim - 2
    groups, (lhs, _, out) = p["feature_group_count"], p["dimension_numbers"]
    kernel = jnp.tile(window.astype(x.dtype).transpose(dims + 1, dims, *range(dims)), (groups, *[1] * (dims + 1)))
    thin = lax.conv_general_dilated(
        x,
        kernel,
        p["window_strides"],
        p["padding"],
        p["lhs_dilation"],
        p["rhs_dilation"],
        lax.ConvDimensionNumbers(lhs, tuple(range(dims + 2)), out),
        groups,
        precision=p["precision"],
        preferred_element_type=total.dtype,
    )
    thin = thin.transpose(out[0], *out[2:], out[1])
    return thin.reshape(*thin.shape[:-1], groups, -1)
