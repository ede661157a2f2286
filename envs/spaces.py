"""Gymnasium's spaces as networks see them: arrays in, and numbers out that become actions.

Axes: `o` an observation's own axes, `w` worlds side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import Array, Float, Key

from evo.random import draw, split

SQUASHES: dict[str, Callable] = {"tanh": jnp.tanh, "clip": lambda x: jnp.clip(x, -1, 1)}


@dataclass(frozen=True)
class Senses:
    """What of an observation reaches the network: the array as it is, or everything in it flattened to a vector."""

    shape: tuple[int, ...]
    dtype: str  # uint8 for images, which the network sees divided by 255; else float32
    flat: Any  # the space, where it has to be flattened

    def read(self, observation: Any) -> Any:
        """The array of one observation."""
        return observation if self.flat is None else spaces.flatten(self.flat, observation)

    @property
    def unit(self) -> int:
        """What the numbers are divided by for the network."""
        return 255 if self.dtype == "uint8" else 1

    def scaled(self, x: Array) -> Array:
        """What the network is given, in float32."""
        return x.astype(jnp.float32) / self.unit if self.unit > 1 else x


def senses(space: gymnasium.Space) -> Senses:
    """The senses for an observation space: boxes as they are, all else (Dict, Tuple, Discrete, ...) flattened."""
    if space.is_np_flattenable and not spaces.flatdim(space):
        raise ValueError(f"a policy needs something to see, and these observations have no numbers: {space}.")
    if isinstance(space, spaces.Box):
        return Senses(space.shape, "uint8" if space.dtype == np.uint8 else "float32", None)
    if not space.is_np_flattenable:
        raise ValueError(
            f"observations must flatten to numbers (boxes, choices, dicts and tuples of them); got {space}."
        )
    return Senses((spaces.flatdim(space),), "float32", space)


@dataclass(frozen=True)
class Motor:
    """How a network's outputs become actions.

    Discrete: the largest of n outputs, or, when the policy is stochastic, a draw with the outputs as log odds.
    MultiDiscrete: likewise for each choice. Box: `squash` of the outputs to [-1, 1], stretched to the bounds where
    there are any; when stochastic, of a normal draw around the first half of them, with the second half as log standard
    deviations in [-5, 2].
    """

    choices: tuple[int, ...]  # of each discrete part; () for a box
    starts: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]
    dtype: str
    stochastic: bool
    squash: str

    @property
    def outputs(self) -> int:
        """How many numbers the network puts out."""
        return sum(self.choices) or math.prod(self.shape) * (2 if self.stochastic else 1)

    def act(self, output: Float[Array, "i"], key: Key[Array, ""]) -> Array:
        """One action, as numbers on the device."""
        if not self.choices:
            return self._stretched(output, key).reshape(self.shape)
        if self.stochastic:
            output = output + _gumbel(key, output.shape[0])
        ends = np.cumsum(self.choices).tolist()
        picked = [jnp.argmax(part) for part in jnp.split(output, ends[:-1])]
        return jnp.stack([x.astype(jnp.int32) + start for x, start in zip(picked, self.starts, strict=True)]).reshape(
            self.shape
        )

    @property
    def numbers(self) -> str:
        """The dtype of actions on their way to the worlds."""
        return "int32" if self.choices else "float32"

    def rows(self, actions: np.ndarray) -> Any:
        """Actions of `w` worlds as the worlds want them."""
        if not self.choices and self.dtype != "float32":  # a bound of another type may lie between two float32 numbers
            whole = np.issubdtype(self.dtype, np.integer)
            actions = (np.rint(actions) if whole else actions).astype(np.float64)
            actions = np.clip(actions, *(np.reshape(bound, self.shape) for bound in (self.low, self.high)))
        rows = actions.astype(self.dtype, copy=False)
        return list(rows) if self.choices and not self.shape else rows  # NumPy's own numbers, which spaces check faster

    def _stretched(self, output: Array, key: Key[Array, ""]) -> Array:
        if self.stochastic:
            output, log_std = jnp.split(output, 2)
            output = output + jnp.exp(jnp.clip(log_std, -5, 2)) * draw(key, output.shape, "normal")
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        bounded = np.isfinite(low) & np.isfinite(high)
        least, most = np.where(bounded, low, -1), np.where(bounded, high, 1)
        middle, half = (least + most) / 2, (most - least) / 2
        action = jnp.where(bounded, SQUASHES[self.squash](output), output) * half + middle
        return jnp.clip(action, low, high)


def motor(space: gymnasium.Space, stochastic: bool, squash: str) -> Motor:
    """The motor for an action space. Raises for spaces that aren't Box, Discrete or MultiDiscrete."""
    if isinstance(space, spaces.Discrete):
        return Motor((int(space.n),), (int(space.start),), (), (), (), "int64", stochastic, squash)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        choices, starts = (tuple(int(x) for x in xs) for xs in (space.nvec, space.start))
        return Motor(choices, starts, (), (), space.shape, str(space.dtype), stochastic, squash)
    if isinstance(space, spaces.Box):
        low, high = (tuple(float(x) for x in bound.reshape(-1)) for bound in (space.low, space.high))
        return Motor((), (), low, high, space.shape, str(space.dtype), stochastic, squash)
    raise ValueError(
        f"actions must be a Box, Discrete or MultiDiscrete space; got {space}. Wrap the env to make it one."
    )


def _gumbel(key: Key[Array, ""], count: int) -> Float[Array, "count"]:
    """Gumbel noise: the largest of log odds plus it is a draw from them."""
    uniform = jax.random.uniform(split(key, 1)[0], (count,), minval=1e-7, maxval=1.0)
    return -jnp.log(-jnp.log(uniform))
