"""The two things that a language model does with a weight: multiply by it, and look rows of it up.

Axes: `b` rows, `t` positions, `i o` in and out, `v` vocabulary.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from evo.envs.language.quantised import is_quantised, times


def product(x: Float[Array, "*b i"], w: Any) -> Float[Array, "*b o"]:
    """x W, in x's dtype; W is a matrix or `Quantised`."""
    return times(x, w) if is_quantised(w) else jnp.einsum("...i,io->...o", x, w)


def rows_of(table: Float[Array, "v w"], index: Int[Array, "b t"]) -> Float[Array, "b t w"]:
    """The rows of an embedding."""
    return table[index]
