"""A whole generation (noise, forward, fitness, update) of an MLP 3 x 256 at population 1,024, one row a member.

The limit is shared-weight inference on the same rows: it draws nothing, updates nothing and can't search. Peers:
Gaussian noise on our own runtime, and Open_ES of evosax. Memory is what XLA says the programs need beside arguments.

    python benchmarks/generation.py [--quick] [--json FILE]
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from measure import Row, arguments, interleaved, rows, show

from evo.engine import settle
from evo.noise import Gaussian, LowRank
from evo.runtime import Runtime, temporaries
from evo.strategies.es import ES

WIDTH, LAYERS, POPULATION = 256, 3, 1024
INPUTS = np.random.default_rng(0).normal(size=(POPULATION, WIDTH)).astype(np.float32)


def forward(params, x):
    for w in params:
        x = jnp.tanh(x @ w)
    return x


def task(params, key):
    """Fitness of one member on its own row of input."""
    return -(forward(params, given(key)[None]) ** 2).mean()


def given(key):
    """A row of input that costs nothing to make: the key only says which."""
    return jnp.asarray(INPUTS)[jax.random.key_data(key)[1] % POPULATION]


def shared(params, key):
    """The limit: the same rows through one set of weights."""
    x = jax.vmap(given)(key)
    return -(forward(params, x) ** 2).mean(1)


def generation(strategy, params):
    """ask, map, tell of a strategy as one program of (state, key)."""
    strategy = settle(strategy, task, params, ())
    state = strategy.init(jax.random.key(0), params)

    def program(state, key):
        genome, _ = strategy.ask(key, state)
        luck = jax.random.split(key, POPULATION)
        evaluation = Runtime().map(task, strategy.noise, strategy.bases(state), genome, luck)
        return strategy.tell(Runtime(), state, genome, evaluation)[0]

    return jax.jit(program).lower(state, jax.random.key(1)).compile(), state


def open_es(params, population):
    """The same generation with evosax's Open_ES: every member a whole network."""
    from evosax.algorithms import Open_ES

    algorithm = Open_ES(population_size=population, solution=params, metrics_fn=lambda *_: {})
    settings = algorithm.default_params
    state = algorithm.init(jax.random.key(0), params, settings)

    def program(state, key):
        members, state = algorithm.ask(key, state, settings)
        fitness = jax.vmap(task)(members, jax.random.split(key, population))
        return algorithm.tell(key, members, -fitness, state, settings)[0]

    return jax.jit(program).lower(state, jax.random.key(1)).compile(), state


def main():
    args = arguments(__doc__.splitlines()[0])
    params = [jax.random.normal(jax.random.key(i), (WIDTH, WIDTH)) / WIDTH**0.5 for i in range(LAYERS)]
    key = jax.random.key(1)
    luck = jax.random.split(key, POPULATION)
    limit = jax.jit(shared).lower(params, luck).compile()
    made = {
        "EGGROLL rank 1, normal": generation(ES(POPULATION, noise=LowRank(law="normal")), params),
        "EGGROLL rank 1, bytes4": generation(ES(POPULATION, noise=LowRank(law="bytes4")), params),
        "EGGROLL rank 1, signs": generation(ES(POPULATION, noise=LowRank(law="sign")), params),
        "EGGROLL rank 4": generation(ES(POPULATION, noise=LowRank(4)), params),
        "Gaussian ES": generation(ES(POPULATION, noise=Gaussian()), params),
        "evosax Open_ES": open_es(params, POPULATION),
    }
    programs = {"shared-weight inference": partial(limit, params, luck)}
    programs |= {name: partial(program, state, key) for name, (program, state) in made.items()}
    times = interleaved(programs, 3 if args.quick else 7)
    memory = {"shared-weight inference": limit} | {name: program for name, (program, _) in made.items()}
    peak = {name: temporaries(program) / 2**20 for name, program in memory.items()}
    base = peak["shared-weight inference"]
    table = rows(times, "shared-weight inference")
    table += [Row(name, mb, "MiB", mb / base, "shared-weight inference") for name, mb in peak.items()]
    show(f"One generation, MLP {LAYERS} x {WIDTH}, population {POPULATION}", table, args.json)


if __name__ == "__main__":
    main()
