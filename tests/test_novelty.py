"""Novelty: exact neighbours in blocks, a ring that forgets its oldest, behaviours that aren't finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from evo import novelty as module
from evo.novelty import Seen, admit, novelty, unseen

NAN, INF = np.nan, np.inf


def brute(archive, batch, k, peers):
    """The definition, one member at a time."""
    found = []
    for i, x in enumerate(batch):
        others = [*archive, *(y for j, y in enumerate(batch) if peers and j != i and np.isfinite(y).all())]
        distance = sorted(np.linalg.norm(x - y) for y in others)[:k]
        found.append(-INF if not np.isfinite(x).all() else np.mean(distance) if distance else 0.0)
    return np.array(found, np.float32)


@pytest.mark.parametrize("peers", [True, False])
@pytest.mark.parametrize(("block", "queries"), [(4096, 1024), (8, 3)])
def test_novelty_is_the_mean_of_the_k_nearest(monkeypatch, block, queries, peers):
    monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(module, "QUERIES", queries)
    places = np.asarray(jax.random.normal(jax.random.key(0), (21, 3)))
    batch = np.array(jax.random.normal(jax.random.key(1), (10, 3)))
    batch[4, 1], batch[7] = NAN, batch[2]
    found = jax.jit(lambda seen: novelty(seen, jnp.asarray(batch), 5, peers))
    for admitted in (0, 2, 20, 45):
        seen = Seen(jnp.asarray(places), jnp.int32(admitted))
        assert_allclose(found(seen), brute(places[:admitted], batch, 5, peers), rtol=1e-5)


def test_distances_far_from_the_origin_are_exact():
    """|a|^2 + |b|^2 - 2ab would lose the hundredth among tens of thousands."""
    batch = jnp.array([[30000.0, 30000.0], [30000.0, 30000.0078125]])
    assert_allclose(novelty(unseen(4, 2), batch, 1), [0.0078125] * 2, rtol=1e-6)


def test_the_archive_is_a_ring_golden():
    rows = lambda *x: jnp.asarray(x, jnp.float32)[:, None]  # noqa: E731
    seen = unseen(3, 1)
    seen = admit(seen, rows(1, 2, NAN, 4), jnp.array([True, False, True, True]))
    assert_array_equal(seen.descriptor[:, 0], [1, 4, 0])  # what isn't finite never enters
    seen = admit(seen, rows(5, 6), jnp.array([True, True]))
    assert_array_equal(seen.descriptor[:, 0], [6, 4, 5])  # the oldest goes first
    assert int(seen.admitted) == 4
    seen = admit(seen, rows(*range(10, 15)), jnp.ones(5, bool))
    assert_array_equal(seen.descriptor[:, 0], [12, 13, 14])  # of a batch that is too large, the last ones stay
    assert_array_equal(novelty(seen, rows(20, 12), 2, peers=False), [6.5, 0.5])
    with pytest.raises(ValueError, match="at least 1 behaviour of 1 number; got 0 of 2"):
        unseen(0, 2)
