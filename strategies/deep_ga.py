"""Deep GA: truncation selection and mutation, on individuals that are chains of noise keys.

Axes: `n` members (the elite, then `population` children), `t` parents, `h` links of a chain, `e` episodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from evo.express import ByPath, Plan
from evo.genome import Genome, expand
from evo.lineage import (
    Lineage,
    begin,
    check_litters,
    children,
    descend,
    mutation_power,
    packed,
    sure,
    survivors,
    unpacked,
)
from evo.noise import Gaussian, Noise
from evo.runtime import Runtime
from evo.schedule import Schedule
from evo.task import Evaluation, Params


class State(NamedTuple):
    """The parents, and how many generations they took. Parent 0 is the elite."""

    lineage: Lineage
    generation: Int[Array, ""]


@dataclass(frozen=True)
class DeepGA:
    """Deep GA (Such et al. 2017, arXiv:1712.06567), as in its authors' GPU release.

    child = parent + sigma * noise(key), its parent drawn uniformly from the `parents` fittest; no crossover. A
    generation judges `population` children and, as member 0, the elite unchanged: `population` + 1 members, as the
    paper counts. Then the elite and the fittest `elite_candidates` - 1 of the others (in the first generation: the
    fittest `elite_candidates`) are judged on the same `elite_episodes` further trials each, and the best mean is the
    new elite. The next parents are the elite and the fittest others. Ties go to the lower index, or between candidates
    to the one that was fitter before.

    The first generation mutates the initial parameters with power `initial` (None: `sigma`), where the paper draws
    networks afresh. `sigma` may be a schedule: each link keeps its own power. A member with a fitness that isn't
    finite, in any trial, is neither elite nor parent; if that is all of them, the state stays as it was. With fewer
    valid members than `parents`, those take turns. `horizon` is the longest chain kept, so the longest run.

    With `litters`, every parent has as many children as any other, instead of as many as it is drawn for: they share
    its matrices, so with low-rank noise a generation costs about `parents` batched forwards. `population` + 1 is
    then a multiple of `parents`, and the elite itself is the first child of parent 0.
    """

    population: int = 1000
    parents: int = 20
    sigma: float | Schedule = 0.002
    initial: float | None = None
    elite_candidates: int = 10
    elite_episodes: int = 30
    horizon: int = 2048
    litters: bool = False
    noise: Noise | ByPath | Plan = Gaussian()

    def __post_init__(self):
        if min(self.parents, self.elite_episodes, self.horizon) < 1:
            raise ValueError(
                "`parents`, `elite_episodes` and `horizon` are at least 1; got "
                f"{self.parents}, {self.elite_episodes} and {self.horizon}."
            )
        if self.elite_candidates < 2:
            raise ValueError(
                "`elite_candidates` is at least 2, because the elite before is always one of them; "
                f"got {self.elite_candidates}."
            )
        for name in ("parents", "elite_candidates"):
            if self.population < getattr(self, name):
                raise ValueError(
                    f"Deep GA chooses its {name} ({getattr(self, name)}) from the population, which is smaller: "
                    f"{self.population}. Use {name}={max(self.population, 1)}, or a larger `population`."
                )
        check_litters(self.litters, self.population, self.parents)

    def init(self, key: Key[Array, ""], params: Params) -> State:
        """Every parent is `params`, with an empty chain."""
        return State(begin(key, params, self.parents, self.horizon), jnp.int32(0))

    def ask(self, key: Key[Array, ""], state: State) -> tuple[Genome, Int[Array, "n"]]:
        """The elite, then children, a trial each."""
        power = mutation_power(self.sigma, self.initial, state.generation)
        return children(key, self.parents, self.population + 1, power, self.litters)

    def again(
        self, key: Key[Array, ""], state: State, genome: Genome, evaluation: Evaluation
    ) -> tuple[Genome, Int[Array, "m"]]:
        """The candidates, `elite_episodes` rows each, on trials that all candidates share and no one else has."""
        chosen, episodes = self._candidates(state, evaluation.fitness), self.elite_episodes
        genome = expand(genome)
        assert genome.parents is not None
        scale = jnp.repeat(genome.scale[chosen], episodes, axis=0)
        second = Genome(genome.key[chosen], scale, genome.parents[chosen])
        return second, self.population + 1 + jnp.tile(jnp.arange(episodes), len(chosen))

    def bases(self, state: State) -> Params:
        """The parents' parameters."""
        return state.lineage.rows

    def tell(
        self, runtime: Runtime, state: State, genome: Genome, evaluation: Evaluation
    ) -> tuple[State, dict[str, Array]]:
        """Elect the elite and the parents. Logs the mean of the new elite's further trials (`elite`), how many
        mutations it is from the initial parameters (`chain`), and how many of the parents' parents are distinct."""
        n = self.population + 1
        fitness, further = evaluation.fitness[:n], evaluation.fitness[n:].reshape(-1, self.elite_episodes)
        candidates = self._candidates(state, fitness)
        fitness = fitness.at[candidates].set(
            jnp.where(jnp.isfinite(further).all(1), fitness[candidates], -jnp.inf)  # not valid in any trial
        )
        elite, score = self._elect(fitness, candidates, further.mean(1))
        chosen = survivors(fitness, elite, self.parents)
        lineage = jax.lax.cond(
            jnp.isfinite(fitness).any(),
            lambda lineage: descend(self.noise, lineage, genome, chosen),
            lambda lineage: lineage,
            state.lineage,
        )
        generation = state.generation + jnp.isfinite(fitness).any().astype(jnp.int32)
        parent = expand(genome).parents
        assert parent is not None
        unique = jnp.zeros(self.parents, jnp.int32).at[parent[chosen, 0]].set(1).sum()
        info = {"elite": score, "chain": lineage.chains.length[0], "unique_parents": unique}
        return State(lineage, generation), info

    def pack(self, state: State) -> State:
        """What a checkpoint keeps: chains, and no cache."""
        return state._replace(lineage=packed(state.lineage))

    def unpack(self, state: State) -> State:
        """The state of what a checkpoint kept, its cache rebuilt from the chains, bit for bit."""
        return state._replace(lineage=unpacked(self.noise, state.lineage))

    def solution(self, state: State) -> Params:
        """The elite."""
        return jax.tree.map(lambda rows: rows[0], state.lineage.rows)

    def _candidates(self, state: State, fitness: Float[Array, "m"]) -> Int[Array, "candidates"]:
        """Who may become the elite: from the second generation on, the elite of the one before is always first."""
        fitness = sure(fitness[: self.population + 1])
        fitness = fitness.at[0].set(jnp.where(state.generation > 0, jnp.inf, fitness[0]))
        return jnp.argsort(-fitness, stable=True)[: self.elite_candidates]

    def _elect(self, fitness, candidates, score):
        """The candidate with the best score, and the score; the fittest member if no candidate is valid."""
        score = jnp.where(jnp.isfinite(fitness[candidates]), sure(score), -jnp.inf)
        first = jnp.argmax(score)
        none = jnp.isneginf(score[first])
        return jnp.where(none, jnp.argmax(sure(fitness)), candidates[first]), score[first]
