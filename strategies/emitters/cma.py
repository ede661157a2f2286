"""CMA-ME and CMA-MAE: several CMA-ES side by side, each climbing what its offspring do for the archive."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from evo.archive import Inserted
from evo.ascent import floating
from evo.elites import occupied, sample
from evo.emitter import either
from evo.express import plan
from evo.genome import as_they_stand
from evo.noise import Frozen
from evo.random import draw, split

LEAST = 1e-11  # a distribution whose largest deviation is below this has ended
FLAT = 1e-12  # so has one whose offspring differ by less than this in what they are ranked by


class Search(NamedTuple):
    """One CMA-ES (`e` of them, stacked). `b` offspring, `D` parameters."""

    mean: Float[Array, "e D"]
    sigma: Float[Array, "e"]
    covariance: Float[Array, "e D D"]
    path_sigma: Float[Array, "e D"]
    path_covariance: Float[Array, "e D"]
    draws: Float[Array, "e b D"]  # the standard normal draws that the current offspring come from
    steps: Float[Array, "e D D"]  # the Cholesky factor of the covariance that they come from
    age: Int[Array, "e"]  # generations since the last restart
    restarts: Int[Array, "e"]


@dataclass(frozen=True)
class CMA:
    """CMA-ES emitters (Fontaine et al. 2020, CMA-ME; Fontaine & Nikolaidis 2023, CMA-MAE), all in one batch.

    `searches` distributions of `batch` offspring each. `ranking`: "two_stage" puts those that filled a cell before
    those that improved one, and each by improvement; "improvement" goes by that alone, which with an archive that
    anneals (`learning_rate`) is CMA-MAE; "fitness" is plain CMA-ES. `parents`: "filter" takes the offspring that
    changed the archive, "mu" the better half. `restart`: "no_improvement" begins anew at a random elite when no
    offspring changed the archive; "basic" only when the distribution has degenerated, as both do.

    The updates are those of Hansen's tutorial (arXiv:1604.00772), with C = A A^T by Cholesky, and the path of sigma
    in the coordinates of A (Krause et al. 2016). The cost of a generation is searches * D^3 / 3.
    """

    searches: int = 15
    batch: int = 36
    sigma: float = 0.5
    ranking: Literal["two_stage", "improvement", "fitness"] = "two_stage"
    parents: Literal["filter", "mu"] = "filter"
    restart: Literal["no_improvement", "basic"] = "no_improvement"

    def __post_init__(self):
        if self.searches < 1 or self.batch < 2 or self.sigma <= 0:
            raise ValueError(
                f"CMA has at least 1 of `searches`, a `batch` of at least 2 and a positive `sigma`; got "
                f"{self.searches}, {self.batch} and {self.sigma}."
            )

    @property
    def population(self) -> int:
        return self.searches * self.batch

    @property
    def spare(self) -> int:
        return self.population

    def check(self, params, noise):
        """Raise where a leaf isn't to be searched: a CMA-ES moves all the numbers that it is given."""
        for leaf, x in zip(plan(noise, params).of(params), jax.tree.leaves(params), strict=True):
            if isinstance(leaf.noise, Frozen) or not floating(x):
                what = "is frozen" if isinstance(leaf.noise, Frozen) else f"holds {jnp.result_type(x)}"
                raise ValueError(
                    f"CMA searches all parameters, as floats; {leaf.path!r} {what}. Leave it out of the parameters, "
                    "or use another emitter such as `iso_line`."
                )

    def init(self, key, params):
        flat, shape = ravel_pytree(params)
        e, n = self.searches, flat.size
        fresh = _fresh(jnp.broadcast_to(flat.astype(jnp.float32), (e, n)), self.sigma, self.batch)
        return self._drawn(key, fresh, shape)

    def ask(self, key, state, archive, own):
        index = jnp.arange(self.population)
        return as_they_stand(own + index), index

    def tell(self, key, state, archive, own, offspring, stage):
        key_draws, key_restart = split(key, 2)
        apart = lambda x: x.reshape(self.searches, self.batch, *x.shape[1:])  # noqa: E731
        inserted, fitness = jax.tree.map(apart, offspring.inserted), apart(offspring.fitness)
        state, ended = jax.vmap(self._learned)(state, inserted, fitness)
        row = jax.tree.map(lambda rows: rows[0], archive.rows)
        _, shape = ravel_pytree(row)
        elites = jax.tree.map(lambda rows: rows[sample(key_restart, archive, self.searches)], archive.rows)
        elites = jax.vmap(lambda row: ravel_pytree(row)[0])(elites).astype(jnp.float32)
        there = occupied(archive).any()
        fresh = _fresh(jnp.where(there, elites, state.mean), self.sigma, self.batch)
        fresh = fresh._replace(restarts=state.restarts + 1)
        chosen = jax.tree.map(partial(either, ended), fresh, state)
        return self._drawn(key_draws, chosen, shape)

    def _learned(self, search: Search, inserted: Inserted, fitness: Float[Array, "b"]) -> tuple[Search, Array]:
        """One search after its offspring were told, and whether it has ended."""
        changed = (inserted.status > 0).sum(dtype=jnp.int32)
        value = (
            jnp.where(jnp.isfinite(fitness), fitness, -jnp.inf) if self.ranking == "fitness" else inserted.improvement
        )
        stage = inserted.status if self.ranking == "two_stage" else jnp.zeros_like(inserted.status)
        order = jnp.lexsort((-value, -stage))
        valid = jnp.isfinite(value).sum(dtype=jnp.int32)
        half = jnp.minimum(self.batch // 2, valid)
        count = changed if self.parents == "filter" else half
        learned = _updated(search, order, count)
        finite = jnp.where(jnp.isfinite(value), value, jnp.inf)
        flat = (value.max() - finite.min() < FLAT) & (stage.max() == stage.min())
        spread = jnp.sqrt(jnp.diagonal(learned.covariance).max()) * learned.sigma
        broken = ~jnp.isfinite(learned.steps).all() | ~jnp.isfinite(spread) | (spread < LEAST) | (spread > 1 / LEAST)
        ended = broken | flat | (count == 0)
        return learned, ended | (changed == 0) if self.restart == "no_improvement" else ended

    def _drawn(self, key, search: Search, shape) -> tuple[Search, Any]:
        """The next offspring of every search: mean + sigma A z."""
        draws = draw(key, search.draws.shape, "normal")
        off = jnp.einsum("eij,ebj->ebi", search.steps, draws)
        rows = search.mean[:, None] + search.sigma[:, None, None] * off
        return search._replace(draws=draws), jax.vmap(shape)(rows.reshape(self.population, -1))


def _updated(search: Search, order: Int[Array, "b"], count: Int[Array, ""]) -> Search:
    """CMA-ES's update from the first `count` of the offspring in this order; nothing moves where count is 0."""
    n, rank = search.draws.shape[1], jnp.arange(search.draws.shape[0])
    parents = jnp.maximum(count, 1).astype(jnp.float32)
    weight = jnp.where(rank < count, jnp.log(parents + 0.5) - jnp.log(1.0 + rank.astype(jnp.float32)), 0.0)
    weight = jnp.where(count > 0, weight / jnp.maximum(weight.sum(), 1e-12), 0.0)
    mueff = 1 / jnp.maximum((weight**2).sum(), 1e-12)
    mueff = jnp.where(count > 0, mueff, 1.0)
    cc = (4 + mueff / n) / (n + 4 + 2 * mueff / n)
    cs = (mueff + 2) / (n + mueff + 5)
    c1 = 2 / ((n + 1.3) ** 2 + mueff)
    cmu = jnp.minimum(1 - c1, 2 * (mueff - 2 + 1 / mueff) / ((n + 2) ** 2 + mueff))
    damps = 1 + 2 * jnp.maximum(0.0, jnp.sqrt((mueff - 1) / (n + 1)) - 1) + cs
    draws = search.draws[order]
    off = draws @ search.steps.T  # (x - mean) / sigma
    step, white = weight @ off, weight @ draws
    age = search.age + 1
    ps = (1 - cs) * search.path_sigma + jnp.sqrt(cs * (2 - cs) * mueff) * white
    length = (ps**2).sum() / n
    early = 1 - (1 - cs) ** (2 * age.astype(jnp.float32))
    steady = (length / early < 2 + 4 / (n + 1)).astype(jnp.float32)
    pc = (1 - cc) * search.path_covariance + steady * jnp.sqrt(cc * (2 - cc) * mueff) * step
    kept = 1 - c1 * (1 - (1 - steady) * cc * (2 - cc)) - cmu
    covariance = kept * search.covariance + c1 * jnp.outer(pc, pc) + cmu * (off.T * weight[None]) @ off
    return search._replace(
        mean=search.mean + search.sigma * step,
        sigma=search.sigma * jnp.exp(jnp.minimum(1.0, cs / damps * (length - 1) / 2)),
        covariance=covariance,
        path_sigma=ps,
        path_covariance=pc,
        steps=jnp.linalg.cholesky(covariance),
        age=age,
    )


def _fresh(mean: Float[Array, "e D"], sigma: float, batch: int) -> Search:
    e, n = mean.shape
    identity = jnp.broadcast_to(jnp.eye(n), (e, n, n))
    zeros, none = jnp.zeros((e, n)), jnp.zeros(e, jnp.int32)
    return Search(
        mean, jnp.full(e, sigma, jnp.float32), identity, zeros, zeros, jnp.zeros((e, batch, n)), identity, none, none
    )
