"""Novelty search with evolution strategies: several centres that climb away from what was seen, or toward reward too.

Axes: `c` centres, `n` perturbed members, `m` everyone who is judged in a generation: the centres, then the members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from evo.ascent import ascend, cast, live, masters, merged, optimizer, unit
from evo.express import ByPath, Plan, express_dense
from evo.genome import Genome, around
from evo.lineage import fittest
from evo.noise import Gaussian, Noise
from evo.novelty import Seen, admit, described, mean_of_valid, novelty, unseen
from evo.random import fold_in
from evo.runtime import Runtime
from evo.schedule import Schedule, at
from evo.shaping import centered_ranks
from evo.task import Evaluation, Params

WEIGHT = {"ns": 1.0, "nsr": 0.5, "nsra": 0.0}  # of novelty, at first


class State(NamedTuple):
    """The meta-population, the behaviours to differ from, and the fittest individual so far."""

    centers: Params  # leaves [c, ...], floats in float32
    optimizer: Any  # leaves [c, ...]: each centre has its own
    seen: Seen
    moved: Int[Array, ""]  # the centre that moved last, whose behaviour is to be admitted; -1: all of them, at first
    weight: Float[Array, ""]  # of novelty's ranks against reward's: 1 is novelty alone
    best: Params
    fitness: Float[Array, ""]  # of the best, as scored once; -inf before there is one
    stale: Int[Array, ""]  # generations since that last rose
    generation: Int[Array, ""]


@dataclass(frozen=True)
class NoveltyES:
    """NS-ES, NSR-ES and NSRA-ES (Conti et al. 2018, arXiv:1712.06560, algorithms 1 to 3).

    Each generation judges the `centers`, admits the behaviour of the one that moved last to the archive, draws a
    centre with probability proportional to its novelty (the mean distance to the `k` nearest of the archive), and
    moves this one by an ES step over `population` perturbed members in antithetic pairs:

        gradient ~ sum_i (w * rank(novelty_i) + (1 - w) * rank(fitness_i)) * sigma_i * noise_i

    with centred ranks, scaled as in `ES`. `mode` sets w: "ns" 1, "nsr" 1/2; "nsra" starts at reward alone (0) and
    adds `step` whenever the best fitness hasn't risen for `patience` generations, takes it off when it rises.
    The centres start as the initial parameters + `spread` * noise, the first one without. The archive holds one
    behaviour a generation; of more than `capacity` it forgets the oldest. The solution is the fittest individual ever
    judged. A member whose fitness or descriptor isn't finite ranks last. A generation judges `centers` + `population`.
    """

    population: int = 256
    centers: int = 5
    mode: Literal["ns", "nsr", "nsra"] = "ns"
    sigma: float | Schedule = 0.05
    lr: float | Schedule = 0.02
    spread: float = 0.1
    k: int = 10
    step: float = 0.05
    patience: int = 50
    capacity: int = 10_000
    descriptors: int = 2
    optimizer: str = "adam"
    optimizer_options: Mapping[str, float] | tuple[tuple[str, float], ...] = ()
    noise: Noise | ByPath | Plan = Gaussian()

    def __post_init__(self):
        object.__setattr__(self, "optimizer_options", tuple(sorted(dict(self.optimizer_options).items())))
        if min(self.centers, self.k, self.capacity, self.descriptors, self.patience) < 1:
            raise ValueError(
                "`centers`, `k`, `capacity`, `descriptors` and `patience` are at least 1; got "
                f"{self.centers}, {self.k}, {self.capacity}, {self.descriptors} and {self.patience}."
            )
        if self.population < 2 or self.population % 2:
            raise ValueError(
                f"NoveltyES pairs members with opposite signs, so `population` must be even; got {self.population}. "
                f"Use {max(self.population + self.population % 2, 2)}."
            )
        self._ascent()

    def init(self, key: Key[Array, ""], params: Params) -> State:
        """Centres around `params`; nothing has been seen."""
        params = jax.tree.map(jnp.asarray, params)
        keys = jax.vmap(partial(fold_in, key))(jnp.arange(self.centers))
        spread = Genome(keys[:, None], jnp.full((self.centers, 1), self.spread).at[0].set(0.0))
        centers = jax.lax.map(lambda g: express_dense(self.noise, masters(params), g), spread)
        ascent = jax.vmap(lambda center: self._ascent().init(live(self.noise, center)))(centers)
        zero = jnp.int32(0)
        seen, weight = unseen(self.capacity, self.descriptors), jnp.float32(WEIGHT[self.mode])
        return State(centers, ascent, seen, zero - 1, weight, params, jnp.float32(-jnp.inf), zero, zero)

    def ask(self, key: Key[Array, ""], state: State) -> tuple[Genome, Int[Array, "c"]]:
        """The centres as they stand."""
        each = jnp.arange(self.centers)
        return Genome(jnp.broadcast_to(key, (self.centers, 1)), jnp.zeros((self.centers, 1)), each[:, None]), each

    def again(
        self, key: Key[Array, ""], state: State, genome: Genome, evaluation: Evaluation
    ) -> tuple[Genome, Int[Array, "n"]]:
        """The chosen centre's perturbed members; a pair shares key and trial and differs in sign."""
        key_choice, key_noise = jax.random.split(key)
        new = self._novelty(self._seen(state, evaluation), evaluation)[: self.centers]
        odds = jnp.where(jnp.isfinite(new), new + 1e-12, 0.0)  # all equal where nothing is new
        center = jax.random.categorical(key_choice, jnp.log(jnp.where(odds.sum() > 0, odds, 1.0)))
        pairs = around(key_noise, self.population, at(self.sigma, state.generation))
        trial = self.centers + jnp.arange(self.population) // 2
        return pairs._replace(parents=center.astype(jnp.int32)[None, None]), trial

    def bases(self, state: State) -> Params:
        """The centres, in the model's own dtypes."""
        return cast(state.centers, state.best)

    def tell(
        self, runtime: Runtime, state: State, genome: Genome, evaluation: Evaluation
    ) -> tuple[State, dict[str, Array]]:
        """Move the chosen centre. Logs which one that was (`center`), the mean novelty of its members
        (`novelty_mean`), novelty's `weight`, `best_so_far` (fitness) and the size of the step (`update_norm`)."""
        assert genome.parents is not None
        c, center = self.centers, genome.parents[self.centers, 0]
        seen = self._seen(state, evaluation)
        new = self._novelty(seen, evaluation)[c:]
        ranks = state.weight * centered_ranks(new) + (1 - state.weight) * centered_ranks(evaluation.fitness[c:])
        pairs = Genome(genome.key[c::2], genome.scale[c:])
        here = jax.tree.map(lambda x: x[center], (state.centers, state.optimizer))
        (moved, ascent), norm = self._step(runtime, here, pairs, unit(ranks))
        put = lambda rows, row: rows.at[center].set(row)  # noqa: E731
        best, score = fittest(self.noise, self.bases(state), genome, evaluation.fitness, state.best, state.fitness)
        weight, stale = self._adapted(state, score)
        info = {
            "center": center,
            "novelty_mean": mean_of_valid(new),
            "weight": state.weight,
            "best_so_far": score,
            "update_norm": norm,
        }
        centers, ascents = (jax.tree.map(put, a, b) for a, b in ((state.centers, moved), (state.optimizer, ascent)))
        return State(centers, ascents, seen, center, weight, best, score, stale, state.generation + 1), info

    def solution(self, state: State) -> Params:
        """The fittest individual ever judged."""
        return state.best

    def _seen(self, state: State, evaluation: Evaluation) -> Seen:
        """The archive with the centre that moved last, as it was judged now; at first with every centre."""
        each = jnp.arange(self.centers)
        wanted = (each == state.moved) | (state.moved < 0)
        wanted &= jnp.isfinite(evaluation.fitness[: self.centers])
        return admit(state.seen, described(evaluation, self.descriptors)[: self.centers], wanted)

    def _novelty(self, seen: Seen, evaluation: Evaluation) -> Float[Array, "m"]:
        """Against the archive alone; -inf where the fitness or the descriptor isn't finite."""
        new = novelty(seen, described(evaluation, self.descriptors), self.k, peers=False)
        return jnp.where(jnp.isfinite(evaluation.fitness), new, -jnp.inf)

    def _step(self, runtime: Runtime, here, pairs: Genome, weights: Float[Array, "n"]):
        """One centre and its optimiser, a step up the weighted noise; and the step's size."""
        center, ascent = here
        gradient = live(self.noise, runtime.sum(self.noise, center, pairs, weights))
        own = live(self.noise, center)
        updates, ascent = ascend(self._ascent(), gradient, ascent, own)
        return (merged(self.noise, center, optax.apply_updates(own, updates)), ascent), optax.tree.norm(updates)

    def _adapted(self, state: State, score: Float[Array, ""]):
        """NSRA's weight of novelty, and how long the best fitness hasn't risen (algorithm 3)."""
        stale = jnp.where(score > state.fitness, 0, state.stale + 1)
        if self.mode != "nsra":
            return state.weight, stale
        more = jnp.where(stale >= self.patience, self.step, jnp.where(stale == 0, -self.step, 0.0))
        return jnp.clip(state.weight + more, 0.0, 1.0), jnp.where(stale >= self.patience, 0, stale)

    def _ascent(self) -> optax.GradientTransformation:
        return optimizer(self.optimizer, self.lr, self.optimizer_options)
