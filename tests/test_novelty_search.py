"""Novelty strategies: who is selected, what is admitted, and that novelty gets out of a dead end."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generation import play
from numpy.testing import assert_allclose, assert_array_equal

from evo.express import express_dense
from evo.genome import concatenate, expand
from evo.noise import LowRank
from evo.novelty import novelty
from evo.runtime import Runtime
from evo.strategies.novelty_es import NoveltyES
from evo.strategies.novelty_ga import NoveltyGA
from evo.task import Evaluation

GA = NoveltyGA(population=40, parents=5, sigma=0.3, k=5, admission=0.2, capacity=64, horizon=64)
NES = NoveltyES(population=30, centers=3, sigma=0.3, lr=0.3, k=5, capacity=64, spread=0.1)
PARAMS = {"w": jnp.zeros((6, 5)), "b": jnp.ones(3)}
NAN = np.nan


def trap(params, key):
    """Reward rises to x = 1 and falls behind it, until x = 2.9: who follows it never gets there."""
    x, y = params["w"][0].sum() / 2, params["b"][0]
    return Evaluation(jnp.where(x > 2.9, 10.0, -jnp.abs(x - 1)), jnp.stack([x, y]))


def same(a, b):
    words = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    jax.tree.map(lambda x, y: assert_array_equal(words(x), words(y)), a, b)


@pytest.mark.parametrize("strategy", [GA, replace(GA, noise=LowRank(), population=39, litters=True), NES], ids=repr)
def test_novelty_gets_out_of_the_trap(strategy):
    history = play(strategy, trap, PARAMS, 40)
    best = [float(info["best_so_far"]) for _, info in history[1:]]
    assert best == sorted(best)
    assert best[-1] == 10
    state, info = history[-1]
    assert float(trap(strategy.solution(state), None).fitness) == pytest.approx(best[-1], rel=1e-5)
    assert all(np.isfinite(float(x)) for x in info.values())


def dense(strategy, genome):
    """Members of a first generation, whose bases are all PARAMS."""
    return jax.vmap(lambda g: express_dense(strategy.noise, PARAMS, g))(expand(genome)._replace(parents=None))


def test_the_ga_selects_by_novelty_and_admits_by_key():
    state = GA.init(jax.random.key(0), PARAMS)
    genome, _ = GA.ask(jax.random.key(1), state)
    descriptor = jax.random.normal(jax.random.key(2), (41, 2)).at[7].set(NAN).at[9].set(50.0)
    fitness = jax.random.normal(jax.random.key(3), (41,)).at[20].set(NAN).at[11].set(99.0)
    after, info = jax.jit(GA.tell, static_argnums=0)(Runtime(), state, genome, Evaluation(fitness, descriptor))
    new = np.array(novelty(state.seen, descriptor.at[20].set(NAN), GA.k))
    chosen = np.argsort(-new, kind="stable")[:5]
    rows = dense(GA, genome)
    jax.tree.map(lambda x, y: assert_allclose(x, y[chosen], rtol=1e-5), after.lineage.rows, rows)
    assert chosen[0] == 9  # fitness selects nobody ...
    jax.tree.map(lambda x, y: assert_allclose(x, y[11], rtol=1e-5), GA.solution(after), rows)  # ... but is taken home
    entered = np.asarray(after.seen.descriptor)[: int(info["admitted"])]
    assert 0 < len(entered) < 20
    assert np.isfinite(entered).all()
    assert {tuple(x) for x in entered} <= {tuple(x) for x in np.asarray(descriptor)}
    everyone, _ = replace(GA, admission=1.0).tell(Runtime(), state, genome, Evaluation(fitness, descriptor))
    assert int(everyone.seen.admitted) == 41 - 3  # member 0 is no child; 7 and 20 aren't finite
    same(jax.jit(GA.unpack)(GA.pack(after)), after)


def round_of(strategy, state, centers, members, fitness, scored=0.0):
    """One generation whose first round has these descriptors, and its second those."""
    genome, _ = strategy.ask(jax.random.key(1), state)
    first = Evaluation(jnp.full(len(centers), scored), jnp.asarray(centers, jnp.float32))
    second, trial = strategy.again(jax.random.key(2), state, genome, first)
    descriptor = jnp.concatenate([first.descriptor, jnp.asarray(members, jnp.float32)])
    both = Evaluation(jnp.concatenate([first.fitness, jnp.asarray(fitness, jnp.float32)]), descriptor)
    return strategy.tell(Runtime(), state, concatenate(genome, second), both), second, trial


@pytest.mark.parametrize(
    ("mode", "fitness", "toward"),
    [
        ("ns", [0, 0, 0, 9], 0),
        ("ns", [0, 0, 0, NAN], 2),  # of the second pair, the more novel one failed: it ranks last
        ("nsr", [1, 0, 2, 3], 3),
        ("nsra", [0, 5, 1, 2], 1),
    ],
)
def test_an_es_step_climbs_the_mixed_ranks_golden(mode, fitness, toward):
    """Four members of one centre; the archive is the three centres, all at 0."""
    centers, members = np.zeros((3, 2)), [[4, 0], [1, 0], [2, 0], [3, 0]]
    es = replace(NES, population=4, mode=mode, optimizer="sgd", k=3)
    state = es.init(jax.random.key(0), PARAMS)
    (after, info), second, trial = round_of(es, state, centers, members, fitness)
    assert_array_equal(trial, [3, 3, 4, 4])
    assert_array_equal(after.seen.descriptor[:3], centers)  # at first, every centre is admitted
    center = int(info["center"])
    others = np.delete(np.arange(3), center)
    same(*(jax.tree.map(lambda x: x[others], s.centers) for s in (after, state)))
    step = jax.tree.map(lambda a, b: a[center] - b[center], after.centers, state.centers)
    noise = jax.tree.map(lambda x, y: x[toward] - y, dense(es, second), PARAMS)
    assert sum(jnp.vdot(x, y) for x, y in zip(*map(jax.tree.leaves, (noise, step)), strict=True)) > 0
    (later, _), _, _ = round_of(es, after, centers + np.array([[7], [8], [9]]), members, fitness)
    assert int(later.seen.admitted) == 4  # from now on, the one that moved
    assert_array_equal(later.seen.descriptor[3], [7 + center] * 2)
    (lost, _), _, _ = round_of(es, later, centers, members, fitness, NAN)
    assert int(lost.seen.admitted) == 4  # unless it failed


def test_the_centre_is_drawn_in_proportion_to_its_novelty():
    es = replace(NES, population=2, k=1, centers=4)
    state = es.init(jax.random.key(0), PARAMS)
    state = state._replace(moved=jnp.int32(0), seen=state.seen._replace(admitted=jnp.int32(1)))
    genome, _ = es.ask(jax.random.key(1), state)
    fitness = jnp.array([0.0, 0.0, 0.0, NAN])  # the most novel failed: it is never drawn
    scores = Evaluation(fitness, jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0], [9.0, 0.0]]))
    draw = lambda key: es.again(key, state, genome, scores)[0].parents[0, 0]  # noqa: E731
    drawn = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(3), 4000)))
    share = np.bincount(drawn, minlength=4) / 4000
    assert_allclose(share, [0, 0.25, 0.75, 0], atol=5 * np.sqrt(0.25 * 0.75 / 4000))


def test_nsra_turns_to_novelty_where_reward_stalls():
    es = replace(NES, mode="nsra", patience=2, step=0.25)
    flat = play(es, lambda p, key: Evaluation(jnp.float32(0), p["b"][:2]), PARAMS, 6)
    assert [float(info["weight"]) for _, info in flat[1:]] == [0, 0, 0, 0.25, 0.25, 0.5]


BAD = [
    (lambda: NoveltyGA(population=10), "`population` \\(10\\) is no smaller than `parents` \\(20\\)"),
    (lambda: NoveltyGA(admission=2.0), "a probability, from 0 to 1; got 2.0"),
    (lambda: NoveltyGA(k=0), "are at least 1; got 20, 0"),
    (lambda: NoveltyES(population=5), "must be even; got 5. Use 6"),
    (lambda: NoveltyES(optimizer="adamm"), "got 'adamm'"),
    (lambda: play(GA, lambda p, key: p["b"].sum(), PARAMS, 1), "this task gives none"),
    (lambda: play(replace(GA, descriptors=3), trap, PARAMS, 1), "Use descriptors=2"),
]


@pytest.mark.parametrize(("wrong", "said"), BAD, ids=[said for _, said in BAD])
def test_mistakes_are_told(wrong, said):
    with pytest.raises(ValueError, match=said):
        wrong()
