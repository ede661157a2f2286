"""A language model in int8 without a float against the same model in float32: price of a token, and bits learnt.

The price: one generation's members judged, interleaved rounds, CPU time. The learning: both are trained on the demo
corpus for equally many tokens, EGG by `egg`, the float model by `eggroll`, and judged on held-out text beside what
counting gets; mean over seeds.
"""

from __future__ import annotations

import math
import statistics
from functools import partial
from typing import Any

import jax
from measure import Row, arguments, compiled_once, interleaved, show

import evo
from evo.envs.language.int8 import Int8Recurrent, exponentials, logarithms, reciprocals
from evo.envs.language.likelihood import Text
from evo.envs.language.recurrent import Recurrent
from evo.integer import Integer
from evo.run import prepare
from evo.runtime import Runtime
from evo.schedule import Hyperbolic
from evo.strategies.egg import EGG
from evo.strategies.es import EGGROLL

MEMBERS, LENGTH, PAIRS = 1024, 32, 512
KINDS: dict[str, tuple[type, Any]] = {
    "int8, normal noise": (Int8Recurrent, EGG(MEMBERS)),
    "int8, signs": (Int8Recurrent, EGG(MEMBERS, noise=Integer(law="sign"))),
    "int8, signs of rank 4": (Int8Recurrent, EGG(MEMBERS, noise=Integer(4, law="sign"))),
    "float32": (Recurrent, EGGROLL(MEMBERS, sigma=0.05, lr=0.02)),
}


def price(width: int, rounds: int) -> list[Row]:
    """CPU nanoseconds a token of a member costs: judging, and learning from it."""
    judged, told = {}, {}
    for name, (model, strategy) in KINDS.items():
        engine, moment, _ = prepare(Text(model(width), length=LENGTH, sequences=PAIRS), None, strategy, 0, Runtime())
        members = engine.ask(0, moment.state)
        program = jax.jit(engine.program(engine.runtime)).lower(moment, *members).compile()
        evaluation = program(moment, *members)._replace(aux=None)
        judged[name] = partial(program, moment, *members)
        tell = jax.jit(partial(engine.strategy.tell, engine.runtime))
        told[name] = partial(tell, moment.state, members[0], evaluation)
    table = []
    for what, programs in (("judging", judged), ("learning", told)):
        times = interleaved(programs, rounds)
        for name, seconds in times.items():
            ratio = statistics.median(a / b for a, b in zip(seconds, times["float32"], strict=True))
            value = 1e9 * statistics.median(seconds) / (MEMBERS * LENGTH)
            table.append(Row(f"width {width}, {name}: {what}", value, "CPU ns/token", ratio, "float32"))
    return table


def learnt(generations: int, seeds: int) -> list[Row]:
    """Bits per byte on held-out text after equally many tokens."""
    kinds = {
        "EGG": (Int8Recurrent(), EGG(MEMBERS, Hyperbolic(1.0, 0.015), Integer(law="sign"))),
        "float32, EGGROLL": (Recurrent(), EGGROLL(MEMBERS, sigma=0.05, lr=0.02)),
    }
    table, task = [], None
    for name, (model, strategy) in kinds.items():
        task = Text(model, length=LENGTH, sequences=PAIRS)
        bits = []
        for seed in range(seeds):
            every = {"eval_every": generations, "eval_episodes": 512}
            run = evo.run(task, None, strategy, generations=generations, seed=seed, **every)
            bits.append(-float(run.metrics["eval_mean"][-1]))
        spread = f" +- {statistics.stdev(bits):.3f} over {seeds} seeds" if seeds > 1 else ""
        tokens = generations * MEMBERS * LENGTH / 1e6
        table.append(Row(f"{name} after {tokens:.0f} M tokens{spread}", statistics.mean(bits), "bits/byte"))
    return table + [Row(name, -value, "bits/byte") for name, value in task.references.items()]


def main():
    args = arguments(__doc__.splitlines()[0])
    compiled_once()
    table = [row for width in ((64,) if args.quick else (64, 256)) for row in price(width, 3 if args.quick else 7)]
    tables = [exponentials(), logarithms(), *reciprocals()]
    table.append(Row("all tables of the int8 model", math.fsum(x.nbytes for x in tables) / 1024, "KiB"))
    table += learnt(60, 1) if args.quick else learnt(400, 3)
    show(f"{MEMBERS} members, windows of {LENGTH} tokens", table, args.json)


if __name__ == "__main__":
    main()
