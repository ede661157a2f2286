"""Steps up a gradient: Optax by name, on the leaves that noise acts on."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import optax
from jaxtyping import Array

from evo.express import ByPath, Plan, plan
from evo.noise import Frozen, Noise
from evo.schedule import Schedule, at
from evo.task import Params

Options = Mapping[str, float] | tuple[tuple[str, float], ...]


def optimizer(name: str, lr: float | Schedule, options: Options) -> optax.GradientTransformation:
    """The Optax optimiser of a name and its settings. Raises where there is none, or where it has no such setting."""
    make = getattr(optax, name, None)
    if make is None or "learning_rate" not in getattr(make, "__annotations__", {}):
        raise ValueError(f"`optimizer` is the name of an Optax optimiser such as adam, sgd or adamw; got {name!r}.")
    try:
        return make(learning_rate=lambda step: at(lr, step), **dict(options))
    except TypeError as error:
        raise ValueError(f"`optimizer_options`: {error}.") from None


def live(noise: Noise | ByPath | Plan, tree: Params) -> dict[str, Array]:
    """The leaves that noise acts on, by path."""
    leaves = zip(plan(noise, tree).of(tree), jax.tree.leaves(tree), strict=True)
    return {leaf.path: x for leaf, x in leaves if not isinstance(leaf.noise, Frozen)}


def merged(noise: Noise | ByPath | Plan, tree: Params, own: dict[str, Array]) -> Params:
    """The tree with those leaves replaced."""
    leaves, treedef = jax.tree.flatten(tree)
    chosen = plan(noise, tree).of(tree)
    return jax.tree.unflatten(treedef, [own.get(leaf.path, x) for leaf, x in zip(chosen, leaves, strict=True)])
