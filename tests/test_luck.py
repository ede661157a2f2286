"""Luck: looks and corrections against numpy twins, and how much of an archive on a noisy task is real."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generation import play
from numpy.testing import assert_allclose, assert_array_equal

import evo
from evo.archive import Grid, empty
from evo.deep import Deep
from evo.envs.arm import Arm
from evo.luck import Looks, corrected, gathered, look, refiled
from evo.runtime import Runtime
from evo.strategies.emitters.iso_line import IsoLine
from evo.strategies.qd import QD
from evo.task import Evaluation

PARAMS = {"w": jnp.zeros((2, 3))}


def test_looks_equal_numpy_twins():
    rng = np.random.default_rng(0)
    looks = Looks(jnp.zeros(5, jnp.int32), jnp.zeros(5), jnp.zeros(5), jnp.zeros((5, 2)))
    seen = {c: [] for c in range(5)}
    for _ in range(6):
        cell = rng.permutation(5)[:3]
        fitness, place = rng.normal(size=3).astype(np.float32), rng.normal(size=(3, 2)).astype(np.float32)
        fitness[0] = np.nan if rng.uniform() < 0.3 else fitness[0]
        place[1, 0] = np.nan if rng.uniform() < 0.3 else place[1, 0]
        valid = rng.uniform(size=3) < 0.8
        looks = look(looks, *map(jnp.asarray, (cell, valid, fitness, place)))
        for c, f, d, v in zip(cell, fitness, place, valid, strict=True):
            if v and np.isfinite([f, *d]).all():
                seen[c].append((f, *d))
    for c, said in seen.items():
        assert looks.number[c] == len(said)
        if said:
            mean, var = np.mean(said, 0), np.var(said, 0)
            assert_allclose([looks.fitness[c], *looks.descriptor[c]], mean, atol=1e-5)
            assert_allclose(looks.variance[c], var[0], atol=1e-5)


@pytest.mark.parametrize("lost", [[], [0, 3], [0, 1, 2, 3, 4]])
def test_what_one_elites_looks_said_equals_numpy(lost):
    rng = np.random.default_rng(1)
    fitness, place = rng.normal(3, 1, 5).astype(np.float32), rng.normal(size=(5, 2)).astype(np.float32)
    fitness[lost[:1]], place[lost[1:], 1] = np.nan, np.inf
    kept = np.delete(np.arange(5), lost)
    said = gathered(jnp.asarray(fitness), jnp.asarray(place))
    assert said.number == len(kept)
    if len(kept):
        assert_allclose([said.fitness, said.variance], [fitness[kept].mean(), fitness[kept].var()], rtol=1e-5)
        assert_allclose(said.descriptor, place[kept].mean(0), rtol=1e-5)
    else:
        assert np.isnan(said.fitness)


@pytest.mark.parametrize(("elites", "looks", "generations"), [(3, 8, 1), (6, 2, 3)])
def test_elites_are_looked_at_in_turn_and_nobody_twice(elites, looks, generations):
    strategy = QD(Grid((6,), ((0.0, 6.0),)), (IsoLine(1),), looks=looks)
    state = strategy.init(jax.random.key(0), jnp.zeros(1))
    fitness = jnp.where(jnp.arange(6) < elites, 9.0, -jnp.inf)
    state = state._replace(archive=state.archive._replace(fitness=fitness))
    shown = Evaluation(jnp.arange(1.0 + looks).at[0].set(jnp.nan), jnp.zeros((1 + looks, 1)))  # no newcomer enters
    genome, _ = jax.jit(strategy.ask)(jax.random.key(1), state)
    tell = jax.jit(lambda state: strategy.tell(Runtime(), state, genome, shown)[0])
    for _ in range(generations):
        state = tell(state)
    seen = state.archive.record.looks
    assert_array_equal(seen.number, np.arange(6) < elites)
    assert_array_equal(seen.fitness[:elites], [1, 2, 3] if elites == 3 else [1, 2] * 3)


def test_corrected_golden():
    grid = Grid((4,), ((0.0, 4.0),), offset=-1.0)
    archive = empty(grid, jnp.zeros(1))._replace(
        fitness=jnp.asarray([3.0, 5.0, -jnp.inf, 2.0]), descriptor=jnp.asarray([[0.5], [1.5], [0.0], [3.5]])
    )
    # cell 0 is really worth 1; what is in cell 1 really lives in cell 0, worth 0; cell 3 nobody has looked at
    looks = Looks(
        jnp.asarray([2, 1, 0, 0]), jnp.asarray([1.0, 0, 0, 0]), jnp.zeros(4), jnp.asarray([[0.5], [0.5], [0], [0]])
    )
    numbers = {name: float(x) for name, x in corrected(grid, archive, looks).items()}
    assert numbers["corrected_qd_score"] == (1 + 1) + (2 + 1)
    assert numbers["corrected_coverage"] == 0.5
    assert_allclose(numbers["looked"], 2 / 3, rtol=1e-6)
    assert numbers["luck"] == (2 + 5) / 2
    assert numbers["descriptor_error"] == 0.5
    nobody = corrected(grid, archive, looks._replace(number=jnp.zeros(4, jnp.int32)))
    assert np.isnan(nobody["luck"])
    assert np.isnan(nobody["descriptor_error"])
    assert nobody["looked"] == 0
    assert nobody["corrected_qd_score"] == 4 + 6 + 3  # as reported


def test_luck_is_seen():
    """On a task whose luck is all there is, the reported archive is better than the truth and the looks say so."""
    noisy = lambda params, key: Evaluation(jax.random.normal(key), params["w"][:, 0])  # noqa: E731
    strategy = QD(Grid((6, 6), ((-3.0, 3.0),) * 2), (IsoLine(64, 0.3, 0.2, 1.0),), looks=36)
    _, info = play(strategy, noisy, PARAMS, 60)[-1]
    elites = float(info["elites"])
    assert float(info["qd_score"]) / elites > 1.5
    assert float(info["looked"]) > 0.9
    assert abs(float(info["luck"]) - float(info["qd_score"]) / elites) < 0.5
    assert abs(float(info["corrected_qd_score"])) / elites < 0.7


def test_corrected_of_a_deep_archive_golden():
    """A cell is worth the best of its elites' means: here the runner-up's."""
    deep = Deep(Grid((2,), ((0.0, 2.0),)), 2)
    archive = empty(deep, jnp.zeros(1))._replace(
        fitness=jnp.asarray([9.0, 5.0, -jnp.inf, -jnp.inf]), descriptor=jnp.asarray([[0.5], [0.6], [0.0], [0.0]])
    )
    looks = Looks(
        jnp.asarray([3, 3, 0, 0]), jnp.asarray([1.0, 4, 0, 0]), jnp.zeros(4), jnp.asarray([[0.5], [0.5], [0], [0]])
    )
    numbers = corrected(deep, archive, looks)
    assert numbers["corrected_qd_score"] == 4
    assert numbers["corrected_coverage"] == 0.5
    assert numbers["luck"] == (8 + 1) / 2


def test_nearly_half_of_a_noisy_arms_archive_is_luck():
    """51,200 evaluations, deviations 0.05 of the fitness and 0.02 of the descriptor, 1,024 cells (docs say QDax: 43 %).

    The truth is the noise-free task's; 512 looks at each elite find it.
    """
    noisy, true = Arm(8, fitness_noise=0.05, descriptor_noise=0.02), Arm(8)
    grid = Grid((32, 32), ((0.0, 1.0),) * 2, offset=-1.0)
    strategy = QD(grid, (IsoLine(2048, 0.05, 0.1, 0.3),))
    result = evo.run(noisy, jnp.full(8, 0.5), strategy, generations=25, fuse=25)
    archive = strategy.archive(result.state)
    taken = jnp.isfinite(archive.fitness)
    reported = float(result.metrics["qd_score"][-1])

    def means(params, key):
        looks = jax.vmap(lambda key: noisy.evaluate(params, (), key))(jax.random.split(key, 512))
        return looks.fitness.mean(), looks.descriptor.mean(0)

    seen = jax.jit(jax.vmap(means))(archive.rows, jax.random.split(jax.random.key(1), 1024))
    real = jax.vmap(lambda params: true.evaluate(params, (), None))(archive.rows)
    score = {
        name: float(jnp.where(jnp.isfinite(a.fitness), a.fitness + 1, 0).sum())
        for name, a in {
            "seen": refiled(grid, jnp.where(taken, seen[0], jnp.nan), seen[1]),
            "true": refiled(grid, jnp.where(taken, real.fitness, jnp.nan), real.descriptor),
        }.items()
    }
    assert 0.35 < 1 - score["true"] / reported < 0.5
    assert_allclose(score["seen"], score["true"], rtol=0.02)
