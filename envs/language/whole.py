"""Other people's language models: any function from tokens to logits, without a cache.

Axes: `b` rows, `t` new positions, `s` positions in all, `v` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class Text(NamedTuple):
    """All tokens so far; `used` of the positions are filled."""

    tokens: Int[Array, "b s"]
    real: Bool[Array, "b s"]
    used: Int[Array, ""]


@dataclass(frozen=True)
class Whole:
    """A causal model of any `function(params, tokens [b s], real [b s]) -> logits [b s v]`.

    For models of Flax, Equinox or your own. It reads everything again for each token, so it is for short texts. `real`
    is False at padding (left of the prompts, right of what is written): a model that can't mask it, being causal,
    needs prompts of one length. `context` is the longest text, 0: any.
    """

    function: Callable[[Any, Array, Array], Array]
    vocabulary: int
    context: int = 0

    def begin(self, params: Any, rows: int, length: int) -> Text:
        """No text, and room for `length` tokens."""
        return Text(jnp.zeros((rows, length), jnp.int32), jnp.zeros((rows, length), bool), jnp.int32(0))

    def grow(self, text: Text, more: int) -> Text:
        """The text with room for `more`."""
        tokens, real = (jnp.pad(x, ((0, 0), (0, more))) for x in text[:2])
        return Text(tokens, real, text.used)

    def read(
        self, params: Any, tokens: Int[Array, "b t"], real: Bool[Array, "b t"], text: Text
    ) -> tuple[Float[Array, "b t v"], Text]:
        """The logits at the new positions, and the text with them."""
        at = (0, text.used)
        text = Text(
            lax.dynamic_update_slice(text.tokens, tokens.astype(jnp.int32), at),
            lax.dynamic_update_slice(text.real, real, at),
            text.used + tokens.shape[1],
        )
        logits = self.function(params, text.tokens, text.real)
        return lax.dynamic_slice_in_dim(logits, at[1], tokens.shape[1], 1), text

    def logits(self, params: Any, x: Float[Array, "*b v"]) -> Float[Array, "*b v"]:
        """What `read` said, in float32."""
        return x.astype(jnp.float32)
