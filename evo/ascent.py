"""Steps up a gradient: Optax by name, on the leaves that noise acts on; and what to say of a step."""

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


def ascend(
    optimizer: optax.GradientTransformation, gradient: Any, state: Any, params: Any = None
) -> tuple[Any, optax.OptState]:
    """A step up `gradient`, to be added to `params`, and the optimiser's state after it."""
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes dtypes on purpose
        return optimizer.update(jax.tree.map(jnp.negative, gradient), state, params)


def unit(weights: Float[Array, "n"]) -> Float[Array, "n"]:
    """weights / (sqrt(n) rms(weights)), of length 1, so that sum_i w_i noise_i has entries of about 1 by chance alone;
    all 0 where they are."""
    return weights / (jnp.sqrt(total(weights**2)) + 1e-12)


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


def norm(tree: dict[str, Array]) -> Float[Array, ""]:
    """The length of all leaves together."""
    return jnp.sqrt(sum(total(x**2) for x in joined(tree).values()))


def cosine(a: dict[str, Array], b: dict[str, Array]) -> Float[Array, ""]:
    """Cosine between two gradients; 0 where either is 0."""
    a, b = joined(a), joined(b)
    gram = sum((products(jnp.stack([a[path], b[path]])) for path in a), jnp.zeros((2, 2)))
    return gram[0, 1] / jnp.maximum(jnp.sqrt(gram[0, 0]) * jnp.sqrt(gram[1, 1]), 1e-30)


def products(pair: Float[Array, "2 ..."]) -> Float[Array, "2 2"]:
    """The dot products of two arrays with each other and themselves, in one pass over both."""
    return (pair[:, None] * pair[None]).sum(tuple(range(2, pair.ndim + 1)))


def changed(before: dict[str, Array], after: dict[str, Array]) -> Float[Array, ""]:
    """Share of parameters that differ, in the model's own dtype: what a step in half precision rounds away is not."""
    count = float(max(1, sum(x.size for x in before.values())))  # a float: counts may pass 2^31
    before, after = joined(before), joined(after)
    return jnp.asarray(sum(total(before[path] != after[path]) for path in before), jnp.float32) / count


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
