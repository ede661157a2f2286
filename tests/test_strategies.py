"""The table of strategies: each learns within a budget, compiles once, resumes, and doesn't mind the layout."""

import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import evo
from evo.archive import Grid
from evo.engine import settle
from evo.envs import TASKS
from evo.genome import concatenate, size
from evo.noise import Gaussian
from evo.registry import resolve
from evo.runtime import Runtime
from evo.schedule import Hyperbolic
from evo.strategies import STRATEGIES
from evo.strategies.deep_ga import DeepGA
from evo.strategies.egg import EGG
from evo.strategies.emitters.cma import CMA
from evo.strategies.emitters.iso_line import IsoLine
from evo.strategies.es import EGGROLL, ES, OpenAIES
from evo.strategies.evosax import Evosax
from evo.strategies.map_elites import MapElites
from evo.strategies.novelty_es import NoveltyES
from evo.strategies.novelty_ga import NoveltyGA
from evo.strategies.qd import QD
from evo.strategies.qes import QES
from evo.strategies.qzo import QZO
from evo.strategies.random_search import RandomSearch

GOAL = jnp.array([[1.0, -0.5, 0.25, 0.75], [-1.0, 0.5, 2.0, -0.25]])  # no symmetry a flipped sign could hide in
PARAMS = {"w": jnp.zeros((2, 4)), "b": jnp.zeros(3)}
START = -float((GOAL**2).sum()) - 1.0

TABLE = {  # the strategy, its generations (20,000 evaluations at most), and the fitness of a solution that has learnt
    "es": (ES(64, sigma=0.1, lr=0.1, shaping="z_score"), 60, -0.1),
    "eggroll": (EGGROLL(64, sigma=0.1, lr=0.1), 60, -0.1),
    "openai_es": (OpenAIES(64, sigma=0.1, lr=0.1), 60, -0.1),
    "deep_ga": (DeepGA(64, parents=8, sigma=0.1, elite_candidates=3, elite_episodes=2, horizon=200), 60, -0.2),
    "map_elites": (MapElites(128, shape=(8, 8), bounds=((-2, 2), (-2, 2)), iso=0.1), 100, -0.3),
    "novelty_ga": (NoveltyGA(64, parents=8, sigma=0.3, k=5, admission=0.1, capacity=256, horizon=200), 60, -6.0),
    "novelty_es": (NoveltyES(60, centers=3, mode="nsra", sigma=0.1, lr=0.1, k=5, capacity=256), 60, -1.0),
    "qd": (QD(Grid((8, 8), ((-2.0, 2.0),) * 2), (IsoLine(64, 0.1), CMA(2, 32, 0.3)), looks=4), 100, -0.5),
    "evosax": (Evosax("CMA_ES", population=32), 60, -0.1),
    "evosax, population-based": (Evosax("DifferentialEvolution", population=64), 100, -0.1),
    "qzo": (QZO(64, epsilon=0.1, lr=0.1, noise=Gaussian()), 60, -0.1),
    "qes": (QES(64, sigma=1.0, lr=Hyperbolic(0.5, 0.05)), 60, -0.3),  # rounding alone costs 0.05
    "random_search": (RandomSearch(256, sigma=0.5), 60, -3.0),
    "egg": (EGG(64, share=Hyperbolic(1.0, 0.05), horizon=100), 60, -0.1),
}
ROWS = pytest.mark.parametrize("name", TABLE)
TAKES_A_MEMBER_HOME = {
    "deep_ga", "map_elites", "novelty_ga", "novelty_es", "qd", "evosax, population-based", "random_search",
}  # fmt: skip


def task(params, key):
    """Quadratic, at its best (0) at GOAL and 1/sqrt(3); the descriptor is two of the weights."""
    fitness = -((params["w"] - GOAL) ** 2).sum() - ((params["b"] - 3**-0.5) ** 2).sum()
    return evo.Evaluation(fitness, descriptor=params["w"][:, 0])


def whole(params, key):
    """The same in whole numbers, for int8 weights in sixteenths."""
    off = jax.tree.map(lambda x, goal: x.astype(jnp.int32) - goal, params, {"w": (16 * GOAL).astype(jnp.int32), "b": 9})
    return evo.Evaluation(-(off["w"] ** 2).sum() - (off["b"] ** 2).sum(), descriptor=params["w"][:, 0])


def coded(params, key):
    """The first for 4-bit codes in quarters, two rows to a byte, and their nudges."""
    low, high = params["m"]["codes"][0] & 15, params["m"]["codes"][0] >> 4
    w = (jnp.stack([low, high]).astype(jnp.float32) - 8 + params["m"]["nudge"].astype(jnp.float32)) / 4
    return evo.Evaluation(-((w - GOAL / 1.25) ** 2).sum(), descriptor=w[:, 0])


CODED = {"m": {"codes": jnp.full((1, 4), 8 * 17, jnp.uint8), "nudge": jnp.zeros((2, 4), jnp.bfloat16)}}


def asked(name):
    """What a strategy of the table is asked to solve, and from where."""
    if name == "qes":
        return coded, CODED
    return (whole, jax.tree.map(lambda x: x.astype(jnp.int8), PARAMS)) if name == "egg" else (task, PARAMS)


def run(name, generations, **settings):
    return evo.run(*asked(name), TABLE[name][0], generations=generations, seed=1, **settings)


