"""A generation of low-rank ES as one writes it by hand for one network: noise in the model, Optax, no metrics.

What the engine's own generation is measured against, to compile and to run (benchmarks/limit.py).
"""

from __future__ import annotations

from collections.abc import Callable

import control
import jax
import jax.numpy as jnp
import optax

SIGMA, RATE = 0.05, 0.02


def factors(key, params, pairs: int) -> list:
    """Rank 1 for matrices, dense for vectors, from jax.random; a row a pair."""
    leaves = jax.tree.leaves(params)

    def one(key, x):
        keys = jax.random.split(key, x.ndim)
        return [jax.random.normal(k, (pairs, size)) for k, size in zip(keys, x.shape, strict=True)]

    return [one(k, x) for k, x in zip(jax.random.split(key, len(leaves)), leaves, strict=True)]


def policy(params, noise, sign):
    """The benchmark's MLP with a member's noise in every layer."""

    def act(x):
        for i, (w, b) in enumerate(params):
            (into, out), (shift,) = noise[2 * i], noise[2 * i + 1]
            x = x @ w + b + SIGMA * sign * ((x @ into) * out + shift)
            x = jnp.tanh(x) if i < len(params) - 1 else x
        return x

    return act


def generation(world: str, n: int, steps: int) -> tuple[Callable, optax.GradientTransformation]:
    """(params, optimizer state, key) -> params, optimizer state, mean fitness; and the optimiser."""
    adam = optax.adam(RATE)

    def program(params, optimizer, key):
        key, luck = jax.random.split(key)
        noise = factors(key, params, n // 2)

        def pair(noise, luck):
            signs = jnp.array([1.0, -1.0])
            return jax.vmap(lambda sign: control.episode(world, steps, policy(params, noise, sign), luck))(signs)

        fitness = jax.vmap(pair)(noise, jax.random.split(luck, n // 2))
        ranks = fitness.reshape(-1).argsort().argsort().reshape(fitness.shape) / (n - 1)
        weight = ranks[:, 1] - ranks[:, 0]  # Optax goes downhill
        downhill = [jnp.einsum(f"n,{'ni,nj->ij' if len(x) == 2 else 'ni->i'}", weight, *x) for x in noise]
        updates, optimizer = adam.update(jax.tree.unflatten(jax.tree.structure(params), downhill), optimizer, params)
        return optax.apply_updates(params, updates), optimizer, fitness.mean()

    return program, adam
