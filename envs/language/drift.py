"""How far a model has come from where it began: in its weights, and in what it says.

Axes: `b` rows, `t` positions.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from evo.envs.language.causal import Causal, logits_of


def drift(params: Any, start: Any) -> dict[str, Float[Array, ""]]:
    """`distance`, the length of the difference, and `moved`, the share of weights that aren't what they were."""
    pairs = list(zip(jax.tree.leaves(params), jax.tree.leaves(start), strict=True))
    off = [now.astype(jnp.float32) - then.astype(jnp.float32) for now, then in pairs]
    moved = sum((x != 0).sum(dtype=jnp.float32) for x in off)
    return {"distance": optax.tree.norm(off), "moved": moved / float(sum(x.size for x in off))}


def divergence(
    model: Causal, params: Any, start: Any, tokens: Int[Array, "b t"], real: Bool[Array, "b t"]
) -> Float[Array, ""]:
    """KL(start || now) of the next token in nats, mean over the real positions: what was known and is said no more."""
    before, now = (jax.nn.log_softmax(logits_of(model, p, tokens, real)) for p in (start, params))
    each = (jnp.exp(before) * (before - now)).sum(-1)
    return jnp.where(real, each, 0.0).sum() / real.sum(dtype=jnp.float32)
