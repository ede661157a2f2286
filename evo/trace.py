"""Evaluating a traced function with lazy leaves: its equations and its control flow.

Loops are rebuilt with lazy leaves as constants or stacked inputs, so factors are never computed in a loop. A leaf that
a loop's body wants dense is made dense before the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.extend.core import Jaxpr, JaxprEqn, Literal
from jaxtyping import Array

from evo.leaf import Lazy, dense, is_lazy
from evo.rules import bind, shape_of
from evo.walk import INLINE, Loop, Track, attempt, body_of, look, loop_of, opened, row_of, walk


class Held(NamedTuple):
    """A lazy leaf on its way through a program; `twin` is its dense form where a loop around has already made it."""

    lazy: Lazy
    twin: Array | None = None


Value = Array | Held
Slim = tuple[Any, Callable[[Any], Value]]


def evaluate(jaxpr: Jaxpr, consts: Sequence[Array], args: Sequence[Value]) -> list[Value]:
    """The outputs of a jaxpr, of which some inputs are lazy. Equations without lazy operands stay as they are."""
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
    for eqn in jaxpr.eqns:
        values = [read(env, var) for var in eqn.invars]
        lazy = any(isinstance(v, Held) for v in values)
        outs = FLOW.get(eqn.primitive.name, apply)(eqn, values) if lazy else bind(eqn, *values)
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(env, var) for var in jaxpr.outvars]


def read(env: dict, var) -> Any:
    """What a variable of a jaxpr stands for; a literal stands for itself."""
    return var.val if isinstance(var, Literal) else env[var]


def settle(value: Value) -> Array:
    """The value as an ordinary array."""
    if not isinstance(value, Held):
        return value
    return dense(value.lazy) if value.twin is None else value.twin


def apply(eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    """One equation, some of whose operands are lazy. What is a view of a leaf with a twin has a twin too."""
    ready = [v.twin if isinstance(v, Held) else None for v in values]
    outs, _ = attempt(eqn, [v.lazy if isinstance(v, Held) else v for v in values], ready)
    twins: Sequence[Array | None] = [None] * len(outs)
    if any(map(is_lazy, outs)) and any(twin is not None for twin in ready):
        twins = bind(eqn, *map(settle, values))
    return [Held(out, twin) if is_lazy(out) else out for out, twin in zip(outs, twins, strict=True)]


def inline(eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    """A jit, a remat or a function with its own derivative: without a derivative to take, just what it computes."""
    jaxpr, consts = opened(body_of(eqn))
    return evaluate(jaxpr, consts, values)


def cond(eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    """A choice between programs: each evaluates its lazy operands by the rules; results are ordinary arrays."""
    index, *operands = values

    def branch(closed):
        jaxpr, consts = opened(closed)
        return lambda operands: [settle(v) for v in evaluate(jaxpr, consts, operands)]

    return choose([branch(b) for b in eqn.params["branches"]])(settle(index), operands)


def choose(branches: Sequence[Callable]) -> Callable:
    """`lax.switch(index, branches, operands)`, where members of a population may choose for themselves.

    JAX's own switch then gives every member a copy of all operands, shared matrices included; this one evaluates the
    branches as they are mapped and selects among their results.
    """

    @custom_vmap
    def chosen(index, operands):
        return lax.switch(index, branches, operands)

    @chosen.def_vmap
    def _(size, batched, index, operands):
        axes = jax.tree.map(lambda own: 0 if own else None, batched[1])
        mapped = [jax.vmap(branch, in_axes=(axes,), axis_size=size) for branch in branches]
        if batched[0]:
            results = [branch(operands) for branch in mapped]
            outs = [lax.select_n(along(index, case[0]), *case) for case in zip(*results, strict=True)]
        else:
            outs = choose(mapped)(index, operands)
        return outs, [True] * len(outs)

    return chosen


def along(choice: Array, x: Array) -> Array:
    """One choice for each row, leading axes first, in the shape of `x`."""
    return lax.broadcast_in_dim(choice, x.shape, range(choice.ndim))


def scan(eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    """A scan: lazy leaves are constants of the loop, rows of stacked ones, or carried untouched, none drawn inside."""
    parts, p = loop_of(eqn), eqn.params
    jaxpr, closed = opened(parts.bodies[0])
    still, held, moving = carried(parts, values)
    stacked = [unstack(v) for v in values[parts.xs]]
    consts, kept = hoist(jaxpr, values[parts.consts[0]], still, held, moving, values[parts.xs])

    def body(carry, slices):
        rows = [restack(moving, fixed) for moving, (_, fixed) in zip(slices, stacked, strict=True)]
        outs = evaluate(jaxpr, closed, [*thick(consts), *merge(still, thick(kept), carry), *rows])
        new = [settle(v) for v, s in zip(outs, still, strict=False) if not s]
        return new, [settle(v) for v in outs[len(still) :]]

    xs = [moving for moving, _ in stacked]
    new, ys = lax.scan(body, moving, xs, p["length"], reverse=p["reverse"], unroll=p["unroll"])
    return [*merge(still, held, new), *ys]


def while_loop(eqn: JaxprEqn, values: list[Value]) -> list[Value]:
    """A while loop: lazy leaves are constants of the loop, or carried untouched."""
    parts = loop_of(eqn)
    still, held, moving = carried(parts, values)
    programs = []
    for program, own in zip(parts.bodies, parts.consts, strict=True):
        jaxpr, closed = opened(program)
        programs.append((jaxpr, closed, *hoist(jaxpr, values[own], still, held, moving)))

    def run(program, carry):
        jaxpr, closed, consts, kept = program
        return [settle(v) for v in evaluate(jaxpr, closed, [*thick(consts), *merge(still, thick(kept), carry)])]

    def going(carry):
        return run(programs[0], carry)[0]

    def body(carry):
        new = [v for v, s in zip(run(programs[1], carry), still, strict=True) if not s]
        if not batched:
            return new
        on = going(carry)
        return [where_on(on, after, before) for after, before in zip(new, carry, strict=True)]

    batched = jax.eval_shape(going, moving).shape != ()  # a loop that the function itself maps: rows stop one by one
    new = lax.while_loop(lambda carry: going(carry).any(), body, moving)
    return merge(still, held, new)


def where_on(on: Array, after: Array, before: Array) -> Array:
    """`after` in the rows (leading axes) that go on, `before` in the others."""
    return jnp.where(along(on, after), after, before)


def carried(parts: Loop, values: list[Value]) -> tuple[list[bool], list[Value], list[Array]]:
    """Which carries are lazy and untouched, so constants; those; and all others, made dense."""
    carry = values[parts.carry]
    still = [kept and isinstance(v, Held) for kept, v in zip(parts.kept, carry, strict=True)]
    held = [v for v, s in zip(carry, still, strict=True) if s]
    return still, held, [settle(v) for v, s in zip(carry, still, strict=True) if not s]


def merge(still: Sequence[bool], held: Sequence[Any], moving: Sequence[Any]) -> list[Any]:
    """The carries in their order."""
    first, second = iter(held), iter(moving)
    return [next(first) if s else next(second) for s in still]


def hoist(body: Jaxpr, consts, still, held, moving, xs=()) -> tuple[list[Slim], list[Slim]]:
    """A loop's constants and untouched carries, those that its body wants dense with a dense twin made beforehand."""
    wanted: set[int] = set()

    def visit(eqn, tracks):
        outs, lost = look(eqn, tracks)
        wanted.update(name for track in lost for name in track.names)
        return outs

    fixed, loose = [*consts, *held], [None] * len(moving)
    tracks = [track_of(v, i) for i, v in enumerate(fixed)]
    rows = [track and row_of(track) for track in (track_of(v, -1) for v in xs)]
    walk(body, [*tracks[: len(consts)], *merge(still, tracks[len(consts) :], loose), *rows], visit)
    ready = [slim(Held(v.lazy, settle(v)) if i in wanted else v) for i, v in enumerate(fixed)]
    return ready[: len(consts)], ready[len(consts) :]


