"""A custom fitness: parity of four bits by a network whose neurons are all or nothing, which no gradient can train."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

BITS = np.array(list(itertools.product((-1.0, 1.0), repeat=4)), np.float32)  # all 16 questions
ODD = np.where((BITS > 0).sum(1) % 2, 1.0, -1.0).astype(np.float32)  # and their answers
HIDDEN = 16


def init(key):
    """Parameters of the network: two layers of sign neurons."""
    key_hidden, key_output = jax.random.split(key)
    return {
        "hidden": {"kernel": jax.random.normal(key_hidden, (4, HIDDEN)) / 2, "bias": jnp.zeros(HIDDEN)},
        "output": {"kernel": jax.random.normal(key_output, (HIDDEN, 1)) / 4, "bias": jnp.zeros(1)},
    }


def answer(params, bits):
    """The network's answers, each -1, 0 or 1."""
    hidden = jnp.sign(bits @ params["hidden"]["kernel"] + params["hidden"]["bias"][None])
    return jnp.sign(hidden @ params["output"]["kernel"] + params["output"]["bias"][None])[:, 0]


def parity(params, key):
    """Fitness: the share of the 16 questions answered rightly; 1 is solved."""
    return (answer(params, jnp.asarray(BITS)) == jnp.asarray(ODD)).mean()
