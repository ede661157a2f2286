"""Archives without cells, and with several elites a cell: golden values, and slow twins in plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import evo
from evo import unstructured as module
from evo.archive import Grid, empty
from evo.cvt import CVT
from evo.deep import Deep
from evo.unstructured import Unstructured, two_nearest

INF, NAN = np.inf, np.nan
insert = jax.jit(evo.archive.insert, static_argnums=0)


def arrays(*batch):
    return tuple(jnp.asarray(x, jnp.float32) for x in batch)


def test_unstructured_golden():
    cells = Unstructured(3, 1.0, ((0.0, 9.0),), offset=-1.0)
    #                  wins   too near   far    invalid   no descriptor
    batch = arrays([2, 1.5, 1, NAN, 5], [[3.0], [3.9], [4.0], [7.0], [NAN]], [0, 1, 2, 3, 4])
    archive, done = insert(cells, empty(cells, jnp.float32(-1)), *batch)
    assert_array_equal(done.status, [2, 2, 2, 0, 0])  # all compared with the empty archive
    assert_array_equal(done.accepted, [1, 0, 1, 0, 0])
    assert_array_equal(done.improvement, [3, 2.5, 2, -INF, -INF])
    assert_array_equal(archive.fitness, [2, 1, -INF])

    #              fitter, one near   two near   less fit   far      nearer than 1 to the one before
    batch = arrays([3, 9, 0.5, 0, -1], [[2.5], [3.5], [4.9], [8.0], [8.5]], [5, 6, 7, 8, 9])
    archive, done = insert(cells, archive, *batch)
    assert_array_equal(done.status, [1, 0, 0, 2, 2])
    assert_array_equal(done.accepted, [1, 0, 0, 1, 0])
    assert_array_equal(done.improvement[:4], [1, 7, -0.5, 1])
    assert_array_equal(archive.rows, [5, 2, 8])
    assert_array_equal(archive.descriptor[:, 0], [2.5, 4.0, 8.0])

    archive, done = insert(
        cells, archive, *arrays([9, 7], [[0.0], [8.1]], [10, 11])
    )  # it is full: no place for the first
    assert_array_equal(done.status, [0, 1])
    assert_array_equal(archive.rows, [5, 2, 11])


def test_one_elite_has_one_heir():
    """Two that would replace it, 1.2 apart: the fitter does, the other takes a free place."""
    cells = Unstructured(3, 1.0, ((0.0, 9.0),))
    archive, _ = insert(cells, empty(cells, jnp.float32(-1)), *arrays([1], [[3.0]], [0]))
    archive, done = insert(cells, archive, *arrays([2, 4], [[2.4], [3.6]], [1, 2]))
    assert_array_equal(done.status, [1, 1])
    assert_array_equal(done.accepted, [1, 1])
    assert_array_equal(done.cell, [1, 0])
    assert_array_equal(archive.rows, [2, 1, -1])
    assert_array_equal(archive.fitness, [4, 2, -INF])


@pytest.mark.parametrize("count", [0, 1, 8, 19, 21])
def test_the_two_nearest_of_blocks_that_overlap(monkeypatch, count):
    monkeypatch.setattr(module, "BLOCK", 8)
    rng = np.random.default_rng(0)
    places = rng.normal(size=(21, 2)).astype(np.float32)
    query = places + rng.normal(0, 0.01, (21, 2)).astype(np.float32)  # each place is somebody's nearest
    near, *nearest = two_nearest(jnp.asarray(places), jnp.int32(count), jnp.asarray(query))
    square = ((query[:, None] - places[None, :count]) ** 2).sum(-1)
    assert_allclose(nearest, np.sort(np.pad(square, ((0, 0), (0, 2)), constant_values=INF), 1).T[:2], rtol=1e-5)
    if count:
        assert_array_equal(near, square.argmin(1))


def slow_unstructured(cells, elites, fitness, place):
    """The elites (fitness, descriptor) by place after a batch."""
    limit = np.float32(cells.distance) ** 2
    square = lambda a, b: np.float32(((a - b) ** 2).sum())  # noqa: E731
    before, entered = list(elites), []
    for i in np.argsort(-fitness, kind="stable"):
        if not (np.isfinite(fitness[i]) and np.isfinite(place[i]).all()):
            continue
        near = [j for j, (_, d) in enumerate(before) if square(d, place[i]) < limit]
        if len(near) > 1 or (near and before[near[0]][0] >= fitness[i]):
            continue
        if not near and len(before) == cells.cells:
            continue
        if all(square(place[i], place[k]) >= limit for k, _ in entered):
            entered.append((i, near[0] if near else None))
    taken = set()
    for i, near in entered:
        if near is not None and near not in taken:
            taken.add(near)
            elites[near] = (fitness[i], place[i])
        elif len(elites) < cells.cells:
            elites.append((fitness[i], place[i]))
    return elites


@pytest.mark.parametrize(("dims", "newcomers"), [(1, 300), (3, 300), (2, 5)])
def test_streams_equal_the_slow_twin_and_keep_their_distance(dims, newcomers):
    cells, rng = Unstructured(40, 0.12 * dims, ((0.0, 1.0),) * dims), np.random.default_rng(dims)
    fast, slow = empty(cells, jnp.zeros(dims)), []
    for _ in range(15 if newcomers == 300 else 60):
        fitness = rng.integers(0, 30, newcomers).astype(np.float32)  # ties
        place = (rng.integers(0, 64, (newcomers, dims)) / np.float32(64)).astype(np.float32)  # the squares are exact
        fitness[: newcomers // 100], place[newcomers // 100 : newcomers // 50] = NAN, NAN
        before = fast
        fast, _ = insert(cells, fast, *arrays(fitness, place, place))
        slow = slow_unstructured(cells, slow, fitness, place)
        n = len(slow)
        assert_array_equal(fast.fitness[:n], [f for f, _ in slow])
        assert_array_equal(fast.descriptor[:n], [d for _, d in slow])
        assert_array_equal(fast.rows[:n], fast.descriptor[:n])
        assert np.isneginf(fast.fitness[n:]).all()
        assert (np.asarray(fast.fitness) >= np.asarray(before.fitness)).all()
        apart = np.linalg.norm(fast.descriptor[:n, None] - fast.descriptor[None, :n], axis=-1)
        assert apart[~np.eye(n, dtype=bool)].min() >= cells.distance - 1e-6
    assert n > 5


@pytest.mark.parametrize("surface", [Grid((5, 4)), CVT(20)])
def test_a_deep_cell_keeps_the_fittest_ever_seen(surface):
    deep, rng = Deep(surface, 3), np.random.default_rng(0)
    archive, plain = empty(deep, jnp.zeros(2)), empty(surface, jnp.zeros(2))
    seen = {c: [] for c in range(20)}
    for _ in range(6):
        fitness = rng.permutation(80) + rng.uniform(size=80)
        batch = arrays(fitness, rng.uniform(size=(80, 2)), rng.normal(size=(80, 2)))
        archive, done = insert(deep, archive, *batch)
        plain, expected = insert(surface, plain, *batch)
        for c, f in zip(np.asarray(surface.cell(batch[1])[0]), np.asarray(batch[0]), strict=True):
            seen[c].append(f)
        for name in ("status", "improvement", "outside"):
            assert_array_equal(getattr(done, name), getattr(expected, name))
        jax.tree.map(assert_array_equal, *(_taken(a) for a in (deep.top(archive), plain)))
    stack = np.sort(np.asarray(archive.fitness).reshape(20, 3), 1)
    for c, fitness in seen.items():
        assert_array_equal(stack[c], [-INF] * (3 - len(fitness)) + sorted(fitness)[-3:])
    taken = np.isfinite(archive.fitness)
    assert_array_equal(surface.cell(archive.descriptor)[0][taken], np.flatnonzero(taken) // 3)


def _taken(archive):
    there = np.isfinite(archive.fitness)
    return there, *(np.asarray(x)[there] for x in jax.tree.leaves(archive))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Unstructured(0), "at least 1 place"),
        (lambda: Unstructured(4, 0.0), "above 0; got 0.0"),
        (lambda: insert(Unstructured(4), None, jnp.zeros(2), jnp.zeros((2, 3)), None), "the task gives 3"),
        (lambda: Deep(depth=0), "at least 1 elite"),
        (lambda: Deep(Grid(learning_rate=0.1)), "doesn't anneal"),
    ],
)
def test_mistakes_are_told(wrong, said):
    with pytest.raises(ValueError, match=said):
        wrong()
