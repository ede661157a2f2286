"""Deep GA: elite, parents and chains, on tiny generations that can be checked by hand."""

import operator
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generation import play
from numpy.testing import assert_array_equal

import evo
from evo.encoding import decode, encode, fingerprint
from evo.express import express_dense
from evo.genome import as_they_stand, concatenate, expand, size
from evo.lineage import Chain, children, common, fittest, member_of, rebased, replay
from evo.noise import Gaussian, LowRank
from evo.runtime import Runtime
from evo.schedule import Linear
from evo.strategies.deep_ga import DeepGA
from evo.task import Evaluation

GA = DeepGA(population=5, parents=3, sigma=0.5, elite_candidates=2, elite_episodes=2, horizon=4)
EMPTY = member_of(GA.init(jax.random.key(0), jnp.zeros(1)).lineage.chains)
NAN, INF = np.nan, np.inf


def net():
    key = jax.random.key(3)
    return {"w": jax.random.normal(key, (9, 7)), "b": jnp.ones(5), "frozen": jnp.int32(4)}


def task(params, key):
    w, b = params["w"], params["b"]
    return jnp.sum(w[:4]) - 2 * jnp.sum(w[4:]) - jnp.sum((b - 3) ** 2) + 0.1 * jax.random.normal(key)


def is_key(x):
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def identity(state):
    """What tells parents apart: their first weight."""
    return np.asarray(state.lineage.rows)[:, 0]


def tell(ga, state, fitness, further):
    """A generation on parameters [1] whose members scored `fitness`, and the candidates `further`."""
    genome, trial = ga.ask(jax.random.key(7), state)
    second, trials = ga.again(jax.random.key(8), state, genome, Evaluation(jnp.asarray(fitness, jnp.float32)))
    both = concatenate(genome, second)
    scores = jnp.asarray([*fitness, *np.ravel(further)], jnp.float32)
    after, info = jax.jit(ga.tell, static_argnums=0)(Runtime(), state, both, Evaluation(scores))
    members = jax.vmap(lambda g: express_dense(ga.noise, state.lineage.rows, g))(genome)
    return after, info, np.asarray(members)[:, 0], (genome, trial, second, trials)


def same(a, b):
    jax.tree.map(lambda *x: assert_array_equal(*(jax.random.key_data(y) if is_key(y) else y for y in x)), a, b)


@pytest.mark.parametrize("noise", [Gaussian(), LowRank(2)])
def test_a_chain_replays_the_cache_bit_for_bit(noise):
    ga = DeepGA(population=24, parents=3, sigma=Linear(0.3, 0.1, 9), elite_candidates=3, elite_episodes=2, noise=noise)
    history = play(ga, task, net(), 10)
    state, _ = history[-1]
    chains, again = state.lineage.chains, jax.jit(replay, static_argnums=0)
    for slot in range(ga.parents):
        own = member_of(chains, slot)
        encoded = encode(own, net())
        assert len(encoded) == 32 + 12 * int(own.length)
        assert decode(encoded).start == fingerprint(net()) != fingerprint({**net(), "b": jnp.zeros(5)})
        for link in (own, decode(encoded).chain):
            same(again(noise, net(), link), jax.tree.map(operator.itemgetter(slot), state.lineage.rows))
        start = again(noise, net(), own, 0, 3)
        same(again(noise, start, rebased(own, 3)), again(noise, net(), own))
    assert float(history[-1][1]["elite"]) > float(history[1][1]["elite"]) + 10
    powers = np.asarray(chains.power)[0, : int(chains.length[0])]
    assert set(powers.round(5)) <= set(np.linspace(0.3, 0.1, 10, dtype=np.float32).round(5))  # each link keeps its own
    packed = ga.pack(state)  # the cache is rebuilt from the last common ancestor, to which the start is re-based
    assert len(jax.tree.leaves(packed)) == len(jax.tree.leaves(state)) - len(net())
    same(jax.jit(ga.unpack)(packed), state)
    based = int(state.lineage.based)
    assert based == int(common(chains)) > 2
    words = np.asarray(jax.random.key_data(chains.key))
    assert (words[:, :based] == words[:1, :based]).all()
    assert based == int(chains.length.min()) or (words[:, based] != words[:1, based]).any()  # all that they share


