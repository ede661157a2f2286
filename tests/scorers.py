"""Scorers for a pool of processes: no JAX here, so that a worker starts in no time."""

import numpy as np


def distance(params):
    """Minus the squared distance to (1, -2, 3)."""
    return -((params["w"] - np.array([1.0, -2.0, 3.0], np.float32)) ** 2).sum(1)


def lucky(params, seeds):
    """Their luck alone."""
    return seeds % 1000 + 0 * params["w"][:, 0]
