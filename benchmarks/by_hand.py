"""A generation of low-rank ES as one writes it by hand for one network: noise in the model, no metrics.

What the engine's own generation is measured against, to compile and to run (benchmarks/limit.py). `generation` has what
a search needs: noise from jax.random, ranks, Adam of Optax. `bare` has less than one can search with, and is what any
generation at least compiles: signs from two hashes, fitness as it comes, a plain step.
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


def hashed(number):
    """A whole number mixed by two multiplications (lowbias32): fast, and no generator to rely on."""
    number = (number ^ (number >> 16)) * jnp.uint32(0x7FEB352D)
    number = (number ^ (number >> 15)) * jnp.uint32(0x846CA68B)
    return number ^ (number >> 16)


def signs(seed, params, pairs: int) -> list:
    """The same factors as signs: hash of (hash of the number's place, seed)."""
    sizes = [size for x in jax.tree.leaves(params) for size in x.shape]
    row = jnp.arange(pairs, dtype=jnp.uint32)[:, None] * jnp.uint32(sum(sizes))

    def one(at, size):
        word = hashed(hashed(row + jnp.arange(at, at + size, dtype=jnp.uint32)) ^ seed)
        return 1 - 2 * (word >> 31).astype(jnp.float32)

    drawn = iter([one(sum(sizes[:i]), size) for i, size in enumerate(sizes)])
    return [[next(drawn) for _ in x.shape] for x in jax.tree.leaves(params)]


def policy(params, noise, sign):
    """The benchmark's MLP with a member's noise in every layer."""

    def act(x):
        for i, (w, b) in enumerate(params):
            (into, out), (shift,) = noise[2 * i], noise[2 * i + 1]
            x = x @ w + b + SIGMA * sign * ((x @ into) * out + shift)
            x = jnp.tanh(x) if i < len(params) - 1 else x
        return x

    return act


def returns(world: str, steps: int, params, noise, luck):
    """The return of each pair's two members, [pairs, 2]."""

    def pair(noise, luck):
        both = jnp.array([1.0, -1.0])
        return jax.vmap(lambda sign: control.episode(world, steps, policy(params, noise, sign), luck))(both)

    return jax.vmap(pair)(noise, luck)


def contracted(params, noise, weight):
    """sum_i weight_i noise_i, shaped like the parameters."""
    totals = [jnp.einsum(f"n,{'ni,nj->ij' if len(x) == 2 else 'ni->i'}", weight, *x) for x in noise]
    return jax.tree.unflatten(jax.tree.structure(params), totals)


def generation(world: str, n: int, steps: int) -> tuple[Callable, optax.GradientTransformation]:
    """(params, optimizer state, key) -> params, optimizer state, mean fitness; and the optimiser."""
    adam = optax.adam(RATE)

    def program(params, optimizer, key):
        key, luck = jax.random.split(key)
        noise = factors(key, params, n // 2)
        fitness = returns(world, steps, params, noise, jax.random.split(luck, n // 2))
        ranks = fitness.reshape(-1).argsort().argsort().reshape(fitness.shape) / (n - 1)
        downhill = contracted(params, noise, ranks[:, 1] - ranks[:, 0])  # Optax goes downhill
        updates, optimizer = adam.update(downhill, optimizer, params)
        return optax.apply_updates(params, updates), optimizer, fitness.mean()

    return program, adam


def bare(world: str, n: int, steps: int) -> Callable:
    """(params, seed) -> params."""

    def program(params, seed):
        noise, pair = signs(seed, params, n // 2), jnp.arange(n // 2, dtype=jnp.uint32)
        luck = jax.vmap(jax.random.wrap_key_data)(jnp.stack([hashed(pair ^ seed), pair], -1))
        fitness = returns(world, steps, params, noise, luck)
        uphill = contracted(params, noise, fitness[:, 0] - fitness[:, 1])
        return jax.tree.map(lambda x, g: x + RATE * g, params, uphill)

    return program
