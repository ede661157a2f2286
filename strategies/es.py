"""Evolution strategies around one centre: ES, and the two names it is published under."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from evo.ascent import (
    PLAIN,
    ascend,
    cast,
    changed,
    cosine,
    floating,
    joined,
    live,
    masters,
    merged,
    norm,
    optimizer,
    parted,
    total,
    unit,
)
from evo.express import ByPath, Plan
from evo.genome import Genome, around
from evo.leaf import path_of
from evo.noise import Gaussian, LowRank, Noise
from evo.registry import nearest
from evo.schedule import Schedule, at
from evo.shaping import SHAPINGS
from evo.task import Params


class ESState(NamedTuple):
    """What the next generation needs."""

    center: Params  # float32 masters, whatever the parameters' own dtype
    like: Params  # empty arrays that remember each leaf's dtype
    optimizer: Any
    generation: Int[Array, ""]


@dataclass(frozen=True)
class ES:
    """Evolution strategy around one centre (Salimans et al. 2017, arXiv:1703.03864).

    gradient = 1 / (sqrt(n) rms(w)) sum_i w_i sigma_i noise_i, with w the shaped fitness: its entries have an RMS of
    about sigma whatever the population, rank or shaping, so with plain `sgd` a step is about lr * sigma
    (arXiv 2511.16652). Adam and its kin divide by the gradient's size: there a step is about lr. Noise is fresh every
    generation. With `pairs`, members 2i and 2i+1 share a key and differ in sign; with `share_luck` also their trial.
    """

    population: int = 256
    sigma: float | Schedule = 0.05
    lr: float | Schedule = 0.02
    noise: Noise | ByPath | Plan = LowRank()
    optimizer: str = "adam"
    optimizer_options: Mapping[str, float] | tuple[tuple[str, float], ...] = ()
    weight_decay: float = 0.0  # share of the centre taken away a generation, times lr
    shaping: Literal["centered_ranks", "z_score", "group_mean", "group_z_score"] = "centered_ranks"
    group: int = 0  # members that are shaped together, for the group shapings
    pairs: bool = True
    share_luck: bool = True
    compute: Literal["float32", "bfloat16", "float16"] | None = None  # the members' weights and factors; None: as given

    def __post_init__(self):
        object.__setattr__(self, "optimizer_options", tuple(sorted(dict(self.optimizer_options).items())))
        self._check()

    def _check(self):
        if self.population < 2:
            raise ValueError(f"`population` must be at least 2; got {self.population}.")
        if self.pairs and self.population % 2:
            raise ValueError(
                f"ES pairs members with opposite signs, so `population` must be even; got {self.population}. "
                f"Use {self.population + 1}, or `pairs: false`."
            )
        if isinstance(self.sigma, float | int) and not self.sigma > 0:
            raise ValueError(f"`sigma` must be above 0; got {self.sigma}.")
        if self.shaping not in SHAPINGS:
            raise ValueError(f"unknown shaping {self.shaping!r}; {nearest(self.shaping, SHAPINGS)}")
        if isinstance(self.noise, str):
            raise ValueError(f"`noise` is an object such as LowRank() or Gaussian(); got {self.noise!r}.")
        if self.group and not self.shaping.startswith("group"):
            raise ValueError(f"`group` is for the group shapings; with `shaping: {self.shaping}` leave it out.")
        if self.shaping.startswith("group") and (self.group < 2 or self.population % self.group):
            raise ValueError(
                f"`shaping: {self.shaping}` needs a `group` of at least 2 members that divides the population "
                f"of {self.population}; got {self.group}."
            )
        if self.group % 2 and self.pairs:
            raise ValueError(f"`group` holds whole pairs, so it is even; got {self.group}. Or use `pairs: false`.")
        self._optimizer()

    def check(self, params):
        """Warn where `sigma` is so small that half precision rounds away what members differ by.

        Measured (benchmarks/half.py): at 2^-8 of a matrix's RMS, bfloat16 keeps a correlation of 0.97 with float32 in
        what pairs differ by; at 2^-10 0.8, at 2^-12 0.4. Float16 has three bits more.
        """
        if isinstance(self.sigma, float | int):
            for path, size in sizes(params, self.compute).items():
                if 0 < self.sigma < size:
                    warnings.warn(
                        f"`sigma` {self.sigma:g} is so small beside the weights of {path!r} that half precision rounds "
                        f"away what members differ by; use at least {size:.2g}, or `compute: float32`.",
                        stacklevel=2,
                    )
                    return

    def init(self, key, params) -> ESState:
        like = jax.tree.map(lambda x: jnp.zeros((0,), jnp.result_type(x)), params)
        center = masters(params)
        return ESState(center, like, self._optimizer().init(self._flat(center)), jnp.zeros((), jnp.int32))

    def ask(self, key, state) -> tuple[Genome, Int[Array, "n"]]:
        sigma = at(self.sigma, state.generation)
        return around(key, self.population, sigma, self.pairs), self._trial(jnp.arange(self.population))

    def bases(self, state) -> Params:
        def own(x, like):
            return x.astype(self.compute if self.compute and floating(like) else like.dtype)

        return jax.tree.map(own, state.center, state.like)

    def tell(self, runtime, state, genome, evaluation) -> tuple[ESState, dict[str, Array]]:
        weights = unit(SHAPINGS[self.shaping](evaluation.fitness, self.group))
        halves = self._gradients(runtime, state, genome, weights)
        center = self._flat(state.center)
        gradient = jax.tree.map(jnp.add, *map(self._joined, halves))
        updates, optimizer = ascend(self._optimizer(), gradient, state.optimizer, center)
        if self.weight_decay:
            decay = at(self.lr, state.generation) * self.weight_decay
            updates = jax.tree.map(lambda u, x: u - decay * x, updates, center)
        moved = optax.apply_updates(center, updates)
        after = ESState(self._whole(state, moved), state.like, optimizer, state.generation + 1)
        # told back from the step: to read the old centre while the new one takes its place, XLA copies it
        before = after._replace(center=self._whole(state, jax.tree.map(jnp.subtract, moved, updates)))
        info = {
            "sigma": at(self.sigma, state.generation),
            "update_norm": norm(updates),
            "center_norm": norm(moved),
            "half_cosine": cosine(*halves),
            "changed": changed(self._live(self.bases(before)), self._live(self.bases(after))),
            "ties": ties(evaluation.fitness),
        }
        info["update_ratio"] = info["update_norm"] / jnp.maximum(info["center_norm"], 1e-30)
        return after, info

    def solution(self, state) -> Params:
        return cast(state.center, state.like)

    def _trial(self, index):
        if self.group:
            return index // self.group
        return index // 2 if self.pairs and self.share_luck else index

    def _gradients(self, runtime, state, genome, weights) -> list[dict[str, Array]]:
        """sum_i w_i noise_i over each half of the population, of the leaves that noise acts on, in one program."""
        rows = genome.key.shape[0]
        half, shared = -(-rows // 2), len(weights) // rows
        index = jnp.minimum(jnp.arange(2 * half), rows - 1)  # an odd row out is a half's last, at weight 0
        weights = jnp.pad(weights, (0, 2 * half * shared - len(weights))).reshape(2, -1)
        scale = genome.scale.reshape(rows, shared, -1)[index].reshape(2, half * shared, -1)

        def total(key, scale, weights):
            return runtime.sum(self.noise, self.bases(state), Genome(key, scale), weights)

        both = self._live(jax.vmap(total)(genome.key[index].reshape(2, half, -1), scale, weights))
        return [{path: x[i] for path, x in both.items()} for i in (0, 1)]

    def _optimizer(self) -> optax.GradientTransformation:
        assert not isinstance(self.optimizer_options, Mapping)  # see `__post_init__`
        return optimizer(self.optimizer, self.lr, self.optimizer_options)

    def _live(self, tree: Params) -> dict[str, Array]:
        return live(self.noise, tree)

    def _joined(self, own: dict[str, Array]) -> dict[str, Array]:
        return joined(own) if self.optimizer in PLAIN else own

    def _flat(self, tree: Params) -> dict[str, Array]:
        return self._joined(self._live(tree))

    def _whole(self, state: ESState, flat: dict[str, Array]) -> Params:
        """The inverse of `_flat`: a centre with these numbers in it."""
        own = parted(flat, self._live(state.center)) if self.optimizer in PLAIN else flat
        return merged(self.noise, state.center, own)


@dataclass(frozen=True)
class EGGROLL(ES):
    """ES with low-rank noise: a population at about the price of batched inference (arXiv 2511.16652)."""


@dataclass(frozen=True)
class OpenAIES(ES):
    """ES with Gaussian noise in every weight (Salimans et al. 2017, arXiv:1703.03864)."""

    noise: Noise | ByPath | Plan = Gaussian()


def ties(fitness: Float[Array, "n"]) -> Float[Array, ""]:
    """Share of members whose fitness is another's too: ranks say nothing of them. NaN ties with nothing."""
    ranked = jnp.sort(fitness)
    same = ranked[1:] == ranked[:-1]
    return total(jnp.pad(same, (1, 0)) | jnp.pad(same, (0, 1))) / len(fitness)


def sizes(params: Params, compute: str | None) -> dict[str, float]:
    """The smallest sigma that half precision resolves, of every matrix that is computed in it."""
    named = [(path_of(path), jnp.asarray(x)) for path, x in jax.tree_util.tree_leaves_with_path(params)]
    bits = {path: jnp.finfo(compute or x.dtype).nmant + 1 for path, x in named if floating(x) and x.ndim > 1}
    half = {path: x.astype(jnp.float32) for path, x in named if bits.get(path, 24) < 24}
    return {path: float(jnp.sqrt((x**2).mean())) * 2.0 ** -bits[path] for path, x in half.items()}
