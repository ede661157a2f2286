"""ME-ES, and its low-rank version: evolution strategies that climb from cells of the archive, several at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from evo.ascent import cast, masters
from evo.elites import novelty, sample
from evo.emitter import Stage
from evo.genome import Genome, around, part
from evo.shaping import centered_ranks


class State(NamedTuple):
    """Where each centre stands in its climb."""

    age: Int[Array, "b"]  # steps since it left the archive
    center: Any  # float32 masters of the rows
    mean: Any  # Adam's two moments of the slope, shaped like the centres
    square: Any


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
        zeros = jax.tree.map(lambda x: jnp.zeros_like(x, jnp.float32), rows)
        return State(age, masters(rows), zeros, zeros), rows

    def ask(self, key, state, archive, own):
        parents = own + jnp.arange(self.centers)  # a centre's perturbations share its matrices
        genome = around(key, self.population, self.sigma)._replace(parents=parents[:, None])
        return genome, jnp.arange(self.population) // 2

    def tell(self, key, state, archive, own, offspring, stage):
        rows = jax.tree.map(lambda x: x[own : own + self.centers], archive.rows)
        weight = jax.vmap(centered_ranks)(self._value(archive, offspring).reshape(self.centers, self.batch))
        found = slopes(stage, rows, offspring.genome, weight / (self.batch * self.sigma**2))
        age = state.age + 1
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state.mean, found)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, state.square, found)
        step = partial(self._step, age.astype(jnp.float32))
        center = jax.tree.map(lambda x, m, v: x + step(m, v).astype(x.dtype), state.center, mean, square)
        done = age >= self.steps
        start = sample(key, archive, self.centers)
        leaves = done & ~jnp.isneginf(archive.fitness).all()
        begun = jax.tree.map(lambda x, row: x[start].astype(row.dtype), archive.rows, center)
        center = jax.tree.map(lambda x, row: jnp.where(_over(leaves, row), x, row), begun, center)
        blank = lambda x: jnp.where(_over(done, x), 0.0, x)  # noqa: E731
        moments = (jax.tree.map(blank, x) for x in (mean, square))
        return State(jnp.where(done, 0, age), center, *moments), cast(center, rows)

    def _step(self, age: Float[Array, "b"], mean: Array, square: Array) -> Array:
        """Adam's step (Kingma & Ba 2015, Alg. 1) after `age` slopes."""
        mean, square = mean / _over(1 - 0.9**age, mean), square / _over(1 - 0.999**age, square)
        return self.lr * mean / (jnp.sqrt(square) + 1e-8)

    def _value(self, archive, offspring) -> Float[Array, "n"]:
        if self.aim == "fitness":
            return offspring.fitness
        if self.aim == "improvement":
            return offspring.inserted.improvement
        far = novelty(archive, offspring.descriptor, self.nearest, offspring.inserted.status > 0)
        return jnp.where(jnp.isfinite(offspring.fitness), far, -jnp.inf)


def slopes(stage: Stage, rows: Any, genome: Genome, weight: Float[Array, "b p"]) -> Any:
    """sum_i weight_bi scale_bi noise_bi, for each of the rows [b, ...]; members are b after b, in antithetic pairs."""
    pairs, batch = genome._replace(key=genome.key[::2], parents=None, mix=None), weight.shape[1]
    found = []
    for b in range(weight.shape[0]):
        like, own = jax.tree.map(lambda x: x[b], rows), part(pairs, b * batch, (b + 1) * batch)  # noqa: B023
        found.append(stage.runtime.sum(stage.noise, like, own, weight[b]))
    return jax.tree.map(lambda *x: jnp.stack(x), *found)


def _over(flag: Array, x: Array) -> Array:
    return flag.reshape((-1,) + (1,) * (x.ndim - 1))
