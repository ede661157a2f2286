"""What other libraries' archives were seen to get wrong, on every kind of archive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from evo.archive import Grid, empty, insert
from evo.cvt import CVT
from evo.deep import Deep
from evo.elites import stats
from evo.genome import Genome
from evo.unstructured import Unstructured

KINDS = {
    "grid": Grid((4, 4)),
    "cvt": CVT(16),
    "unstructured": Unstructured(16, 0.2),
    "deep": Deep(Grid((4, 4)), 2),
    "annealed": Grid((4, 4), learning_rate=0.1, threshold_min=-9.0),
}
HERE, THERE = (0.1, 0.1), (0.9, 0.9)


@pytest.fixture(params=KINDS)
def cells(request):
    return KINDS[request.param]


def put(cells, fitness, places):
    """What an empty archive holds after a batch: (fitness, the two leaves of the row) by elite."""
    n = jnp.arange(len(fitness), dtype=jnp.float32)
    batch = jnp.asarray(fitness, jnp.float32), jnp.asarray(places, jnp.float32), {"a": n, "b": -n[:, None]}
    archive, done = insert(cells, empty(cells, {"a": jnp.float32(-1), "b": jnp.zeros(1)}), *batch)
    taken = np.isfinite(archive.fitness)
    rows = zip(archive.fitness[taken], archive.rows["a"][taken], archive.rows["b"][taken, 0], strict=True)
    return sorted(tuple(map(float, row)) for row in rows), archive, done


def test_a_nan_fitness_doesnt_empty_its_cell(cells):
    held, _, done = put(cells, [np.nan, 1, np.nan], [HERE] * 3)
    assert held == [(1, 1, -1)]
    assert_array_equal(done.status, [0, 2, 0])


def test_a_nan_descriptor_is_filed_nowhere(cells):
    held, _, done = put(cells, [9, 1, 9], [(np.nan, 0.1), THERE, (0.1, np.inf)])
    assert held == [(1, 1, -1)]
    assert not done.outside.any()


def test_infinite_fitness_is_refused(cells):
    held, archive, _ = put(cells, [np.inf, 2, -np.inf], [HERE] * 3)
    assert held == [(2, 1, -1)]
    assert np.isfinite(stats(archive)["qd_score"])


def test_tied_rows_come_whole_from_the_lowest_index(cells):
    held, _, _ = put(cells, [5.0] * 64, [HERE] * 64)
    assert held[0] == (5, 0, 0)
    assert all(a == -b for _, a, b in held)
    assert len(held) == getattr(cells, "depth", 1)


@pytest.mark.parametrize("dims", [0, 1, 3])
def test_a_descriptor_of_another_dimension_is_told(cells, dims):
    with pytest.raises(ValueError, match=f"the task gives {dims}"):
        insert(cells, empty(cells, jnp.zeros(1)), jnp.zeros(4), jnp.zeros((4, dims)), jnp.zeros((4, 1)))


def test_seed_chains_of_a_large_network_take_megabytes():
    """1,024 chains of 64 links for a network of 4 million parameters, and those parameters themselves."""
    grid = Grid((32, 32))
    network = jax.eval_shape(lambda: {"w": jnp.zeros((2, 1024, 2048)), "b": jnp.zeros(2048)})
    assert sum(x.size for x in jax.tree.leaves(network)) > 4_000_000
    chain = Genome(jax.random.split(jax.random.key(0), 64), jnp.ones(64))
    batch = (
        jnp.ones(256),
        jnp.zeros((256, 2)),
        Genome(jax.random.split(jax.random.key(1), (256, 64)), jnp.ones((256, 64))),
    )

    def bytes_of(row):
        shapes = jax.eval_shape(lambda: empty(grid, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), row)).rows)
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))

    archive = empty(grid, chain)
    put = jax.jit(lambda *a: insert(grid, *a)[0], donate_argnums=0).lower(archive, *batch).compile()
    taken = put.memory_analysis()
    assert taken.argument_size_in_bytes + taken.temp_size_in_bytes < 4 << 20  # the archive and a batch of 256
    full = put(archive, *batch)
    assert_array_equal(jax.random.key_data(full.rows.key[0]), jax.random.key_data(batch[2].key[0]))
    with pytest.raises(ValueError, match=r"takes 17,\d+,\d+,\d+ bytes and 9 are free.*keep genomes") as told:
        _told(bytes_of, network)
    assert "Use at most 0 cells" in str(told.value)


def _told(bytes_of, network):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evo.archive.free_memory", lambda device: 9)
        bytes_of(network)
