"""Random search: the baseline that every other strategy has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from evo.express import ByPath, Plan
from evo.genome import Genome
from evo.lineage import fittest
from evo.noise import Gaussian, Noise
from evo.runtime import Runtime
from evo.task import Evaluation, Params


class State(NamedTuple):
    """Where draws are made around, and the best of them so far."""

    center: Params
    best: Params
    fitness: Float[Array, ""]  # of the best, as scored once; -inf before there is one


@dataclass(frozen=True)
class RandomSearch:
    """Independent draws around the initial parameters, the best of which is kept: the baseline.

    member = initial + sigma * noise. The best is whoever scored highest once, luck included; a tie keeps the older.
    """

    population: int = 256
    sigma: float = 0.1
    noise: Noise | ByPath | Plan = Gaussian()

    def __post_init__(self):
        if self.population < 1:
            raise ValueError(f"Random search needs a `population` of at least 1; got {self.population}.")

    def init(self, key: Key[Array, ""], params: Params) -> State:
        """Nothing found yet: the solution is `params` itself."""
        params = jax.tree.map(jnp.asarray, params)
        return State(params, params, jnp.float32(-jnp.inf))

    def ask(self, key: Key[Array, ""], state: State) -> tuple[Genome, Int[Array, "n"]]:
        """New draws, a trial each."""
        keys = jax.random.split(key, self.population)[:, None]
        return Genome(keys, jnp.full(keys.shape, self.sigma, jnp.float32)), jnp.arange(self.population)

    def bases(self, state: State) -> Params:
        """The initial parameters."""
        return state.center

    def tell(
        self, runtime: Runtime, state: State, genome: Genome, evaluation: Evaluation
    ) -> tuple[State, dict[str, Any]]:
        """Keep the best of this generation if it beats the best so far. Logs `best_so_far`."""
        best, score = fittest(self.noise, state.center, genome, evaluation.fitness, state.best, state.fitness)
        return state._replace(best=best, fitness=score), {"best_so_far": score}

    def solution(self, state: State) -> Params:
        """The best so far."""
        return state.best
