"""ME-ES, and its low-rank version: evolution strategies that climb from cells of the archive, several at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from evo.ascent import ascend, cast, masters
from evo.elites import novelty, occupied, sample
from evo.emitter import either, slopes
from evo.genome import around
from evo.shaping import centered_ranks


class State(NamedTuple):
    """Where each centre stands in its climb."""

    age: Int[Array, "b"]  # steps since it left the archive
    center: Any  # float32 masters of the rows
    ascent: Any  # Adam's state, a row each


@dataclass(frozen=True)
class Climb:
    """`centers` evolution strategies of `batch` perturbations each (Colas et al. 2020, ME-ES; B x P at once).

    A centre starts at an elite drawn uniformly, takes `steps` steps of Adam along
    1 / (batch sigma) * sum_i rank_i noise_i, and starts anew; the starts are spread evenly over time. Ranks are of
    `aim`: the fitness, the improvement over the cell's tenant, or the novelty (mean distance of the descriptor to the
    `nearest` nearest elites). All perturbations are offered to the archive. With `LowRank` noise a perturbation is
    never a whole network (arXiv:2511.16652) where this is the only emitter and nobody is looked at again; beside others
    it is one while it is judged. Perturbations come in pairs of opposite sign that share their luck.
    """

    centers: int = 4
    batch: int = 64
    sigma: float = 0.02
    lr: float = 0.01
    steps: int = 10
    aim: Literal["fitness", "improvement", "novelty"] = "improvement"
    nearest: int = 10

    def __post_init__(self):
        if self.centers < 1 or self.batch < 2 or self.batch % 2 or self.steps < 1 or self.nearest < 1:
            raise ValueError(
                "Climb has at least 1 of `centers`, `steps` and `nearest`, and an even `batch`; got "
                f"{self.centers}, {self.steps}, {self.nearest} and {self.batch}."
            )
        if self.sigma <= 0:
            raise ValueError(f"`sigma` is a positive standard deviation; got {self.sigma}.")

    @property
    def population(self) -> int:
        return self.centers * self.batch

    @property
    def spare(self) -> int:
        return self.centers

    def init(self, key, params):
        rows = jax.tree.map(lambda x: jnp.broadcast_to(x, (self.centers, *jnp.shape(x))), params)
        age = jnp.arange(self.centers) * self.steps // self.centers
        return State(age, masters(rows), self._fresh(rows)), rows

    def ask(self, key, state, archive, own):
        parents = own + jnp.arange(self.centers)  # a centre's perturbations share its matrices
        genome = around(key, self.population, self.sigma)._replace(parents=parents[:, None])
        return genome, jnp.arange(self.population) // 2

    def tell(self, key, state, archive, own, offspring, stage):
        rows = jax.tree.map(lambda x: x[own : own + self.centers], archive.rows)
        weight = jax.vmap(centered_ranks)(self._value(archive, offspring).reshape(self.centers, self.batch))
        found = slopes(stage, rows, offspring.genome, weight / (self.batch * self.sigma**2))
        steps, ascent = jax.vmap(partial(ascend, optax.adam(self.lr)))(_floats(found), state.ascent)
        climbed = jax.tree.map(lambda x, step: x + step.astype(x.dtype), state.center, steps)
        age, there = state.age + 1, occupied(archive).any()
        done, start = age >= self.steps, sample(key, archive, self.centers)
        elites = jax.tree.map(lambda rows, x: rows[start].astype(x.dtype), archive.rows, climbed)
        center = jax.tree.map(partial(either, done & there), elites, climbed)
        ascent = jax.tree.map(partial(either, done), self._fresh(rows), ascent)
        return State(jnp.where(done, 0, age), center, ascent), cast(center, rows)

    def _fresh(self, rows: Any) -> Any:
        """Adam's state of centres that have yet to take a step."""
        return jax.vmap(optax.adam(self.lr).init)(_floats(rows))

    def _value(self, archive, offspring) -> Float[Array, "n"]:
        if self.aim == "fitness":
            return offspring.fitness
        if self.aim == "improvement":
            return offspring.inserted.improvement
        far = novelty(archive, offspring.descriptor, self.nearest, offspring.inserted.status > 0)
        return jnp.where(jnp.isfinite(offspring.fitness), far, -jnp.inf)


def _floats(tree: Any) -> Any:
    """The same numbers in float32."""
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)
