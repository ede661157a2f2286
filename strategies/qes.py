"""QES: the codes of a quantised model move, one step at a time (arXiv 2602.03120)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from evo.ascent import live, merged, unit
from evo.express import ByPath, Plan
from evo.genome import Genome, around
from evo.leaf import path_of
from evo.noise import Frozen, LowRank, Noise
from evo.schedule import Schedule, at
from evo.shaping import SHAPINGS
from evo.task import Params

CODES, NUDGE = "codes", "nudge"


class QESState(NamedTuple):
    """What the next generation needs; each `nudge` of the centre holds what its codes haven't made up for yet."""

    center: Params
    generation: Int[Array, ""]


@dataclass(frozen=True)
class QES:
    """Quantised weights whose codes move by whole steps, with error feedback (QES, arXiv 2602.03120).

    Members are codes + sigma noise, in steps of the codes: noise acts on the leaf `nudge` beside each `codes`, and at
    rank 1 it is never a matrix. u = decay residual + lr g, where g = sum_i w_i noise_i / (sqrt(n) rms(w)) has entries
    of about 1 by chance alone; a code moves by sign(u) where |u| >= 1/2, and residual = u - that step. A code at the
    end of its range stays, and its residual is 0. Unlike the paper's, noise isn't rounded, and the residual is kept,
    in the nudge's dtype, not replayed, and all of it (the paper's `decay` is 0.9). int8 codes are from -127 to 127; a
    byte of uint8 holds two from 0 to 15.
    """

    population: int = 256
    sigma: float | Schedule = 0.5
    lr: float | Schedule = 0.05
    decay: float = 1.0
    noise: Noise | ByPath | Plan = ByPath(((f"**/{NUDGE}", LowRank()),), Frozen())
    shaping: Literal["centered_ranks", "z_score"] = "z_score"
    one_trial: bool = True  # for all pairs; else one each

    def __post_init__(self):
        if self.population < 2 or self.population % 2:
            raise ValueError(f"QES judges pairs, so `population` is even and at least 2; got {self.population}.")
        if isinstance(self.sigma, float | int) and not self.sigma > 0:
            raise ValueError(f"`sigma` must be above 0; got {self.sigma}.")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"`decay` is the share of a residual that is kept, from 0 to 1; got {self.decay}.")

    def check(self, params):
        """Raise where there are no codes with a nudge, or where noise acts on something else."""
        leaves = named(params)
        if not any(beside(path) in leaves for path in leaves):
            raise ValueError("QES moves codes by the `nudge` beside them; there are none. Quantise with `nudge: true`.")
        wrong = [path for path in live(self.noise, params) if beside(path) not in leaves]
        if wrong:
            raise ValueError(f"QES moves codes alone: let noise act on **/{NUDGE}; it acts on {wrong[0]!r}.")

    def init(self, key, params) -> QESState:
        return QESState(jax.tree.map(jnp.asarray, params), jnp.zeros((), jnp.int32))

    def ask(self, key, state) -> tuple[Genome, Int[Array, "n"]]:
        index = jnp.arange(self.population)
        genome = around(key, self.population, at(self.sigma, state.generation))
        return genome, index * 0 if self.one_trial else index // 2

    def bases(self, state) -> Params:
        still = {path: jnp.zeros_like(x) for path, x in live(self.noise, state.center).items()}
        return merged(self.noise, state.center, still)

    def tell(self, runtime, state, genome, evaluation) -> tuple[QESState, dict[str, Array]]:
        weights = unit(SHAPINGS[self.shaping](evaluation.fitness, 0))
        signs = Genome(genome.key, jnp.sign(genome.scale))
        wide = {path: x.astype(jnp.float32) for path, x in live(self.noise, state.center).items()}
        gradient = live(self.noise, runtime.sum(self.noise, merged(self.noise, state.center, wide), signs, weights))
        leaves, lr, moved, after = named(state.center), at(self.lr, state.generation), [], {}
        for path, old in wide.items():
            u = self.decay * old + lr * gradient[path]
            codes = leaves[beside(path)]
            step = jnp.where(jnp.abs(u) >= 0.5, jnp.sign(u), 0.0).astype(jnp.int32)
            new, taken = stepped(codes, step)
            after[beside(path)] = new
            after[path] = jnp.where(taken == step, u - step.astype(jnp.float32), 0.0).astype(leaves[path].dtype)
            moved.append(taken != 0)
        count = float(sum(x.size for x in moved))
        info = {
            "sigma": at(self.sigma, state.generation),
            "stepped": jnp.stack([x.sum(dtype=jnp.float32) for x in moved]).sum() / count,
            "residual": jnp.sqrt(jnp.stack([(after[p].astype(jnp.float32) ** 2).sum() for p in wide]).sum() / count),
        }
        center = jax.tree_util.tree_map_with_path(lambda path, x: after.get(path_of(path), x), state.center)
        return QESState(center, state.generation + 1), info

    def solution(self, state) -> Params:
        return self.bases(state)


def stepped(
    codes: Int[Array, "*l c o"], step: Int[Array, "*l i o"]
) -> tuple[Int[Array, "*l c o"], Int[Array, "*l i o"]]:
    """Codes after these steps, kept within their range, and the steps that were taken."""
    if codes.dtype == jnp.int8:
        old = codes.astype(jnp.int32)
        new = jnp.clip(old + step, -127, 127)
        return new.astype(jnp.int8), new - old
    old = jnp.stack([codes & 15, codes >> 4], axis=-2).astype(jnp.int32)  # [*l, c, 2, o]
    new = jnp.clip(old + step.reshape(old.shape), 0, 15)
    bytes = new[..., 0, :] | (new[..., 1, :] << 4)
    return bytes.astype(jnp.uint8), (new - old).reshape(step.shape)


def named(params: Params) -> dict[str, Array]:
    """Every leaf by its path."""
    return {path_of(path): x for path, x in jax.tree_util.tree_leaves_with_path(params)}


def beside(path: str) -> str:
    """The path of the codes beside a nudge; of anything else, no path."""
    stem, _, name = path.rpartition("/")
    return f"{stem}/{CODES}" if name == NUDGE else ""
