"""Sphere and Rastrigin with linear-projection descriptors: the tests of the CMA-ME papers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np

from evo.task import Evaluation

LIMIT = 5.12


@dataclass(frozen=True)
class Projection:
    """Sphere or Rastrigin of `dim` numbers, filed by the sums of the two halves (Fontaine et al. 2020, section 4).

    fitness = 100 (1 - f(z) / f(worst)), z = x - 2.048: 100 at the optimum, 0 at the corner z = -7.168 that is farthest
    from it. descriptor: the sums over each half of x, each number outside [-5.12, 5.12] counting as 5.12 / x; so they
    lie within +-2.56 dim, but most members' near 0. A member starts at 0.
    """

    function: Literal["sphere", "rastrigin"] = "sphere"
    dim: int = 20

    def __post_init__(self):
        if self.dim < 2 or self.dim % 2:
            raise ValueError(f"`dim` is even, at least 2, for each half has a descriptor; got {self.dim}.")

    @property
    def descriptor_names(self) -> tuple[str, ...]:
        return ("first half", "second half")

    @property
    def descriptor_bounds(self) -> tuple[tuple[float, float], ...]:
        return ((-LIMIT * self.dim / 2, LIMIT * self.dim / 2),) * 2

    def init(self, key):
        return jnp.zeros(self.dim), ()

    def evaluate(self, params, state, key):
        worst = self._cost(np.full(self.dim, -1.4 * LIMIT, np.float32))
        fitness = 100 * (1 - self._cost(params - 0.4 * LIMIT) / worst)
        inside = jnp.abs(params) <= LIMIT
        folded = jnp.where(inside, params, LIMIT / jnp.where(inside, 1.0, params))
        return Evaluation(fitness, folded.reshape(2, -1).sum(1))

    def absorb(self, state, aux):
        return state

    def _cost(self, z):
        if self.function == "sphere":
            return (z**2).sum()
        return (z**2 - 10 * jnp.cos(2 * jnp.pi * z) + 10).sum()
