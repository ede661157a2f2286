"""From fitness to weights: what each member counts for in the update.

Higher fitness is better and gets more weight. A member whose fitness isn't finite counts as the worst. Members that
tie get equal weight, so a generation of equals moves nothing. Axis: `n` members.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PAIRWISE = 256  # members up to which comparing everyone with everyone is cheaper than searching, above all to compile


def centered_ranks(fitness: Float[Array, "n"], group: int = 0) -> Float[Array, "n"]:
    """rank / (n - 1) - 1/2, in [-1/2, 1/2] (Salimans et al. 2017, section 2.1); ties share their mean rank."""
    worst = worst_if_invalid(fitness)
    if len(fitness) <= PAIRWISE:
        other = worst[:, None]
        twice = ((other < worst[None]).astype(jnp.float32) + (other <= worst[None]).astype(jnp.float32)).sum(0)
    else:
        bits = jax.lax.bitcast_convert_type(jnp.where(worst == 0, 0.0, worst), jnp.int32)
        key = jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # in the order of the numbers
        twice = jnp.searchsorted(jnp.sort(key), jnp.concatenate([key, key + 1])).reshape(2, -1).sum(0)
        twice = twice.astype(jnp.float32)
    n = fitness.shape[0]
    return (twice - n) / (2 * max(n - 1, 1))  # so that equals get exactly 0


def z_score(fitness: Float[Array, "n"], group: int = 0) -> Float[Array, "n"]:
    """(f - mean) / std over the population (arXiv 2511.16652, section 4)."""
    worst = worst_if_invalid(fitness)
    return _standard(_off_mean(worst), worst)


def group_mean(fitness: Float[Array, "n"], group: int) -> Float[Array, "n"]:
    """(f - mean of its group) / std of the population: `group` neighbours share a prompt (arXiv 2511.16652, 6.3).

    The deviation is the whole population's, as published: groups that differ much shrink everyone's weight.
    """
    worst = worst_if_invalid(fitness)
    return _standard(jax.vmap(_off_mean)(worst.reshape(-1, group)).reshape(-1), worst)


def group_z_score(fitness: Float[Array, "n"], group: int) -> Float[Array, "n"]:
    """(f - mean) / std, both of the member's own group of `group` neighbours, as GRPO does."""
    return jax.vmap(z_score)(worst_if_invalid(fitness).reshape(-1, group)).reshape(-1)


SHAPINGS = {
    "centered_ranks": centered_ranks,
    "z_score": z_score,
    "group_mean": group_mean,
    "group_z_score": group_z_score,
}


def worst_if_invalid(fitness: Float[Array, "n"]) -> Float[Array, "n"]:
    """Fitness with whatever isn't finite replaced by the worst finite value (0 where there is none)."""
    valid = jnp.isfinite(fitness)
    worst = jnp.sort(jnp.where(valid, fitness, jnp.inf))[0]  # compiled sooner than a minimum
    return jnp.where(valid, fitness, jnp.where(worst < jnp.inf, worst, 0.0))


def _off_mean(fitness: Float[Array, "n"]) -> Float[Array, "n"]:
    """Fitness less its mean; exactly 0 where all are equal, for the mean of equals may be rounded."""
    return jnp.where((fitness == fitness[0]).all(), 0.0, fitness - fitness.mean())


def _standard(off: Float[Array, "n"], fitness: Float[Array, "n"]) -> Float[Array, "n"]:
    return off / jnp.sqrt(fitness.var() + 1e-12)
