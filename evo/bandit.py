"""Which emitters play: a bandit over a pool of them (Cully 2021, multi-emitter MAP-Elites). Axes: `e` emitters."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

MEMORY = 50  # generations after which what an emitter did counts 1/e


class Played(NamedTuple):
    """What each emitter did when it played; older generations count less."""

    plays: Float[Array, "e"]
    reward: Float[Array, "e"]


def unplayed(emitters: int) -> Played:
    """Nobody has played yet."""
    return Played(jnp.zeros(emitters), jnp.zeros(emitters))


def choose(played: Played, active: int, explore: float) -> Int[Array, "a"]:
    """The `active` emitters of the highest upper bound, highest first (ties: the lower index).

    bound = mean reward + explore * sqrt(ln(all plays) / plays): UCB1 (Auer et al. 2002) with plays discounted (Garivier
    & Moulines 2008), for what pays changes while an archive fills. Emitters that never played come first.
    """
    plays = jnp.maximum(played.plays, 1e-9)
    wide = jnp.sqrt(jnp.log(jnp.maximum(played.plays.sum(), 1.0)) / plays)
    bound = jnp.where(played.plays > 0, played.reward / plays + explore * wide, jnp.inf)
    return jax.lax.top_k(bound, active)[1].astype(jnp.int32)


def learn(played: Played, chosen: Bool[Array, "e"], reward: Float[Array, "e"]) -> Played:
    """After a generation in which the `chosen` ones played for these rewards."""
    kept = jnp.float32(1 - 1 / MEMORY)
    weight = chosen.astype(jnp.float32)
    return Played(kept * played.plays + weight, kept * played.reward + weight * reward)
