"""The rules for linear maps of a lazy leaf other than products: scales, sums, joins and choices.

Axes: `r` rank, always a factor's last.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from evo.leaf import Lazy, is_lazy, is_thin
from evo.rules import base_of, bind, full, pays, rule


@rule("neg")
def _(eqn, w):
    return [Lazy(bind(eqn, w.base)[0], -w.a, w.b)]


@rule("mul")
def _(eqn, x, y):
    if is_lazy(x) and is_lazy(y):
        return NotImplemented
    w, c = (x, y) if is_lazy(x) else (y, x)
    return scaled(w, c, lax.mul, bind(eqn, *map(base_of, (x, y)))[0])


@rule("div")
def _(eqn, x, y):
    return NotImplemented if is_lazy(y) else scaled(x, y, lax.div, bind(eqn, x.base, y)[0])


def scaled(w: Lazy, c: Array, op, base: Array) -> list:
    """Scale the factor that has the axes of c, if one has: a scale for each row or each column is taken by it alone."""
    c = jnp.asarray(c, w.a.dtype)[..., None] if jnp.ndim(c) else jnp.asarray(c, w.a.dtype)
    spread = [math.prod(jnp.broadcast_shapes(x.shape, jnp.shape(c))) for x in (w.a, w.b)]
    if spread[0] - w.a.size <= spread[1] - w.b.size:
        out = Lazy(base, op(*jnp.broadcast_arrays(w.a, c)), w.b)
    else:
        out = Lazy(base, w.a, op(*jnp.broadcast_arrays(w.b, c)))
    return [out] if pays(out, w) else NotImplemented


@rule("add", "add_any", "sub")
def _(eqn, x, y):
    """Two lazy leaves: their ranks side by side. One: an ordinary array of its shape goes to the base."""
    sign = -1 if eqn.primitive.name == "sub" else 1
    base = bind(eqn, *map(base_of, (x, y)))[0]
    if not (is_lazy(x) and is_lazy(y)):
        w = x if is_lazy(x) else y
        out = Lazy(base, w.a if w is x else sign * w.a, w.b)
        return [out] if w.base.shape == out.base.shape and is_thin(w) else NotImplemented
    a, b = (y.a, y.b) if x.a.shape[:-1] == y.a.shape[:-1] else (y.b, y.a)
    if x.a.shape[:-1] != a.shape[:-1] or x.b.shape[:-1] != b.shape[:-1]:
        return NotImplemented
    out = Lazy(base, jnp.concatenate([x.a, sign * a], -1), jnp.concatenate([x.b, b], -1))
    return [out] if pays(out, x, y) else NotImplemented


@rule("reduce_sum")
def _(eqn, w):
    axes, shape = eqn.params["axes"], w.base.shape
    mine = [[full(x, shape, axis) and shape[axis] > 1 for axis in axes] for x in (w.a, w.b)]
    if any(map(all, zip(*mine, strict=True))):
        return NotImplemented
    neither = math.prod(shape[axis] for axis, a, b in zip(axes, *mine, strict=True) if not (a or b))
    return [Lazy(bind(eqn, w.base)[0], w.a.sum(axes) * neither, w.b.sum(axes))]


@rule("concatenate")
def _(eqn, *parts):
    return joined(parts, eqn.params["dimension"], bind(eqn, *map(base_of, parts))[0])


@rule("stack")
def _(eqn, *parts):
    axis = eqn.params["axis"]
    rows = [Lazy(*(jnp.expand_dims(x, axis) for x in p[:3])) if is_lazy(p) else jnp.expand_dims(p, axis) for p in parts]
    return joined(rows, axis, bind(eqn, *map(base_of, parts))[0])


def joined(parts, axis: int, base: Array) -> list:
    """A factor that has the axis keeps its part of it, in ranks of its own; one that doesn't lends its ranks. Where
    neither has it, their noise would be every part's."""
    lazies = [p for p in parts if is_lazy(p)]
    nowhere = any(not (full(p.a, p.base.shape, axis) or full(p.b, p.base.shape, axis)) for p in lazies)
    if nowhere or len({kind_of(p, axis) for p in lazies}) > 1:
        return NotImplemented
    alike = len(lazies) == len(parts) and all(full(x, p.base.shape, axis) for p in lazies for x in (p.a, p.b))
    if alike and len({p.a.shape[-1] for p in lazies}) == 1:
        return [Lazy(base, *(jnp.concatenate([p[i] for p in lazies], axis) for i in (1, 2)))]
    out = Lazy(base, *(beside(parts, i, axis) for i in (1, 2)))
    return [out] if pays(out, *lazies) else NotImplemented


def kind_of(w: Lazy, axis: int) -> tuple:
    """What has to agree for leaves to be concatenated: their factors' shapes, and which of them have the axis."""
    own = [full(x, w.base.shape, axis) for x in (w.a, w.b)]
    return tuple((mine, *x.shape[:axis], *x.shape[axis + 1 : -1]) for mine, x in zip(own, (w.a, w.b), strict=True))


def beside(parts, which: int, axis: int) -> Array:
    """One factor of a concatenation, each lazy part in its own ranks and zero in the others'."""
    lazies = [p for p in parts if is_lazy(p)]
    if not full(lazies[0][which], lazies[0].base.shape, axis):
        return jnp.concatenate([p[which] for p in lazies], -1)
    total, start, blocks = sum(p.a.shape[-1] for p in lazies), 0, []
    for part in parts:
        if is_lazy(part):
            rank = part.a.shape[-1]
            widths = [(0, 0)] * part.base.ndim + [(start, total - start - rank)]
            blocks.append(jnp.pad(part[which], widths))
            start += rank
        else:
            shape = list(lazies[0][which].shape)
            shape[axis], shape[-1] = part.shape[axis], total
            blocks.append(jnp.zeros(shape, lazies[0][which].dtype))
    return jnp.concatenate(blocks, axis)


@rule("pad")
def _(eqn, w, value):
    """Zeros around a factor that has the axis, whatever stands around the base."""
    if not is_lazy(w) or is_lazy(value):
        return NotImplemented
    config, shape = eqn.params["padding_config"], w.base.shape
    wide = [axis for axis, c in enumerate(config) if tuple(c) != (0, 0, 0)]
    if any(not (full(w.a, shape, axis) or full(w.b, shape, axis)) for axis in wide):
        return NotImplemented

    def pad(x):
        own = [c if full(x, shape, axis) else (0, 0, 0) for axis, c in enumerate(config)]
        return lax.pad(x, jnp.zeros((), x.dtype), [*own, (0, 0, 0)])

    return [Lazy(bind(eqn, w.base, value)[0], pad(w.a), pad(w.b))]


@rule("select_n")
def _(eqn, which, *cases):
    """One choice for the whole leaf; an ordinary array among the cases has factors of zero."""
    lazies = [c for c in cases if is_lazy(c)]
    if is_lazy(which) or which.ndim or len({(c.a.shape, c.b.shape) for c in lazies}) > 1:
        return NotImplemented
    zero = [jnp.zeros_like(x) for x in lazies[0][:3]]
    a, b = (lax.select_n(which, *(c[i] if is_lazy(c) else zero[i] for c in cases)) for i in (1, 2))
    return [Lazy(bind(eqn, which, *map(base_of, cases))[0], a, b)]


@rule("optimization_barrier")
def _(eqn, *values):
    return list(lax.optimization_barrier(tuple(values)))
