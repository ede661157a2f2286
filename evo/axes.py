"""Which axes of a leaf are rows and columns, inferred from how a task uses it: a dry run by shapes, nothing computed.

Rows are what a product contracts or a look-up indexes, columns what is left of the leaf in the result, and whatever a
loop runs over, a batched product pairs up or an expert is picked from is stacked. To follow an axis through views, it
travels as an array that is as long as the leaf along this axis and of length 1 along all others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Literal

from evo.leaf import Axes, Params, path_of
from evo.products import ragged_roles
from evo.rules import VIEWS, picked, shape_of
from evo.walk import STEPS, Track, walk


class Mark(NamedTuple):
    """One axis of one leaf on its way, and the picks that it went through."""

    path: str
    axis: int
    picks: tuple[int, ...] = ()


class Use(NamedTuple):
    """A use of a leaf as a matrix; `pick` numbers a look-up that may turn out to pick from a stack."""

    path: str
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    pick: int | None = None


def split_axes(task: Any, params: Params = None, *args: Any) -> dict[str, Axes]:
    """The row and column axes of every leaf of `params` that has two axes or more, by path.

    The first use as a matrix decides. A leaf without one (scales, biases and position tables, stacked or not) gets
    ((), ()): its noise is that of a vector. Axes of length 1 are of no consequence, and are in neither. `task` is a
    function of (params, *args), a lone PRNG key where no args are given, or an object with `init` and `evaluate`.
    """
    function, params, args = dry(task, params, args)
    closed = jax.make_jaxpr(function)(params, *args)
    named = jax.tree_util.tree_leaves_with_path(params)
    paths = [path_of(path) for path, _ in named]
    shapes = [shape_of(leaf) for _, leaf in named]
    tracks = [marked(path, leaf) if len(leaf.shape) >= 2 else None for path, leaf in zip(paths, shapes, strict=True)]
    uses = Uses([], set())
    rest = [None] * (len(closed.jaxpr.invars) - len(tracks))
    walk(closed.jaxpr, [*tracks, *rest], uses.visit)
    found: dict[str, Axes] = {path: ((), ()) for path, track in zip(paths, tracks, strict=True) if track}
    for use in reversed(uses.found):
        if use.pick not in uses.stacks:
            found[use.path] = (use.rows, use.cols)
    return found


def dry(task: Any, params: Params, args: tuple) -> tuple[Callable, Params, tuple]:
    """A task as a function, with shapes for what it is called with."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    if not hasattr(task, "evaluate"):
        if params is None:
            raise ValueError("A plain function has no parameters of its own: give `params` after the task.")
        return task, jax.eval_shape(lambda x: x, params), args or (key,)
    own, state = jax.eval_shape(task.init, key)
    params = own if params is None else jax.eval_shape(lambda x: x, params)
    return task.evaluate, params, args or (state, key)


def marked(path: str, leaf: jax.ShapeDtypeStruct) -> Track:
    """A leaf with each of its axes marked."""
    long = [axis for axis, n in enumerate(leaf.shape) if n > 1]
    factors = [
        jax.ShapeDtypeStruct([*(n if i == axis else 1 for i, n in enumerate(leaf.shape)), 1], leaf.dtype)
        for axis in long
    ]
    return Track(leaf, tuple(factors), tuple(Mark(path, axis) for axis in long))


