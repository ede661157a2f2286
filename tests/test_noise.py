"""The two laws of noise, and what every draw must be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from evo import noise as module
from evo.noise import Frozen, Gaussian, LowRank, thin

NOISES = [Gaussian(), LowRank(1, "normal"), LowRank(3, "bytes4"), LowRank(1, "sign"), Frozen()]
SHAPES = [(), (7,), (5, 6), (3, 8, 9), (40, 1)]
KEYS = jax.random.split(jax.random.key(3), 6)
WEIGHTS = jnp.array([1.0, -2.0, 0.5, 0.0, 3.0, -0.25])

noises = pytest.mark.parametrize("noise", NOISES, ids=repr)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@noises
@shapes
def test_factors_multiply_to_the_dense_noise(noise, shape):
    factors = noise.factors(KEYS[0], shape, jnp.float32)
    if factors is None:
        assert not isinstance(noise, LowRank) or not thin(shape, noise.rank)
        return
    a, b = factors
    assert a.shape[-1] == b.shape[-1] == noise.rank
    assert_allclose(a @ b.mT, noise.dense(KEYS[0], shape, jnp.float32), rtol=1e-6)


@noises
@shapes
@pytest.mark.parametrize("numbers", [module.CHUNK, 50], ids=["at once", "in slices"])
def test_total_is_the_weighted_sum(noise, shape, numbers, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", numbers)
    slow = sum(w * noise.dense(k, shape, jnp.float32) for k, w in zip(KEYS, WEIGHTS, strict=True))
    assert_allclose(noise.total(KEYS, WEIGHTS, shape, jnp.float32), slow, rtol=1e-4, atol=1e-5)
    half = noise.total(KEYS, WEIGHTS, shape, jnp.bfloat16)  # factors are rounded, sums aren't
    assert half.dtype == jnp.float32 or isinstance(noise, Frozen)
    assert_allclose(half, slow, atol=0.02 * float(jnp.abs(WEIGHTS).sum()))


@pytest.mark.parametrize("noise", [Gaussian(), LowRank(1, "normal"), LowRank(4, "sign")], ids=repr)
def test_every_entry_has_mean_zero_and_variance_one(noise):
    draws = jax.vmap(lambda key: noise.dense(key, (12, 11), jnp.float32))(jax.random.split(jax.random.key(0), 4000))
    draws = np.asarray(draws).reshape(len(draws), -1)
    error = draws.std(0) / len(draws) ** 0.5
    assert np.abs(draws.mean(0) / error).max() < 5
    wide = np.maximum((draws**2).std(0), 1e-6)  # the square of a sign is 1, exactly
    spread = ((draws**2).mean(0) - 1) / (wide / len(draws) ** 0.5)
    assert np.abs(spread).max() < 5
    assert np.abs(np.corrcoef(draws[:, :20].T) - np.eye(20)).max() < 5 / len(draws) ** 0.5


@pytest.mark.parametrize("noise", [Gaussian(), LowRank(2)], ids=repr)
def test_a_draw_does_not_depend_on_the_vmap_around_it(noise):
    draw = jax.vmap(lambda key: noise.dense(key, (9, 10), jnp.float32))
    assert_array_equal(draw(KEYS)[4], draw(KEYS[3:])[1])
    assert_array_equal(draw(KEYS)[4], noise.dense(KEYS[4], (9, 10), jnp.float32))


def test_a_rank_below_one_is_refused():
    with pytest.raises(ValueError, match="rank of low-rank noise must be at least 1; got 0"):
        LowRank(0)
