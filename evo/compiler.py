"""What XLA is told when the engine compiles a program: to leave out a library that gets numbers wrong.

On CPUs jaxlib 0.10.2 to 0.11.2 hand a product and the sum over it to one kernel of YNNPACK. Where the product's right
operand is one number throughout, the kernel reads memory that isn't the operand's: `(x @ jnp.ones((32, 24))).sum(1)` is
anything, infinity included. With 0.10.2 a kernel over more than 32,768 rows also gets the last of them wrong
(jax-ml/jax#39103).
"""

from __future__ import annotations

import os

import jax

FUSIONS = "xla_cpu_experimental_ynn_fusion_type"  # XLA's name for what that library is given
NONE = ""


def options() -> dict[str, str | bool]:
    """For `jax.jit(..., compiler_options=options())` of programs that run a user's task, none within another.

    Nothing where the default device isn't a CPU, or where `XLA_FLAGS` says what the library is to be given. What runs
    no task is compiled as JAX does: long sums take ten times as long without the library.
    """
    said = FUSIONS in os.environ.get("XLA_FLAGS", "")
    return {} if said or jax.default_backend() != "cpu" else {FUSIONS: NONE}
