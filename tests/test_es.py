"""Evolution strategies: an unbiased gradient, a step of known size, pairs with one luck."""

import contextlib
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from evo.ascent import LONG, SMALL, changed, cosine, joined, parted
from evo.express import ByPath
from evo.genome import expand
from evo.noise import Frozen, Gaussian, LowRank
from evo.runtime import Runtime
from evo.schedule import Linear
from evo.shaping import SHAPINGS, centered_ranks, group_mean, group_z_score, z_score
from evo.strategies.es import EGGROLL, ES, OpenAIES, ties
from evo.task import Evaluation

PARAMS = {"w": jnp.linspace(-0.5, 1, 48).reshape(6, 8), "b": jnp.arange(8.0) / 8}


def asymmetric(params, key):
    """Its gradient has no symmetry that a flipped sign could hide in."""
    return (params["w"][0] * jnp.arange(8.0)).sum() + params["w"].sum() ** 3 / 50 + 2 * params["b"][1] * params["b"][2]


def scored(strategy, state, task=asymmetric, generation=0):
    genome, trial = strategy.ask(jax.random.key(generation), state)
    luck = jax.vmap(lambda t: jax.random.fold_in(jax.random.key(9), t))(trial)
    return genome, Runtime().map(task, strategy.noise, strategy.bases(state), genome, luck)


@pytest.mark.parametrize("noise", [Gaussian(), LowRank(1), LowRank(2)], ids=repr)
def test_gradient_is_unbiased(noise):
    """1/(n sigma^2) sum_i f_i scale_i noise_i estimates grad f: z-scores by the estimates' own standard error."""
    sigma, strategy = 1e-3, ES(population=64, sigma=1e-3, noise=noise)
    state = strategy.init(jax.random.key(0), PARAMS)

    @jax.jit
    def estimate(generation):
        genome, _ = strategy.ask(jax.random.fold_in(jax.random.key(5), generation), state)
        luck = jax.random.split(jax.random.key(0), 64)
        fitness = Runtime().map(asymmetric, noise, PARAMS, genome, luck).fitness
        return Runtime().sum(noise, PARAMS, genome, fitness / (64 * sigma**2))

    draws = jax.lax.map(estimate, jnp.arange(400), batch_size=50)
    truth = jax.grad(asymmetric)(PARAMS, None)
    for name in PARAMS:
        draw = np.asarray(draws[name])
        z = (draw.mean(0) - truth[name]) / (draw.std(0) / len(draw) ** 0.5)
        assert np.abs(z).max() < 5
    assert abs(float(truth["w"][0, 5])) > 1


@pytest.mark.parametrize("shaping", ["centered_ranks", "z_score", "group_mean", "group_z_score"])
@pytest.mark.parametrize(("n", "rank"), [(64, 1), (512, 1), (512, 2)])
def test_an_sgd_step_is_lr_times_sigma(n, rank, shaping):
    group = 8 if "group" in shaping else 0
    strategy = ES(n, sigma=0.1, lr=0.5, noise=LowRank(rank), optimizer="sgd", shaping=shaping, group=group, pairs=False)
    params = {"w": jnp.zeros((40, 30))}
    state = strategy.init(jax.random.key(0), params)
    genome, _ = strategy.ask(jax.random.key(1), state)
    noisy = Evaluation(jax.random.normal(jax.random.key(2), (n,)))  # fitness that has nothing to do with the members
    moved, _ = strategy.tell(Runtime(), state, genome, noisy)
    rms = jnp.sqrt((moved.center["w"] ** 2).mean())
    assert_allclose(rms, 0.5 * 0.1, rtol=0.2)


def test_pairs_share_key_and_luck_and_differ_in_sign():
    strategy = ES(population=8, sigma=0.25)
    genome, trial = strategy.ask(jax.random.key(0), strategy.init(jax.random.key(0), PARAMS))
    keys = jax.random.key_data(expand(genome).key)[:, 0]
    assert (keys[::2] == keys[1::2]).all()
    assert len(np.unique(keys, axis=0)) == 4
    assert_allclose(genome.scale[:, 0], [0.25, -0.25] * 4)
    assert trial.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    lone = ES(population=8, share_luck=False).ask(jax.random.key(0), strategy.init(jax.random.key(0), PARAMS))[1]
    assert lone.tolist() == list(range(8))


def test_noise_is_fresh_every_generation():
    strategy = ES(population=4)
    state = strategy.init(jax.random.key(0), PARAMS)
    first, second = (strategy.ask(jax.random.fold_in(jax.random.key(0), g), state)[0] for g in (0, 1))
    assert not (first.key == second.key).any()


def test_centres_are_float32_masters_and_members_have_the_models_dtype():
    params = {"w": jnp.ones((6, 8), jnp.bfloat16), "codes": jnp.arange(4, dtype=jnp.int8)}
    strategy = ES(population=4, sigma=1e-2, lr=1e-3, optimizer="sgd", noise=Gaussian())
    state = strategy.init(jax.random.key(0), params)
    assert state.center["w"].dtype == jnp.float32
    assert strategy.bases(state)["w"].dtype == jnp.bfloat16
    genome, _ = strategy.ask(jax.random.key(0), state)
    moved, _ = strategy.tell(Runtime(), state, genome, Evaluation(jnp.arange(4.0)))
    assert (moved.center["w"] != 1).all()  # a step that bfloat16 would round away
    assert (moved.center["codes"] == params["codes"]).all()


