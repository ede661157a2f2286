"""Lazy leaves for tests: one base for all members, factors of their own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from evo.lazy import Lazy, call, densify, is_lazy

MEMBERS, RANK = 3, 2
MATRIX = (0,), (1,)


def draw(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(sum(shape) + seed).normal(size=shape).astype(dtype)


def lazy(shape, rows, cols, rank=RANK, members=MEMBERS, dtype=np.float32):
    """A leaf shared by all members, with factors of their own."""
    a = [1 if i in cols else n for i, n in enumerate(shape)]
    b = [1 if i in rows else n for i, n in enumerate(shape)]
    parts = draw(*shape) / 2, draw(members, *a, rank, seed=1) / 2, draw(members, *b, rank, seed=2)
    return Lazy(*(jnp.asarray(part, dtype) for part in parts))


def first(w):
    """The first member's leaf."""
    return Lazy(w.base, w.a[0], w.b[0])


def axes_of(params):
    return jax.tree.map(lambda x: Lazy(None, 0, 0) if is_lazy(x) else None, params, is_leaf=is_lazy)


def by_member(function, params, *args):
    return jax.vmap(function, (axes_of(params), *[0] * len(args)))(params, *args)


def both(function, params, *args):
    """The same members, lazy and dense."""
    thin, slow = partial(call, function), lambda params, *args: function(densify(params), *args)
    return jax.jit(lambda: tuple(by_member(evaluate, params, *args) for evaluate in (thin, slow)))()
