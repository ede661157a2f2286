"""Does the law of the noise change what is learnt? Rank-1 ES with each law, ten seeds a task, against Gaussian's.

Every law runs the same generations from the same starts. A law equals `normal` where the interval of the mean
difference between seeds (95 %, paired by seed) holds 0, both at the end and on average over the run.

    python benchmarks/laws.py [--quick] [--json FILE]
"""

from __future__ import annotations

import control
import jax
import jax.numpy as jnp
import numpy as np
from measure import Row, arguments, show

from evo.engine import luck, settle
from evo.noise import LowRank
from evo.runtime import Runtime
from evo.strategies.es import ES

T95 = {5: 2.776, 10: 2.262}  # Student's t for an interval of 95 %, by number of seeds


def regression(params, key):
    """Minus the squared error of an MLP on an asymmetric function of four inputs; the data are the trial's."""
    x = jax.random.uniform(key, (32, 4), minval=-2, maxval=2)
    y = jnp.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] - 0.5 * (x[:, 3] - 1) ** 2
    return -((control.policy(params, x)[:, 0] - y) ** 2).mean()


def tasks() -> dict:
    """Task and starting parameters by name."""
    start = control.network("CartPole", 32, 2, jax.random.key(0))
    swing = control.network("Pendulum", 32, 2, jax.random.key(0))
    return {
        "CartPole": (control.task("CartPole", 200), start),
        "Pendulum": (control.task("Pendulum", 100), swing),
        "regression": (regression, start),
    }


def curve(law: str, task, params, generations: int, seeds: int) -> np.ndarray:
    """The population's mean fitness [seeds, generations]."""
    strategy = settle(ES(64, sigma=0.1, lr=0.02, noise=LowRank(1, law)), task, params, ())

    def generation(state, key):
        key_ask, key_task = jax.random.split(key)
        genome, trial = strategy.ask(key_ask, state)
        bases = strategy.bases(state)
        evaluation = Runtime().map(task, strategy.noise, bases, genome, luck(key_task, trial))
        return strategy.tell(Runtime(), state, genome, evaluation)[0], evaluation.fitness.mean()

    def run(key):
        return jax.lax.scan(generation, strategy.init(key, params), jax.random.split(key, generations))[1]

    return np.asarray(jax.lax.map(run, jax.random.split(jax.random.key(7), seeds)))


def verdict(name: str, found: np.ndarray, normal: np.ndarray) -> list[Row]:
    """The mean and its half interval, then the difference to `normal`, in the last tenth and over the whole run."""
    rows, seeds = [], len(found)
    tenth = found.shape[1] // 10
    for part, cut in {"end": slice(-tenth, None), "whole run": slice(None)}.items():
        value, base = found[:, cut].mean(1), normal[:, cut].mean(1)
        half = [T95[seeds] * x.std(ddof=1) / seeds**0.5 for x in (value, value - base)]
        equal = "equal" if abs((value - base).mean()) <= half[1] else "differs"
        difference = f"normal {(value - base).mean():+.3g} +- {half[1]:.2g}: {equal}"
        rows.append(Row(f"{name}, {part}", float(value.mean()), f"+- {half[0]:.2g}", None, difference))
    return rows


def main():
    args = arguments(__doc__.splitlines()[0])
    seeds, generations, table = (5, 60, []) if args.quick else (10, 80, [])
    for name, (task, params) in tasks().items():
        curves = {law: curve(law, task, params, generations, seeds) for law in ("normal", "bytes4", "sign")}
        for law, found in curves.items():
            table += verdict(f"{name}, {law}", found, curves["normal"])
    show(f"Learning by law: rank 1, population 64, {generations} generations, {seeds} seeds", table, args.json)


if __name__ == "__main__":
    main()
