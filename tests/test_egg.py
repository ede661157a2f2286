"""Integers only: the noise, the model against a big-integer twin, the update, and that no float is in a generation."""

import math
from functools import cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import evo
from evo.commands.rebuild import Replay
from evo.engine import Moment
from evo.envs.language import int8, recurrent
from evo.envs.language.int8 import Int8Recurrent
from evo.envs.language.likelihood import Text
from evo.envs.language.recurrent import Recurrent
from evo.express import express, express_dense, own_keys, plan
from evo.genome import member
from evo.integer import Integer
from evo.lazy import Lazy, call, report
from evo.run import prepare
from evo.runtime import Runtime
from evo.schedule import Constant, Hyperbolic
from evo.strategies.egg import EGG
from evo.strategies.es import EGGROLL
from evo.task import Evaluation, Trial

NOISES = [Integer(), Integer(3), Integer(4, 5, "sign"), Integer(1, 4, "sign")]
KEYS = jax.random.split(jax.random.key(3), 6)
noises = pytest.mark.parametrize("noise", NOISES, ids=repr)


# noise ------------------------------------------------------------------------------------------------------------


@noises
@pytest.mark.parametrize("shape", [(7,), (3, 8, 9)], ids=str)
def test_the_laws_of_noise_hold_exactly(noise, shape):
    votes = np.array([1, -1, 0, 1, 1, -1], np.int32)

    @jax.jit
    def said(keys, votes):
        dense = jax.vmap(lambda key: noise.dense(key, shape))(keys)
        return dense, noise.factors(keys[0], shape), noise.total(keys, votes, shape)

    rows, factors, total = said(KEYS, votes)
    rows = np.asarray(rows).astype(object)
    if factors is not None:
        a, b = (np.asarray(x).astype(object) for x in factors)
        assert_array_equal(a @ np.moveaxis(b, -1, -2), rows[0])
    assert_array_equal(total, np.tensordot(votes.astype(object), rows, 1))
    assert np.abs(rows).max() <= noise.largest


@noises
def test_entries_have_mean_zero_and_the_spread_that_is_said(noise):
    draw = jax.jit(jax.vmap(lambda key: noise.dense(key, (12, 11))))
    draws = draw(jax.random.split(jax.random.key(0), 2000))
    draws = np.asarray(draws, np.float64).reshape(2000, -1)
    assert np.abs(draws.mean(0) / (draws.std(0) / 2000**0.5)).max() < 5
    square = draws**2
    assert np.abs((square.mean(0) - noise.spread**2) / np.maximum(square.std(0) / 2000**0.5, 1e-9)).max() < 5
    assert abs(noise.spread / (256 * 2.0 ** (4 - noise.shift)) - 1) < 0.04  # what rounding makes of it


def test_noise_that_int8_cannot_hold_is_refused():
    for wrong in ({"rank": 0}, {"shift": 9}, {"rank": 5, "shift": 8}):
        with pytest.raises(ValueError, match=r"integer noise must be|`shift` is 2 to 8"):
            Integer(**wrong)


# the model --------------------------------------------------------------------------------------------------------


