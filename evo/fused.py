"""Several generations as one compiled program: for tasks so cheap that starting a program is what a generation costs.

The program's loop has one body whatever the number of turns, so a run that stops and goes on anywhere gives the same
bits. They aren't those of the same run one generation at a time, for the compiler rounds otherwise where it can join
judging and telling. Axes: `g` generations of a block, `n` members.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from evo.arrivals import Moves, moved
from evo.engine import Engine, Moment
from evo.genome import concatenate, size
from evo.records import STATE
from evo.runtime import Runtime
from evo.task import Evaluation


class Block(NamedTuple):
    """What happened in some generations; rows after the first `done` mean nothing."""

    done: Int[Array, ""]  # generations that were judged; fewer than asked where the last of them was all invalid
    fitness: Float[Array, "g n"]
    descriptor: Float[Array, "g n d"] | None
    steps: Int[Array, "g n"] | None
    task_state: Any  # under which each was judged; () where it is large
    info: dict[str, Array]
    moves: Moves | None  # within the archive, where the strategy keeps one


def fused(engine: Engine, moment: Moment, most: int) -> Callable[[Moment, int, int], tuple[Moment, Block]]:
    """Compile (moment, first generation, count up to `most`) -> the moment after them, what happened. The old moment's
    memory is the new one's: it is gone. A generation without a finite fitness is the last, and the moment is void."""

    def program(runtime: Runtime):
        one = partial(generation, engine, runtime)

        def play(moment, first, count):
            shapes = jax.eval_shape(one, moment, first)[1]
            rows = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), shapes)

            def turn(carry):
                i, _, moment, rows = carry
                moment, row = one(moment, first + i)
                rows = jax.tree.map(lambda old, new: old.at[i].set(new), rows, row)
                return i + 1, jnp.isfinite(row.fitness).any(), moment, rows

            start = jnp.int32(0), jnp.bool_(True), moment, rows
            i, _, moment, rows = jax.lax.while_loop(lambda c: (c[0] < count) & c[1], turn, start)
            return moment, rows._replace(done=i)

        return play

    n = size(jax.eval_shape(engine._ask, 0, moment.state)[0])
    _, compiled = engine.runtime.fit(program, n, moment, jnp.int32(0), jnp.int32(0), donate=(0,))
    return lambda moment, first, count: compiled(moment, jnp.int32(first), jnp.int32(count))


def generation(engine: Engine, runtime: Runtime, moment: Moment, number: Int[Array, ""]) -> tuple[Moment, Block]:
    """One generation: the moment after it, and what happened in it."""
    genome, luck = engine._ask(number, moment.state)
    judged = engine.program(runtime)
    evaluation = judged(moment, genome, luck)
    if engine.again is not None:
        second, luck = engine._again(number, moment.state, genome, evaluation._replace(aux=None))
        looked = judged(moment, second, luck)
        genome = concatenate(genome, second)
        evaluation = jax.tree.map(lambda *x: jnp.concatenate(x), evaluation, looked)
    state, info = engine.strategy.tell(engine.runtime, moment.state, genome, evaluation._replace(aux=None))
    after = Moment(state, engine._absorb(moment.task_state, evaluation.aux))
    known = engine.glimpse and (engine.glimpse(moment.state), engine.glimpse(state))
    moves = moved(*known, evaluation.fitness.shape[0]) if known else None
    return after, Block(jnp.int32(0), *scores(evaluation), _small(moment.task_state), info, moves)


def scores(evaluation: Evaluation) -> tuple[Array, Any, Any]:
    """Fitness, descriptor, and environment steps where the task counts them."""
    aux = evaluation.aux
    return evaluation.fitness, evaluation.descriptor, aux.get("steps") if isinstance(aux, dict) else None


def _small(state: Any) -> Any:
    leaves = jax.tree.leaves(jax.eval_shape(lambda: state))
    keys = any(jnp.issubdtype(x.dtype, jax.dtypes.prng_key) for x in leaves)
    return () if keys or sum(x.size * x.dtype.itemsize for x in leaves) > STATE else state
