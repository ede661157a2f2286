"""What XLA's CPU backend gets wrong, the engine's programs get right."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import evo
from evo.compiler import FUSIONS, LEVEL, LONG, PRODUCTS, gains, options
from evo.strategies.es import ES

INPUT = jnp.linspace(-1.0, 1.0, 5 * 32).reshape(5, 32)


def pooled(params, key):
    """A product with one number throughout, and a sum over it: `evo.compiler` says what becomes of that."""
    x = INPUT.astype(params["w"].dtype)
    return (jnp.tanh(x @ params["w"]) @ jnp.full((params["w"].shape[1], 24), 0.5, x.dtype)).sum()


def weights(width):
    return {"w": jnp.linspace(-1.0, 2.0, 32 * width).reshape(32, width)}


@pytest.mark.parametrize(("compute", "width"), [(None, 32), (None, LONG), ("bfloat16", 32)])
def test_fitness_is_right_where_xla_is_wrong(compute, width):
    """Also where products in half precision and long ones are left to the library that gets others wrong."""
    params = weights(width)
    strategy = ES(512, sigma=1e-2 if compute else 1e-6, compute=compute)
    result = evo.run(pooled, params, strategy, generations=1, eval_every=1, eval_episodes=512)
    right = 12 * np.tanh(np.asarray(INPUT, np.float64) @ np.asarray(params["w"], np.float64)).sum()
    for name in ("best", "mean", "median", "eval_mean"):
        assert_allclose(result.metrics[name], right, rtol=1e-3, err_msg=name)


def test_what_the_user_says_stands(monkeypatch):
    assert options() == {FUSIONS: "", LEVEL: 2}
    monkeypatch.setenv("XLA_FLAGS", f"--{FUSIONS}=LIBRARY_FUSION_TYPE_DOT")
    assert options() == {LEVEL: 2}
    jax.jit(pooled, compiler_options=options())(weights(32), None)


@pytest.mark.parametrize(
    ("dtype", "shape", "library"),
    [
        ("bfloat16", (3, 3), True),
        ("float32", (3, 3), False),
        ("float32", (LONG, 3), True),
        ("float32", (3, LONG), False),
    ],
)
def test_half_precision_and_long_sums_stay_with_the_library(dtype, shape, library):
    """At any depth, and wherever the axis is that is summed over."""
    x = jax.ShapeDtypeStruct((2, *shape), dtype)
    program = lambda y: jnp.einsum("im,jm->ij", y.T, y.T)  # noqa: E731
    inner = jax.make_jaxpr(lambda x: jax.lax.map(program, x))(x)
    assert gains(inner.jaxpr) == library
    assert options(inner.jaxpr)[FUSIONS] == (PRODUCTS if library else "")


KEPT = """
import resource
import numpy as np
from evo.compiler import keep_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(8 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages(), pages()
fresh = pages()
if keep_memory():
    pages(), pages()
    print(fresh, pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the C library of Linux")
def test_memory_that_is_kept_has_no_fresh_pages():
    """64 MiB are 16,384 pages of 4 KiB, or fewer large ones."""
    fresh, kept = map(int, subprocess.check_output([sys.executable, "-c", KEPT], text=True).split())
    assert fresh > 30 > kept
