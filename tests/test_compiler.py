"""What XLA's CPU backend gets wrong, the engine's programs get right."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose

import evo
from evo.compiler import FUSIONS, options
from evo.strategies.es import ES

PARAMS = {"w": jnp.linspace(-1.0, 2.0, 32 * 32).reshape(32, 32)}
INPUT = jnp.linspace(-1.0, 1.0, 5 * 32).reshape(5, 32)


def pooled(params, key):
    """A product with one number throughout, and a sum over it: `evo.compiler` says what becomes of that."""
    return (jnp.tanh(INPUT @ params["w"]) @ jnp.full((32, 24), 0.5)).sum()


def test_fitness_is_right_where_xla_is_wrong():
    result = evo.run(pooled, PARAMS, ES(512, sigma=1e-6), generations=1, eval_every=1, eval_episodes=512)
    right = 12 * np.tanh(np.asarray(INPUT, np.float64) @ np.asarray(PARAMS["w"], np.float64)).sum()
    for name in ("best", "mean", "median", "eval_mean"):
        assert_allclose(result.metrics[name], right, rtol=1e-3, err_msg=name)


def test_what_the_user_says_of_the_library_stands(monkeypatch):
    assert options() == {FUSIONS: ""}
    monkeypatch.setenv("XLA_FLAGS", f"--{FUSIONS}=LIBRARY_FUSION_TYPE_DOT")
    assert options() == {}
    jax.jit(pooled, compiler_options=options())(PARAMS, None)
