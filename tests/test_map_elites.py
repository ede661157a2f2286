"""MAP-Elites: its offspring, and what it makes of a planar arm."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generation import generation, play
from numpy.testing import assert_allclose, assert_array_equal

from evo.archive import Archive
from evo.express import express_dense
from evo.runtime import Runtime
from evo.strategies.map_elites import MapElites
from evo.task import Evaluation

JOINTS = 5


def arm(params, key):
    """Where the tip of an arm is, in the unit square, and how even its joints are."""
    angle = jnp.cumsum((2 * jnp.clip(params, 0, 1) - 1) * jnp.pi)
    tip = jnp.stack([jnp.cos(angle).mean(), jnp.sin(angle).mean()])
    return Evaluation(-params.std(), (tip + 1) / 2)


def members(strategy, state, key):
    genome, _ = strategy.ask(key, state)
    return genome, jax.vmap(lambda g: express_dense(strategy.noise, strategy.bases(state), g))(genome)


def test_it_fills_an_arm_archive():
    strategy = MapElites(population=300, shape=(8, 8), iso=0.02, line=0.2, initial=0.3)
    history = play(strategy, arm, jnp.full(JOINTS, 0.5), 40)
    coverage, score = (np.array([float(info[name]) for _, info in history[1:]]) for name in ("coverage", "qd_score"))
    fitness = np.stack([np.asarray(state.archive.fitness) for state, _ in history])
    assert (np.diff(coverage) >= 0).all()
    assert (fitness[1:] >= fitness[:-1]).all()  # no cell loses fitness
    assert coverage[-1] > 0.7  # a disc in its square: 0.79
    assert score[-1] / coverage[-1] > score[0] / coverage[0] + 2
    state, _ = history[-1]
    archive = strategy.archive(state)
    taken = np.isfinite(archive.fitness)
    again = jax.vmap(arm, (0, None))(archive.rows, jax.random.key(0))
    assert_allclose(again.fitness[taken], archive.fitness[taken], atol=1e-5)  # a row is what was judged
    assert_allclose(again.descriptor[taken], archive.descriptor[taken], atol=1e-5)
    assert_array_equal(strategy.grid.cell(archive.descriptor)[0][taken], np.flatnonzero(taken))
    assert_allclose(arm(strategy.solution(state), None).fitness, archive.fitness.max(), atol=1e-6)
    generations = np.asarray(archive.record.generation)
    assert (generations[~taken] == -1).all()
    assert generations.max() < 40


def test_offspring_are_iso_plus_line():
    """Of two elites 0 and 8: x1 + line * N(0, 1) * (x2 - x1) in all weights alike, + iso * N(0, 1) in each."""
    strategy = MapElites(population=20_000, shape=(4,), bounds=((0.0, 1.0),), iso=0.1, line=0.25)
    state = strategy.init(jax.random.key(0), jnp.zeros(2))
    rows = jnp.asarray([[0.0, 0.0], [9.0, 9.0], [8.0, 8.0], [9.0, 9.0]])
    fitness = jnp.asarray([1.0, -jnp.inf, 2.0, -jnp.inf])
    state = state._replace(archive=state.archive._replace(rows=rows, fitness=fitness))
    genome, made = members(strategy, state, jax.random.key(1))
    made, pairs = np.asarray(made), np.asarray(genome.parents)
    assert set(pairs.ravel()) == {0, 2}
    for first, second in [(0, 0), (0, 2), (2, 0), (2, 2)]:
        own = made[(pairs == [first, second]).all(1)]
        assert abs(len(own) - 5_000) < 5 * np.sqrt(20_000 * 3 / 16)
        off = own - np.asarray(rows)[first]
        apart = (off[:, 0] - off[:, 1]) / np.sqrt(2)  # the two weights' own noise: the line is common to both
        assert abs(apart.std() / 0.1 - 1) < 5 / np.sqrt(2 * len(own))
        along = np.sqrt(0.1**2 / 2 + (0.0 if first == second else 0.25 * 8) ** 2)
        assert abs(off.mean(1).std() / along - 1) < 5 / np.sqrt(2 * len(own))
        assert abs(off.mean()) < 5 * along / np.sqrt(len(own))


def test_the_first_generation_surrounds_the_initial_parameters():
    strategy = MapElites(population=4_000, shape=(4,), bounds=((0.0, 1.0),), initial=0.5)
    state = strategy.init(jax.random.key(0), jnp.asarray([3.0, -7.0]))
    _, made = members(strategy, state, jax.random.key(1))
    off = np.asarray(made) - [3.0, -7.0]
    assert np.abs(off.mean(0)).max() < 5 * 0.5 / np.sqrt(4_000)
    assert np.abs(off.std(0) / 0.5 - 1).max() < 5 / np.sqrt(8_000)
    assert_array_equal(strategy.solution(state), [3.0, -7.0])


def test_failures_stay_out():
    def task(params, key):
        fitness = jnp.where(params[0] > 0, jnp.nan, params[1])
        return Evaluation(fitness, jnp.where(params[1] > 0, jnp.inf, 5 * params))

    strategy = MapElites(population=100, shape=(3, 3), bounds=((-1.0, 0.0), (-1.0, 0.0)), initial=1.0)
    start = strategy.init(jax.random.key(0), jnp.zeros(2))
    state, info, _, judged = generation(strategy, task)(jax.random.key(1), start)
    taken = np.isfinite(state.archive.fitness)
    assert not np.isnan(state.archive.fitness).any()
    assert taken.sum() == info["added"] == info["elites"]
    assert (np.asarray(state.archive.rows)[taken] < 0).all()
    assert info["out_of_bounds"] > 0
    nowhere = np.isfinite(judged.fitness) & ~np.isfinite(judged.descriptor).all(1)
    assert info["unfiled"] == nowhere.sum() > 0


def test_a_wrong_descriptor_is_told():
    with pytest.raises(ValueError, match="one pair of bounds for each"):
        MapElites(shape=(3, 3, 3), bounds=((0.0, 1.0),) * 2)
    strategy = replace(MapElites(population=2), shape=(3,), bounds=((0.0, 1.0),))
    state = strategy.init(jax.random.key(0), jnp.zeros(JOINTS))
    for task, said in [(arm, "the task gives 2"), (lambda params, key: params.sum(), "this task gives none")]:
        with pytest.raises(ValueError, match=said):
            generation(strategy, task)(jax.random.key(0), state)


def test_only_winners_are_made_dense():
    """Rows in the archive are the members', whatever the place of the winners in the batch."""
    strategy = MapElites(population=150, shape=(150,), bounds=((0.0, 150.0),), initial=1.0)
    state = strategy.init(jax.random.key(0), jnp.zeros(3))
    genome, made = members(strategy, state, jax.random.key(1))
    wins = np.arange(150) % 3 != 1  # 100 winners, more than one slice
    fitness = jnp.where(wins, 1.0, jnp.nan)
    place = jnp.arange(150.0)[:, None] + 0.5
    state, _ = jax.jit(strategy.tell, static_argnums=0)(Runtime(), state, genome, Evaluation(fitness, place))
    assert isinstance(state.archive, Archive)
    assert_allclose(state.archive.rows[wins], made[wins], rtol=1e-6)
    assert_array_equal(state.archive.rows[~wins], 0)
