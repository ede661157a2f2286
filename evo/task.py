"""What a task is, and what it says of one member.

A task is a plain function `task(params, key) -> fitness | Evaluation` of one member, in JAX, on ordinary arrays; or an
object with the three methods of `Task`. Both are ordinary JAX: nothing in them knows of noise or populations.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

Params = Any  # a pytree of arrays
State = Any  # a pytree of arrays that a task keeps between generations


class Evaluation(NamedTuple):
    """What a task says of one member; under the runtime every field gets a leading axis n.

    Higher fitness is better; whole numbers (int32) stay as they are for a strategy that is `whole`, and are float32
    for all others. `descriptor` is what quality diversity files the member under. `aux` is whatever the
    task wants back in `absorb` (counts of observations, a cursor); a dict may hold `steps`, environment steps as a
    whole number, which are counted.
    """

    fitness: Float[Array, ""] | Int[Array, ""]
    descriptor: Float[Array, "d"] | None = None
    aux: Any = None


class Trial(NamedTuple):
    """The luck of a task that has `trials`: a key, and which of the generation's trials it is for.

    Members of one trial share both. Where the solution is judged on luck that no search saw, there is a key alone.
    """

    key: Key[Array, ""]
    number: Int[Array, ""]


@runtime_checkable
class Task(Protocol):
    """A task that brings its own parameters, or keeps a state between generations.

    Some things are optional. With `trials = True`, members get a `Trial` for a key. `unit` is what a fitness of 1 is
    worth in the numbers that people see: a task that counts in whole numbers says here what one is. `references` is a
    dict of what simple rules would score, in the same numbers, for the report of a run. `measure(params, start, state,
    key) -> dict` of scalars says more of the solution than its fitness, `start` being what the search began with: they
    are columns of metrics.jsonl in the rows where the solution is judged on fresh luck.
    `sample(params, prompt, count, temperature, key) -> str` writes text. `descriptor_bounds` and `descriptor_names`
    say what an archive files members by, pair by pair and in words. `scene(params, state, key)` or `film(...)` is an
    episode to look at (`evo.view`); `walls` and `places` are drawn behind maps of where members got to.
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
    """An `Evaluation` of what a plain function returned: itself, or a bare fitness; float32 or int32."""
    result = result if isinstance(result, Evaluation) else Evaluation(result)
    try:
        fitness = jnp.asarray(result.fitness)
    except (TypeError, ValueError):
        raise ValueError(
            "A task returns one fitness for one member, a number, or an `evo.Evaluation` with more; "
            f"got {type(result.fitness).__name__}."
        ) from None
    if fitness.shape != ():
        raise ValueError(
            f"A task returns one fitness for one member, a scalar; got shape {fitness.shape}. "
            "Reduce it, e.g. with `.mean()`, or return an `evo.Evaluation`."
        )
    counts = jnp.issubdtype(fitness.dtype, jnp.signedinteger)
    return result._replace(fitness=fitness.astype(jnp.int32 if counts else jnp.float32))


def unit_of(task: Any) -> float:
    """What a task's fitness counts in: its `unit`, where it has one, for people to read."""
    return float(getattr(task, "unit", 1.0))