def test_every_strategy_has_a_row_here_and_in_the_docs():
    assert set(STRATEGIES) <= set(TABLE)
    docs = Path(__file__).parent.parent / "docs"
    for page, kinds in (("strategies.md", STRATEGIES), ("tasks.md", TASKS)):
        assert [kind for kind in kinds if f"`{kind}`" not in (docs / page).read_text()] == []
    assert all(isinstance(row[0], evo.Strategy) for row in TABLE.values())
    assert {type(row[0]) for row in TABLE.values()} == {resolve(entry) for entry in STRATEGIES.values()}


@pytest.mark.parametrize("name", [name for name in TABLE if name not in ("qes", "egg")])  # whole numbers
def test_half_precision_models_are_searched_in_single(name):
    """What members and solutions are made of has the model's dtype, and a generation leaves no dtype changed."""
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    strategy = settle(TABLE[name][0], lambda params, key: params["b"].sum(), half, ())

    def generation(state):
        genome, _ = strategy.ask(jax.random.key(1), state)
        scores = lambda n: evo.Evaluation(jnp.zeros(n), descriptor=jnp.zeros((n, 2)))  # noqa: E731
        if hasattr(strategy, "again"):
            more, _ = strategy.again(jax.random.key(2), state, genome, scores(size(genome)))
            genome = concatenate(genome, more)
        after, _ = strategy.tell(Runtime(), state, genome, scores(size(genome)))
        return after, strategy.solution(after)

    state = jax.eval_shape(strategy.init, jax.random.key(0), half)
    after, solution = jax.eval_shape(generation, state)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    assert {x.dtype for x in jax.tree.leaves((solution, jax.eval_shape(strategy.bases, state)))} == {
        jnp.dtype("bfloat16")
    }


@ROWS
def test_it_learns_within_its_budget(name):
    strategy, generations, learnt = TABLE[name]
    result = run(name, generations)
    assert result.metrics["evaluations"][-1] <= 20_000
    reached = float(asked(name)[0](result.solution, None).fitness) / (256 if name == "egg" else 1)
    assert reached > learnt > START
    assert jax.tree.structure(result.solution) == jax.tree.structure(asked(name)[1])
    assert strategy == TABLE[name][0]


@ROWS
def test_resumed_it_ends_the_same_and_any_generation_can_be_told_again(name, tmp_path):
    whole = run(name, 9)
    run(name, 5, out=tmp_path / "r", checkpoint_every=4)
    resumed = run(name, 9, out=tmp_path / "r", checkpoint_every=4)
    jax.tree.map(assert_array_equal, plain(resumed.state), plain(whole.state))
    opened = evo.open(tmp_path / "r", task=asked(name)[0])
    jax.tree.map(assert_array_equal, plain(opened.strategy_state(7)), plain(run(name, 7).state))
    if name != "evosax, population-based":  # its first members are drawn, not expressed
        member = opened.member(6, 2)
        assert_allclose(asked(name)[0](member, None).fitness, opened.fitness(6)[2], rtol=1e-5)


@ROWS
def test_two_devices_equal_one(name):
    one, two = run(name, 3), run(name, 3, devices=2, chunk=7)
    assert_allclose(two.metrics["best"], one.metrics["best"], rtol=1e-4)
    assert_allclose(two.metrics["mean"], one.metrics["mean"], rtol=1e-3)


@ROWS
def test_the_second_generation_compiles_nothing(name, caplog):
    with jax.log_compiles():
        run(name, 4, on_generation=lambda row: caplog.records.append(row))
    marks = [i for i, record in enumerate(caplog.records) if isinstance(record, dict)]
    said = {i: r.getMessage() for i, r in enumerate(caplog.records) if not isinstance(r, dict)}
    compiling = {i: message for i, message in said.items() if "Compiling" in message}
    caplog.records.clear()
    assert any(i < marks[0] for i in compiling)  # this is what JAX says of it
    assert [message for i, message in compiling.items() if marks[0] < i < marks[-1]] == []


@pytest.mark.parametrize("name", [name for name in TABLE if name != "egg"])  # whole numbers are always finite
def test_invalid_members_never_win(name):
    """Half of the members are invalid, the fittest first."""

    def broken(params, key):
        scored, mark = asked(name)[0](params, key), jax.tree.leaves(params)[-1].ravel()[0]
        return scored._replace(fitness=jnp.where(mark > 0.02, jnp.nan, scored.fitness))

    result = evo.run(broken, asked(name)[1], TABLE[name][0], generations=3, seed=1)
    assert result.metrics["invalid"].sum() > 0
    finite = jax.tree.map(lambda x: bool(jnp.isfinite(x).all()), result.solution)
    assert all(jax.tree.leaves(finite))
    if name in TAKES_A_MEMBER_HOME:
        assert jnp.isfinite(broken(result.solution, None).fitness)


def plain(tree):
    """PRNG keys as their words."""
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def test_noise_is_planned_once_for_the_way_the_task_uses_a_leaf():
    settled = settle(EGGROLL(), lambda p, key: (jnp.ones((1, 2)) @ p["w"]).sum(), PARAMS, ())
    axes = {leaf.path: (leaf.rows, leaf.cols) for leaf in settled.noise.leaves}
    assert axes == {"b": ((), ()), "w": ((0,), (1,))}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert settle(settled, task, PARAMS, ()) is settled
