"""What a generation of the Deep GA costs: Gaussian or low-rank mutations, children drawn one by one or in litters.

    python benchmarks/litters.py [--quick] [--json FILE]

20 parents, 260 members, a policy of 3 layers of 256 that acts 20 times; against one network that judges as many rows.
In litters, a parent's children share its matrices: with low-rank mutations a generation is about 20 batched forwards.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from measure import Row, arguments, interleaved, rows, show

from evo.noise import Gaussian, LowRank
from evo.runtime import Runtime, temporaries
from evo.strategies.deep_ga import DeepGA

WIDTH, LAYERS, STEPS, MEMBERS, PARENTS = 256, 3, 20, 260, 20
SHARED = "one network, as many rows"


def task(params, key):
    """A policy that acts `STEPS` times, one step after another."""

    def step(x, _):
        for layer in params:
            x = jnp.tanh(x @ layer)
        return x, None

    return jax.lax.scan(step, jax.random.normal(key, (WIDTH,)), length=STEPS)[0].sum()


def shared(params, key):
    """The limit: everyone has the same weights."""
    return jax.vmap(partial(task, params))(jax.random.split(key, MEMBERS))


def judged(ga, state, key):
    """Everyone of a generation, without what comes after."""
    genome, _ = ga.ask(key, state)
    return Runtime().map(task, ga.noise, ga.bases(state), genome, jax.random.split(key, MEMBERS)).fitness


def main():
    args = arguments(__doc__.splitlines()[0])
    params = [jax.random.normal(jax.random.key(i), (WIDTH, WIDTH)) / WIDTH**0.5 for i in range(LAYERS)]
    key = jax.random.key(1)
    limit = jax.jit(shared).lower(params, key).compile()
    programs, memory = {SHARED: partial(limit, params, key)}, {SHARED: limit}
    for name, noise in (("Gaussian", Gaussian()), ("low-rank", LowRank())):
        for litters in (False, True):
            ga = DeepGA(population=MEMBERS - 1, parents=PARENTS, noise=noise, litters=litters, horizon=64)
            state = jax.jit(ga.init)(jax.random.key(0), params)
            compiled = jax.jit(partial(judged, ga)).lower(state, key).compile()
            case = f"{name}, {'litters' if litters else 'one by one'}"
            programs[case], memory[case] = partial(compiled, state, key), compiled
    table = rows(interleaved(programs, 3 if args.quick else 9), SHARED)
    table += [Row(f"{name}: temporaries", temporaries(x) / 2**20, "MiB") for name, x in memory.items()]
    show(f"One generation of {MEMBERS} members, MLP {LAYERS} x {WIDTH}, {STEPS} steps", table, args.json)


if __name__ == "__main__":
    main()
