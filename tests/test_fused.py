"""Several generations as one program: the same rows, resume, rebuilding and failures as one at a time."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_run import PARAMS, task

import evo
from evo.checkpoint import flatten
from evo.strategies.deep_ga import DeepGA
from evo.strategies.es import ES
from evo.strategies.map_elites import MapElites
from evo.task import Evaluation


def filed(params, key):
    return Evaluation(task(params, key), params["w"].sum(0)[:2])


STRATEGIES = {
    "es": ES(population=8, sigma=0.1, lr=0.1),
    "map_elites": MapElites(population=16, shape=(5, 5), bounds=((-3.0, 3.0),) * 2),
    "deep_ga": DeepGA(population=12, parents=3, elite_candidates=2, elite_episodes=2, horizon=20),
}


def same(a, b):
    jax.tree.map(assert_array_equal, flatten(a), flatten(b))


@pytest.fixture(scope="module", params=["map_elites", "deep_ga"])
def whole(request, tmp_path_factory):
    """A strategy, its run of 11 generations in blocks of 4, and the folder."""
    strategy, out = STRATEGIES[request.param], tmp_path_factory.mktemp("runs") / "whole"
    result = evo.run(filed, PARAMS, strategy, generations=11, seed=3, out=out, fuse=4, checkpoint_every=6)
    return strategy, result, out


def test_it_is_the_run_of_one_generation_at_a_time(whole):
    strategy, result, _ = whole
    single = evo.run(filed, PARAMS, strategy, generations=11, seed=3)
    assert list(result.metrics) == list(single.metrics)
    assert_allclose(result.metrics["mean"], single.metrics["mean"], rtol=2e-3)
    assert_array_equal(result.metrics["evaluations"], single.metrics["evaluations"])
    assert (np.diff(result.metrics["seconds"]) >= 0).all()


def test_stopped_resumed_and_cut_otherwise_it_ends_the_same(whole, tmp_path):
    strategy, result, _ = whole
    seen = []
    settings = {"seed": 3, "out": tmp_path / "r", "fuse": 4}
    first = evo.run(
        filed, PARAMS, strategy, generations=11, **settings, on_generation=seen.append, stop=lambda: len(seen) > 2
    )
    assert first.stopped
    assert len(first.metrics["mean"]) == 4  # the block is finished
    rest = evo.run(filed, PARAMS, strategy, generations=11, checkpoint_every=3, eval_every=5, **settings)
    same(rest.state, result.state)
    assert_array_equal(rest.metrics["mean"], result.metrics["mean"])
    assert np.flatnonzero(np.isfinite(rest.metrics["eval_mean"])).tolist() == [4, 9]


def test_any_moment_is_rebuilt(whole):
    strategy, result, out = whole
    run = evo.open(out, task=filed, strategy=strategy, params=PARAMS)
    part = evo.run(filed, PARAMS, strategy, generations=9, seed=3, fuse=4)
    same(run.strategy_state(9), part.state)
    same(run.solution(), result.solution)
    fitness = filed(run.member(9, 5), jax.random.key(0)).fitness
    assert abs(fitness - run.fitness(9)[5]) < 0.6  # two draws of luck of 0.1
    blind = evo.open(out, strategy=strategy, params=PARAMS)  # without the task it is told from the record
    near = lambda a, b: assert_allclose(a, b, rtol=1e-3, atol=1e-4)  # noqa: E731
    jax.tree.map(near, blind.strategy.solution(blind.strategy_state(9)), strategy.solution(part.state))


@dataclass(frozen=True)
class Count:
    """Counts the members judged, and judges none from some number on."""

    most: int = 10**6

    def init(self, key):
        return PARAMS, {"seen": jnp.zeros((), jnp.int32)}

    def evaluate(self, params, state, key):
        fitness = jnp.where(state["seen"] < self.most, task(params, key), jnp.nan)
        return Evaluation(fitness, aux={"steps": jnp.ones((), jnp.int32) * 2})

    def absorb(self, state, aux):
        return {"seen": state["seen"] + aux["steps"].sum() // 2}


def test_a_tasks_state_is_recorded(tmp_path):
    result = evo.run(Count(), None, STRATEGIES["es"], generations=6, out=tmp_path / "r", fuse=4)
    assert result.task_state["seen"] == 48
    assert result.metrics["steps"].tolist() == [16 * (g + 1) for g in range(6)]
    run = evo.open(tmp_path / "r", task=Count())
    assert [int(run.task_state(g)["seen"]) for g in (0, 5, None)] == [0, 40, 48]


def test_all_invalid_stops_at_its_generation(tmp_path):
    bad = Count(most=7 * 8)
    with pytest.raises(evo.AllInvalid, match="no member of generation 7 had"):
        evo.run(bad, None, STRATEGIES["es"], generations=12, seed=3, out=tmp_path / "r", fuse=5)
    run = evo.open(tmp_path / "r", task=bad)
    assert run.generations == 7
    assert run.folder.checkpoints().generations()[-1] == 7
    good = evo.run(Count(), None, STRATEGIES["es"], generations=7, seed=3, fuse=5)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5), run.solution(), good.solution)
    with pytest.raises(evo.AllInvalid, match="check the task"):
        evo.run(bad, None, STRATEGIES["es"], generations=12, fuse=5)
    with pytest.raises(ValueError, match="`fuse` is a whole number, at least 1; got 0"):
        evo.run(bad, None, STRATEGIES["es"], fuse=0)
