"""Evolve your own model on your own objective: here four-bit parity by neurons that are all or nothing.

The objective has no gradient: every neuron is a sign, and fitness is the share of right answers. Run it with
`python examples/custom_fitness.py`; the same as a config is `task: {kind: custom, fitness: "my_file.py:parity"}`.
"""

import itertools

import jax
import jax.numpy as jnp

import evo
from evo.noise import Gaussian
from evo.strategies.es import ES

bits = jnp.array(list(itertools.product([-1.0, 1.0], repeat=4)))
odd = jnp.where((bits > 0).sum(1) % 2 == 1, 1.0, -1.0)


def init(key):
    key_hidden, key_output = jax.random.split(key)
    return {
        "hidden": {"kernel": jax.random.normal(key_hidden, (4, 16)) / 2, "bias": jnp.zeros((1, 16))},
        "output": {"kernel": jax.random.normal(key_output, (16, 1)) / 4, "bias": jnp.zeros((1, 1))},
    }


def answer(params):
    hidden = jnp.sign(bits @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return jnp.sign(hidden @ params["output"]["kernel"] + params["output"]["bias"])[:, 0]


def parity(params, key):
    return (answer(params) == odd).mean()


if __name__ == "__main__":
    strategy = ES(population=256, sigma=0.5, lr=0.1, noise=Gaussian(), shaping="z_score")
    result = evo.run(parity, init(jax.random.key(0)), strategy, generations=150)
    right = int((answer(result.solution) == odd).sum())
    print(f"best of the last generation: {result.metrics['best'][-1]:.3f}; the solution answers {right} of 16 rightly")
