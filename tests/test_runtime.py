"""The runtime: layout decides when and where, never what; members are never materialised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from numpy.testing import assert_allclose, assert_array_equal

from evo import runtime as runtimes
from evo.genome import Genome
from evo.noise import Gaussian, LowRank
from evo.runtime import Runtime, temporaries
from evo.strategies.es import ES
from evo.task import Evaluation

PARAMS = {"hidden": jnp.linspace(-1, 1, 15).reshape(3, 5), "out": jnp.linspace(1, -1, 10).reshape(5, 2)}
INPUT = jnp.array([[0.3, -1.0, 2.0]])


def task(params, key):
    """Fitness and luck of a member, so that both show."""
    y = jnp.tanh(INPUT @ params["hidden"]) @ params["out"]
    return Evaluation(y.sum() + 0.1 * jax.random.normal(key), descriptor=y[0])


def population(n, shared=2):
    keys = jax.random.split(jax.random.key(0), n // shared)
    sign = jnp.where(jnp.arange(n) % shared == 1, -1.0, 1.0)
    return Genome(keys[:, None], 0.1 * sign[:, None]), jax.random.split(jax.random.key(1), n)


LAYOUTS = [Runtime(chunk=1), Runtime(chunk=3), Runtime(chunk=64), "two devices", "two devices in chunks"]


def layout(name):
    if not isinstance(name, str):
        return name
    return Runtime(runtimes.over(2).mesh, chunk=2 if "chunks" in name else None)


@pytest.mark.parametrize("which", LAYOUTS, ids=str)
@pytest.mark.parametrize("noise", [Gaussian(), LowRank()], ids=repr)
def test_layout_changes_nothing(which, noise):
    genome, luck = population(10)
    weights = jnp.arange(10.0) - 3
    plain, other = Runtime(), layout(which)
    want = plain.map(task, noise, PARAMS, genome, luck)
    got = jax.jit(lambda *a: other.map(task, noise, *a))(PARAMS, genome, luck)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-6, atol=1e-6), got, want)
    want = plain.sum(noise, PARAMS, genome, weights)
    got = jax.jit(lambda *a: other.sum(noise, PARAMS, *a))(genome, weights)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)


def test_the_population_is_shared_between_devices_not_repeated():
    genome, luck = population(32)
    flops = {}
    for devices in (1, 2):
        runtime = runtimes.over(devices)
        program = jax.jit(lambda *a, r=runtime: r.map(task, LowRank(), *a)).lower(PARAMS, genome, luck).compile()
        flops[devices] = program.cost_analysis()["flops"]
    assert flops[2] < 0.7 * flops[1]


def test_a_pair_draws_its_noise_once():
    """Only the generator takes exclusive ors: pairs take half as many."""

    def xors(shared):
        genome, luck = population(64, shared)
        rows = jax.make_jaxpr(lambda *a: Runtime().map(lambda p, key: (INPUT @ p["hidden"]).sum(), LowRank(), *a))
        return sizes(rows(PARAMS, genome, luck).jaxpr, "xor")

    assert 0 < xors(2) <= 0.51 * xors(1)


def sizes(jaxpr, primitive) -> int:
    """Numbers that a primitive makes in a program, inner programs included."""
    total = 0
    for eqn in jaxpr.eqns:
        total += sum(var.aval.size for var in eqn.outvars) if eqn.primitive.name == primitive else 0
        total += sum(sizes(inner, primitive) for inner in jaxprs_in_params(eqn.params))
    return total


def wide(params, key):
    x = jnp.ones((1, 1024))
    for w in params:
        x = jnp.tanh(x @ w)
    return x.mean()


def test_members_are_never_materialised():
    """4,096 members of a 3 x 1024-wide MLP: the dense population would be 48 GiB."""
    params = [jax.ShapeDtypeStruct((1024, 1024), jnp.float32)] * 3
    genome, luck = jax.eval_shape(lambda: population(4096))
    program = jax.jit(lambda *a: Runtime().map(wide, LowRank(), *a)).lower(params, genome, luck).compile()
    assert temporaries(program) < 1 << 30


def test_noise_and_inputs_stay_in_a_cpus_cache(monkeypatch):
    def loops(n, cache):
        monkeypatch.setattr(runtimes, "CACHE", cache)
        params, x = {"w": jnp.ones((32, 24))}, jnp.ones((n, 4, 32))
        strategy = ES(n, noise=LowRank(2))
        genome, _ = strategy.ask(jax.random.key(0), strategy.init(jax.random.key(0), params))
        task = lambda params, x: (x @ params["w"])[1, 3]  # noqa: E731
        judged = lambda x: Runtime().map(task, strategy.noise, params, genome, x)  # noqa: E731
        found = [e for e in jax.make_jaxpr(judged)(x).eqns if e.primitive.name == "scan"]
        return [e.params["length"] for e in found], jax.jit(judged)(x).fitness

    whole, fitness = loops(512, 1 << 30)
    assert whole == []
    for cache, length in ((1 << 17, 2), (1 << 16, 4), (1 << 12, 32)):  # inputs of 512 bytes; noise of 224 a member
        found, again = loops(512, cache)
        assert found == [length]
        assert_allclose(again, fitness, rtol=1e-4)


@pytest.mark.parametrize(
    ("n", "most", "chunks", "each"), [(512, 96, 8, 64), (12, 5, 3, 4), (12, 12, 1, 12), (509, 100, 6, 85)]
)
def test_chunks_are_even_without_copies_where_they_can_be(n, most, chunks, each):
    genome, luck = population(n, shared=1)
    judged = lambda *a: Runtime(chunk=most).map(lambda p, key: p["hidden"].sum(), LowRank(), *a)  # noqa: E731
    program = jax.make_jaxpr(judged)(PARAMS, genome, luck).jaxpr
    loops = [e.params["length"] for e in program.eqns if e.primitive.name == "scan"]
    assert loops == [chunks] * (chunks > 1)
    assert (sizes(program, "concatenate") > 0) == (chunks * each > n)


def test_the_largest_chunk_that_fits_is_chosen(monkeypatch):
    monkeypatch.setattr(runtimes, "CACHE", 1 << 40)
    params = [jax.ShapeDtypeStruct((64, 64), jnp.float32)] * 2
    genome, luck = jax.eval_shape(lambda: population(512, shared=1))

    def narrow(params, key):
        return jnp.tanh(jnp.ones((1, 64)) @ params[0] @ params[1]).mean()

    def program(runtime):
        return lambda *a: runtime.map(narrow, Gaussian(), *a)

    whole, compiled = Runtime().fit(program, 512, params, genome, luck)
    assert whole.chunk is None
    limit = temporaries(compiled) // 4
    monkeypatch.setattr(runtimes, "free_memory", lambda device: limit / runtimes.SHARE)
    fitted, compiled = Runtime().fit(program, 512, params, genome, luck)
    assert temporaries(compiled) <= limit
    assert 64 <= fitted.chunk < 192
    assert Runtime(chunk=300).fit(program, 512, params, genome, luck)[0].chunk == 300


def test_pairs_differ_in_sign_and_nothing_else():
    genome, luck = population(4)
    out = Runtime().map(lambda p, key: p["hidden"].sum() + p["out"].sum(), Gaussian(), PARAMS, genome, luck)
    center = sum(float(x.sum()) for x in PARAMS.values())
    assert_allclose(out.fitness[0] - center, center - out.fitness[1], rtol=1e-4)
    assert abs(out.fitness[0] - out.fitness[2]) > 1e-3


def test_what_a_task_returns_is_checked():
    genome, luck = population(2)
    with pytest.raises(ValueError, match=r"one fitness for one member, a scalar; got shape \(3,\)"):
        Runtime().map(lambda params, key: jnp.ones(3), Gaussian(), PARAMS, genome, luck)
    with pytest.raises(ValueError, match="`chunk` is a number of members, at least 1; got 0"):
        Runtime(chunk=0)
    with pytest.raises(ValueError, match="`devices` is between 1 and 2"):
        runtimes.over(3)
    assert_array_equal(Runtime().map(lambda p, k: 3, Gaussian(), PARAMS, genome, luck).fitness, np.full(2, 3.0))
