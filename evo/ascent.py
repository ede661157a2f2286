"""Steps up a gradient: Optax by name, on the leaves that noise acts on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from evo.express import ByPath, Plan, plan
from evo.noise import Frozen, Noise
from evo.schedule import Schedule, at
from evo.task import Params

Options = Mapping[str, float] | tuple[tuple[str, float], ...]
SMALL = 1 << 12  # numbers of a leaf up to which `joined` joins it with others
LONG = 1 << 12  # numbers from which XLA leaves a sum to its library, rather than compile a pyramid of loops
PLAIN = {"adam", "adamax", "adamaxw", "adamw", "amsgrad", "lion", "nadam", "nadamw", "rmsprop", "sgd"}  # entry by entry


def optimizer(name: str, lr: float | Schedule, options: Options) -> optax.GradientTransformation:
    """The Optax optimiser of a name and its settings. Raises where there is none, or where it has no such setting."""
    make = getattr(optax, name, None)
    if make is None or "learning_rate" not in getattr(make, "__annotations__", {}):
        raise ValueError(f"`optimizer` is the name of an Optax optimiser such as adam, sgd or adamw; got {name!r}.")
    try:
        return make(learning_rate=lambda step: at(lr, step), **dict(options))
    except TypeError as error:
        raise ValueError(f"`optimizer_options`: {error}.") from None


def masters(params: Params) -> Params:
    """The parameters as a search moves them: floats in float32, whatever the model's own dtype."""
    return jax.tree.map(lambda x: x.astype(jnp.float32) if floating(x) else x, jax.tree.map(jnp.asarray, params))


def cast(params: Params, like: Params) -> Params:
    """The parameters in the dtypes of `like`."""
    return jax.tree.map(lambda x, own: x.astype(own.dtype), params, like)


def floating(x: Any) -> bool:
    """Whether an array or a number is of floats, of any precision."""
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)


def live(noise: Noise | ByPath | Plan, tree: Params) -> dict[str, Array]:
    """The leaves that noise acts on, by path."""
    leaves = zip(plan(noise, tree).of(tree), jax.tree.leaves(tree), strict=True)
    return {leaf.path: x for leaf, x in leaves if not isinstance(leaf.noise, Frozen)}


def merged(noise: Noise | ByPath | Plan, tree: Params, own: dict[str, Array]) -> Params:
    """The tree with those leaves replaced."""
    leaves, treedef = jax.tree.flatten(tree)
    chosen = plan(noise, tree).of(tree)
    return jax.tree.unflatten(treedef, [own.get(leaf.path, x) for leaf, x in zip(chosen, leaves, strict=True)])


def joined(tree: dict[str, Array]) -> dict[str, Array]:
    """The same numbers in fewer arrays: small leaves of one dtype end to end, with zeros up to a multiple of `LONG`.

    The compiler takes 15 ms for each loop of a program, and work on leaves is a few loops for each.
    """
    flat = {}
    for name, own in groups(tree).items():
        if own == [name]:
            flat[name] = tree[name]
        else:
            parts = [tree[path].reshape(-1) for path in own]
            rest = -sum(x.size for x in parts) % LONG
            flat[name] = jnp.concatenate([*parts, jnp.zeros(rest, parts[0].dtype)])
    return flat


def total(x: Array) -> Float[Array, ""]:
    """The sum of an array in float32; short ones with zeros up to `LONG`."""
    x = x.astype(jnp.float32)
    return x.sum() if x.size >= LONG else jnp.pad(x.reshape(-1), (0, LONG - x.size)).sum()


def parted(flat: dict[str, Array], like: dict[str, Array]) -> dict[str, Array]:
    """The leaves again, each shaped like its namesake: the inverse of `joined`."""
    out = {}
    for name, own in groups(like).items():
        ends = itertools.accumulate(like[path].size for path in own)
        for path, end in zip(own, ends, strict=True):
            shape = like[path].shape
            out[path] = flat[name].reshape(-1)[end - math.prod(shape) : end].reshape(shape)
    return {path: out[path] for path in like}


def groups(tree: dict[str, Array]) -> dict[str, list[str]]:
    """Which leaves are joined under which name; a leaf that stays by itself keeps its path."""
    found: dict[str, list[str]] = {}
    for path, x in tree.items():
        found.setdefault(f"small {x.dtype}" if x.size <= SMALL else path, []).append(path)
    return found
