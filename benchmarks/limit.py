"""A population against its limit: the same rows through one set of weights, which draws nothing and can't search.

MLPs of 3 d x d layers; forward (noise included), update, and whole generation, each as a ratio to `x @ W` with shared
weights on the same rows in the same round. Then rollouts of a 3 x 256 policy on CartPole and Pendulum, compile time,
and peers: low-rank noise from jax.random (and factors given, for free), and Open_ES of evosax. Where members have one
row, also with members in bfloat16 (`compute`), against the same limit in float32. A generation of rollouts also as one
writes it by hand (benchmarks/by_hand.py). Programs keep the memory that they free, as under the command `evo`. On a GPU
instead forward and generation in bfloat16 for d of 2,048 and 8,192 and up to 2^18 members: 1 / ratio is the share of
pure batched inference, with noise made on the fly.

    python benchmarks/limit.py [--quick] [--json FILE]
"""

from __future__ import annotations

import statistics
import time
from functools import partial

import by_hand
import control
import jax
import jax.numpy as jnp
from measure import Row, arguments, interleaved, milliseconds, on_cpu, show

from evo.compiler import keep_memory, options
from evo.engine import judge, luck, settle, start
from evo.envs.brax import Brax
from evo.noise import LowRank
from evo.runtime import Runtime, temporaries
from evo.strategies.es import ES
from evo.task import Evaluation

LAYERS = 3
QUICK = [(256, 1024, 1, 1), (1024, 512, 1, 1), (256, 256, 8, 1), (256, 64, 64, 1), (256, 256, 1, 4), (256, 256, 1, 16)]
FULL = [(d, n, 1, 1) for d in (256, 1024, 2048) for n in (256, 512, 1024, 2048, 4096)]
FULL += [(256, 256, 8, 1), (256, 256, 64, 1), (1024, 256, 8, 1), (1024, 64, 64, 1)]
FULL += [(d, 1024, 1, rank) for d in (256, 1024) for rank in (4, 16)]
GPU = [(d, n, 1, 1) for d in (2048, 8192) for n in (2**12, 2**15, 2**18)]
Case = tuple[int, int, int, int]  # width, population, rows a member, rank


def weights(width: int) -> list:
    keys = jax.random.split(jax.random.key(0), LAYERS)
    return [jax.random.normal(key, (width, width)) / width**0.5 for key in keys]


def task(params, x):
    """Fitness of one member on its own rows: the benchmark hands them over in place of its luck."""
    for w in params:
        x = jnp.tanh(x @ w)
    return -(x**2).mean()


def shared(params, x):
    """The limit: all rows through one set of weights."""
    y = x.reshape(-1, x.shape[-1])
    for w in params:
        y = jnp.tanh(y @ w)
    return -(y.reshape(x.shape) ** 2).mean((1, 2))


def build(program, *args, plain: bool = False):
    """A compiled program with its arguments, as a call; `plain` as JAX compiles, else as the engine does."""
    traced = jax.jit(program).trace(*args)
    return partial(traced.lower().compile(compiler_options=None if plain else options(traced.jaxpr.jaxpr)), *args)


def going(step, state):
    """A step from state to state as a call without arguments that goes on from where the last one ended."""
    last = [jax.tree.map(jnp.copy, state)]

    def call():
        last[0] = step(last[0])
        return last[0]

    return call


def generation(strategy: ES, task, state, inputs):
    """A generation as the engine runs it: three programs, and the old state's memory is the new one's."""
    key = jax.random.key(2)

    def judge(state, genome, inputs):
        return Runtime().map(task, strategy.noise, strategy.bases(state), genome, inputs)

    ask = jax.jit(lambda state, key: strategy.ask(key, state)[0]).lower(state, key).compile()
    genome = ask(state, key)
    traced = jax.jit(judge).trace(state, genome, inputs)
    lowered = traced.lower()
    judged = lowered.compile(compiler_options=options(traced.jaxpr.jaxpr))
    tell = jax.jit(partial(strategy.tell, Runtime()), donate_argnums=0).lower(state, genome, lowered.out_info).compile()

    def step(state):
        genome = ask(state, key)
        return tell(state, genome, judged(state, genome, inputs))[0]

    return step


