"""Looking ahead in a traced function: where a leaf and its views get to, by shapes alone, with nothing computed.

`walk` visits the equations that tracked values reach, through calls, loops and branches; `look` says of one of them
what evaluating it would do. The layout of the primitives that hold programs is known here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jaxtyping import Array

import evo.linear  # its rules join the table
import evo.products  # noqa: F401  and these
from evo.leaf import Lazy, absorbed, dense, is_lazy, is_thin, is_whole
from evo.rules import RULES, VIEWS, WHOLE, bind, shape_of

INLINE = {
    "jit",
    "remat2",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vmap_call",
    "closed_call",
    "call",
    "eval_jaxpr",
}


class Track(NamedTuple):
    """A leaf, or a view of one, on its way through a `walk`: shapes only. `names` are the leaves that it comes from."""

    base: jax.ShapeDtypeStruct
    factors: tuple[jax.ShapeDtypeStruct, ...]
    names: tuple[Any, ...]


Visit = Callable[[JaxprEqn, list[Track | None]], list[Track | None]]


class Loop(NamedTuple):
    """A loop equation in parts. A carry that the body hands on untouched is a constant."""

    bodies: tuple[Jaxpr | ClosedJaxpr, ...]
    consts: tuple[slice, ...]  # each body's own constants among the equation's inputs
    carry: slice
    xs: slice
    kept: tuple[bool, ...]  # per carry: untouched by the body


def opened(jaxpr: Jaxpr | ClosedJaxpr) -> tuple[Jaxpr, Sequence[Array]]:
    """A jaxpr and its constants."""
    return (jaxpr.jaxpr, jaxpr.consts) if isinstance(jaxpr, ClosedJaxpr) else (jaxpr, ())


def body_of(eqn: JaxprEqn) -> Jaxpr | ClosedJaxpr:
    """What an equation calls that merely calls."""
    return next(eqn.params[name] for name in ("jaxpr", "call_jaxpr", "call") if name in eqn.params)


def loop_of(eqn: JaxprEqn) -> Loop:
    """A scan or a while in parts."""
    n = len(eqn.invars)
    bodies: tuple[Jaxpr | ClosedJaxpr, ...]
    consts: tuple[slice, ...]
    if eqn.primitive.name == "scan":
        bodies = (eqn.params["jaxpr"],)
        inner = opened(bodies[0])[0]
        count, stacked = rounds(eqn.outvars, inner.outvars), n - rounds(eqn.invars, inner.invars)
        consts, xs = (slice(0, n - stacked - count),), slice(n - stacked, n)
    else:
        first, own = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        bodies = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]
        inner, count = opened(bodies[1])[0], n - first - own
        consts, xs = (slice(0, first), slice(first, first + own)), slice(n, n)
    start = consts[-1].stop - consts[-1].start
    kept = tuple(inner.outvars[i] is inner.invars[start + i] for i in range(count))
    return Loop(bodies, consts, slice(consts[-1].stop, xs.start), xs, kept)


def rounds(outer, inner) -> int:
    """How many of a scan's variables are the same array outside and in each round, rather than stacked.

    Told from the avals, since the names of scan's parameters differ between jax 0.10 and 0.11.
    """
    return sum(len(x.aval.shape) == len(y.aval.shape) for x, y in zip(outer, inner, strict=True))


def attempt(eqn: JaxprEqn, values: list, twins: Sequence[Array | None] = ()) -> tuple[list, list[int]]:
    """Apply the primitive's rule; where it has none for these operands, make the smallest lazy one dense and retry.

    `twins` are dense forms that exist already. Returns the outputs and which operands were needed dense.
    """
    name = eqn.primitive.name
    scaled = name in VIEWS or name == "dot_general"  # the rules that know of a scale
    rule, values = RULES.get(name), [v if scaled or not is_lazy(v) else absorbed(v) for v in values]
    lost: list[int] = []
    if name not in (VIEWS.keys() | WHOLE) and any(is_lazy(v) and is_whole(v.base) for v in values):
        rule = None
    for i in sorted((i for i, v in enumerate(values) if is_lazy(v)), key=lambda i: values[i].base.size):
        outs = rule(eqn, *values) if rule else NotImplemented
        if outs is not NotImplemented:
            return outs, lost
        values[i] = twins[i] if twins and twins[i] is not None else dense(values[i])
        lost.append(i)
    return bind(eqn, *values), lost


def look(eqn: JaxprEqn, tracks: Sequence[Track | None]) -> tuple[list[Track | None], list[Track]]:
    """What evaluating an equation would give, and which leaves it would make dense."""
    found = {i: t for i, t in enumerate(tracks) if t is not None}
    if eqn.primitive.name in RULES:
        outs, lost = trial(eqn, tracks)
    else:
        outs, lost = [None] * len(eqn.outvars), list(found)
    names = tuple(dict.fromkeys(name for i, t in found.items() if i not in lost for name in t.names))
    kept = [Track(o.base, (o.a, o.b), names) if is_lazy(o) else None for o in outs]
    return kept, [found[i] for i in lost if is_thin(leaf_of(found[i]))]


def leaf_of(track: Track) -> Any:
    """The lazy leaf that a track with two factors stands for."""
    return Lazy(track.base, *track.factors)  # type: ignore[arg-type]


def trial(eqn: JaxprEqn, tracks: Sequence[Track | None]) -> tuple[list, list[int]]:
    """`attempt` on shapes; literals are themselves."""
    lost: list[int] = []
    known = [var.val if isinstance(var, Literal) else None for var in eqn.invars]
    shapes = [shape_of(var) if t is None else leaf_of(t) for var, t in zip(eqn.invars, tracks, strict=True)]

    def run(values):
        outs, dropped = attempt(eqn, [v if k is None else k for v, k in zip(values, known, strict=True)])
        lost.extend(dropped)
        return outs

    return jax.eval_shape(run, shapes), lost


def walk(jaxpr: Jaxpr, tracks: Sequence[Track | None], visit: Visit) -> list[Track | None]:
    """Visit, in order, every equation that a tracked value reaches. What a loop carries and changes ends there."""
    env = {var: t for var, t in zip(jaxpr.invars, tracks, strict=True) if t is not None}
    for eqn in jaxpr.eqns:
        ins = [None if isinstance(var, Literal) else env.get(var) for var in eqn.invars]
        if any(t is not None for t in ins):
            step = STEPS.get(eqn.primitive.name)
            outs = step(eqn, ins, visit) if step else visit(eqn, ins)
            env.update({var: t for var, t in zip(eqn.outvars, outs, strict=True) if t is not None})
    return [None if isinstance(var, Literal) else env.get(var) for var in jaxpr.outvars]


def end(eqn: JaxprEqn, tracks: Sequence[Track | None], visit: Visit) -> None:
    """Tell the visitor of tracked values that are needed dense by an equation which holds programs."""
    if any(t is not None for t in tracks):
        visit(eqn, list(tracks))


def loop(eqn: JaxprEqn, ins: list[Track | None], visit: Visit) -> list[Track | None]:
    """A scan or a while loop, its body walked once: what it hands on unchanged is tracked further."""
    parts = loop_of(eqn)
    carry = [t if kept else None for t, kept in zip(ins[parts.carry], parts.kept, strict=True)]
    end(eqn, [None if kept else t for t, kept in zip(ins[parts.carry], parts.kept, strict=True)], visit)
    rows = [t and row_of(t) for t in ins[parts.xs]]
    outs: list[Track | None] = []
    for body, own in zip(parts.bodies, parts.consts, strict=True):
        outs = walk(opened(body)[0], [*ins[own], *carry, *rows], visit)
    kept = [*parts.kept, *[False] * (len(outs) - len(carry))]
    end(eqn, [None if k else t for t, k in zip(outs, kept, strict=True)], visit)
    return carry + [None] * (len(eqn.outvars) - len(carry))


def row_of(track: Track) -> Track:
    """One round's slice of what a scan runs over."""
    base, *factors = (jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in (track.base, *track.factors))
    return Track(base, tuple(factors), track.names)


def branches(eqn: JaxprEqn, ins: list[Track | None], visit: Visit) -> list[Track | None]:
    """A choice: every branch is walked, and what they return is needed dense."""
    for branch in eqn.params["branches"]:
        end(eqn, walk(opened(branch)[0], ins[1:], visit), visit)
    return [None] * len(eqn.outvars)


def inline(eqn: JaxprEqn, ins: list[Track | None], visit: Visit) -> list[Track | None]:
    """A program inside the program, walked as part of it."""
    return walk(opened(body_of(eqn))[0], ins, visit)


STEPS = {"scan": loop, "while": loop, "cond": branches} | dict.fromkeys(INLINE, inline)
