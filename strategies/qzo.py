"""QZO: zeroth-order fine-tuning of what of a quantised model isn't codes (Shang et al. 2025, arXiv 2505.13430)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from evo.ascent import cast, changed, live, masters, merged
from evo.express import ByPath, Plan, matches
from evo.genome import Genome, around
from evo.noise import Frozen, Gaussian, Noise
from evo.schedule import Schedule, at
from evo.task import Params


class QZOState(NamedTuple):
    """What the next generation needs; the weights are all of it that isn't a number."""

    center: Params  # float32 masters of the leaves that move
    like: dict[str, Array]  # empty arrays that remember these leaves' own dtypes
    generation: Int[Array, ""]


@dataclass(frozen=True)
class QZO:
    """Quantised zeroth-order optimisation (arXiv 2505.13430): two-point estimates along noise on the scales alone.

    d = (f(s + epsilon z) - f(s - epsilon z)) / (2 epsilon) is clipped to [-clip, clip]; s <- max(s + lr mean(d z),
    floor). Codes never move; noise comes from keys again, so there is no optimiser state. Published: population 2,
    epsilon 1e-3 absolute, lr 1e-7, clip 100. More pairs average their estimates. `noise` says which leaves move: scales
    (`**/scale`, absolute) or gains (`**/gain`, relative to the scale; quantise with `relative`). Leaves that match
    `positive` stay at or above `floor`. A pair with a member that isn't finite counts for nothing.
    """

    population: int = 2
    epsilon: float | Schedule = 1e-3
    lr: float | Schedule = 1e-7
    clip: float = 100.0
    noise: Noise | ByPath | Plan = ByPath((("**/scale", Gaussian()),), Frozen())
    positive: tuple[str, ...] = ("**/scale", "**/gain")
    floor: float = 0.0
    one_trial: bool = True  # for all pairs; else one each

    def __post_init__(self):
        if self.population < 2 or self.population % 2:
            raise ValueError(f"QZO judges pairs, so `population` is even and at least 2; got {self.population}.")
        if isinstance(self.epsilon, float | int) and not self.epsilon > 0:
            raise ValueError(f"`epsilon` must be above 0; got {self.epsilon}.")
        if not self.clip > 0:
            raise ValueError(f"`clip` must be above 0; got {self.clip}. For no clipping use .inf.")

    def init(self, key, params) -> QZOState:
        params = jax.tree.map(jnp.asarray, params)
        own = live(self.noise, params)
        like = {path: jnp.zeros((0,), x.dtype) for path, x in own.items()}
        return QZOState(merged(self.noise, params, masters(own)), like, jnp.zeros((), jnp.int32))

    def ask(self, key, state) -> tuple[Genome, Int[Array, "n"]]:
        index = jnp.arange(self.population)
        genome = around(key, self.population, at(self.epsilon, state.generation))
        return genome, index * 0 if self.one_trial else index // 2

    def bases(self, state) -> Params:
        return merged(self.noise, state.center, cast(live(self.noise, state.center), state.like))

    def tell(self, runtime, state, genome, evaluation) -> tuple[QZOState, dict[str, Array]]:
        epsilon, lr = at(self.epsilon, state.generation), at(self.lr, state.generation)
        slope = slopes(evaluation.fitness, epsilon)
        clipped = jnp.clip(slope, -self.clip, self.clip)
        weights = jnp.repeat(clipped / (epsilon * self.population), 2) * jnp.tile(jnp.array([1.0, -1.0]), len(slope))
        gradient = live(self.noise, runtime.sum(self.noise, self.bases(state), genome, weights))
        before = live(self.noise, state.center)
        after = {path: self._stepped(path, x, lr * gradient[path]) for path, x in before.items()}
        steps = [after[path] - x for path, x in before.items()]
        info = {
            "epsilon": epsilon,
            "slope": jnp.abs(slope).mean(),
            "clipped": (jnp.abs(slope) > self.clip).mean(dtype=jnp.float32),
            "update_norm": optax.tree.norm(steps),
            "changed": changed(cast(before, state.like), cast(after, state.like)),
        }
        return QZOState(merged(self.noise, state.center, after), state.like, state.generation + 1), info

    def solution(self, state) -> Params:
        return self.bases(state)

    def _stepped(self, path: str, x: Array, step: Array) -> Array:
        moved = x + step.astype(jnp.float32)
        held = any(matches(path, glob) for glob in self.positive)
        return jnp.maximum(moved, self.floor) if held else moved


def slopes(fitness: Float[Array, "n"], epsilon: Float[Array, ""]) -> Float[Array, "n/2"]:
    """Directional derivatives of pairs, 0 where one of the two isn't finite."""
    pairs = fitness.reshape(-1, 2)
    slope = (pairs[:, 0] - pairs[:, 1]) / (2 * epsilon)
    return jnp.where(jnp.isfinite(pairs).all(1), slope, 0.0)
