"""CVT cells against brute force, and archives against pyribs (where it is installed) on random streams."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from evo.archive import Grid, empty, insert
from evo.cvt import CVT, brute
from evo.elites import novelty

BOX = ((-1.0, 1.0), (0.0, 5.0))


@pytest.mark.parametrize("bounds", [BOX[:1], BOX, (*BOX, (2.0, 3.0)), (*BOX, *BOX, (0.0, 1.0))])
def test_the_nearest_centroid_is_found(bounds):
    cvt = CVT(60, bounds, seed=1)
    low, high = np.asarray(bounds, np.float32).T
    place = np.random.default_rng(0).uniform(low - 0.2, high + 0.2, (3_000, len(bounds))).astype(np.float32)
    cell, outside = jax.jit(lambda d: cvt.cell(d))(jnp.asarray(place))
    clipped = np.clip(place, low, high)
    square = ((clipped[:, None].astype(np.float64) - cvt.centroids[None]) ** 2).sum(-1)
    assert_array_equal(cell, square.argmin(1))
    assert_array_equal(outside, (place != clipped).any(1))
    assert_array_equal(brute(cvt.centroids, jnp.asarray(clipped)), cell)
    assert_array_equal(cvt.cell(jnp.full((1, len(bounds)), jnp.nan))[0], [60])
    spread = np.bincount(np.asarray(cell), minlength=60)
    assert spread.min() > 0  # centroids are everywhere


@pytest.mark.parametrize("rate", [None, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["grid", "cvt"])
def test_pyribs_agrees(kind, rate):
    archives = pytest.importorskip("ribs.archives", exc_type=ImportError)
    cells = Grid((5, 4), BOX) if kind == "grid" else CVT(20, BOX)
    cells = type(cells)(**{**vars(cells), "learning_rate": rate, "threshold_min": -2.0})
    common = {"solution_dim": 1, "ranges": BOX, "dtype": np.float32}
    common |= {} if rate is None else {"learning_rate": rate, "threshold_min": -2.0}
    theirs = (
        archives.GridArchive(dims=(5, 4), **common)
        if kind == "grid"
        else archives.CVTArchive(centroids=cells.centroids, **common)
    )
    ours, rng = empty(cells, jnp.zeros(1)), np.random.default_rng(0)
    for _ in range(8):
        fitness = rng.normal(size=40).astype(np.float32)
        place = rng.uniform([-1, 0], [1, 5], (40, 2)).astype(np.float32)
        rows = rng.normal(size=(40, 1)).astype(np.float32)
        ours, done = insert(cells, ours, *map(jnp.asarray, (fitness, place, rows)))
        said = theirs.add(rows, fitness, place)
        assert_array_equal(done.status, said["status"])
        assert_allclose(done.improvement, said["value"], rtol=1e-4, atol=1e-4)
    taken = np.sort(np.flatnonzero(np.isfinite(ours.fitness)))
    data = theirs.data()
    order = np.argsort(data["index"])
    assert_array_equal(taken, data["index"][order])
    if rate is None:
        assert_array_equal(ours.rows[taken], data["solution"][order])
    else:
        assert_allclose(ours.threshold[taken], data["threshold"][order], rtol=1e-4, atol=1e-5)


def test_outside_may_be_refused():
    grid = Grid((2,), ((0.0, 1.0),), outside="refuse")
    archive, done = insert(grid, empty(grid, jnp.zeros(1)), jnp.ones(2), jnp.asarray([[0.2], [1.2]]), jnp.ones((2, 1)))
    assert_array_equal(done.accepted, [True, False])
    assert_array_equal(done.outside, [False, True])
    assert_array_equal(archive.fitness, [1, -np.inf])


def test_novelty_golden():
    grid = Grid((4,), ((0.0, 4.0),))
    archive = empty(grid, jnp.zeros(1))._replace(
        fitness=jnp.asarray([1.0, -jnp.inf, 1.0, -jnp.inf]), descriptor=jnp.asarray([[0.0], [9.0], [3.0], [9.0]])
    )
    place = jnp.asarray([[1.0], [3.0], [jnp.nan]])
    assert_allclose(novelty(archive, place, 2), [1.5, 1.5, -np.inf])
    assert_allclose(novelty(archive, place, 3), [1.5, 1.5, -np.inf])  # of the two there are
    assert_allclose(novelty(archive, place, 1), [1, 0, -np.inf])


ANNEALED = Grid((5, 4), BOX, learning_rate=0.3, threshold_min=-2.0)


@pytest.mark.parametrize("cells", [Grid((5, 4), BOX), CVT(20, BOX), ANNEALED])
@pytest.mark.parametrize("peer", ["pyribs", "qdax"])
def test_archives_go_out_and_come_back(peer, cells):
    exchange = pytest.importorskip("evo.exchange")
    pytest.importorskip({"pyribs": "ribs.archives", "qdax": "qdax.core.map_elites"}[peer], exc_type=ImportError)
    rng = np.random.default_rng(0)
    place = rng.uniform([-1, 0], [1, 5], (30, 2)).astype(np.float32)
    rows, fitness = rng.normal(size=(30, 3)).astype(np.float32), rng.normal(size=30).astype(np.float32)
    rows = {"w": rows, "n": np.arange(30)} if peer == "qdax" else rows  # pyribs takes flat rows alone
    batch = jax.tree.map(jnp.asarray, (fitness, place, rows))
    record = {"generation": jnp.arange(30), "parents": jnp.asarray(rng.integers(0, 20, (30, 2)), jnp.int32)}
    blank, one = (jax.tree.map(lambda x: jnp.zeros_like(x[0]), tree) for tree in (batch[2], record))
    ours, _ = insert(cells, empty(cells, blank, one), *batch, record)
    there = getattr(exchange, f"to_{peer}")(cells, ours)
    back = getattr(exchange, f"from_{peer}")(cells, there, one)
    taken = np.isfinite(ours.fitness)
    assert_array_equal(back.fitness, ours.fitness)
    assert_array_equal(back.descriptor[taken], ours.descriptor[taken])
    jax.tree.map(lambda a, b: assert_array_equal(a[taken], b[taken]), back.rows, ours.rows)
    jax.tree.map(lambda a, b: assert_array_equal(a[taken], b[taken]), back.record, ours.record)
    if cells.learning_rate is not None and peer == "pyribs":
        assert_array_equal(back.threshold, ours.threshold)
    if peer == "pyribs":
        with pytest.raises(ValueError, match="hold flat rows"):
            exchange.to_pyribs(cells, ours._replace(rows={"w": ours.rows}))


def test_who_is_within_is_not_its_own_neighbour_golden():
    archive = empty(Grid((4,), ((0.0, 4.0),)), jnp.zeros(1))
    archive = archive._replace(fitness=jnp.zeros(4), descriptor=jnp.array([[0.5], [1.5], [2.75], [3.5]]))
    place, within = jnp.array([[1.5], [1.5], [3.0]]), jnp.array([True, False, True])
    assert_allclose(novelty(archive, place, 2, within), [(1 + 1.25) / 2, (0 + 1) / 2, (0.25 + 0.5) / 2])
    assert_allclose(novelty(archive, place, 9, within), [(1 + 1.25 + 2) / 3, 4.25 / 4, (0.25 + 0.5 + 1.5 + 2.5) / 4])
