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
from evo.envs.language.quantised import dense, is_quantised


def drift(params: Any, start: Any) -> dict[str, Float[Array, ""]]:
    """`distance`, the length of the difference, and `moved`, the share of weights that aren't what they were.

    Of quantised ones the weights count, not what they are made of.
    """
    now, then = ([plain(x) for x in jax.tree.leaves(tree, is_leaf=is_quantised)] for tree in (params, start))
    off = [a - b for a, b in zip(now, then, strict=True)]
    moved = sum((a != b).sum(dtype=jnp.float32) for a, b in zip(now, then, strict=True))  # a fused a - b rounds oddly
    return {"distance": optax.tree.norm(off), "moved": moved / float(sum(x.size for x in off))}


def plain(leaf: Any) -> Float[Array, "..."]:
    """A leaf in float32, a quantised one as its matrix."""
    return (dense(leaf) if is_quantised(leaf) else leaf).astype(jnp.float32)


def divergence(
    model: Causal, params: Any, start: Any, tokens: Int[Array, "b t"], real: Bool[Array, "b t"]
) -> Float[Array, ""]:
    """KL(start || now) of the next token in nats, mean over the real positions: what was known and is said no more."""
    before, now = (jax.nn.log_softmax(logits_of(model, p, tokens, real)) for p in (start, params))
    each = (jnp.exp(before) * (before - now)).sum(-1)
    return jnp.where(real, each, 0.0).sum() / real.sum(dtype=jnp.float32)