@pytest.mark.parametrize(
    ("links", "lengths", "shared"),
    [
        ([[0, 1, 2], [0, 1, 3], [0, 1, 4]], [3, 3, 3], 2),
        ([[0, 1, 2], [0, 1, 2], [0, 1, 2]], [3, 3, 2], 2),  # one of them is the others' ancestor
        ([[0, 1, 2], [0, 1, 2], [0, 3, 2]], [3, 3, 3], 1),
        ([[0, 1, 2], [0, 1, 2], [0, 1, 2]], [3, 0, 3], 0),
    ],
)
def test_what_all_chains_share_golden(links, lengths, shared):
    keys = jax.random.split(jax.random.key(0), 5)[np.array(links)]
    assert int(common(Chain(keys, jnp.ones((3, 3)), jnp.asarray(lengths)))) == shared
    assert int(common(Chain(keys, jnp.ones((3, 3)).at[1, 0].set(2), jnp.asarray(lengths)))) == 0


def test_a_resumed_run_ends_the_same_and_report_episodes_select_nothing(tmp_path):
    ga = DeepGA(population=24, parents=3, sigma=0.3, elite_candidates=3, elite_episodes=2, horizon=16)
    whole = evo.run(task, net(), ga, generations=9, out=tmp_path / "a", checkpoint_every=4, eval_every=1)
    assert_array_equal(whole.metrics["evaluations"], 31 * np.arange(1, 10))  # second looks count, reports don't
    seen = []
    run = partial(evo.run, task, net(), ga, generations=9, out=tmp_path / "b", checkpoint_every=4)
    run(on_generation=seen.append, stop=lambda: len(seen) == 6)
    same(run().state, whole.state)
    opened = evo.open(tmp_path / "b", task=task, strategy=ga)
    assert not [name for name in opened.folder.checkpoints().latest(9)[1] if "rows" in name]


def test_the_elite_and_the_parents_golden():
    state = GA.init(jax.random.key(0), jnp.zeros(1))
    #                                 0  1  2  3  4  5      candidates: 4, then 2
    first, info, members, asked = tell(GA, state, [1, 5, 7, 3, 9, 2], [[4, 6], [9, 7]])
    genome, trial, second, trials = asked
    assert size(genome) == 6
    assert_array_equal([genome.scale[0, 0], members[0]], [0, 0])  # member 0 is the elite unchanged
    assert_array_equal(trial, np.arange(6))
    assert_array_equal(trials, [6, 7, 6, 7])  # the candidates share trials that are no one else's
    second = expand(second)
    assert_array_equal(jax.random.key_data(second.key)[::2], jax.random.key_data(genome.key)[np.array([4, 2])])
    assert_array_equal(identity(first), members[[2, 4, 1]])  # 2 has the better mean, 8 against 5
    for further, chosen in (([[4, 6], [np.nan, 7]], [4, 1, 3]), ([[np.inf, 6], [np.nan, 7]], [1, 3, 5])):
        unlucky, _, members, _ = tell(GA, state, [1, 5, 7, 3, 9, 2], further)
        assert_array_equal(identity(unlucky), members[chosen])  # not valid in every trial: neither elite nor parent
    assert (float(info["elite"]), int(info["chain"])) == (8, 1)

    # Candidates from now on: the elite before, though last, and the fittest other.
    later, info, members, asked = tell(GA, first, [-5, 1, 1, 3, 3, 2], [[10, 0], [5, 5]])
    assert_array_equal(expand(asked[2]).parents[:, 0], np.asarray(asked[0].parents)[[0, 0, 3, 3], 0])
    assert_array_equal(identity(later), members[[0, 3, 4]])  # equal means: the lower index; equal fitness: likewise
    assert_array_equal(later.lineage.chains.length[:2], [1, 2])  # an unmutated elite gets no link


def test_failures_are_no_parents():
    first, _, _, _ = tell(GA, GA.init(jax.random.key(0), jnp.zeros(1)), [1, 5, 7, 3, 9, 2], [[4, 6], [9, 7]])
    state, info, members, _ = tell(GA, first, [NAN, INF, -INF, 3, 1, NAN], [[9, 9], [NAN, 2]])
    assert_array_equal(identity(state), members[[4, 4, 4]])  # 3 wasn't valid throughout, so 4 is the only one
    assert float(info["elite"]) == -INF  # no candidate was valid throughout
    state, info, _, _ = tell(GA, first, [NAN] * 6, [[1, 1], [1, 1]])
    same(state, first)  # nobody is valid: nothing changes


