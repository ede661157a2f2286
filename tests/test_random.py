"""The generator: test vectors, equality with JAX's own where it claims it, and each law's statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from evo.random import draw, fold_in, stocked, threefry, words

KNOWN = [  # Random123's known answers for threefry2x32: key, counter, results of 13 and of 20 rounds
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), ((0x9D1C5EC6, 0x8BD50731), (0x6B200159, 0x99BA4EFE))),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), ((0xFD36D048, 0x2D17272C), (0x1CB996FC, 0xBB002BE7))),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), ((0xBA3E4725, 0xF27D669E), (0xC4923A9C, 0x483DF7A0))),
]
KEY = jax.random.key(11)
PINNED = ["0xfdddad3b", "0x3625d9a0", "0x21b20b29", "0x18c32022"]


@pytest.mark.parametrize(("key", "counter", "results"), KNOWN)
def test_known_answers(key, counter, results):
    for rounds, result in zip((13, 20), results, strict=True):
        got = threefry(jnp.array(key, jnp.uint32), *(np.uint32(c) for c in counter), rounds)
        assert tuple(int(word) for word in got) == result


def test_fold_in_is_jaxs_own():
    numbers = jnp.array([0, 1, 77, 2**31 - 1])
    ours = jax.random.key_data(jax.vmap(lambda i: fold_in(KEY, i))(numbers))
    assert_array_equal(ours, jax.random.key_data(jax.vmap(lambda i: jax.random.fold_in(KEY, i))(numbers)))


def test_words_are_pinned_and_streams_differ():
    assert [hex(int(w)) for w in words(jax.random.key(0), 4)] == PINNED
    assert len({int(w) for stream in (0, 1) for w in words(KEY, 1000, stream)}) == 2000


@pytest.mark.parametrize("law", ["normal", "bytes4", "sign"])
def test_laws(law):
    n = 1 << 20
    x = np.asarray(draw(KEY, (n,), law), np.float64)
    assert np.isfinite(x).all()
    assert abs(x.mean()) < 5 / n**0.5
    assert abs((x**2).mean() - 1) < 5 * max((x**2).std(), 1e-4) / n**0.5
    assert abs((x**3).mean()) < 5 * (x**3).std() / n**0.5
    neighbours = [(x[lag:] * x[:-lag]).mean() * n**0.5 for lag in (1, 2, 32, n // 2)]
    assert np.abs(neighbours).max() < 5
    kurtosis = {"normal": 3.0, "bytes4": 3 - 1.2 / 4, "sign": 1.0}[law]
    assert abs((x**4).mean() - kurtosis) < 5 * max((x**4).std(), 1e-4) / n**0.5 + 1e-3


@pytest.mark.parametrize("law", ["normal", "bytes4", "sign"])
def test_members_are_uncorrelated_and_do_not_depend_on_the_vmap(law):
    keys = jax.random.split(KEY, 64)
    rows = jax.vmap(lambda key: draw(key, (50, 41), law))(keys)
    assert_array_equal(rows[40], jax.vmap(lambda key: draw(key, (50, 41), law))(keys[32:])[8])
    flat = np.asarray(rows).reshape(64, -1)
    off = np.corrcoef(flat)[np.triu_indices(64, 1)] * flat.shape[1] ** 0.5
    assert np.abs(off).max() < 5
    assert abs(off.std() - 1) < 0.15


def test_normal_draws_are_quantiles():
    """Each is the quantile of its own word's place in (0, 1), in the tails too."""
    from jax.scipy.special import ndtri

    from evo.random import _normal

    edge = [0, 1 << 9, 1 << 20, 0x7FFFFFFF, 0x80000000, 0xFFFFFDFF, 0xFFFFFFFF]
    word = np.concatenate([np.array(edge, np.uint32), np.asarray(words(KEY, 100_000))])
    with jax.enable_x64(True):
        true = ndtri(jnp.asarray((word >> 9) + 0.5) * 2.0**-23)
    assert_allclose(_normal(jnp.asarray(word)), true, rtol=8e-6, atol=1e-7)


def test_words_hashed_together_are_those_hashed_apart():
    names, counts = [np.uint32(n) for n in (7, 9, 2**32 - 5, 11)], [(8, 8), (3,), (100, 2), (1, 40)]
    for name, count, stock in zip(names, counts, stocked(KEY, names, counts), strict=True):
        own = fold_in(KEY, name)
        assert_array_equal(jax.random.key_data(stock.key), jax.random.key_data(own))
        for stream, number in enumerate(count):
            assert_array_equal(stock.words[stream], words(own, number, stream))
            assert_array_equal(
                draw(stock, (number * 32 - 1,), "sign", stream=stream),
                draw(own, (number * 32 - 1,), "sign", stream=stream),
            )
