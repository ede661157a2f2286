"""Novelty search with a genetic algorithm: Deep GA, selected by how new a behaviour is.

Axes: `n` members (the most novel parent, then `population` children), `t` parents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from evo.express import ByPath, Plan
from evo.genome import Genome, expand
from evo.lineage import (
    Lineage,
    begin,
    check_litters,
    children,
    descend,
    fittest,
    mutation_power,
    packed,
    survivors,
    unpacked,
)
from evo.noise import Gaussian, Noise
from evo.novelty import Seen, admit, described, mean_of_valid, novelty, unseen
from evo.random import ADMISSION
from evo.runtime import Runtime
from evo.schedule import Schedule
from evo.task import Evaluation, Params


class State(NamedTuple):
    """The parents, the behaviours to differ from, and the fittest individual so far."""

    lineage: Lineage
    seen: Seen
    best: Params
    fitness: Float[Array, ""]  # of the best, as scored once; -inf before there is one
    generation: Int[Array, ""]


@dataclass(frozen=True)
class NoveltyGA:
    """GA-NS (Such et al. 2017, arXiv:1712.06567, section 3.2): Deep GA that selects for novelty instead of fitness.

    novelty = mean distance of a member's descriptor to the `k` nearest among the archive and the population. The
    `parents` most novel have children, child = parent + sigma * noise, and the most novel of all is kept unchanged as
    member 0. Then each child enters the archive with probability `admission`, whatever it scored; an archive of
    `capacity` that is full forgets its oldest. Fitness selects nobody: the solution is the fittest individual ever
    judged, luck included, a tie keeping the older.

    A member whose fitness or descriptor isn't finite is no parent and isn't admitted. With `litters` every parent has
    as many children as any other, see `DeepGA`. `horizon` is the longest chain kept, so the longest run.
    `descriptors` is how many numbers a descriptor has.
    """

    population: int = 1000
    parents: int = 20
    sigma: float | Schedule = 0.005
    initial: float | None = None
    k: int = 25
    admission: float = 0.01
    capacity: int = 100_000
    descriptors: int = 2
    horizon: int = 2048
    litters: bool = False
    noise: Noise | ByPath | Plan = Gaussian()

    def __post_init__(self):
        if min(self.parents, self.k, self.capacity, self.descriptors, self.horizon) < 1:
            raise ValueError(
                "`parents`, `k`, `capacity`, `descriptors` and `horizon` are at least 1; got "
                f"{self.parents}, {self.k}, {self.capacity}, {self.descriptors} and {self.horizon}."
            )
        if self.population < self.parents:
            raise ValueError(f"`population` ({self.population}) is no smaller than `parents` ({self.parents}).")
        if not 0 <= self.admission <= 1:
            raise ValueError(f"`admission` is a probability, from 0 to 1; got {self.admission}.")
        check_litters(self.litters, self.population, self.parents)

    def init(self, key: Key[Array, ""], params: Params) -> State:
        """Every parent is `params`, with an empty chain; nothing has been seen."""
        params = jax.tree.map(jnp.asarray, params)
        lineage = begin(key, params, self.parents, self.horizon)
        return State(lineage, unseen(self.capacity, self.descriptors), params, jnp.float32(-jnp.inf), jnp.int32(0))

    def ask(self, key: Key[Array, ""], state: State) -> tuple[Genome, Int[Array, "n"]]:
        """The most novel parent, then children, a trial each."""
        power = mutation_power(self.sigma, self.initial, state.generation)
        return children(key, self.parents, self.population + 1, power, self.litters)

    def bases(self, state: State) -> Params:
        """The parents' parameters."""
        return state.lineage.rows

    def tell(
        self, runtime: Runtime, state: State, genome: Genome, evaluation: Evaluation
    ) -> tuple[State, dict[str, Array]]:
        """Select by novelty, then admit. Logs `best_so_far` (fitness), the mean and greatest novelty
        (`novelty_mean`, `novelty_best`) of the valid members, and how many were `admitted` so far."""
        fitness, descriptor = evaluation.fitness, described(evaluation, self.descriptors)
        descriptor = jnp.where(jnp.isfinite(fitness)[:, None], descriptor, jnp.nan)
        new = novelty(state.seen, descriptor, self.k)
        lineage = jax.lax.cond(
            jnp.isfinite(new).any(),
            lambda lineage: descend(self.noise, lineage, genome, survivors(new, jnp.argmax(new), self.parents)),
            lambda lineage: lineage,
            state.lineage,
        )
        seen = admit(state.seen, descriptor, self._admitted(genome))
        best, score = fittest(self.noise, state.lineage.rows, genome, fitness, state.best, state.fitness)
        info = {
            "best_so_far": score,
            "novelty_mean": mean_of_valid(new),
            "novelty_best": new.max(),
            "admitted": seen.admitted,
        }
        return State(lineage, seen, best, score, state.generation + 1), info

    def pack(self, state: State) -> State:
        """What a checkpoint keeps: chains, and no cache of parents."""
        return state._replace(lineage=packed(state.lineage))

    def unpack(self, state: State) -> State:
        """The state of what a checkpoint kept, its cache rebuilt from the chains, bit for bit."""
        return state._replace(lineage=unpacked(self.noise, state.lineage))

    def solution(self, state: State) -> Params:
        """The fittest individual ever judged."""
        return state.best

    def _admitted(self, genome: Genome) -> Bool[Array, "n"]:
        """Who enters the archive: drawn from each child's own key. Member 0, no child, had its chance before."""
        genome = expand(genome)
        keys = jax.vmap(lambda key: jax.random.fold_in(key, ADMISSION))(genome.key[:, 0])
        return (jax.vmap(jax.random.uniform)(keys) < self.admission) & (genome.scale[:, 0] != 0)
