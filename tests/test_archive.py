"""Archives: golden values checked by hand, and laws against a slow numpy twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import evo
from evo.archive import Archive, Grid, empty
from evo.elites import best, sample, stats

INF, NAN = np.inf, np.nan
GRID = Grid((2, 3), ((0.0, 1.0), (-3.0, 3.0)), offset=-10.0)
insert = jax.jit(evo.archive.insert, static_argnums=0)


def newcomers(fitness, descriptor):
    fitness = jnp.asarray(fitness, jnp.float32)
    row = {"w": jnp.arange(len(fitness), dtype=jnp.float32)[:, None], "id": jnp.arange(len(fitness), dtype=jnp.int32)}
    return fitness, jnp.asarray(descriptor, jnp.float32), row


def nobody(grid=GRID):
    return empty(grid, {"w": jnp.full(1, -7.0), "id": jnp.int32(-7)})


def test_cells_golden():
    #               low edge   row-major  last column  high edge  outside      outside        nan        inf
    descriptor = [[0, -3], [0.49, 0.5], [0.5, 1.0], [1.0, 3.0], [9, 0.0], [-1, -1e30], [NAN, 0], [0.1, INF]]
    cell, outside = GRID.cell(jnp.asarray(descriptor, jnp.float32))
    assert_array_equal(cell, [0, 1, 5, 5, 4, 0, 6, 6])
    assert_array_equal(outside, [0, 0, 0, 0, 1, 1, 0, 0])
    cell, _ = Grid((2, 3, 4), ((0, 1),) * 3).cell(jnp.asarray([[0.6, 0.4, 0.3]], jnp.float32))
    assert_array_equal(cell, [1 * 12 + 1 * 4 + 1])
    cell, _ = Grid((5,), ((0, 10),)).cell(jnp.asarray([[0.0], [9.99], [4.0]], jnp.float32))
    assert_array_equal(cell, [0, 4, 2])


def test_insert_golden():
    here, there = [0.1, -2.0], [0.9, 2.0]  # cells 0 and 5
    archive, done = insert(GRID, nobody(), *newcomers([1, 3, 3, NAN, 2, INF, -INF], [here] * 3 + [there] * 4))
    assert_array_equal(done.status, [2, 2, 2, 0, 2, 0, 0])  # all compared with the empty archive
    assert_array_equal(done.accepted, [0, 1, 0, 0, 1, 0, 0])  # the fitter, then the lower index
    assert_array_equal(done.improvement, [11, 13, 13, -INF, 12, -INF, -INF])  # an empty cell counts as -10
    assert_array_equal(archive.fitness, [3, -INF, -INF, -INF, -INF, 2])
    assert_array_equal(archive.rows["id"], [1, -7, -7, -7, -7, 4])
    assert_array_equal(archive.rows["w"][:, 0], [1, -7, -7, -7, -7, 4])

    far = [0.9, 99.0]
    batch = newcomers([3, 9, 1, 2.5, 5, NAN], [here, [NAN, 0.0], there, far, [0.1, 0.0], far])
    archive, done = insert(GRID, archive, *batch)
    assert_array_equal(done.status, [0, 0, 0, 1, 2, 0])  # a tie doesn't beat the tenant
    assert_array_equal(done.improvement, [0, -INF, -1, 0.5, 15, -INF])
    assert_array_equal(done.outside, [0, 0, 0, 1, 0, 0])  # what has no fitness is nowhere
    assert_array_equal(archive.fitness, [3, 5, -INF, -INF, -INF, 2.5])
    assert_array_equal(archive.descriptor[5], np.float32([0.9, 99.0]))  # kept as reported
    numbers = stats(archive, GRID.offset)
    expected = {"coverage": 0.5, "elites": 3, "qd_score": 40.5, "elite_best": 5.0, "elite_mean": 3.5}
    assert {k: float(v) for k, v in numbers.items()} == expected
    assert best(archive) == 1


def test_thresholds_anneal_golden():
    """t <- (1 - a)^k t + (1 - (1 - a)^k) m: newcomers compete with the threshold, only the best ever stays."""
    grid = Grid((2,), ((0.0, 1.0),), learning_rate=0.5, threshold_min=-4.0)
    place = [[0.1]] * 3
    archive, done = insert(grid, nobody(grid), *newcomers([0, 2, -5], place))
    assert_array_equal(done.status, [2, 2, 0])
    assert_array_equal(done.improvement, [4, 6, -1])
    assert_array_equal(done.accepted, [0, 1, 0])
    assert_array_equal(archive.threshold, [-0.25, -4])  # two of mean 1: -4 / 4 + 3 / 4
    archive, done = insert(grid, archive, *newcomers([1, -1, NAN], place))
    assert_array_equal(done.status, [1, 0, 0])
    assert_array_equal(done.improvement, [1.25, -0.75, -INF])
    assert not done.accepted.any()  # fitter than the threshold, not than the elite
    assert_array_equal(archive.threshold, [0.375, -4])
    archive, done = insert(grid, archive, *newcomers([0.375, 0.375, NAN], place))
    assert_array_equal(done.status, [0, 0, 0])  # a tie doesn't beat the threshold
    assert_array_equal(archive.threshold, [0.375, -4])
    assert_array_equal(archive.fitness, [2, -INF])
    assert_array_equal(archive.rows["id"], [1, -7])


def slow_insert(grid, archive, fitness, descriptor, rows):
    """One newcomer after another, in plain Python."""
    fit, desc, kept = (np.array(x) for x in (archive.fitness, archive.descriptor, archive.rows))
    before, status = fit.copy(), []
    for f, d, row in zip(*map(np.asarray, (fitness, descriptor, rows)), strict=True):
        status.append(0)
        if not (np.isfinite(f) and np.isfinite(d).all()):
            continue
        low, high = np.array(grid.bounds, np.float32).T
        place = np.clip(np.floor((d - low) / (high - low) * grid.shape), 0, np.array(grid.shape) - 1).astype(int)
        cell = np.ravel_multi_index(place, grid.shape)
        status[-1] = 0 if f <= before[cell] else 2 if before[cell] == -np.inf else 1
        if f > fit[cell]:
            fit[cell], desc[cell], kept[cell] = f, d, row
    return Archive(kept, fit, desc), status


@pytest.mark.parametrize("shape", [(7,), (4, 5), (3, 2, 4)])
def test_streams_equal_the_slow_twin(shape):
    grid, rng = Grid(shape, ((-1.0, 1.0),) * len(shape)), np.random.default_rng(len(shape))
    fast = slow = empty(grid, jnp.float32(0))
    for _ in range(12):
        fitness = rng.integers(-4, 5, 40).astype(np.float32)  # many ties
        fitness[rng.integers(0, 40, 3)] = NAN, INF, -INF
        descriptor = rng.normal(0, 0.8, (40, len(shape))).astype(np.float32)
        descriptor[rng.integers(0, 40, 2)] = NAN
        batch = fitness, descriptor, rng.normal(size=40).astype(np.float32)
        before, (fast, done) = fast, insert(grid, fast, *map(jnp.asarray, batch))
        slow, status = slow_insert(grid, slow, *batch)
        jax.tree.map(assert_array_equal, fast, slow)
        assert_array_equal(done.status, status)
        assert (np.asarray(fast.fitness) >= np.asarray(before.fitness)).all()  # never loses fitness
        again, done = insert(grid, fast, *map(jnp.asarray, batch))  # idempotent
        jax.tree.map(assert_array_equal, again, fast)
        assert not done.accepted.any()
    taken = np.isfinite(slow.fitness)
    numbers = stats(fast, -4.0)
    assert_allclose(numbers["qd_score"], (slow.fitness[taken] + 4).sum(), rtol=1e-6)
    assert_allclose(numbers["elite_mean"], slow.fitness[taken].mean(), rtol=1e-5)
    assert numbers["elites"] == taken.sum()


def test_order_matters_only_for_ties():
    rng = np.random.default_rng(0)
    fitness, descriptor = rng.permutation(60).astype(np.float32), rng.uniform(-1, 2, (60, 2)).astype(np.float32)
    batch, grid = (jnp.asarray(fitness), jnp.asarray(descriptor), jnp.arange(60)), Grid((4, 4))
    one, _ = insert(grid, empty(grid, jnp.int32(-1)), *batch)
    other, _ = insert(grid, empty(grid, jnp.int32(-1)), *(x[::-1] for x in batch))
    jax.tree.map(assert_array_equal, one, other)


def test_samples_are_uniform_over_the_occupied_cells():
    archive = nobody()._replace(fitness=jnp.asarray([-INF, 3.0, -INF, -5.0, 0.0, -INF]))
    cells = np.asarray(sample(jax.random.key(0), archive, 30_000))
    count = np.bincount(cells, minlength=6)
    assert_array_equal(count[[0, 2, 5]], 0)
    assert np.abs(count[[1, 3, 4]] - 10_000).max() < 5 * np.sqrt(30_000 * 2 / 9)
    assert_array_equal(sample(jax.random.key(0), nobody(), 3), 0)


def test_an_insertion_works_in_place():
    grid = Grid((100, 100))
    archive = empty(grid, jnp.zeros(200))
    batch = jnp.zeros(64), jnp.zeros((64, 2)), jnp.zeros((64, 200))
    donated = jax.jit(lambda *a: insert(grid, *a)[0], donate_argnums=0).lower(archive, *batch).compile()
    assert donated.memory_analysis().temp_size_in_bytes < 1_000_000  # the archive is 8 MB


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Grid((32, 32), ((0, 1),)), "one pair of bounds for each"),
        (lambda: Grid((0,), ((0, 1),)), "at least 1 along each axis"),
        (lambda: Grid((2,), ((1, 1),)), "from low to high"),
        (lambda: GRID.cell(jnp.zeros((4, 3))), "the task gives 3"),
        (lambda: GRID.cell(jnp.zeros((4, 0))), "the task gives 0"),
        (lambda: insert(GRID, nobody(), jnp.zeros(4), None, None), "this task gives none"),
    ],
)
def test_mistakes_are_told(wrong, said):
    with pytest.raises(ValueError, match=said):
        wrong()
