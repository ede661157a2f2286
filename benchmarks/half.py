"""How small a sigma bfloat16 can still see: fitness differences of pairs in half precision beside those in single.

A 3 x d tanh MLP at `compute: bfloat16`, weights of RMS 1 / sqrt(d), one set of genomes. The table gives, for each sigma
as a share of the weights' RMS, the correlation between what pairs differ by in bfloat16 and in float32: 1 says that
rounding the activations loses nothing, 0 that nothing is left.

    python benchmarks/half.py [--quick] [--json FILE]
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import limit
from measure import Row, arguments, show

from evo.noise import LowRank
from evo.runtime import Runtime
from evo.strategies.es import ES


def task(params, x):
    """Fitness of one member: its network's mean output, in its weights' own precision."""
    x = x.astype(params[0].dtype)
    for w in params:
        x = jnp.tanh(x @ w)
    return x.astype(jnp.float32).mean()


def differences(compute: str | None, sigma: float, width: int, pairs: int, rows: int):
    """What each pair differs by."""
    params, x = limit.weights(width), jax.random.normal(jax.random.key(9), (rows, width))
    strategy = ES(2 * pairs, sigma, noise=LowRank(), compute=compute)

    def program(key):
        state = strategy.init(key, params)
        genome, _ = strategy.ask(key, state)
        luck = jnp.broadcast_to(x, (2 * pairs, *x.shape))
        fitness = Runtime().map(task, strategy.noise, strategy.bases(state), genome, luck).fitness
        return fitness[::2] - fitness[1::2]

    return jax.jit(program)(jax.random.key(1))


def main():
    args = arguments(__doc__.splitlines()[0])
    pairs, table = 256 if args.quick else 1024, []
    for width in (256,) if args.quick else (256, 1024):
        for power in range(0, 13, 2):
            sigma = 2.0**-power / width**0.5
            wide, half = (differences(compute, sigma, width, pairs, 16) for compute in (None, "bfloat16"))
            correlation = float(jnp.corrcoef(wide, half)[0, 1])
            table.append(Row(f"d={width}: sigma = 2^-{power} of the weights", correlation, "correlation"))
    show("Pairs' differences, bfloat16 beside float32", table, args.json)


if __name__ == "__main__":
    main()