def test_frozen_leaves_stay():
    strategy = ES(population=8, noise=ByPath((("b", Frozen()),), LowRank()), weight_decay=0.1)
    state = strategy.init(jax.random.key(0), PARAMS)
    moved, _ = strategy.tell(Runtime(), state, *scored(strategy, state))
    assert (moved.center["b"] == PARAMS["b"]).all()
    assert (moved.center["w"] != PARAMS["w"]).all()


def test_schedules_are_read_in_every_generation():
    """The same members and fitness: sgd's steps differ as the rates do, and equals only decay."""
    rate = [0.4, 0.25, 0.1]
    strategy = ES(4, sigma=Linear(0.5, 0.1, 4), lr=Linear(0.4, 0.1, 2), optimizer="sgd")
    state = strategy.init(jax.random.key(0), PARAMS)
    genome, _ = strategy.ask(jax.random.key(1), state)
    tell, norms = jax.jit(strategy.tell, static_argnums=0), []
    for _ in rate:
        state, info = tell(Runtime(), state, genome, Evaluation(jnp.arange(4.0)))
        norms.append(float(info["update_norm"]))
    assert_allclose(np.array(norms) / norms[0], np.array(rate) / 0.4, rtol=1e-5)
    assert_allclose(strategy.ask(jax.random.key(1), state)[0].scale[:, 0], [0.2, -0.2] * 2, rtol=1e-6)
    state = strategy.init(jax.random.key(0), PARAMS)
    tell = jax.jit(replace(strategy, weight_decay=0.5).tell, static_argnums=0)
    for lr in rate:
        want = {name: (1 - lr * 0.5) * x for name, x in state.center.items()}
        state, _ = tell(Runtime(), state, genome, Evaluation(jnp.full(4, 7.0)))
        jax.tree.map(partial(assert_allclose, rtol=1e-5), state.center, want)


def test_invalid_members_rank_last_and_poison_nothing():
    fitness = jnp.array([3.0, jnp.nan, 1.0, jnp.inf, 2.0])
    assert centered_ranks(fitness).tolist() == pytest.approx([0.5, -0.25, -0.25, -0.25, 0.25])
    for shaping in (centered_ranks, z_score):
        assert jnp.isfinite(shaping(fitness)).all()
        assert (shaping(jnp.full(4, 7.0)) == 0).all()
        assert (shaping(jnp.full(4, jnp.nan)) == 0).all()


def test_shaping_golden():
    assert centered_ranks(jnp.array([10.0, -5.0, 0.0])).tolist() == [0.5, -0.5, 0.0]
    assert centered_ranks(jnp.array([1.0, 1.0, 0.0])).tolist() == [0.25, 0.25, -0.5]
    assert_allclose(z_score(jnp.array([1.0, 2.0, 3.0])), [-1.2247449, 0, 1.2247449], rtol=1e-5)
    groups = jnp.array([1.0, 3.0, 101.0, 103.0])  # the population's deviation is 50.01, a group's is 1
    assert_allclose(group_mean(groups, 2), np.array([-1, 1, -1, 1]) / 50.01, rtol=1e-4)
    assert_allclose(group_z_score(groups, 2), [-1, 1, -1, 1], rtol=1e-5)
    assert_allclose(group_z_score(jnp.array([1.0, jnp.nan, 5.0, 6.0]), 2), [0, 0, -1, 1], rtol=1e-5)
    assert_allclose(group_z_score(jnp.array([5.0, jnp.nan, 1.0, 6.0]), 2), [1, -1, -1, 1], rtol=1e-5)  # worst of all


def test_ranks_by_comparison_are_those_by_searching(monkeypatch):
    fitness = jnp.array([3.0, 1, 3, jnp.nan, 7, -jnp.inf, 1, 3, 0.5])
    compared = centered_ranks(fitness)
    monkeypatch.setattr("evo.shaping.PAIRWISE", 0)
    assert_array_equal(compared, centered_ranks(fitness))


def test_joined_leaves_come_apart_again():
    tree = {"big": jnp.ones(SMALL + 1), "b": jnp.arange(6.0).reshape(2, 3), "a": jnp.full((), 9.0)}
    tree |= {"h": jnp.ones(3, jnp.bfloat16), "empty": jnp.zeros((0, 2))}
    flat = joined(tree)
    assert sorted(x.shape for x in flat.values()) == [(LONG,), (LONG,), (SMALL + 1,)]
    assert list(parted(flat, tree)) == list(tree)
    jax.tree.map(assert_array_equal, parted(flat, tree), tree)


