"""The adapter to evosax, and random search: they climb, they can be checkpointed, and their mistakes are told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generation import generation, play
from numpy.testing import assert_array_equal

from evo.strategies.evosax import Evosax, installed
from evo.strategies.random_search import RandomSearch

pytestmark = pytest.mark.filterwarnings("ignore:optax.global_norm is deprecated:DeprecationWarning")
PARAMS = {"w": jnp.zeros((2, 2)), "b": jnp.ones(2)}
SOME = [
    (Evosax("CMA_ES", 16), 1.0),
    (Evosax("Open_ES", 16, {"lr": 0.3, "std": 0.3}), 1.0),
    (Evosax("SimpleGA", 16, {"std": 0.3}), 1.0),
    (Evosax("SV_CMA_ES", 16, {"num_populations": 2.0, "std_init": 0.5}), 0.2),
]


def task(params, key):
    """An asymmetric bowl, best (0) at w = 1 and b = 4: a flipped sign runs away from it."""
    return -jnp.sum((params["w"] - 1.0) ** 2) - 2 * jnp.sum((params["b"] - 4.0) ** 2)


@pytest.mark.parametrize(("strategy", "share"), SOME, ids=lambda x: getattr(x, "name", ""))
def test_it_climbs(strategy, share):
    history = play(strategy, task, PARAMS, 30)
    start, end = (float(task(strategy.solution(state), None)) for state, _ in (history[0], history[-1]))
    assert start == -40
    assert end > -40 * (1 - share * 0.9)
    best = [float(info["best_so_far"]) for _, info in history[1:]]
    assert best == sorted(best)


@pytest.mark.slow
@pytest.mark.parametrize("name", installed())
def test_every_strategy_runs(name):
    strategy = Evosax(name, 16)
    history = play(strategy, task, PARAMS, 3)
    first, last = history[1][1]["best_so_far"], history[-1][1]["best_so_far"]
    assert np.isfinite(float(task(strategy.solution(history[-1][0]), None)))
    assert first <= last <= 0


def test_a_restored_state_goes_on_to_the_same_end():
    strategy = Evosax("DifferentialEvolution", 8)
    step, state = generation(strategy, task), strategy.init(jax.random.key(0), PARAMS)
    keys = jax.random.split(jax.random.key(1), 4)
    for key in keys[:2]:
        state = step(key, state)[0]
    saved = jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))
    restored = jax.tree.map(jnp.asarray, saved)
    restored = restored._replace(key=jax.random.wrap_key_data(restored.key))
    for key in keys[2:]:
        state, restored = step(key, state)[0], step(key, restored)[0]
    assert step._cache_size() == 1
    jax.tree.map(assert_array_equal, state.rows, restored.rows)
    jax.tree.map(assert_array_equal, state.inner, restored.inner)


def test_failures_rank_last_and_a_failed_generation_changes_nothing():
    strategy = Evosax("SimpleGA", 6, {"std": 0.1})
    hopeless = lambda params, key: task(params, key) * jnp.inf  # noqa: E731
    flaky = lambda params, key: jnp.where(params["b"][0] > 1, jnp.inf, jnp.where(params["b"][0] < 1, jnp.nan, -5.0))  # noqa: E731
    (before, _), (after, _) = play(strategy, hopeless, PARAMS, 1)
    jax.tree.map(assert_array_equal, before.rows, after.rows)
    (_, _), (state, info) = play(strategy, flaky, PARAMS, 1)
    assert float(info["best_so_far"]) == -5  # of the one valid member: the initial parameters themselves
    jax.tree.map(assert_array_equal, strategy.solution(state), PARAMS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "CMAES"}, "no strategy 'CMAES'; the nearest known one is 'CMA_ES'"),
        ({"params": {"std_int": 1.0}}, "no parameter 'std_int'; the nearest known one is 'std_init'"),
        ({"name": "Open_ES", "population": 15}, "population=15.*must be even"),
        ({"name": "ESMC", "population": 3}, "must be >= 4"),
        ({"name": "SV_CMA_ES", "population": 15, "params": {"num_populations": 2}}, "a multiple of that; got 15"),
        ({"name": "Rm_ES", "params": {"m": 1.5}}, "'m' is a whole number"),
        ({"params": {"weights": 1e30}}, "no parameter 'weights'"),  # an array
        ({"population": 1}, "at least 2"),
    ],
)
def test_mistakes_are_told(settings, said):
    with pytest.raises(ValueError, match=said):
        Evosax(**settings)


def test_whole_numbers_are_refused():
    with pytest.raises(ValueError, match="must be floating-point"):
        Evosax("SNES", 8).init(jax.random.key(0), {"n": jnp.int32(1)})


def test_random_search_keeps_the_best():
    strategy = RandomSearch(population=50, sigma=1.0)
    history = play(strategy, task, PARAMS, 8)
    best = [float(info["best_so_far"]) for _, info in history[1:]]
    assert best == sorted(best)
    assert best[-1] > -36
    np.testing.assert_allclose(task(strategy.solution(history[-1][0]), None), best[-1], rtol=1e-5)
    _, (state, _) = play(strategy, lambda params, key: jnp.nan * params["b"][0], PARAMS, 1)
    jax.tree.map(assert_array_equal, strategy.solution(state), PARAMS)
