"""What a task is, and what it says of one member.

A task is a plain function `task(params, key) -> fitness | Evaluation` of one member, in JAX, on ordinary arrays; or an
object with the three methods of `Task`. Both are ordinary JAX: nothing in them knows of noise or populations.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Params = Any  # a pytree of arrays
State = Any  # a pytree of arrays that a task keeps between generations


class Evaluation(NamedTuple):
    """What a task says of one member; under the runtime every field gets a leading axis n.

    Higher fitness is better. `descriptor` is what quality diversity files the member under. `aux` is whatever the
    task wants back in `absorb` (counts of observations, a cursor); it may hold `steps`, see `steps_of`.
    """

    fitness: Float[Array, ""]
    descriptor: Float[Array, "d"] | None = None
    aux: Any = None


@runtime_checkable
class Task(Protocol):
    """A task that brings its own parameters, or keeps a state between generations.

    Optional: `measure(params, start, state, key) -> dict` of scalars about the solution, `start` being what the search
    began with. They are columns of metrics.jsonl, in the rows where the solution is judged on fresh luck.
    """

    def init(self, key: Key[Array, ""]) -> tuple[Params, State]:
        """Initial parameters of one member, and the state shared by all."""
        ...

    def evaluate(self, params: Params, state: State, key: Key[Array, ""]) -> Evaluation:
        """Judge one member; `key` is its luck."""
        ...

    def absorb(self, state: State, aux: Any) -> State:
        """Fold what a whole generation saw (every leaf of `aux` has a leading axis n) into the state."""
        ...


def as_evaluation(result: Any) -> Evaluation:
    """An `Evaluation` of what a plain function returned: itself, or a bare fitness."""
    result = result if isinstance(result, Evaluation) else Evaluation(result)
    fitness = jnp.asarray(result.fitness)
    if fitness.shape != ():
        raise ValueError(
            f"A task returns one fitness for one member, a scalar; got shape {fitness.shape}. "
            "Reduce it, e.g. with `.mean()`, or return an `evo.Evaluation`."
        )
    if not jnp.issubdtype(fitness.dtype, jnp.floating):
        fitness = fitness.astype(jnp.float32)
    return result._replace(fitness=fitness.astype(jnp.float32))
