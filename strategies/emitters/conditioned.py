"""DCG-MAP-Elites' policy for every descriptor, whose gradient comes from evolution: nothing is differentiated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from evo.archive import Cells
from evo.ascent import ascend, masters
from evo.elites import occupied, sample
from evo.emitter import Offspring, slopes
from evo.express import matches
from evo.genome import around
from evo.leaf import path_of
from evo.shaping import centered_ranks
from evo.task import Params


class Policy(NamedTuple):
    """Parameters for every descriptor, all in float32."""

    theta: Params  # at the middle of the bounds
    lean: Any  # leaves [d, ...]; of one that doesn't lean [0, ...]


class State(NamedTuple):
    """The policy, and what it was asked for."""

    policy: Policy
    optimizer: Any
    asked: Float[Array, "b d"]  # the targets of this generation's members, in [-1, 1]


@dataclass(frozen=True)
class Conditioned:
    """One policy for all descriptors, asked for `targets` of them a generation, `batch` perturbed members each.

    After DCG-MAP-Elites (Faldor et al. 2023), without its critic. With z in [-1, 1] for the descriptor within its
    bounds, theta(z) = theta + sum_j z_j lean_j; only leaves whose path matches the glob `into` lean. If that is the
    bias of a network's first layer, this is a network with z among its inputs, folded as in DCRL-MAP-Elites (arXiv
    2401.08632). Targets are the descriptors of elites drawn uniformly. A member of target z that shows z' scores

        exp(-|z - z'| / length) * max(fitness - offset, 0)

    with the archive's offset, and ranks among its target's; ties and what isn't finite as in `centered_ranks`.
    With g_b = 1 / (batch sigma) sum_i rank_i noise_i, theta follows the mean of g_b over targets and lean_j that of
    z_bj g_b, by Adam. Members come in pairs of opposite sign that share their luck, and all are offered to the archive.
    """

    targets: int = 8
    batch: int = 32
    sigma: float = 0.02
    lr: float = 0.01
    length: float = 0.1
    into: str = "**"
    descriptors: int = 2  # how many the task has

    def __post_init__(self):
        if self.targets < 1 or self.batch < 2 or self.batch % 2:
            raise ValueError(
                "Conditioned has at least 1 of `targets` and an even `batch` for each; got "
                f"{self.targets} and {self.batch}."
            )
        if min(self.descriptors, self.sigma, self.length) <= 0:
            raise ValueError(
                "`descriptors`, `sigma` and `length` are above 0; got "
                f"{self.descriptors}, {self.sigma} and {self.length}."
            )

    @property
    def population(self) -> int:
        return self.targets * self.batch

    @property
    def spare(self) -> int:
        return self.targets

    def init(self, key, params):
        paths = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        if not any(matches(path, self.into) for path in paths):
            raise ValueError(f"`into` matches no leaf: got {self.into!r}; the leaves are {', '.join(paths[:8])}.")
        theta = masters(params)
        many = lambda path: self.descriptors if matches(path_of(path), self.into) else 0  # noqa: E731
        lean = jax.tree_util.tree_map_with_path(lambda path, x: jnp.zeros((many(path), *x.shape)), theta)
        policy, asked = Policy(theta, lean), jnp.zeros((self.targets, self.descriptors))
        return State(policy, optax.adam(self.lr).init(policy), asked), folded(policy, asked)

    def ask(self, key, state, archive, own):
        if archive.descriptor.shape[1] != self.descriptors:
            raise ValueError(
                f"Conditioned asks for `descriptors: {self.descriptors}`, and the archive has "
                f"{archive.descriptor.shape[1]}; set the same number."
            )
        parents = own + jnp.arange(self.targets)  # a target's members share its matrices
        genome = around(key, self.population, self.sigma)._replace(parents=parents[:, None])
        return genome, jnp.arange(self.population) // 2

    def tell(self, key, state, archive, own, offspring, stage):
        value = self._value(state.asked, offspring, stage.cells)
        rank = jax.vmap(centered_ranks)(value.reshape(self.targets, self.batch))
        rows = jax.tree.map(lambda x: x[own : own + self.targets], archive.rows)
        found = slopes(stage, rows, offspring.genome, rank / (self.batch * self.sigma**2))
        lean = jax.tree.map(lambda g, x: leant(state.asked, g, len(x)) / self.targets, found, state.policy.lean)
        uphill = Policy(jax.tree.map(lambda g: g.mean(0), found), lean)
        updates, ascent = ascend(optax.adam(self.lr), uphill, state.optimizer)
        policy = optax.apply_updates(state.policy, updates)
        asked = jnp.clip(normalised(stage.cells, archive.descriptor[sample(key, archive, self.targets)]), -1, 1)
        asked = jnp.where(occupied(archive).any(), asked, 0.0)
        return State(policy, ascent, asked), folded(policy, asked)

    def _value(self, asked: Float[Array, "b d"], offspring: Offspring, cells: Cells) -> Float[Array, "n"]:
        """What members are ranked by: fitness above the offset, less the further they end from what was asked."""
        off = normalised(cells, offspring.descriptor) - jnp.repeat(asked, self.batch, 0)
        near = jnp.exp(-jnp.sqrt((off**2).sum(-1)) / self.length)
        value = near * jnp.maximum(offspring.fitness - cells.offset, 0.0)
        return jnp.where(jnp.isfinite(offspring.fitness), value, -jnp.inf)


def normalised(cells: Cells, descriptor: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Descriptors with their bounds at -1 and 1."""
    low, high = jnp.asarray(cells.bounds, jnp.float32).T
    return 2 * (descriptor - low[None]) / (high - low)[None] - 1


def folded(policy: Policy, asked: Float[Array, "b d"]) -> Any:
    """The parameters of each target: leaves [b, ...]."""
    lean = jax.tree.map(lambda x: jnp.einsum("bd,d...->b...", asked[:, : len(x)], x), policy.lean)
    return jax.tree.map(lambda x, own: x[None] + own, policy.theta, lean)


def leant(asked: Float[Array, "b d"], slope: Float[Array, "b ..."], d: int) -> Float[Array, "d ..."]:
    """sum_b asked_b slope_b, the first d descriptors of it: all, or none where a leaf doesn't lean."""
    return jnp.einsum("bd,b...->d...", asked[:, :d], slope)
