"""Schedules: a number of a strategy that changes with the generation, such as its lr or sigma.

Each counts generations from 0, is a frozen dataclass (so equal by value, and data in a config), and works on a traced
generation.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@dataclass(frozen=True)
class Constant:
    """`value`, always."""

    value: float

    def __call__(self, generation: int | Int[Array, ""]) -> Float[Array, ""]:
        return jnp.asarray(self.value, jnp.float32)


@dataclass(frozen=True)
class Linear:
    """From `start` to `end` in a straight line over `generations`, then `end`."""

    start: float
    end: float
    generations: int

    def __post_init__(self):
        _check_length(self.generations)

    def __call__(self, generation: int | Int[Array, ""]) -> Float[Array, ""]:
        return self.start + (self.end - self.start) * _progress(generation, self.generations)


@dataclass(frozen=True)
class Exponential:
    """`start * decay ** generation`, but never nearer to 0 than `floor`."""

    start: float
    decay: float
    floor: float = 0.0

    def __post_init__(self):
        if self.decay <= 0:
            raise ValueError(f"The decay of an exponential schedule must be above 0, e.g. 0.999; got {self.decay}.")

    def __call__(self, generation: int | Int[Array, ""]) -> Float[Array, ""]:
        decayed = self.start * jnp.asarray(self.decay, jnp.float32) ** jnp.asarray(generation, jnp.float32)
        return jnp.maximum(decayed, jnp.float32(self.floor))


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `start` to `end` over `generations`, then `end` (Loshchilov & Hutter 2017, eq. 5)."""

    start: float
    generations: int
    end: float = 0.0

    def __post_init__(self):
        _check_length(self.generations)

    def __call__(self, generation: int | Int[Array, ""]) -> Float[Array, ""]:
        wave = (1 + jnp.cos(jnp.pi * _progress(generation, self.generations))) / 2
        return self.end + (self.start - self.end) * wave


@dataclass(frozen=True)
class Hyperbolic:
    """`start / (1 + rate * generation)`: how EGG anneals the share of weights that move (arXiv 2511.16652)."""

    start: float
    rate: float

    def __post_init__(self):
        if self.rate < 0:
            raise ValueError(f"The rate of a hyperbolic schedule is at least 0, e.g. 0.015; got {self.rate}.")

    def __call__(self, generation: int | Int[Array, ""]) -> Float[Array, ""]:
        return jnp.float32(self.start) / (1 + jnp.float32(self.rate) * jnp.asarray(generation, jnp.float32))


Schedule = Constant | Linear | Exponential | Cosine | Hyperbolic


def at(value: float | Schedule, generation: int | Int[Array, ""]) -> Float[Array, ""]:
    """The number itself, or what its schedule says for this generation."""
    return jnp.asarray(value(generation) if isinstance(value, Schedule) else value, jnp.float32)


def _progress(generation: int | Array, generations: int) -> jax.Array:
    return jnp.clip(jnp.asarray(generation, jnp.float32) / generations, 0.0, 1.0)


def _check_length(generations: int):
    if generations < 1:
        raise ValueError(f"A schedule lasts at least 1 generation; got generations={generations}.")
