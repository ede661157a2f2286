"""Test functions of a vector, negated: higher fitness is better and the optimum is 0.

A member is one array [d]. `shift` moves the optimum by `offset(dim, shift)`, a different amount in each coordinate, so
that neither a start at zero nor a flipped sign goes unnoticed; `shift=0` is the function of the textbooks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from evo.envs.foreign import lenient, quiet
from evo.registry import nearest
from evo.task import Evaluation


def offset(dim: int, shift: float) -> Float[Array, "d"]:
    """Where the optimum of a shifted function moved: shift * (1, 2, ..., d) / d."""
    return shift * jnp.arange(1, dim + 1, dtype=jnp.float32) / dim


@dataclass(frozen=True)
class Sphere:
    """Sphere: fitness = -sum z^2, z = x - offset; starts in [-5.12, 5.12]."""

    dim: int = 10
    shift: float = 1.0

    def __post_init__(self):
        _check_dim(self.dim, 1)

    def init(self, key):
        return _uniform(key, self.dim, 5.12), ()

    def evaluate(self, params, state, key):
        return Evaluation(-((params - offset(self.dim, self.shift)) ** 2).sum())

    def absorb(self, state, aux):
        return state


@dataclass(frozen=True)
class Rastrigin:
    """Rastrigin, many local optima on a bowl: fitness = -sum (z^2 - 10 cos 2 pi z + 10); starts in [-5.12, 5.12]."""

    dim: int = 10
    shift: float = 1.0

    def __post_init__(self):
        _check_dim(self.dim, 1)

    def init(self, key):
        return _uniform(key, self.dim, 5.12), ()

    def evaluate(self, params, state, key):
        z = params - offset(self.dim, self.shift)
        return Evaluation(-(z**2 - 10 * jnp.cos(2 * jnp.pi * z) + 10).sum())

    def absorb(self, state, aux):
        return state


@dataclass(frozen=True)
class Ackley:
    """Ackley, a ripple around a narrow well; starts in [-32.768, 32.768].

    fitness = 20 exp(-0.2 sqrt(mean z^2)) + exp(mean cos 2 pi z) - 20 - e.
    """

    dim: int = 10
    shift: float = 1.0

    def __post_init__(self):
        _check_dim(self.dim, 1)

    def init(self, key):
        return _uniform(key, self.dim, 32.768), ()

    def evaluate(self, params, state, key):
        z = params - offset(self.dim, self.shift)
        well = 20 * jnp.exp(-0.2 * jnp.sqrt((z**2).mean()))
        return Evaluation(well - 20 + jnp.exp(jnp.cos(2 * jnp.pi * z).mean()) - jnp.exp(1.0))

    def absorb(self, state, aux):
        return state


@dataclass(frozen=True)
class Rosenbrock:
    """Rosenbrock, a curved valley with its optimum at 1 + offset; starts in [-2.048, 2.048].

    fitness = -sum_i 100 (z_{i+1} - z_i^2)^2 + (1 - z_i)^2 over i < d.
    """

    dim: int = 10
    shift: float = 1.0

    def __post_init__(self):
        _check_dim(self.dim, 2)

    def init(self, key):
        return _uniform(key, self.dim, 2.048), ()

    def evaluate(self, params, state, key):
        z = params - offset(self.dim, self.shift)
        return Evaluation(-(100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2).sum())

    def absorb(self, state, aux):
        return state


@dataclass(frozen=True)
class BBOB:
    """One of the 24 noiseless functions of the BBOB suite, by evosax; fitness = f_opt - f(x), 0 at the optimum.

    `name` as evosax has it (`rastrigin_rotated`, `gallagher_101_me`, ...). `instance` seeds the place of the optimum
    (uniform in [-4, 4]) and both rotations; it is fixed for the run, whatever the run's own seed. Starts in [-5, 5].
    """

    name: str = "rastrigin_rotated"
    dim: int = 10
    instance: int = 0

    def __post_init__(self):
        _check_dim(self.dim, 2)
        known = _bbob().bbob_fns
        if self.name not in known:
            raise ValueError(f"unknown function {self.name!r}; {nearest(self.name, known)}")

    @cached_property
    def problem(self):
        """The evosax problem, with f_opt = 0 so that no precision is lost to a large constant."""
        with jax.ensure_compile_time_eval(), lenient():
            return _bbob().BBOBProblem(self.name, self.dim, f_opt=0.0, seed=self.instance)

    def init(self, key):
        return _uniform(key, self.dim, 5.0), ()

    def evaluate(self, params, state, key):
        problem = self.problem
        with lenient():
            value, _, _ = problem.eval(key, params[None], problem._state)
        return Evaluation(-value[0])

    def absorb(self, state, aux):
        return state


def _bbob():
    """evosax's problems: imported here, for it brings matplotlib along."""
    with quiet():
        from evosax import problems
    return problems


def _uniform(key, dim: int, limit: float):
    return jax.random.uniform(key, (dim,), minval=-limit, maxval=limit)


def _check_dim(dim: int, least: int):
    if dim < least:
        raise ValueError(f"`dim` must be at least {least}; got {dim}.")
