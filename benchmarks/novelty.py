"""What exact nearest neighbours cost: the novelty of a generation against an archive of 100,000 behaviours.

    python benchmarks/novelty.py [--quick] [--json FILE]

Against computing the same distances and keeping only the least, which no exact search can do without.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from measure import Row, arguments, interleaved, rows, show

from evo.novelty import Seen, novelty, squared
from evo.runtime import temporaries

ARCHIVE, MEMBERS, K = 100_000, 1000, 25


@jax.jit
def nearest(seen, descriptor):
    """The limit: every distance, and the least of each member's."""
    blocks = seen.descriptor.reshape(-1, 4000, descriptor.shape[1])
    step = lambda least, block: (jnp.minimum(least, squared(descriptor, block).min(1)), None)  # noqa: E731
    return jax.lax.scan(step, jnp.full(len(descriptor), jnp.inf), blocks)[0]


def main():
    args = arguments(__doc__.splitlines()[0])
    table = []
    for d in (2, 16) if args.quick else (2, 16, 128):
        drawn = jax.random.normal(jax.random.key(0), (ARCHIVE + MEMBERS, d))
        batch = drawn[ARCHIVE:]
        full, tenth = (Seen(drawn[:ARCHIVE], jnp.int32(count)) for count in (ARCHIVE, ARCHIVE // 10))
        limit = f"every distance, d={d}"
        program = jax.jit(novelty, static_argnums=2).lower(full, batch, K).compile()
        programs = {
            limit: partial(nearest, full, batch),
            f"novelty, d={d}": partial(program, full, batch),
            f"novelty, d={d}, a tenth full": partial(program, tenth, batch),
        }
        table += rows(interleaved(programs, 2 if args.quick else 5), limit)
        table.append(Row(f"novelty, d={d}: temporaries", temporaries(program) / 2**20, "MiB"))
    show(f"{MEMBERS} members, archive of {ARCHIVE:,}, k={K}", table, args.json)


if __name__ == "__main__":
    main()
