"""What a generation of the Deep GA costs: Gaussian or low-rank mutations, children drawn one by one or in litters.

    python benchmarks/litters.py [--quick] [--json FILE]

20 parents, 260 members, a policy of 3 layers of 256 that acts 20 times; against one network that judges as many rows.
In litters, a parent's children share its matrices: with low-rank mutations a generation is about 20 batched forwards.
Then what the search reaches: minus the mean squared error of a student (16-64-64-4) to a random teacher on 64 inputs,
after 100 generations, mean and standard deviation over 10 seeds.
"""

from __future__ import annotations

import statistics
from functools import partial

import jax
import jax.numpy as jnp
from measure import Row, arguments, compiled_once, interleaved, rows, show

import evo
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


def learned(ga, seed: int) -> float:
    """The elite's fitness after a run on the teacher's task."""
    inputs, wanted = teacher()
    error = lambda params, key: -jnp.square(network(params, inputs) - wanted).mean()  # noqa: E731
    return float(evo.run(error, student(jax.random.key(seed)), ga, generations=100, seed=seed).metrics["elite"][-1])


def student(key) -> list[jax.Array]:
    """A network's layers at first."""
    return [jax.random.normal(jax.random.fold_in(key, i), (i, o)) / i**0.5 for i, o in ((16, 64), (64, 64), (64, 4))]


def network(layers, x):
    """What it answers."""
    for layer in layers[:-1]:
        x = jnp.tanh(x @ layer)
    return x @ layers[-1]


def teacher():
    """Inputs and answers, the same for every seed."""
    inputs = jax.random.normal(jax.random.key(101), (64, 16))
    return inputs, network(student(jax.random.key(102)), inputs)


def reached(quick: bool) -> list[Row]:
    """Final fitness of each kind of mutation."""
    table = []
    kinds = ("Gaussian", Gaussian(), False), ("low-rank", LowRank(), False), ("low-rank", LowRank(), True)
    for name, noise, litters in kinds:
        ga = DeepGA(
            population=MEMBERS - 1, parents=PARENTS, sigma=0.03, elite_candidates=2, elite_episodes=1,
            horizon=128, noise=noise, litters=litters,
        )  # fmt: skip
        scores = [learned(ga, seed) for seed in range(2 if quick else 10)]
        case = f"{name}, {'litters' if litters else 'one by one'}: fitness"
        table += [Row(f"{case}, mean", statistics.mean(scores), "-MSE")]
        table += [Row(f"{case}, std over {len(scores)} seeds", statistics.stdev(scores), "-MSE")]
    return table


def main():
    args = arguments(__doc__.splitlines()[0])
    compiled_once()
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
    table += reached(args.quick)
    show(f"One generation of {MEMBERS} members, MLP {LAYERS} x {WIDTH}, {STEPS} steps", table, args.json)


if __name__ == "__main__":
    main()