def parts(strategy: ES, task, params, inputs) -> dict:
    """Forward, update and generation of a strategy as programs; `inputs` [n, ...] is what each member is judged on."""
    state, key = strategy.init(jax.random.key(0), params), jax.random.key(1)

    def forward(state, key, inputs):
        genome, _ = strategy.ask(key, state)
        return genome, Runtime().map(task, strategy.noise, strategy.bases(state), genome, inputs)

    def update(key, fitness, state):
        return strategy.tell(Runtime(), state, strategy.ask(key, state)[0], Evaluation(fitness))[0]

    fitness = jax.random.normal(key, inputs.shape[:1])
    return {
        "forward": build(lambda *a: forward(*a)[1].fitness, state, key, inputs),
        "update": going(jax.jit(partial(update, key, fitness), donate_argnums=0), state),
        "generation": going(generation(strategy, task, state, inputs), state),
    }


def naive(params, keys, x):
    """Rank 1 as usually written: a draw of jax.random a member and layer, in the model."""

    def member(key, x):
        for i, w in enumerate(params):
            a, b = jax.random.normal(jax.random.fold_in(key, i), (2, w.shape[0]))
            x = jnp.tanh(x @ w + 0.05 * (x @ a)[:, None] * b[None])
        return -(x**2).mean()

    return jax.vmap(member)(keys, x)


def given(params, factors, x):
    """Rank 1 with all factors in memory: what no generator can beat."""
    for w, (a, b) in zip(params, factors, strict=True):
        x = jnp.tanh(x @ w + 0.05 * (x * a[:, None]).sum(-1)[..., None] * b[:, None])
    return -(x**2).mean((1, 2))


def open_es(params, x):
    """A generation of evosax's Open_ES: every member a whole network."""
    from evosax.algorithms import Open_ES

    algorithm = Open_ES(population_size=len(x), solution=params, metrics_fn=lambda *_: {})
    settings = algorithm.default_params

    def program(state, key, x):
        members, state = algorithm.ask(key, state, settings)
        return algorithm.tell(key, members, -jax.vmap(task)(members, x), state, settings)[0]

    return build(program, algorithm.init(jax.random.key(0), params, settings), jax.random.key(1), x)


def peers(width: int, n: int) -> dict:
    """Other ways to the same forward, and evosax's generation."""
    params, x = weights(width), jax.random.normal(jax.random.key(9), (n, 1, width))
    keys = jax.random.split(jax.random.key(2), n)
    factors = [tuple(jax.random.normal(k, (2, n, width))) for k in jax.random.split(jax.random.key(3), LAYERS)]
    programs = {
        "forward, naive: jax.random": build(naive, params, keys, x),
        "forward, factors given": build(given, params, factors, x),
    }
    for law in ("sign", "bytes4", "normal"):
        programs[f"forward, {law}"] = parts(ES(n, noise=LowRank(1, law)), task, params, x)["forward"]
    return programs | {"generation, evosax Open_ES": open_es(params, x)}


def compare(name: str, limit: tuple, programs: dict, rounds: int) -> list[Row]:
    """Rows of a case: medians over rounds of the ratio to the limit in the same round.

    The limit is compiled as JAX does and as the engine does (see `evo.compiler`): the faster one counts.
    """
    times = interleaved({**dict(zip(("limit", "other"), limit, strict=True)), **programs}, rounds)
    times["limit"] = min(times["limit"], times.pop("other"), key=statistics.median)
    ratio = {p: statistics.median(a / b for a, b in zip(t, times["limit"], strict=True)) for p, t in times.items()}
    cost = {p: 1e3 * statistics.median(t) for p, t in times.items()}
    unit = milliseconds()
    rows = [Row(f"{name}: {p}", cost[p], unit, ratio[p], "shared inference") for p in times]
    if {"update", "forward"} <= set(programs):
        pairs = zip(times["update"], times["forward"], strict=True)
        rows.append(Row(f"{name}: update", cost["update"], unit, statistics.median(a / b for a, b in pairs), "forward"))
    return rows


def layers(case: Case, rounds: int) -> list[Row]:
    """Forward, update and generation of one shape."""
    width, n, rows, rank = case
    params, x = weights(width), jax.random.normal(jax.random.key(9), (n, rows, width))
    limit = build(shared, params, x, plain=True), build(shared, params, x)
    programs = parts(ES(n, noise=LowRank(rank)), task, params, x)
    if rows == rank == 1:
        half = parts(ES(n, noise=LowRank(), compute="bfloat16"), task, params, x.astype(jnp.bfloat16))
        programs |= {f"{part}, bfloat16": half[part] for part in ("forward", "generation")}
        programs["shared, bfloat16"] = build(shared, *jax.tree.map(lambda x: x.astype(jnp.bfloat16), (params, x)))
    name = f"d={width} n={n} rows={rows} rank={rank}"
    memory = temporaries(programs["forward"].func) / 2**20
    return [*compare(name, limit, programs, rounds), Row(f"{name}: forward", memory, "MiB")]