@pytest.mark.parametrize("name", ["adam", "lamb"])  # entry by entry, so with small leaves joined; leaf by leaf
def test_steps_are_those_of_optax_on_the_leaves(name):
    strategy = ES(population=8, optimizer=name, lr=0.1, noise=LowRank(law="normal"))  # signs may cancel to about 0
    state = strategy.init(jax.random.key(0), PARAMS)
    genome, evaluation = scored(strategy, state)
    weights = centered_ranks(evaluation.fitness)
    gradient = Runtime().sum(strategy.noise, PARAMS, genome, weights / jnp.sqrt((weights**2).sum()))
    with jax.numpy_dtype_promotion("standard"):
        own = getattr(optax, name)(0.1)
        step, _ = own.update(jax.tree.map(jnp.negative, gradient), own.init(PARAMS), PARAMS)
    moved, _ = strategy.tell(Runtime(), state, genome, evaluation)
    jax.tree.map(lambda got, x, u: assert_allclose(got, x + u, atol=1e-5), moved.center, PARAMS, step)


def test_diagnostics_golden():
    assert ties(jnp.array([3.0, 1.0, 3.0, jnp.nan, jnp.nan, 2.0, 3.0, 0.0])) == 3 / 8
    a, b = {"x": jnp.array([3.0, 4.0]), "y": jnp.ones((1, 1))}, {"x": jnp.array([8.0, -6.0]), "y": jnp.zeros((1, 1))}
    assert_allclose([cosine(a, jax.tree.map(lambda x: 2 * x, a)), cosine(a, b)], [1, 0], atol=1e-6)
    assert cosine(a, jax.tree.map(jnp.zeros_like, a)) == 0
    assert changed({"a": jnp.zeros(3), "b": jnp.ones(1)}, {"a": jnp.array([0.0, 1, 0]), "b": jnp.ones(1)}) == 0.25
    half = {"w": jnp.ones((6, 8), jnp.bfloat16)}
    for lr, share in ((1e-4, 0.0), (1e-1, 1.0)):  # a step of sgd is about lr * sigma
        strategy = ES(population=4, sigma=1.0, lr=lr, optimizer="sgd", noise=Gaussian())
        state = strategy.init(jax.random.key(0), half)
        genome, _ = strategy.ask(jax.random.key(0), state)
        after, info = strategy.tell(Runtime(), state, genome, Evaluation(jnp.arange(4.0)))
        assert abs(info["changed"] - share) < 0.15
        assert_allclose(info["update_norm"], jnp.linalg.norm(after.center["w"] - state.center["w"]), rtol=1e-3)
        assert_allclose(info["center_norm"], jnp.linalg.norm(after.center["w"]), rtol=1e-5)
        assert_allclose(info["update_ratio"], info["update_norm"] / info["center_norm"], rtol=1e-5)


def test_the_two_published_names():
    assert EGGROLL().noise == LowRank(1)
    assert OpenAIES().noise == Gaussian()


@pytest.mark.parametrize("shaping", SHAPINGS)
@pytest.mark.parametrize("n", [8, 64, 100, 300])
def test_a_generation_of_equals_moves_nothing(shaping, n):
    for value in (0.1, -1234.567, np.nan):
        assert not jax.jit(SHAPINGS[shaping], static_argnums=1)(jnp.full(n, value, jnp.float32), 4).any()


BAD = [
    (dict(population=7), "`population` must be even; got 7. Use 8, or `pairs: false`"),
    (dict(population=1), "`population` must be at least 2; got 1"),
    (dict(sigma=0.0), "`sigma` must be above 0; got 0.0"),
    (dict(optimizer="adamm"), "got 'adamm'"),
    (dict(shaping="ranks"), "unknown shaping 'ranks'; .*centered_ranks"),
    (dict(noise="gaussian"), "`noise` is an object .* got 'gaussian'"),
    (dict(optimizer_options={"beta": 1.0}), "`optimizer_options`: .*beta"),
    (dict(group=4), "`group` is for the group shapings"),
    (dict(shaping="group_mean", group=3), "divides the population of 256; got 3"),
    (dict(population=6, shaping="group_mean", group=3), "`group` holds whole pairs, so it is even; got 3"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[str(list(b[0])) for b in BAD])
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ES(**fields)


def test_members_compute_in_half_precision_around_a_single_precision_centre():
    strategy = ES(4, sigma=0.1, compute="bfloat16")
    params = {"w": jnp.full((8, 8), 0.3), "codes": jnp.arange(4)}
    state = strategy.init(jax.random.key(0), params)
    assert strategy.bases(state)["w"].dtype == jnp.bfloat16
    assert strategy.bases(state)["codes"].dtype == params["codes"].dtype
    assert_array_equal(strategy.solution(state)["w"], params["w"])  # no rounding on the way


@pytest.mark.parametrize(("sigma", "compute", "warned"), [
    (1e-4, "bfloat16", True), (1e-2, "bfloat16", False), (1e-4, "float16", True), (1e-3, "float16", False),
    (1e-6, None, False),
])  # fmt: skip
def test_a_sigma_that_half_precision_rounds_away_is_told(sigma, compute, warned):
    with pytest.warns(UserWarning, match="`sigma`.*half precision.*0.00") if warned else contextlib.nullcontext():
        ES(4, sigma=sigma, compute=compute).check({"w": jnp.ones((8, 8)), "b": jnp.ones(8)})
