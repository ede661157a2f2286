"""The planar arm: the standard test of quality diversity (Cully et al. 2015; Vassiliades and Mouret 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

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

    @property
    def descriptor_names(self) -> tuple[str, ...]:
        return ("x", "y")

    @property
    def descriptor_bounds(self) -> tuple[tuple[float, float], ...]:
        return ((0.0, 1.0), (0.0, 1.0))

    def init(self, key):
        return jax.random.uniform(key, (self.joints,)), ()

    def evaluate(self, params, state, key):
        key_fitness, key_descriptor = jax.random.split(key)
        fitness = -jnp.clip(params, 0, 1).std() + self.fitness_noise * jax.random.normal(key_fitness)
        place = links(params)[-1] + self.descriptor_noise * jax.random.normal(key_descriptor, (2,))
        return Evaluation(fitness, place)

    def absorb(self, state, aux):
        return state

    def scene(self, params, state, key):
        """The arm as it stands: one frame of capsules."""
        ends = np.concatenate([np.full((1, 2), 0.5), np.asarray(links(params))])
        middle, along = (ends[1:] + ends[:-1]) / 2, ends[1:] - ends[:-1]
        half, zero = np.arctan2(along[:, 1], along[:, 0]) / 2, np.zeros(self.joints)
        lying = (np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0)  # a capsule along x
        size = (0.1 / self.joints, 0.25 / self.joints)
        return Scene(
            [Shape("capsule", body, rotation=lying, size=size) for body in range(self.joints)],
            np.column_stack([middle, zero])[None],
            np.column_stack([np.cos(half), zero, zero, np.sin(half)])[None],
            dt=1.0,
            reward=np.asarray(self.evaluate(params, state, key).fitness)[None],
            title=f"arm of {self.joints} joints",
            camera=(-90.0, 90.0),
        )


def links(params: Float[Array, "j"]) -> Float[Array, "j 2"]:
    """Where each link ends, in [0, 1]^2."""
    angle = jnp.cumsum(2 * jnp.pi * jnp.clip(params, 0, 1) - jnp.pi)
    reach = jnp.cumsum(jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1), axis=0) / params.shape[0]
    return (reach + 1) / 2
