"""Genome to parameters: linear, by path, and the same whatever else is in the tree."""

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from evo.express import ByPath, Leaf, express, express_dense, plan
from evo.genome import Genome, as_they_stand, concatenate, expand, member, size
from evo.lazy import Lazy
from evo.noise import Frozen, Gaussian, LowRank
from evo.runtime import Runtime

CENTER = {"dense": {"kernel": jnp.ones((6, 7)), "bias": jnp.zeros(7)}, "stack": jnp.full((2, 5, 5), 0.5)}
KEYS = jax.random.split(jax.random.key(1), 3)
ZERO = jax.tree.map(jnp.zeros_like, CENTER)
NOISES = [Gaussian(), LowRank(1), LowRank(2), ByPath((("**/bias", Frozen()),), LowRank())]

noises = pytest.mark.parametrize("noise", NOISES, ids=["gaussian", "rank 1", "rank 2", "by path"])


def tree_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: assert_allclose(x, y, **tolerance), a, b)


@noises
def test_express_is_linear_in_scale_and_mix(noise):
    rows = jax.tree.map(lambda x: jnp.stack([x, 3 * x + 1]), CENTER)
    one = Genome(KEYS, jnp.array([0.1, 0.2, -0.3]), jnp.array([0, 1]), jnp.array([0.25, 0.75]))
    parts = [express_dense(noise, ZERO, Genome(KEYS[k : k + 1], one.scale[k : k + 1])) for k in range(3)]
    mixed = jax.tree.map(lambda x: 0.25 * x[0] + 0.75 * x[1], rows)
    slow = jax.tree.map(lambda base, *noise: base + sum(noise), mixed, *parts)
    tree_close(express_dense(noise, rows, one), slow, rtol=1e-5, atol=1e-6)


@noises
def test_sum_is_the_express_of_one_long_genome(noise):
    genome = Genome(KEYS.reshape(3, 1), jnp.array([[0.1], [-0.1], [0.2], [0.3], [0.4], [-0.5]]))
    weights = jnp.array([1.0, 2.0, -1.0, 0.5, 0.0, 3.0])
    long = Genome(expand(genome).key.reshape(-1), (weights[:, None] * genome.scale).reshape(-1))
    total = Runtime().sum(noise, CENTER, genome, weights)
    tree_close(total, express_dense(noise, ZERO, long), rtol=1e-4, atol=1e-6)


def test_another_leaf_changes_no_leafs_noise():
    genome = Genome(KEYS[:1], jnp.ones(1))
    more = {**CENTER, "another": jnp.zeros((4, 4))}
    small, large = express_dense(Gaussian(), CENTER, genome), express_dense(Gaussian(), more, genome)
    assert_array_equal(small["dense"]["kernel"], large["dense"]["kernel"])
    same_shape = express_dense(Gaussian(), {"a": jnp.zeros(5), "b": jnp.zeros(5)}, genome)
    assert (same_shape["a"] != same_shape["b"]).all()


def test_thin_leaves_stay_lazy_and_frozen_ones_untouched():
    noise = ByPath((("**/bias", Frozen()),), LowRank())
    out = express(noise, CENTER, Genome(KEYS[:2], jnp.ones(2)))
    kernel, stack = out["dense"]["kernel"], out["stack"]
    assert isinstance(kernel, Lazy)
    assert (kernel.a.shape, kernel.b.shape) == ((6, 1, 2), (1, 7, 2))
    assert (stack.a.shape, stack.b.shape) == ((2, 5, 1, 2), (2, 1, 5, 2))
    assert out["dense"]["bias"] is CENTER["dense"]["bias"]


def test_rows_and_columns_may_be_any_axes():
    leaf = Leaf("w", LowRank(2), rows=(0, 2), cols=(1,))
    base = jnp.zeros((4, 5, 3, 2))  # the last axis is stacked
    lazy = leaf.put(base, KEYS[:1], jnp.ones(1))
    assert (lazy.a.shape, lazy.b.shape) == ((4, 1, 3, 2, 2), (1, 5, 1, 2, 2))
    total = leaf.total(KEYS[:1], jnp.ones(1), base)
    assert_allclose((lazy.a * lazy.b).sum(-1), total, rtol=1e-5, atol=1e-6)


def test_a_parent_that_is_not_mixed_is_taken_bit_for_bit_integers_too():
    rows = {"w": jnp.arange(6.0).reshape(3, 2) / 7, "codes": jnp.arange(3, dtype=jnp.int8)}
    genomes = as_they_stand(jnp.arange(3))
    out = jax.vmap(lambda g: express_dense(Gaussian(), rows, g))(expand(genomes))
    jax.tree.map(assert_array_equal, out, rows)
    for mix in ([0.75, 0.25], [0.25, 0.75]):  # whole numbers can't be mixed: they are the first parent's
        child = express_dense(Gaussian(), rows, Genome(KEYS[:0], jnp.zeros(0), jnp.array([2, 1]), jnp.array(mix)))
        assert_array_equal(child["codes"], rows["codes"][2])
        assert_allclose(child["w"], mix[0] * rows["w"][2] + mix[1] * rows["w"][1], rtol=1e-6)


def test_the_first_glob_that_matches_decides():
    noise = ByPath((("dense/*", Frozen()), ("**/bias", Gaussian()), ("*", LowRank(2))), LowRank())
    assert [leaf.noise for leaf in plan(noise, CENTER).of(CENTER)] == [Frozen(), Frozen(), LowRank(2)]


def test_genomes_are_joined_by_member():
    genome = Genome(KEYS[:2, None], jnp.array([[1.0], [-1.0], [2.0], [-2.0]]))
    assert size(genome) == 4
    assert (member(genome, 3).key == KEYS[1:2]).all()
    both = concatenate(*(Genome(genome.key[i : i + 1], genome.scale[2 * i : 2 * i + 2]) for i in (0, 1)))
    assert (both.key == expand(genome).key).all()
    assert_array_equal(both.scale, genome.scale)


BAD = [
    (LowRank(9), "rank 9 is larger than every matrix it is for; the largest allows 6"),
    (ByPath((("**/kernels", Frozen()),)), r"no leaf matches '\*\*/kernels'; the leaves are dense/bias, dense/kernel"),
]


@pytest.mark.parametrize(("noise", "message"), BAD, ids=["rank", "glob"])
def test_noise_that_fits_nothing_is_refused(noise, message):
    with pytest.raises(ValueError, match=message):
        plan(noise, CENTER)
