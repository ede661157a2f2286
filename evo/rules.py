"""The table of rules: what each primitive does to a lazy operand, so that it never becomes a dense array.

Two kinds. A *view* moves numbers about without mixing them, so it is done alike to the base and to both factors: only
how it acts on an array some of whose axes have length 1 is written here. A *rule* is everything else; a view with a
condition (`convert_element_type`, `gather`, `dynamic_slice`) has a rule of its own after it, which decides. A primitive
in neither has its lazy operands made dense.

Axes: `r` rank, always a factor's last.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from evo.leaf import Lazy, dense, is_lazy, is_thin, is_whole

WHOLE = {"dot_general", "optimization_barrier"}  # what, beside views, keeps a lazy leaf of whole numbers exact
RULES: dict[str, Callable] = {}  # primitive -> (equation, *operands) -> outputs or NotImplemented
VIEWS: dict[str, Callable] = {}  # primitive -> (factor, base's shape, parameters, *other operands) -> factor


def bind(eqn: JaxprEqn, *values: Array, **changed) -> list[Array]:
    """The equation as it stands, on ordinary arrays."""
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*values, **(eqn.primitive.get_bind_params(eqn.params) | changed))
    return list(out) if eqn.primitive.multiple_results else [out]


def shape_of(var) -> jax.ShapeDtypeStruct:
    """The shape and dtype of a variable, or of an array."""
    aval = getattr(var, "aval", var)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def rule(*primitives: str):
    """Register what these primitives do to lazy operands."""

    def register(function):
        RULES.update(dict.fromkeys(primitives, function))
        return function

    return register


def view(*primitives: str):
    """Register how these primitives move the numbers of their first operand, given as a factor."""

    def register(function):
        VIEWS.update(dict.fromkeys(primitives, function))
        return rule(*primitives)(see)

    return register


def see(eqn: JaxprEqn, w: Lazy, *others: Array) -> list:
    """A view of a lazy leaf, unless its factors would have to grow to what they stand for."""
    if not is_lazy(w):
        return NotImplemented
    outs = seen(eqn, w, *others)
    return outs if all(pays(out, w) for out in outs) else NotImplemented


def seen(eqn: JaxprEqn, w: Lazy, *others: Array) -> list[Lazy]:
    """A view of the shared matrix, and the same view of both factors."""
    act, shape = VIEWS[eqn.primitive.name], w.base.shape
    factors = [act(x, shape, eqn.params, *others) for x in (w.a, w.b)]
    a, b = (list(f) if isinstance(f, (list, tuple)) else [f] for f in factors)
    return [Lazy(*parts, w.scale) for parts in zip(bind(eqn, w.base, *others), a, b, strict=True)]


def pays(out: Lazy, *operands: Lazy) -> bool:
    """Whether a result is worth keeping lazy: it is thin, or its factors are no larger than those it was made of."""
    return is_thin(out) or out.a.size + out.b.size <= sum(w.a.size + w.b.size for w in operands)


def base_of(x):
    """What of an operand is shared."""
    return x.base if is_lazy(x) else x


def full(x: Array, shape: tuple[int, ...], axis: int) -> bool:
    """Whether the factor has this axis of the leaf, rather than length 1 in its place."""
    return x.shape[axis] == shape[axis]


# --- views ------------------------------------------------------------------------------------------------------


@view("transpose")
def _(x, shape, params):
    return x.transpose(*params["permutation"], len(shape))


@view("squeeze")
def _(x, shape, params):
    return lax.squeeze(x, params["dimensions"])


@view("broadcast_in_dim")
def _(x, shape, params):
    out = [1] * len(params["shape"]) + [x.shape[-1]]
    for axis, place in enumerate(params["broadcast_dimensions"]):
        out[place] = x.shape[axis]
    return x.reshape(out)


@view("reshape")
def _(x, shape, params):
    """A run of axes becomes another run; a factor has all of a run, or none of it, or is spread over it."""
    order = params["dimensions"]
    if order is not None:  # the leaf's axes are taken in this order first
        x, shape = x.transpose(*order, len(shape)), tuple(shape[i] for i in order)
    out = []
    spread = list(x.shape)
    for old, new in runs(shape, params["new_sizes"]):
        own = any(x.shape[i] != 1 for i in old)
        for i in old:
            spread[i] = shape[i] if own else 1
        out += [params["new_sizes"][i] if own else 1 for i in new]
    return jnp.broadcast_to(x, spread).reshape(*out, x.shape[-1])


def runs(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The shortest runs of axes of `old` and `new` that hold the same numbers; where there are none, one of all."""
    if 0 in old:
        return [(list(range(len(old))), list(range(len(new))))]
    found, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        left: list[int] = []
        right: list[int] = []
        while True:
            m, n = math.prod(old[k] for k in left), math.prod(new[k] for k in right)
            if (left or right) and m == n:
                break
            if j == len(new) or (i < len(old) and (m < n or not left)):
                left.append(i)
                i += 1
            else:
                right.append(j)
                j += 1
        found.append((left, right))
    return found


@view("slice")
def _(x, shape, params):
    strides = params["strides"] or (1,) * len(shape)
    cuts = enumerate(zip(params["start_indices"], params["limit_indices"], strides, strict=True))
    own = [cut if full(x, shape, axis) else (0, 1, 1) for axis, cut in cuts]
    return lax.slice(x, *zip(*own, (0, x.shape[-1], 1), strict=True))


