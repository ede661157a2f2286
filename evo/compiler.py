"""What XLA is told when the engine compiles a program: to leave out a library that gets numbers wrong.

On CPUs jaxlib 0.10.2 to 0.11.2 hand a product and the sum over it to one kernel of YNNPACK. Where the product's right
operand is one number throughout, the kernel reads memory that isn't the operand's: `(x @ jnp.ones((32, 24))).sum(1)` is
anything, infinity included. With 0.10.2 a kernel over more than 32,768 rows also gets the last of them wrong
(jax-ml/jax#39103). Single products it gets right, those in half precision in half the time, and long ones in four
fifths of it, so they stay.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

FUSIONS = "xla_cpu_experimental_ynn_fusion_type"  # XLA's name for what that library is given
NONE, PRODUCTS = "", "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
STEADY = f"{PRODUCTS},LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
LONG = 1024  # numbers that a product adds up, from which the library is as fast as XLA's own product, or faster
LEVEL = "xla_backend_optimization_level"  # XLA's own is 3
MMAP_THRESHOLD, TRIM_THRESHOLD, KEPT = -3, -1, 1 << 30  # glibc's options of `mallopt`, and bytes


def options(jaxpr: Any = None, steady: bool = False) -> dict[str, str | int]:
    """For `jax.jit(..., compiler_options=options())` of programs that run a user's task, none within another.

    Nothing where the default device isn't a CPU, nor what `XLA_FLAGS` says already. What runs no task is compiled as
    JAX does: long sums take ten times as long without the library. With the program's `jaxpr`, the library gets the
    products of one that has some in bfloat16, or over `LONG` numbers. `steady` gives it all products and convolutions:
    it adds up in one order, where XLA's own have another for the last rows, so that a row's bits depend on its place.
    Level 2 of optimisation takes a third off the time to compile rollouts of small networks, and what it makes is as
    fast (docs/performance.md).
    """
    if jax.default_backend() != "cpu":
        return {}
    library = STEADY if steady else PRODUCTS if jaxpr is not None and gains(jaxpr) else NONE
    wanted: dict[str, str | int] = {FUSIONS: library, LEVEL: 2}
    return {name: value for name, value in wanted.items() if name not in os.environ.get("XLA_FLAGS", "")}


def gains(jaxpr: Any) -> bool:
    """Whether there is a product of two arrays in bfloat16, or one over `LONG` numbers or more, at any depth."""
    return any(
        all(x.aval.dtype == jnp.bfloat16 for x in eqn.invars) or added(eqn) >= LONG
        if eqn.primitive.name == "dot_general"
        else any(map(gains, jaxprs_in_params(eqn.params)))
        for eqn in jaxpr.eqns
    )


def added(eqn: Any) -> int:
    """How many numbers each entry of a product is the sum of."""
    (axes, _), _ = eqn.params["dimension_numbers"]
    return math.prod(eqn.invars[0].aval.shape[axis] for axis in axes)


def keep_memory() -> bool:
    """Have the C library keep up to 1 GiB that programs have freed, for their next call. False where it can't be asked.

    Else glibc gives blocks above 32 MiB back at once, and the next generation's temporaries are fresh pages, at 0.4
    CPU ms a MiB: a third of a generation at 40 MiB (docs/performance.md). It concerns the whole process, so it is for
    the program to call, not for a library; the command `evo` does.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all([mallopt(option, KEPT) == 1 for option in (MMAP_THRESHOLD, TRIM_THRESHOLD)])