def slim(value: Value) -> Slim:
    """The value as it goes into a loop, and how to have it back inside: factors go without their axes of length 1.

    With those XLA lays a loop's constants out in its own way, and copies them in every round. What has a dense twin is
    hardly used, so goes as it is.
    """
    if not isinstance(value, Held) or value.twin is not None:
        return value, lambda x: x
    base, a, b, scale = value.lazy
    factors, shapes = (a, b), (a.shape, b.shape)

    def back(parts):
        base, *thin = parts
        a, b = (x.reshape(shape) for x, shape in zip(thin, shapes, strict=True))
        return Held(Lazy(base, a, b, scale))

    return [base, *(x.reshape([n for n in x.shape if n != 1]) for x in factors)], back


def thick(values: Sequence[Slim]) -> list[Value]:
    """The values again, inside the loop."""
    return [back(parts) for parts, back in values]


def track_of(value: Value, name: Any) -> Track | None:
    """What a walk follows of a value: nothing, where it isn't lazy."""
    if not isinstance(value, Held):
        return None
    base, a, b = map(shape_of, value.lazy[:3])
    return Track(base, (a, b), (name,))


def unstack(value: Value) -> tuple[Any, Any]:
    """What of a stacked input a scan runs over, and what is the same in every round: a factor of leading length 1."""
    if not isinstance(value, Held):
        return value, None
    base, a, b, scale = value.lazy
    parts, length = (base, a, b, value.twin), base.shape[0]
    moves = [x is not None and x.shape[0] == length for x in parts]
    moving = [x if m else None for x, m in zip(parts, moves, strict=True)]
    return moving, [*(None if m or x is None else x[0] for x, m in zip(parts, moves, strict=True)), scale]


def restack(moving: Any, fixed: Any) -> Value:
    """One round's slice of a stacked input."""
    if fixed is None:
        return moving
    *still, scale = fixed
    base, a, b, twin = (f if m is None else m for m, f in zip(moving, still, strict=True))
    return Held(Lazy(base, a, b, scale), twin)


FLOW = {"scan": scan, "while": while_loop, "cond": cond} | dict.fromkeys(INLINE, inline)
