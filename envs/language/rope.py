"""Rotary positions (Su et al. 2021, arXiv 2104.09864), with the scalings that checkpoints ask for.

Axes: `b` rows, `t` positions, `h` heads, `d` numbers of a head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclass(frozen=True)
class Rope:
    """Frequency i of a head turns by position * theta^(-2 i / d), then scaled.

    `linear` divides every frequency by `factor`. `llama3` does so with those whose wavelength is above
    original / low, leaves those below original / high, and blends between (Llama 3.1's `rope_utils`).
    """

    theta: float = 10000.0
    kind: Literal["default", "linear", "llama3"] = "default"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192

    def frequencies(self, dim: int) -> Float[np.ndarray, "d/2"]:
        """Radians a position, of each pair of numbers."""
        plain = self.theta ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
        if self.kind == "linear":
            plain = plain / self.factor
        elif self.kind == "llama3":
            turns = self.original * plain / (2 * math.pi)
            share = np.clip((turns - self.low) / (self.high - self.low), 0, 1)
            plain = (1 - share) * plain / self.factor + share * plain
        return plain.astype(np.float32)

    def table(self, position: Int[Array, "b t"], dim: int) -> tuple[Array, Array]:
        """Cosine and sine [b t 1 d/2] of every position, in float32."""
        angle = position.astype(jnp.float32)[..., None, None] * self.frequencies(dim)[None, None, None]
        return jnp.cos(angle), jnp.sin(angle)


def turn(x: Float[Array, "b t h d"], table: tuple[Array, Array]) -> Float[Array, "b t h d"]:
    """Rotate number i with number i + d/2, as Hugging Face lays heads out."""
    cos, sin = (part.astype(x.dtype) for part in table)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def rope_of(config: Mapping[str, Any]) -> Rope:
    """The rotary positions that a config.json asks for, in its older and its newer spelling. Raises on others."""
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = found.get("rope_type", found.get("type", "default"))
    found = {"rope_theta": config.get("rope_theta", 10000.0), **found}

    def number(name: str) -> float:
        if type(found[name]) not in (int, float):
            raise ValueError(f"config.json: `{name}` of rotary positions is a number; got {found[name]!r}.")
        return float(found[name])

    theta = number("rope_theta")
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, "linear", number("factor"))
    if kind == "llama3":
        low, high = number("low_freq_factor"), number("high_freq_factor")
        return Rope(theta, "llama3", number("factor"), low, high, int(number("original_max_position_embeddings")))
    raise ValueError(f"config.json: `rope_type` {kind!r} isn't known; wanted default, linear or llama3.")