def twin(tree, carry, tokens, layers):
    """`Int8Recurrent.score` in Python's unbounded integers, straight from the paper's formulas."""
    big = lambda x: np.asarray(x).astype(object)  # noqa: E731
    clip = lambda x: np.clip(x, -127, 127)  # noqa: E731

    def times(x, leaf):
        w, a, b = (leaf.base, *parts(leaf)) if isinstance(leaf, Lazy) else (leaf, None, None)
        total = x @ big(w)
        if a is not None:
            total = total + ((x @ a) @ b.T >> 8)
        return clip(total // (16 * math.isqrt(len(x))))

    def parts(leaf):
        return big(leaf.a)[:, 0], big(leaf.b)[0]

    def row(leaf, token):
        if not isinstance(leaf, Lazy):
            return big(leaf)[token]
        a, b = parts(leaf)
        return clip(big(leaf.base)[token] + (a[token] @ b.T >> 8))

    def norm(x, w):
        mean = max(max(1, sum(abs(x))) // len(x), 1)
        return clip(np.array([int(math.copysign(abs(p) // mean, p)) for p in x * big(w)], object))

    def gru(g, s, u):
        f = clip(times(u, g["input_gate"]) + times(s, g["state_gate"]) + big(g["bias_gate"]))
        kept = (f + 127) * s >> 8
        h = clip(times(u, g["input"]) + times(kept, g["state"]) + big(g["bias"]))
        return s + ((f + 127) * (h - s) >> 8)

    carry, scores = [big(s) for s in carry], []
    for token, target in pairwise(tokens):
        y = row(tree["embedding"], token)
        for i in range(layers):
            layer = tree["layers"][str(i)]
            s = carry[i] * int(token != 0)
            carry[i] = gru(layer["gru"], s, norm(y, layer["norm_gru"]))
            y = clip(y + carry[i])
            mlp = layer["mlp"]
            y = clip(y + times(times(norm(y, layer["norm_mlp"]), mlp["up"]), mlp["down"]))
        logits = times(norm(y, tree["norm"]), tree["head"]) + 128
        total = sum(int(16 * 2 ** (j / 16)) for j in logits)
        scores.append(logits[target] - int(16 * math.log2(total / 16)))
    return carry, scores


@pytest.mark.parametrize(("noise", "fill"), [(Integer(), 127), (Integer(3, 4, "sign"), 40)], ids=repr)
def test_a_perturbed_member_is_its_big_integer_twin(noise, fill):
    """Weights up to saturation, both signs of a pair, a document that ends, and a state that is carried in."""
    model = Int8Recurrent(16, 2)
    params = model.init(jax.random.key(1), 256)
    spread = lambda x: jnp.clip(x.astype(jnp.int32) * fill // 16, -127, 127).astype(jnp.int8)  # noqa: E731
    params = jax.tree.map(spread, params)
    carry = jax.random.randint(jax.random.key(2), (2, 16), -127, 128).astype(jnp.int8)
    tokens = jnp.array([7, 250, 0, 33, 33, 2, 91], jnp.int32)
    strategy = EGG(4, noise=noise)
    genome, _ = strategy.ask(jax.random.key(0), strategy.init(jax.random.key(0), params))
    score = jax.jit(lambda p: call(lambda p: model.score(p, carry, tokens, 0), p))
    made = jax.jit(lambda i: express(noise, params, member(genome, i)))
    for i in (0, 1):
        lazy = made(i)
        assert isinstance(lazy["embedding"], Lazy)
        assert isinstance(lazy["layers"]["1"]["mlp"]["up"], Lazy)
        want_carry, want = twin(lazy, carry, tokens.tolist(), 2)
        got_carry, got = score(lazy)
        assert_array_equal(np.asarray(got), np.array(want, int))
        assert_array_equal(np.asarray(got_carry), np.array(want_carry, int))


def test_vectors_and_rows_saturate_and_never_wrap():
    center = {"w": jnp.full((16, 16), 126, jnp.int8), "b": jnp.full(64, -127, jnp.int8)}
    strategy = EGG(2)
    genome, _ = strategy.ask(jax.random.key(0), strategy.init(jax.random.key(0), center))
    own = jax.jit(lambda center: express_dense(strategy.noise, center, member(genome, 0)))(center)
    assert set(np.unique(own["w"])) <= set(range(110, 128))
    assert set(np.unique(own["b"])) <= set(range(-127, -110))


def test_what_has_no_rule_for_whole_numbers_takes_the_rounded_leaf():
    center = {"w": jax.random.randint(KEYS[1], (12, 10), -127, 128).astype(jnp.int8)}
    strategy = EGG(2, noise=Integer(2))
    genome, _ = strategy.ask(jax.random.key(0), strategy.init(jax.random.key(0), center))

    def uses(params):
        w = params["w"]
        return (
            w.astype(jnp.int32) * 3 + 1,
            -w,
            w.T[2],
            w.astype(jnp.int32).sum(0),
            jnp.concatenate([w, w]),
            w.reshape(-1),
        )

    lazy = jax.jit(lambda: call(uses, express(strategy.noise, center, member(genome, 1))))()
    dense = jax.jit(lambda: uses(express_dense(strategy.noise, center, member(genome, 1))))()
    assert not np.array_equal(dense[5], center["w"].reshape(-1))
    jax.tree.map(assert_array_equal, lazy, dense)


def test_golden():
    """By hand: sixteen 32s have a mean of 32, so twice a weight of 8 over 32 is 8 // 32 * 32 = 8 / 1; and so on."""
    x = jnp.array([32, -32, 64, 0] * 4, jnp.int8)  # mean |x| = 32
    assert_array_equal(int8.norm(x, jnp.full(16, 17, jnp.int8)), [17, -17, 34, 0] * 4)
    assert_array_equal(int8.norm(x, jnp.full(16, 127, jnp.int8)), [127, -127, 127, 0] * 4)
    assert_array_equal(int8.norm(jnp.array([3, -5] * 8, jnp.int8), jnp.full(16, 7, jnp.int8)), [5, -8] * 8)  # 21 / 4
    assert int(int8.log2_likelihood(jnp.zeros(256, jnp.int8), 3)) == -16 * 8  # one of 256 alike: 8 bits
    sure = jnp.full(256, -127, jnp.int8).at[9].set(127)
    assert int(int8.log2_likelihood(sure, 9)) == 0
    assert int(int8.log2_likelihood(sure, 8)) == -16 * 16 + 2  # 254 sixteenths of a bit less likely


def test_small_tables_equal_the_large_ones():
    product = np.arange(-127 * 127, 127 * 127 + 1)
    factor, places = int8.reciprocals()
    for m in range(1, 128):
        assert_array_equal(np.abs(product) * factor[m] >> places[m], np.abs(product) // m)
    ends = int8.logarithms()
    for k in range(16 * 8, 16 * 24):
        j = int(ends[k])
        assert [int(16 * math.log2(i / 16)) for i in (j - 1, j)] == [k - 1, k]


def test_it_is_the_float_model_up_to_rounding():
    params = recurrent.weights(jax.random.key(0), 256, 64, 1)
    whole = Int8Recurrent(64).init(jax.random.key(0), 256)
    tokens = jax.random.randint(jax.random.key(1), (400,), 0, 256)
    score = jax.jit(lambda model, params: model.score(params, model.start(), tokens, 0)[1], static_argnums=0)
    assert np.corrcoef(score(Recurrent(64), params), score(Int8Recurrent(64), whole))[0, 1] > 0.9


# the update -------------------------------------------------------------------------------------------------------


def test_weights_move_as_the_formula_says():
    shapes = {"w": (16, 24), "b": (9,)}
    center = {name: jax.random.randint(KEYS[0], x, -127, 128).astype(jnp.int8) for name, x in shapes.items()}
    strategy = EGG(16, share=Constant(0.3), noise=Integer(2))
    state = strategy.init(jax.random.key(0), center)
    genome, trial = strategy.ask(jax.random.key(5), state)
    fitness = jnp.array([5, 3, 1, 1, -9, -8, 0, 7, 2, 1, 4, 4, 2**31 - 1, -5, 1, 0], jnp.int32)
    after, info = jax.jit(lambda *a: strategy.tell(Runtime(), *a))(state, genome, Evaluation(fitness))
    votes = [1, 0, -1, -1, 1, 0, 1, 1]
    assert trial.tolist() == [i // 2 for i in range(16)]
    assert int(info["ties"]) == 2
    least = round(1.0364334 * 256) * round(16 * 6**0.5) // 64 * round(strategy.noise.spread) // 64  # Phi^-1(0.85)
    moved = 0
    leaves = plan(strategy.noise, center).leaves
    keys = own_keys(leaves, genome.key[:, 0])
    for i, leaf in enumerate(leaves):
        dense = jax.jit(jax.vmap(lambda key, shape=shapes[leaf.path]: strategy.noise.dense(key, shape)))(keys[:, i])
        z = np.tensordot(np.array(votes, object), np.asarray(dense).astype(object), 1)
        old = np.asarray(center[leaf.path]).astype(object)
        want = np.clip(old + np.sign(z) * (np.abs(z) >= least), -127, 127)
        assert_array_equal(after.center[leaf.path], want)
        moved += int((want != old).sum())
    assert 0 < moved == int(info["moved"]) < 393


def test_by_chance_the_share_that_is_asked_moves():
    center = {"w": jnp.zeros((64, 64), jnp.int8)}
    for noise in (Integer(2, 5), Integer(1, 4, "sign")):
        strategy = EGG(512, share=0.25, noise=noise)
        state = strategy.init(jax.random.key(0), center)
        genome, _ = strategy.ask(jax.random.key(1), state)
        luck = jax.random.randint(jax.random.key(2), (512,), 0, 1000)
        _, info = jax.jit(lambda *a, s=strategy: s.tell(Runtime(), *a))(state, genome, Evaluation(luck))
        assert abs(int(info["moved"]) / 4096 - 0.25) < 0.06  # entries of rank 1 aren't quite independent


def test_what_egg_cannot_train_is_told():
    with pytest.raises(ValueError, match=r"EGG moves int8 weights; none of these are\. Use `eggroll` for floats"):
        EGG(2).init(jax.random.key(0), {"w": jnp.zeros((8, 8))})
    with pytest.raises(ValueError, match="LowRank would be lost on leaves of whole numbers"):
        evo.run(lambda p, key: p["w"].sum(), {"w": jnp.zeros((8, 8), jnp.int8)}, EGGROLL(2), generations=1)
    with pytest.raises(ValueError, match="'w' is int32"):
        EGG(2).init(jax.random.key(0), {"w": jnp.zeros((8, 8), jnp.int32)})
    with pytest.raises(ValueError, match="this task's fitness is float32"):
        evo.run(
            lambda p, key: p["w"].sum().astype(jnp.float32), {"w": jnp.ones((8, 8), jnp.int8)}, EGG(2), generations=1
        )
    with pytest.raises(ValueError, match="an even number; got 3"):
        EGG(3)
    with pytest.raises(ValueError, match=r"`width` is a power of 4.*got 100, try 64"):
        Int8Recurrent(100)


# a generation -----------------------------------------------------------------------------------------------------


@cache
def task():
    return Text(Int8Recurrent(16), length=12, sequences=4, files=("evo/*.py",))


def run(generations, **settings):
    strategy = EGG(128, share=Hyperbolic(1.0, 0.02), horizon=200)
    return evo.run(task(), None, strategy, generations=generations, seed=2, **settings)


def test_no_float_is_in_a_generation():
    engine, moment, _ = prepare(task(), None, EGG(8), 0, Runtime(chunk=4))
    members = engine.ask(0, moment.state)
    evaluation = jax.eval_shape(engine.program(engine.runtime), moment, *members)
    programs = [
        (engine._ask, (0, moment.state)),
        (engine.program(engine.runtime), (moment, *members)),
        (
            lambda *a: engine.strategy.tell(engine.runtime, *a),
            (moment.state, members[0], evaluation._replace(aux=None)),
        ),
        (engine.task.absorb, (moment.task_state, evaluation.aux)),
    ]
    for program, args in programs:
        closed = jax.make_jaxpr(program)(*args)
        dtypes = {str(x.dtype) for x in arrays(closed)}
        assert "int8" in dtypes or "int32" in dtypes
        assert not [d for d in dtypes if "float" in d or "complex" in d], dtypes
    assert isinstance(engine.strategy.init(jax.random.key(0), moment.state.center), tuple)
    assert isinstance(moment, Moment)


def arrays(jaxpr):
    """Every value that a jaxpr, or one inside it, takes, makes or knows."""
    inner = getattr(jaxpr, "jaxpr", jaxpr)
    yield from getattr(jaxpr, "consts", ())
    for var in (*inner.invars, *inner.constvars, *inner.outvars):
        yield var.aval
    for eqn in inner.eqns:
        for var in (*eqn.invars, *eqn.outvars):
            yield var.aval
        for param in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(param, "eqns") or hasattr(param, "jaxpr"):
                yield from arrays(param)


def test_every_matrix_stays_lazy():
    assert report(task()).dense == ()


def test_it_resumes_to_the_very_same_bits_and_a_member_scores_what_it_did(tmp_path):
    whole = run(6)
    run(3, out=tmp_path, checkpoint_every=2)
    resumed = run(6, out=tmp_path, checkpoint_every=2)
    jax.tree.map(assert_array_equal, resumed.state, whole.state)
    jax.tree.map(assert_array_equal, resumed.task_state, whole.task_state)
    opened = evo.open(tmp_path, task=task())
    strategy, state = opened.strategy, opened.task_state(5)
    params = express(strategy.noise, strategy.bases(opened.strategy_state(5)), member(opened.genome(5), 3))
    again = jax.jit(lambda params, turn: call(task().evaluate, params, state, turn))
    assert int(again(params, Trial(KEYS[0], jnp.int32(1))).fitness) == int(opened.fitness(5)[3])
    assert Replay(tmp_path, generation=5, member=3)._candidate(opened)[1] == opened.fitness(5)[3] * task().unit


def test_it_learns():
    fitness = run(60, checkpoint_every=60).metrics["mean"]
    assert fitness[-5:].mean() > fitness[:3].mean() + 1.0  # bits per byte