def test_a_lucky_elite_does_not_stay():
    """On luck alone, the elite's score is a fresh mean of `elite_episodes` trials: it regresses to the truth."""
    ga = replace(GA, population=40, elite_candidates=4, elite_episodes=25, sigma=1e-6, horizon=20)
    elite = [float(info["elite"]) for _, info in play(ga, lambda p, key: jax.random.normal(key), jnp.zeros(1), 20)[1:]]
    # Members are equal, candidates share their trials, so that is a mean of 25 draws; the best of a generation is 2.
    assert abs(np.mean(elite)) < 5 / np.sqrt(25 * 20)


def test_parents_are_drawn_uniformly():
    genome, _ = (ga := DeepGA(3000, parents=5)).ask(jax.random.key(1), ga.init(jax.random.key(0), jnp.zeros(1)))
    share = np.bincount(np.asarray(genome.parents)[1:, 0], minlength=5) / 3000
    np.testing.assert_allclose(share, 0.2, atol=5 * np.sqrt(0.2 * 0.8 / 3000))


def test_member_0_is_the_elite_whatever_the_key():
    draw = jax.vmap(lambda key: children(key, 3, 6, jnp.float32(1))[0].parents[:, 0])
    parents = draw(jax.random.split(jax.random.key(0), 9))
    assert not parents[:, 0].any()
    assert parents[:, 1].any()


@pytest.mark.parametrize(("score", "best"), [(-INF, 2), (4, 2), (5, 0), (6, 0)])
def test_a_tie_keeps_the_older(score, best):
    rows, fitness = jnp.array([1.0, 2.0, 3.0]), jnp.array([NAN, 5.0, 5.0])
    found, now = fittest(GA.noise, rows, as_they_stand(jnp.arange(3)), fitness, jnp.float32(0), jnp.float32(score))
    assert (found, now) == (best, max(score, 5))


def test_the_first_generation_has_its_own_power():
    ga = replace(GA, initial=2.0)
    state = ga.init(jax.random.key(0), jnp.zeros(1))
    after, _, _, (genome, _, _, _) = tell(ga, state, [1, 5, 7, 3, 9, 2], [[4, 6], [9, 7]])
    assert_array_equal(genome.scale[:, 0], [0, 2, 2, 2, 2, 2])
    assert_array_equal(ga.ask(jax.random.key(0), after)[0].scale[:, 0], [0] + [0.5] * 5)
    waning = replace(ga, sigma=Linear(0.5, 0.1, 4)).ask(jax.random.key(0), after._replace(generation=jnp.int32(3)))
    np.testing.assert_allclose(waning[0].scale[1:, 0], 0.2, rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: DeepGA(population=10), "parents \\(20\\) from the population, which is smaller: 10"),
        (lambda: DeepGA(elite_episodes=0), "at least 1"),
        (lambda: DeepGA(elite_candidates=1), "at least 2, because the elite before is always one of them; got 1"),
        (lambda: decode(b"nonsense"), "aren't an encoded chain"),
        (lambda: decode(encode(EMPTY, net()) + b"x"), "0 links has 32 bytes"),
        (lambda: rebased(EMPTY, 1), "0 links can be re-based by 0 to 0 of them; got 1"),
        (lambda: DeepGA(population=30, litters=True), "multiple of `parents` \\(20\\); got a population of 30. Use 39"),
    ],
)
def test_mistakes_are_told(wrong, said):
    with pytest.raises(ValueError, match=said):
        wrong()


@pytest.mark.parametrize("noise", [Gaussian(), LowRank(2)])
def test_litters_are_the_same_members_and_share_their_parents_matrices(noise):
    ga = DeepGA(population=23, parents=4, sigma=0.3, elite_candidates=3, elite_episodes=2, litters=True, noise=noise)
    state, info = play(ga, task, net(), 3)[-1]
    genome, trial = ga.ask(jax.random.key(5), state)
    assert_array_equal(expand(genome).parents[:, 0], np.repeat(np.arange(4), 6))
    luck = jax.vmap(partial(jax.random.fold_in, jax.random.key(6)))(trial)
    alone = [Runtime(chunk=c).map(task, noise, state.lineage.rows, expand(genome), luck).fitness for c in (None, 5)]
    for chunk in (None, 7, 2):
        together = Runtime(chunk=chunk).map(task, noise, state.lineage.rows, genome, luck).fitness
        for fitness in alone:
            np.testing.assert_allclose(together, fitness, rtol=1e-4, atol=1e-5)
    assert np.isfinite(float(info["elite"]))
