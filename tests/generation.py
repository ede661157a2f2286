"""A generation without the engine: ask, judge, look again, tell, in one compiled function."""

from functools import partial

import jax
import jax.numpy as jnp

from evo.genome import concatenate
from evo.runtime import Runtime


def generation(strategy, task):
    """`(key, state) -> state, info, genome, evaluation` of one generation on one device."""

    def judged(state, key, genome, trial):
        luck = jax.vmap(partial(jax.random.fold_in, key))(trial)
        return Runtime().map(task, strategy.noise, strategy.bases(state), genome, luck)

    @jax.jit
    def one(key, state):
        key_ask, key_task = jax.random.split(key)
        genome, trial = strategy.ask(key_ask, state)
        evaluation = judged(state, key_task, genome, trial)
        if hasattr(strategy, "again"):
            second, trial = strategy.again(key_ask, state, genome, evaluation)
            rounds = evaluation, judged(state, key_task, second, trial)
            genome = concatenate(genome, second)
            evaluation = jax.tree.map(lambda *x: jnp.concatenate(x), *rounds)
        state, info = strategy.tell(Runtime(), state, genome, evaluation)
        return state, info, genome, evaluation

    return one


def play(strategy, task, params, generations, seed=0):
    """The state and info after every generation, the initial state first."""
    step, state = generation(strategy, task), strategy.init(jax.random.key(seed), params)
    history = [(state, {})]
    for key in jax.random.split(jax.random.key(seed + 1), generations):
        state, info, _, _ = step(key, state)
        history.append((state, info))
    assert step._cache_size() == 1  # no retrace
    return history