def half(case: Case, rounds: int) -> list[Row]:
    """Forward and generation of one shape with members in bfloat16, against shared weights in bfloat16: on a GPU."""
    width, n, rows, rank = case
    params = weights(width)
    x = jax.random.normal(jax.random.key(9), (n, rows, width), jnp.bfloat16)
    limit = build(shared, jax.tree.map(lambda w: w.astype(jnp.bfloat16), params), x)
    made = parts(ES(n, noise=LowRank(rank), compute="bfloat16"), task, params, x)
    programs = {part: made[part] for part in ("forward", "generation")}
    return compare(f"d={width} n={n} rows={rows} rank={rank} bfloat16", (limit, limit), programs, rounds)


def rollouts(world: str, n: int, steps: int, rounds: int) -> list[Row]:
    """A generation of rollouts against the same rollouts of one policy, in time and (metrics included) to compile."""
    params, episode = control.network(world, 256, 3, jax.random.key(0)), control.task(world, steps)
    keys, seed = luck(jax.random.key(1), jnp.arange(n) // 2), jnp.uint32(2)
    one, strategy, state = searched(episode, params, n)
    hand, adam = by_hand.generation(world, n, steps)
    made, took = compiling(
        f"{world} n={n} T={steps}",
        {
            "shared": lambda: build(one, params, keys),
            "generation": lambda: generation(strategy, episode, state, keys),
            "by hand": lambda: build(hand, params, adam.init(params), jax.random.key(2)),
            "by hand, bare": lambda: build(by_hand.bare(world, n, steps), params, seed),
        },
        times=3,
    )
    limit = made["shared"], build(one, params, keys, plain=True)
    programs = {"generation": going(made["generation"], state), "by hand": made["by hand"]}
    return [*compare(f"{world} n={n} T={steps}", limit, programs, rounds), *took]


def physics(env: str, n: int) -> list[Row]:
    """Compile time where the rollout itself takes long to compile: a Brax env, with its policy of 2 x 64."""
    brax = Brax(env, episode_length=500)
    params, state = start(brax, None, jax.random.key(0))
    told = judge(brax, state)
    keys = luck(jax.random.key(1), jnp.arange(n) // 2)
    one, strategy, searching = searched(told, params, n)
    programs = {
        "shared": lambda: build(one, params, keys),
        "generation": lambda: generation(strategy, told, searching, keys),
    }
    return compiling(f"Brax {env} n={n}", programs, times=2)[1]


def searched(task, params, n: int) -> tuple:
    """All rollouts through one policy, an ES settled on the task, and its first state."""
    strategy = settle(ES(n), task, params, ())
    one = lambda params, keys: jax.vmap(lambda key: task(params, key))(keys)  # noqa: E731
    return one, strategy, strategy.init(jax.random.key(0), params)


def compiling(name: str, programs: dict, times: int) -> tuple[dict, list[Row]]:
    """What the programs' makers compile, and the least CPU time that each took, against "shared"."""
    seconds, made = {}, {}
    for program, make in programs.items():
        took = []
        for _ in range(times):
            jax.clear_caches()
            began = time.process_time()
            made[program] = make()
            took.append(time.process_time() - began)
        seconds[program] = min(took)
    return made, [
        Row(f"{name}: compile, {program}", seconds[program], "CPU s", seconds[program] / seconds["shared"], "shared")
        for program in programs
    ]


def main():
    args = arguments(__doc__.splitlines()[0])
    keep_memory()
    rounds, table = 7 if args.quick else 9, []
    if not on_cpu():
        for case in GPU[::3] if args.quick else GPU:
            table += half(case, rounds)
        return show("A population against shared inference in bfloat16", table, args.json)
    for case in QUICK if args.quick else FULL:
        table += layers(case, rounds)
    for world in control.WORLDS:
        table += rollouts(world, 256, 100, rounds)
    table += [] if args.quick else physics("hopper", 256)
    width, n = (256, 256) if args.quick else (256, 1024)
    x = jax.random.normal(jax.random.key(9), (n, 1, width))
    limit = build(shared, weights(width), x, plain=True), build(shared, weights(width), x)
    table += compare(f"d={width} n={n}", limit, peers(width, n), 3 if args.quick else 7)
    show("A population against shared inference", table, args.json)


if __name__ == "__main__":
    main()