class Uses(NamedTuple):
    """What a walk has found: uses in order of appearance, and which look-ups turned out to pick from a stack."""

    found: list[Use]
    stacks: set[int]

    def visit(self, eqn: JaxprEqn, tracks: list[Track | None]) -> list[Track | None]:
        """Note the uses of marked leaves in one equation, and follow what is still a view of them."""
        name = eqn.primitive.name
        if name == "dot_general":
            for which, track in enumerate(tracks):
                self.product(track, *dot_roles(eqn, which))
        elif name == "ragged_dot_general" and (roles := ragged_roles(eqn)):
            self.product(tracks[1], *roles)
        elif name == "conv_general_dilated":
            outputs, *others = eqn.params["dimension_numbers"].rhs_spec
            self.product(tracks[1], others, [outputs])
        elif name in ("gather", "dynamic_slice") and tracks[0] and picked(eqn):
            return [self.look_up(eqn, tracks[0])]
        elif name in VIEWS and tracks[0]:
            return moved(eqn, tracks[0])
        elif name in ("optimization_barrier", "device_put"):
            return tracks
        elif len(eqn.outvars) == 1 and name not in STEPS:
            return [passed(eqn, tracks)]
        return [None] * len(eqn.outvars)

    def product(self, track: Track | None, contracted, free) -> None:
        """A product makes rows of what it contracts and columns of what it leaves; of `w + w.T`, as `w` has it."""
        if track is None:
            return
        for path in dict.fromkeys(mark.path for mark in track.names):
            rows: list[int] = []
            cols: list[int] = []
            picks: set[int] = set()
            for mark, factor in zip(track.names, track.factors, strict=True):
                long = [i for i, n in enumerate(factor.shape[:-1]) if n > 1]
                if mark.path == path and mark.axis not in (*rows, *cols):
                    rows += [mark.axis] * any(i in contracted for i in long)
                    cols += [mark.axis] * (mark.axis not in rows and any(i in free for i in long))
                picks.update(mark.picks if mark.path == path else ())
            if rows and cols:
                self.found.append(Use(path, tuple(rows), tuple(cols)))
                self.stacks.update(picks)

    def look_up(self, eqn: JaxprEqn, track: Track) -> Track | None:
        """A look-up makes rows of what it indexes and columns of the rest, unless the rest becomes a matrix later."""
        taken, number = picked(eqn), len(self.found)
        gone = [any(f.shape[i] > 1 for i in taken) for f in track.factors]
        for path in dict.fromkeys(mark.path for mark in track.names):
            own = [(mark.axis, g) for mark, g in zip(track.names, gone, strict=True) if mark.path == path]
            first = dict(reversed(own))  # the first role of each axis
            rows, cols = (tuple(axis for axis in sorted(first) if first[axis] is which) for which in (True, False))
            if rows and cols:
                self.found.append(Use(path, rows, cols, number))
        left = [i for i, g in enumerate(gone) if not g]
        marks = tuple(track.names[i]._replace(picks=(*track.names[i].picks, number)) for i in left)
        return moved(eqn, Track(track.base, tuple(track.factors[i] for i in left), marks))[0]


def dot_roles(eqn: JaxprEqn, which: int) -> tuple[list[int], list[int]]:
    """The contracted and the free axes of one operand of a dot."""
    contracted, batch = (dims[which] for dims in eqn.params["dimension_numbers"])
    ndim = shape_of(eqn.invars[which]).ndim
    return list(contracted), [i for i in range(ndim) if i not in (*contracted, *batch)]


def moved(eqn: JaxprEqn, track: Track) -> list[Track | None]:
    """The marks after a view."""
    others = [shape_of(var) for var in eqn.invars[1:]]

    def act(factors, others):
        known = [var.val if isinstance(var, Literal) else x for var, x in zip(eqn.invars[1:], others, strict=True)]
        views = [VIEWS[eqn.primitive.name](x, track.base.shape, eqn.params, *known) for x in factors]
        return [list(v) if isinstance(v, (list, tuple)) else [v] for v in views]

    views = jax.eval_shape(act, track.factors, others)
    outs = zip(*views, strict=True) if views else [()] * len(eqn.outvars)
    return [Track(shape_of(var), tuple(f), track.names) for var, f in zip(eqn.outvars, outs, strict=True)]


def passed(eqn: JaxprEqn, tracks: list[Track | None]) -> Track | None:
    """The marks after a function of leaves alone, entry by entry, with at most a scale for each row or column besides.

    What was looked up is an activation once it meets another leaf. Padding and concatenation count as well.
    """
    out, joins = shape_of(eqn.outvars[0]), eqn.primitive.name in ("pad", "concatenate", "stack")
    ndim = len(out.shape) - (eqn.primitive.name == "stack")
    alike = [t for t in tracks if t and (len(t.base.shape) == ndim if joins else t.base.shape == out.shape)]
    small = [sum(n > 1 for n in shape_of(var).shape) < min(2, len(out.shape)) for var in eqn.invars]
    looked_up = any(mark.picks for t in alike for mark in t.names)
    if not alike or (looked_up and len(alike) > 1) or not all(t or s for t, s in zip(tracks, small, strict=True)):
        return None
    if not jnp.issubdtype(out.dtype, jnp.floating):
        return None
    factors, names = (
        tuple(itertools.chain(*parts)) for parts in zip(*((t.factors, t.names) for t in alike), strict=True)
    )
    new = [eqn.params["axis"]] if eqn.primitive.name == "stack" else []
    return Track(out, tuple(stretched(factor, out, new) for factor in factors), names)


def stretched(factor: jax.ShapeDtypeStruct, out: jax.ShapeDtypeStruct, new: list[int]) -> jax.ShapeDtypeStruct:
    """A mark's factor in a result whose axes are those of the operand, perhaps longer, and `new` ones."""
    old = [i for i in range(len(out.shape)) if i not in new]
    long = [i for i, n in zip(old, factor.shape[:-1], strict=True) if n > 1]
    return jax.ShapeDtypeStruct([*(n if i in long else 1 for i, n in enumerate(out.shape)), 1], factor.dtype)
