"""The planar arm: the standard test of quality diversity (Cully et al. 2015; Vassiliades and Mouret 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from evo.random import draw, split
from evo.task import Evaluation
from evo.view.scene import Scene, Shape


@dataclass(frozen=True)
class Arm:
    """Planar arm of equal links: reach everywhere (descriptor) with joints as alike as can be (fitness).

    A member is `joints` numbers in [0, 1]; those outside are clipped. Joint j turns by 2 pi x_j - pi against the link
    before it. fitness = -std(x) (of the population, not the sample: division by the number of joints), so 0 is best;
    descriptor = the end effector's place in [0, 1]^2, the arm's total length being 1/2 and its foot at (1/2, 1/2).
    `fitness_noise` and `descriptor_noise` are standard deviations of normal noise drawn from the trial's key.
    """

    joints: int = 8
    fitness_noise: float = 0.0
    descriptor_noise: float = 0.0

    def __post_init__(self):
        if self.joints < 1:
            raise ValueError(f"`joints` must be at least 1; got {self.joints}.")
        if min(self.fitness_noise, self.descriptor_noise) < 0:
            raise ValueError(
                "`fitness_noise` and `descriptor_noise` are standard deviations, at least 0; got "
                f"{self.fitness_noise} and {self.descriptor_noise}."
            )

    @property
    def descriptor_names(self) -> tuple[str, ...]:
        return ("x", "y")

    @property
    def descriptor_bounds(self) -> tuple[tuple[float, float], ...]:
        return ((0.0, 1.0), (0.0, 1.0))

    def init(self, key):
        return jax.random.uniform(key, (self.joints,)), ()

    def evaluate(self, params, state, key):
        fitness, place = -spread(params), tip(params)
        if self.fitness_noise or self.descriptor_noise:  # numbers that only weigh 0 would still be drawn
            key_fitness, key_descriptor = split(key, 2)
            fitness += self.fitness_noise * draw(key_fitness, (), "normal")
            place += self.descriptor_noise * draw(key_descriptor, (2,), "normal")
        return Evaluation(fitness, place)

    def absorb(self, state, aux):
        return state

    def scene(self, params, state, key):
        """The arm as it stands, its foot and its reach: one frame, seen from above."""
        drawn, fitness = _program(self)(params, state, key)
        ends = np.concatenate([np.full((1, 2), 0.5), np.asarray(drawn)])
        middle, along = (ends[1:] + ends[:-1]) / 2, ends[1:] - ends[:-1]
        half, zero = np.arctan2(along[:, 1], along[:, 0]) / 2, np.zeros(self.joints)
        lying = (np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0)  # a capsule along x
        size = (0.1 / self.joints, 0.25 / self.joints)
        angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
        reach = [(0.5 + 0.5 * np.cos(a), 0.5 + 0.5 * np.sin(a), -0.02) for a in angle.tolist()]
        return Scene(
            [
                *(Shape("capsule", body, rotation=lying, size=size) for body in range(self.joints)),
                *(Shape("sphere", -1, place, size=(0.003,), color="#8a94a0") for place in reach),
                Shape("cylinder", -1, (0.5, 0.5, 0.0), size=(0.2 / self.joints, 0.03), color="#5b6775"),
                Shape("sphere", -1, (*ends[-1].tolist(), 0.03), size=(0.12 / self.joints,), color="#dd8452"),
            ],
            np.column_stack([middle, zero])[None],
            np.column_stack([np.cos(half), zero, zero, np.sin(half)])[None],
            dt=1.0,
            reward=np.asarray(fitness)[None],
            title=f"arm of {self.joints} joints",
            camera=(-90.0, 90.0),
        )


@lru_cache(maxsize=8)
def _program(task: Arm):
    """Where each link of a member ends, and its fitness: compiled once a task, for all who are drawn."""
    return jax.jit(lambda params, state, key: (links(params), task.evaluate(params, state, key).fitness))


def spread(params: Float[Array, "j"]) -> Float[Array, ""]:
    """std(x): its sums are dot products, which a vmap makes matmuls of."""
    x, mean = jnp.clip(params, 0, 1), jnp.full(params.shape, 1 / params.shape[0])
    off = x - dot(x, mean)
    return jnp.sqrt(dot(off * off, mean))


def tip(params: Float[Array, "j"]) -> Float[Array, "2"]:
    """Where the last link ends, in [0, 1]^2."""
    cos, sin = turned(params)
    mean = jnp.full(params.shape, 1 / params.shape[0])
    return (jnp.stack([dot(cos, mean), dot(sin, mean)]) + 1) / 2


def links(params: Float[Array, "j"]) -> Float[Array, "j 2"]:
    """Where each link ends, in [0, 1]^2."""
    reach = jnp.cumsum(jnp.stack(turned(params), axis=1), axis=0) / params.shape[0]
    return (reach + 1) / 2


def turned(params: Float[Array, "j"]) -> tuple[Float[Array, "j"], Float[Array, "j"]]:
    """cos and sin of each link's direction. Directions are counted in turns, which are reduced without rounding; the
    two polynomials err by at most 6e-7, and cost a tenth of the library's functions."""
    before = np.triu(np.ones((params.shape[0],) * 2, np.float32))
    turn = dot(jnp.clip(params, 0, 1) - 0.5, before)
    turn = turn - jnp.round(turn)
    square = turn * turn
    return polynomial(COS, square), turn * polynomial(SIN, square)


def polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """sum_i c_i x^i by Horner's rule."""
    value = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        value = value * x + jnp.float32(c)
    return value


def _fitted(function, power: int) -> tuple[float, ...]:
    """f(2 pi t) = t^power * sum_i c_i t^(2 i) on |t| <= 1/2, by least squares at Chebyshev points."""
    t = np.cos(np.linspace(0, np.pi, 2001)) / 2
    powers = np.stack([t ** (2 * i + power) for i in range(7)], 1)
    return tuple(np.linalg.lstsq(powers, function(2 * np.pi * t), rcond=None)[0].tolist())


dot = partial(jnp.dot, precision=jax.lax.Precision.HIGHEST)
COS, SIN = _fitted(np.cos, 0), _fitted(np.sin, 1)
