"""What XLA's CPU backend gets wrong, the engine's programs get right."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import evo
from evo.compiler import FUSIONS, LEVEL, PRODUCTS, halves, options
from evo.strategies.es import ES

PARAMS = {"w": jnp.linspace(-1.0, 2.0, 32 * 32).reshape(32, 32)}
INPUT = jnp.linspace(-1.0, 1.0, 5 * 32).reshape(5, 32)


def pooled(params, key):
    """A product with one number throughout, and a sum over it: `evo.compiler` says what becomes of that."""
    x = INPUT.astype(params["w"].dtype)
    return (jnp.tanh(x @ params["w"]) @ jnp.full((32, 24), 0.5, x.dtype)).sum()


@pytest.mark.parametrize(("compute", "error"), [(None, 1e-3), ("bfloat16", 5e-2)])
def test_fitness_is_right_where_xla_is_wrong(compute, error):
    """Also where products in half precision are left to the library that gets others wrong."""
    strategy = ES(512, sigma=1e-2 if compute else 1e-6, compute=compute)
    result = evo.run(pooled, PARAMS, strategy, generations=1, eval_every=1, eval_episodes=512)
    right = 12 * np.tanh(np.asarray(INPUT, np.float64) @ np.asarray(PARAMS["w"], np.float64)).sum()
    for name in ("best", "mean", "median", "eval_mean"):
        assert_allclose(result.metrics[name], right, rtol=1e-3, err_msg=name)


def test_what_the_user_says_stands(monkeypatch):
    assert options() == {FUSIONS: "", LEVEL: 2}
    monkeypatch.setenv("XLA_FLAGS", f"--{FUSIONS}=LIBRARY_FUSION_TYPE_DOT")
    assert options() == {LEVEL: 2}
    jax.jit(pooled, compiler_options=options())(PARAMS, None)


def test_products_in_half_precision_stay_with_the_library():
    x = jnp.ones((2, 3, 3), jnp.bfloat16)
    inner = jax.make_jaxpr(lambda x: jax.lax.map(lambda y: y @ y, x))(x)
    assert halves(inner.jaxpr)
    assert options(inner.jaxpr)[FUSIONS] == PRODUCTS
    assert not halves(jax.make_jaxpr(lambda x: jax.lax.map(lambda y: y @ y, x.astype(jnp.float32)))(x).jaxpr)


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