@view("split")
def _(x, shape, params):
    axis, sizes = params["axis"], params["sizes"]
    return lax.split(x, sizes, axis) if full(x, shape, axis) else [x] * len(sizes)


@view("unstack")
def _(x, shape, params):
    axis, own = params["axis"], full(x, shape, params["axis"])
    return [lax.index_in_dim(x, i if own else 0, axis, keepdims=False) for i in range(shape[axis])]


@view("tile")
def _(x, shape, params):
    return jnp.tile(x, [k if n > 1 else 1 for k, n in zip(params["reps"], x.shape, strict=False)] + [1])


@view("rev")
def _(x, shape, params):
    return lax.rev(x, [axis for axis in params["dimensions"] if full(x, shape, axis)])


@view("dynamic_slice")
def _(x, shape, params, *starts):
    own = [full(x, shape, axis) for axis in range(len(shape))]
    zero = jnp.zeros((), starts[0].dtype if starts else jnp.int32)
    first = [start if mine else zero for start, mine in zip(starts, own, strict=True)]
    sizes = [size if mine else 1 for size, mine in zip(params["slice_sizes"], own, strict=True)]
    return lax.dynamic_slice(x, [*first, zero], [*sizes, x.shape[-1]])


@view("copy", "stop_gradient", "name", "reduce_precision", "sharding_constraint")
def _(x, shape, params):
    return x


@rule("device_put")
def _(eqn, w, *others):
    return NotImplemented if others else [w._replace(base=bind(eqn, w.base)[0])]


@view("convert_element_type")
def _(x, shape, params):
    return x.astype(params["new_dtype"])


@rule("convert_element_type")
def _(eqn, w):
    """Floats to floats of another width, whole numbers to a type that is no narrower."""
    to = jnp.dtype(eqn.params["new_dtype"])
    same = is_whole(jnp.zeros((), to)) and to.itemsize >= w.base.dtype.itemsize
    fits = same if is_whole(w.base) else jnp.issubdtype(to, jnp.floating)
    return see(eqn, w) if fits else NotImplemented


@view("gather")
def _(x, shape, params, indices):
    """Look up in the axes that the factor has; where it has none of the looked-up ones, it is the same for all."""
    d = params["dimension_numbers"]
    sizes = [s if full(x, shape, axis) else 1 for axis, s in enumerate(params["slice_sizes"])] + [x.shape[-1]]
    keep = [i for i, axis in enumerate(d.start_index_map) if full(x, shape, axis)]
    batch = [i for i, axis in enumerate(d.operand_batching_dims) if full(x, shape, axis)]
    gone = {*d.collapsed_slice_dims, *d.operand_batching_dims}
    ndim = indices.ndim - 1 + len(d.offset_dims)
    if not keep and not batch:
        out = [1] * ndim
        for place, s in zip(d.offset_dims, (s for i, s in enumerate(sizes[:-1]) if i not in gone), strict=True):
            out[place] = s
        return lax.slice(x, [0] * x.ndim, sizes).reshape(*out, x.shape[-1])
    stacked = tuple(d.operand_batching_dims[i] for i in batch)
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(*d.offset_dims, ndim),
        collapsed_slice_dims=tuple(sorted(gone.difference(stacked))),
        start_index_map=tuple(d.start_index_map[i] for i in keep),
        operand_batching_dims=stacked,
        start_indices_batching_dims=tuple(d.start_indices_batching_dims[i] for i in batch),
    )
    columns = [lax.index_in_dim(indices, i, -1) for i in keep] or [indices[..., :0]]
    return lax.gather(x, lax.concatenate(columns, indices.ndim - 1), numbers, sizes, mode=params["mode"], fill_value=0)


def picked(eqn: JaxprEqn) -> list[int]:
    """The axes of its operand in which an equation looks up single entries, at places that only the data knows."""
    shape, sizes = shape_of(eqn.invars[0]).shape, eqn.params["slice_sizes"]
    numbers = eqn.params.get("dimension_numbers")
    axes = range(len(shape)) if numbers is None else numbers.start_index_map
    return [axis for axis in axes if sizes[axis] == 1 < shape[axis]]


@rule("gather", "dynamic_slice")
def _(eqn, w, *where):
    """Looking up rows gives activations, dense from here on; picking from a stack gives lazy matrices."""
    if not is_lazy(w) or unseen(eqn, w):
        return NotImplemented
    (out,) = seen(eqn, w, *where)
    if any(full(w.a, w.base.shape, axis) != full(w.b, w.base.shape, axis) for axis in picked(eqn)):
        return [dense(out)]
    return [out] if pays(out, w) else NotImplemented


def unseen(eqn: JaxprEqn, w: Lazy) -> bool:
    """Whether what is put in for entries out of bounds would have the leaf's noise: no factor looks up in that axis."""
    axes = eqn.params["dimension_numbers"].start_index_map if eqn.primitive.name == "gather" else ()
    fills = axes and eqn.params["mode"] == lax.GatherScatterMode.FILL_OR_DROP
    return bool(fills) and not all(any(full(x, w.base.shape, axis) for x in (w.a, w.b)) for axis in axes)
