"""EGG's way of training: weights of whole numbers, moved one step at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32

from evo.ascent import live, merged
from evo.express import ByPath, Plan, plan
from evo.genome import Genome, around
from evo.integer import Integer
from evo.leaf import is_whole
from evo.schedule import Hyperbolic, Schedule, at
from evo.task import Params

LIMIT = 127  # of a weight; -128 is not used


class EGGState(NamedTuple):
    """What the next generation needs."""

    center: Params  # int8 masters
    generation: Int[Array, ""]


@dataclass(frozen=True)
class EGG:
    """Integer EGGROLL: int8 weights that move by one step or not at all (arXiv 2511.16652, appendix H).

    Pairs of opposite signs vote: F_k = sign(fitness_2k - fitness_2k+1). Z = sum_k F_k E_k, in whole numbers; a weight
    moves by sign(Z) where |Z| >= z sqrt(pairs that voted) spread(E), clipped at +-127. z = Phi^-1(1 - share / 2): were
    the votes pure chance, a `share` of the weights would move, so it stands in for a learning rate. A schedule of it is
    tabled for `horizon` generations. Every leaf is int8 or isn't trained; nothing in a generation is a float. Fitness
    must be whole numbers. Logged: `moved`, weights that moved; `ties`, pairs that didn't vote.
    """

    population: int = 1024
    share: float | Schedule = Hyperbolic(1.0, 0.015)
    noise: Integer | ByPath | Plan = Integer()
    horizon: int = 100_000

    whole: ClassVar[bool] = True

    def __post_init__(self):
        if self.population < 2 or self.population % 2:
            raise ValueError(f"`population` is made of pairs, so an even number; got {self.population}.")
        if self.horizon < 1:
            raise ValueError(f"`horizon` is the longest run in generations, at least 1; got {self.horizon}.")
        if isinstance(self.share, int | float) and not 0 < self.share <= 1:
            raise ValueError(f"`share` of weights to move is above 0 and at most 1; got {self.share}.")

    def init(self, key, params) -> EGGState:
        moving = live(self.noise, params)
        wrong = [path for path, x in moving.items() if x.dtype != jnp.int8]
        if wrong or not moving:
            what = f"{wrong[0]!r} is {moving[wrong[0]].dtype}" if wrong else "none of these are"
            raise ValueError(
                f"EGG moves int8 weights; {what}. Use `eggroll` for floats, or `frozen` noise for this leaf."
            )
        for leaf in plan(self.noise, params).of(params):
            if isinstance(leaf.noise, Integer) and leaf.noise.largest * self.population // 2 >= 2**31:
                raise ValueError(f"`population`: sums for {leaf.path} could pass 2^31 with {self.population} members.")
        return EGGState(jax.tree.map(jnp.asarray, params), jnp.zeros((), jnp.int32))

    def ask(self, key, state) -> tuple[Genome, Int[Array, "n"]]:
        return around(key, self.population, jnp.int32(1)), jnp.arange(self.population) // 2

    def bases(self, state) -> Params:
        return state.center

    def tell(self, runtime, state, genome, evaluation) -> tuple[EGGState, dict[str, Array]]:
        if not is_whole(evaluation.fitness):
            raise ValueError(f"EGG compares whole numbers; this task's fitness is {evaluation.fitness.dtype}.")
        plus, minus = evaluation.fitness[0::2], evaluation.fitness[1::2]
        vote = (plus > minus).astype(jnp.int32) - (plus < minus).astype(jnp.int32)  # a difference may overflow
        votes = jnp.abs(vote).sum(dtype=jnp.int32)
        weights = jnp.stack([vote, jnp.zeros_like(vote)], 1).reshape(-1)
        total = live(self.noise, runtime.sum(self.noise, state.center, genome, weights))
        least = self._least(state.center, state.generation, votes)
        step = {path: jnp.where(jnp.abs(z) >= least[path], jnp.sign(z), 0) for path, z in total.items()}
        old = live(self.noise, state.center)
        new = {
            path: jnp.clip(old[path].astype(jnp.int32) + x, -LIMIT, LIMIT).astype(jnp.int8) for path, x in step.items()
        }
        moved = sum((new[path] != old[path]).sum(dtype=jnp.int32) for path in new)
        center = merged(self.noise, state.center, new)
        info = {"moved": jnp.asarray(moved), "ties": vote.shape[0] - votes}
        return EGGState(center, state.generation + 1), info

    def solution(self, state) -> Params:
        return state.center

    def _least(self, center, generation, votes) -> dict[str, Int32[Array, ""]]:
        """The smallest |Z| that moves a weight, by leaf: z sqrt(votes) spread, with 6 binary places on the way."""
        z = jnp.asarray(self._quantiles)[jnp.minimum(generation, self.horizon - 1)]
        root = np.round(16 * np.sqrt(np.arange(self.population // 2 + 1))).astype(np.int32)
        deviation = z * jnp.asarray(root)[votes] >> 6
        leaves = plan(self.noise, center).of(center)
        return {x.path: deviation * round(x.noise.spread) >> 6 for x in leaves if isinstance(x.noise, Integer)}

    @cached_property
    def _quantiles(self) -> Int32[np.ndarray, "horizon"]:
        """z of each generation, with 8 binary places."""
        with jax.ensure_compile_time_eval():
            share = np.asarray(at(self.share, jnp.arange(self.horizon)), np.float64)
        share = np.broadcast_to(np.clip(share, 1e-9, 1.0), self.horizon)
        known, index = np.unique(share, return_inverse=True)
        z = np.array([NormalDist().inv_cdf(1 - s / 2) for s in known])
        return np.round(z * 256).astype(np.int32)[index]
