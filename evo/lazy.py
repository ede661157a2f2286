"""Lazy leaves: unmodified JAX functions, evaluated with parameters that are a shared array plus thin factors.

`call` traces a function once and evaluates what it traced equation by equation, with the rules of `evo.rules`,
`evo.linear` and `evo.products`. The function knows nothing of it. A parameter has to come in through `params`: arrays
that the function closes over are constants. As under `jit`, no Python control flow on values. Custom derivative rules
of functions that a lazy leaf reaches are dropped: `call` is for evaluation, not for gradients. Under `jax.shard_map`
it wants `check_vma=False`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from evo.leaf import Lazy, Params, dense, densify, is_lazy, path_of
from evo.report import Report, refuse, report
from evo.trace import Held, evaluate, settle

__all__ = ["Lazy", "Report", "call", "dense", "densify", "is_lazy", "report"]


def call(function: Callable, params: Params, *args: Any, strict: bool = False) -> Any:
    """`function(params, *args)`, where leaves of `params` may be lazy; what comes out is ordinary arrays.

    Where the function does with a leaf what no rule covers, the leaf is made dense there, once, outside of any loop
    in which it stays the same. `strict=True` raises a ValueError that names the leaves and the operations instead.
    """
    leaves = jax.tree.leaves(params, is_leaf=is_lazy)
    if not any(map(is_lazy, leaves)):
        return function(params, *args)
    shapes = jax.eval_shape(densify, params)
    closed, out = jax.make_jaxpr(function, return_shape=True)(shapes, *args)
    if strict:
        named = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_lazy)
        refuse(closed.jaxpr, [(path_of(path), leaf) for path, leaf in named])
    inputs = [Held(leaf) if is_lazy(leaf) else jnp.asarray(leaf) for leaf in leaves]
    consts, rest = (list(map(jnp.asarray, arrays)) for arrays in (closed.consts, jax.tree.leaves(args)))
    outs = evaluate(closed.jaxpr, consts, [*inputs, *rest])
    return jax.tree.unflatten(jax.tree.structure(out), map(settle, outs))
