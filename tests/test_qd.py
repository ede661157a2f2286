"""Quality diversity with any archive and emitters: one table of laws, CMA-ES and luck against numpy twins."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generation import play
from numpy.testing import assert_allclose, assert_array_equal

import evo
from evo.archive import Grid, empty, insert
from evo.bandit import Played, choose, learn, unplayed
from evo.cvt import CVT
from evo.deep import Deep
from evo.emitter import Offspring
from evo.engine import settle
from evo.envs.projection import Projection
from evo.experiment import dump, load
from evo.express import express_dense
from evo.genome import expand, member
from evo.noise import Frozen, LowRank
from evo.runtime import Runtime
from evo.strategies.emitters.climb import Climb
from evo.strategies.emitters.cma import CMA
from evo.strategies.emitters.conditioned import Conditioned, folded
from evo.strategies.emitters.iso_line import IsoLine
from evo.strategies.map_elites import MapElites
from evo.strategies.qd import QD
from evo.task import Evaluation
from evo.unstructured import Unstructured

GRID = Grid((12, 12), ((-5.0, 5.0),) * 2, offset=-60.0)
ANNEALED = Grid((12, 12), ((-5.0, 5.0),) * 2, offset=-60.0, learning_rate=0.05, threshold_min=-60.0)
PARAMS = {"w": jnp.zeros((2, 3))}
TABLE = {
    "iso+line": (QD(GRID, (IsoLine(60, 0.3, 0.2, 0.5),)), 0.95),
    "CMA-ME": (QD(GRID, (CMA(5, 12, 0.5),)), 0.95),
    "CMA-MAE": (QD(ANNEALED, (CMA(5, 12, 0.5, "improvement", "mu", "basic"),)), 0.95),
    "ME-ES": (QD(GRID, (Climb(4, 16, 0.5, 0.2),)), 0.9),
    "ME-ES, fitness": (QD(GRID, (Climb(4, 16, 0.5, 0.2, aim="fitness"),)), 0.4),
    "low-rank ME-ES, novelty": (QD(GRID, (Climb(6, 16, 0.5, 0.3, aim="novelty"),), noise=LowRank()), 0.9),
    "conditioned": (QD(GRID, (Conditioned(4, 16, 0.5, 0.2),)), 0.9),
    "unstructured, novelty": (QD(Unstructured(400, 0.5, GRID.bounds), (Climb(4, 16, 0.5, 0.3, aim="novelty"),)), 0.6),
    "bandit, deep": (QD(Deep(GRID, 2), (IsoLine(30, 0.3), CMA(3, 10, 0.5), IsoLine(30, 0.0, 0.0)), active=2), 0.95),
    "mix": (QD(CVT(144, GRID.bounds, -60.0), (IsoLine(30, 0.3), CMA(2, 10, 0.5), Climb(2, 8, 0.3)), looks=8), 0.95),
}


def task(params, key):
    """An asymmetric bowl, best (0) at w = 1, filed by the sums of its two rows."""
    w = params["w"]
    return Evaluation(-((w - 1.0) ** 2).sum(), w.sum(1))


@pytest.mark.parametrize("name", TABLE)
def test_laws(name):
    """It fills the archive within a budget, loses neither coverage nor fitness, and a row is what was judged."""
    strategy, wanted = TABLE[name]
    history = play(strategy, task, PARAMS, 60)
    info = [info for _, info in history[1:]]
    coverage, best = (np.array([float(i[column]) for i in info]) for column in ("coverage", "elite_best"))
    fitness = np.stack([np.asarray(state.archive.fitness) for state, _ in history])
    assert (np.diff(coverage) >= 0).all()
    assert (fitness[1:] >= fitness[:-1]).all()
    assert coverage[-1] >= wanted
    assert best[-1] > (-1.0 if "novelty" in name else -0.7)
    archive = strategy.archive(history[-1][0])
    taken = np.isfinite(archive.fitness)
    again = jax.vmap(task, (0, None))(archive.rows, None)
    assert_allclose(again.fitness[taken], archive.fitness[taken], atol=2e-4)
    if hasattr(strategy.grid, "cell"):
        assert_array_equal(np.asarray(strategy.grid.cell(archive.descriptor)[0])[taken], np.flatnonzero(taken))
    assert_allclose(task(strategy.solution(history[-1][0]), None).fitness, best[-1], atol=2e-4)
    parts = [float(sum(i.get(f"added_{e}", i["added"]) for e in range(len(strategy.emitters)))) for i in info]
    assert_array_equal(parts, [float(i["added"]) for i in info])
    made = np.asarray(archive.record.emitter)
    assert set(made[taken]) <= set(range(len(strategy.emitters)))
    assert (made[~taken] == -1).all()


@pytest.mark.parametrize("name", ["mix", "bandit, deep", "conditioned"])
def test_every_candidate_of_a_mix_is_rebuilt(name, tmp_path):
    strategy = TABLE[name][0]
    result = evo.run(task, PARAMS, strategy, generations=7, out=tmp_path / "r", checkpoint_every=5)
    run = evo.open(tmp_path / "r", task=task, strategy=strategy, params=PARAMS)
    jax.tree.map(assert_array_equal, run.strategy_state().archive.rows, result.state.archive.rows)
    fitness = run.fitness(6)
    for i in (0, 33, 50, 59, *([66, 73] if name == "mix" else [])):  # of each emitter, and a look
        assert_allclose(task(run.member(6, i), None).fitness, fitness[i], atol=1e-4)


def test_the_bandit_golden():
    played = Played(jnp.asarray([4.0, 4.0, 0.0, 8.0]), jnp.asarray([2.0, 3.0, 0.0, 4.0]))
    assert choose(played, 4, 0.0).tolist() == [2, 1, 0, 3]  # who never played, then by mean reward; ties: the lower
    assert choose(played, 4, 9.0).tolist() == [2, 1, 0, 3]
    assert choose(played._replace(plays=jnp.asarray([1.0, 4, 9, 8]), reward=jnp.zeros(4)), 1, 1.0).tolist() == [0]
    played = learn(unplayed(3), jnp.asarray([True, False, True]), jnp.asarray([0.5, 9.0, 0.25]))
    assert_array_equal(played.plays, [1, 0, 1])
    assert_array_equal(played.reward, [0.5, 0, 0.25])
    assert_allclose(learn(played, jnp.zeros(3, bool), jnp.zeros(3)).plays, [0.98, 0, 0.98])


def test_the_bandit_leaves_out_who_finds_nothing():
    """Its third emitter only copies elites: it plays a few times, and who doesn't play is told nothing."""
    strategy, _ = TABLE["bandit, deep"]
    history = play(strategy, task, PARAMS, 60)
    played = np.array([[int(i[f"played_{e}"]) for e in range(3)] for _, i in history[1:]])
    assert (played.sum(1) == 2).all()
    assert played[10:, 2].mean() < 0.3 < played[10:, :2].mean()
    for (before, _), (after, _), now in zip(history, history[1:], played, strict=False):
        same = np.array_equal(before.emitters[1].draws, after.emitters[1].draws)
        assert same == (now[1] == 0)


def test_cma_is_hansens():
    """One update against a plain numpy transcription of the tutorial, from the same draws."""
    emitter = CMA(1, 8, 0.7, "fitness", "mu", "basic")
    n, mu = 3, 4
    search, rows = emitter.init(jax.random.key(1), jnp.asarray([1.0, -2.0, 0.5]))
    x, m = np.asarray(rows, np.float64), np.array([1.0, -2.0, 0.5])
    fitness = -((x - [0.0, 3.0, 1.0]) ** 2).sum(1)
    learned = jax.vmap(lambda s, f: emitter._learned(s, _inserted(f), f)[0])(search, jnp.asarray(fitness[None]))
    w = np.log(mu + 0.5) - np.log(np.arange(1, mu + 1))
    w /= w.sum()
    mueff = 1 / (w**2).sum()
    cs, cc = (mueff + 2) / (n + mueff + 5), (4 + mueff / n) / (n + 4 + 2 * mueff / n)
    c1 = 2 / ((n + 1.3) ** 2 + mueff)
    cmu = min(1 - c1, 2 * (mueff - 2 + 1 / mueff) / ((n + 2) ** 2 + mueff))
    y = (x[np.argsort(-fitness)[:mu]] - m) / 0.7
    ps = np.sqrt(cs * (2 - cs) * mueff) * (w @ y)
    length = (ps**2).sum() / n
    assert length / (1 - (1 - cs) ** 2) < 2 + 4 / (n + 1)  # the path isn't stalled
    pc = np.sqrt(cc * (2 - cc) * mueff) * (w @ y)
    c = (1 - c1 - cmu) * np.eye(n) + c1 * np.outer(pc, pc) + cmu * (y.T * w) @ y
    damps = 1 + 2 * max(0, np.sqrt((mueff - 1) / (n + 1)) - 1) + cs
    assert_allclose(learned.mean[0], m + 0.7 * w @ y, rtol=1e-5)
    assert_allclose(learned.covariance[0], c, rtol=1e-4, atol=1e-6)
    assert_allclose(learned.sigma[0], 0.7 * np.exp(cs / damps * (length - 1) / 2), rtol=1e-5)
    assert_allclose(learned.steps[0] @ learned.steps[0].T, c, rtol=1e-4, atol=1e-6)


def test_cma_has_no_parents_that_are_invalid():
    """Of eight, two have a fitness: the update is theirs alone, by the weights of two parents."""
    emitter = CMA(1, 8, 0.7, "fitness", "mu", "basic")
    searches, _ = emitter.init(jax.random.key(1), jnp.asarray([1.0, -2.0, 0.5]))
    search = jax.tree.map(lambda x: x[0], searches)
    fitness = jnp.full(8, jnp.nan).at[jnp.array([1, 4])].set(jnp.array([3.0, 7.0]))
    learned, ended = emitter._learned(search, _inserted(fitness), fitness)
    w = np.log(2.5) - np.log([1.0, 2.0])
    assert_allclose(learned.mean, search.mean + 0.7 * (w / w.sum()) @ search.draws[np.array([4, 1])], rtol=1e-5)
    assert not ended


def _inserted(fitness):
    archive = empty(GRID, jnp.zeros(1))
    return insert(GRID, archive, fitness, jnp.zeros((len(fitness), 2)), jnp.zeros((len(fitness), 1)))[1]


def test_two_stage_ranking_and_restarts():
    """New before improved before nothing; a search whose offspring changed nothing begins anew."""
    emitter = CMA(2, 4, 0.5)
    search, _ = emitter.init(jax.random.key(0), jnp.zeros(2))
    status = jnp.asarray([[1, 0, 2, 1], [0, 0, 0, 0]])
    improvement = jnp.asarray([[9.0, 10.0, 0.5, 3.0], [-1.0, -2.0, -3.0, -4.0]])
    inserted = _inserted(jnp.zeros(4))
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), inserted)._replace(status=status, improvement=improvement)
    learned, ended = jax.vmap(emitter._learned)(search, stacked, jnp.zeros((2, 4)))
    assert ended.tolist() == [False, True]
    w = np.log(3.5) - np.log([1.0, 2.0, 3.0])
    best = np.asarray(search.draws[0])[[2, 0, 3]]  # the newcomer first, then by improvement; the third not at all
    assert_allclose(learned.mean[0], 0.5 * (w / w.sum()) @ best, rtol=1e-5)
    assert_array_equal(learned.mean[1], search.mean[1])


def test_a_search_begins_anew_at_an_elite():
    emitter, lost = CMA(5, 2, 0.5), jnp.full(10, jnp.nan)
    search, _ = emitter.init(jax.random.key(0), jnp.zeros(2))
    elites = jnp.asarray([[5.0, 6.0], [7.0, -8.0], [-9.0, 1.0]])
    archive, _ = insert(GRID, empty(GRID, jnp.zeros(2)), jnp.ones(3), jnp.asarray([[0.0, 0], [1, 1], [2, 2]]), elites)
    offspring = Offspring(None, lost, jnp.zeros((10, 2)), _inserted(lost))
    tell = jax.jit(lambda search: emitter.tell(jax.random.key(1), search, archive, 0, offspring, None)[0])
    search = tell(search)
    assert_array_equal(search.restarts, 1)
    assert {tuple(mean) for mean in search.mean.tolist()} <= {tuple(row) for row in elites.tolist()}
    assert len(np.unique(search.mean, axis=0)) > 1


def test_emitters_and_looks_share_no_trial():
    strategy = QD(GRID, (IsoLine(3), Climb(1, 4)), looks=2)
    _, trial = strategy.ask(jax.random.key(1), strategy.init(jax.random.key(0), PARAMS))
    assert trial.tolist() == [0, 1, 2, 3, 3, 4, 4, 7, 8]  # a pair of Climb's shares one


def test_a_conditioned_policy_follows_its_targets_slopes_golden():
    """By hand, from the members as dense matrices: theta's slope is the targets' mean, a lean's is weighed by them."""
    emitter = Conditioned(2, 8, 0.5, 0.2, length=0.5)
    strategy = QD(GRID, (emitter,))
    before, _ = play(strategy, task, PARAMS, 1)[-1]
    genome, _ = strategy.ask(jax.random.key(5), before)
    members = jax.vmap(lambda g: express_dense(strategy.noise, before.archive.rows, g))(expand(genome))
    seen = jax.vmap(task, (0, None))(members, None)
    after, _ = strategy.tell(Runtime(), before, genome, seen)
    z, noise = (
        np.asarray(before.emitters[0].asked),
        np.asarray(members["w"] - before.archive.rows["w"][-2:].repeat(8, 0)),
    )
    off = np.linalg.norm(np.asarray(seen.descriptor) / 5 - z.repeat(8, 0), axis=1)
    value = np.exp(-off / 0.5) * np.maximum(np.asarray(seen.fitness) + 60, 0)
    rank = value.reshape(2, 8).argsort(1).argsort(1) / 7 - 0.5
    slope = (rank[..., None, None] * noise.reshape(2, 8, 2, 3)).sum(1) / (8 * 0.5**2)
    mean = [adam[0].mu for adam in (before.emitters[0].optimizer, after.emitters[0].optimizer)]
    found = jax.tree.map(lambda old, new: np.asarray(9 * old - 10 * new), *mean)  # the moment is of what goes downhill
    assert_allclose(found.theta["w"], slope.mean(0), atol=1e-4)
    assert_allclose(found.lean["w"], np.einsum("bd,bmn->dmn", z, slope) / 2, atol=1e-4)
    assert float(np.abs(z).max()) > 0


def test_a_conditioned_policy_comes_to_show_what_it_is_asked_for():
    state, _ = play(QD(GRID, (IsoLine(30, 0.3, 0.2, 0.5), Conditioned(4, 16, 0.3, 0.1))), task, PARAMS, 60)[-1]
    asked = jnp.stack(jnp.meshgrid(*[jnp.linspace(-0.6, 0.6, 5)] * 2), -1).reshape(-1, 2)
    shown = jax.vmap(task, (0, None))(folded(state.emitters[1].policy, asked), None).descriptor / 5
    assert float(jnp.linalg.norm(shown - asked, axis=1).mean()) < 0.15  # asked for nothing: 0.57


def test_only_the_leaves_that_were_named_lean():
    both = {"first": {"bias": jnp.zeros(3)}, "second": {"bias": jnp.ones(2, jnp.bfloat16)}}
    state, rows = Conditioned(2, 4, into="first/*").init(jax.random.key(0), both)
    assert jax.tree.map(jnp.shape, state.policy.lean) == {"first": {"bias": (2, 3)}, "second": {"bias": (0, 2)}}
    assert_array_equal(rows["second"]["bias"], np.ones((2, 2)))
    with pytest.raises(ValueError, match="`into` matches no leaf: got 'third'"):
        Conditioned(into="third").init(jax.random.key(0), both)
    with pytest.raises(ValueError, match="asks for `descriptors: 3`, and the archive has 2"):
        play(QD(GRID, (Conditioned(2, 4, descriptors=3),)), task, PARAMS, 1)


def test_a_fused_mix_of_emitters_compiles():
    """LLVM took for ever over hashes of one key among the branches of a concatenation."""
    strategy = QD(CVT(144, GRID.bounds, -60.0), (IsoLine(16, 0.3), Climb(1, 8, 0.3)))
    one, four = (evo.run(task, PARAMS, strategy, generations=4, fuse=fuse).state.archive for fuse in (1, 4))
    assert_allclose(one.fitness, four.fitness, rtol=1e-5)


def test_low_rank_climbers_are_never_whole_networks():
    """64 perturbations of 2 centres are judged with the memory of the centres, and each is its centre + rank 1."""
    strategy, d = QD(Grid((8,), ((0.0, 1.0),)), (Climb(2, 32),), noise=LowRank()), 512
    state = strategy.init(jax.random.key(0), {"w": jnp.zeros((d, d))})
    genome, _ = strategy.ask(jax.random.key(1), state)
    judge = lambda params, key: Evaluation(-((jnp.ones(d) @ params["w"]) ** 2).sum(), params["w"][0, :1])  # noqa: E731
    judged = jax.jit(lambda *a: Runtime().map(judge, strategy.noise, strategy.bases(state), *a))
    luck = jax.random.split(jax.random.key(2), 64)
    assert judged.lower(genome, luck).compile().memory_analysis().temp_size_in_bytes < 64 * d * d * 4 // 10
    one = express_dense(strategy.noise, strategy.bases(state), member(genome, 5))
    assert np.linalg.matrix_rank(np.asarray(one["w"])) == 1
    assert_array_equal(member(genome, 33).parents, [8 + 1])  # the second half are the second centre's


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: QD(GRID, ()), "at least one emitter"),
        (lambda: QD(GRID, (IsoLine(),), active=2), "from 1 to the 1 emitters"),
        (lambda: QD(GRID, (IsoLine(8), IsoLine(9)), active=1), r"these have \[8, 9\]"),
        (lambda: CMA(2, 1), "a `batch` of at least 2"),
        (
            lambda: QD(GRID, (CMA(),)).init(jax.random.key(0), {"n": jnp.arange(3), "w": jnp.ones(2)}),
            "searches all parameters, as floats; 'n'",
        ),
        (lambda: QD(GRID, (CMA(),), noise=Frozen()).init(jax.random.key(0), {"w": jnp.ones(3)}), "'w' is frozen"),
        (lambda: Climb(2, 7), "even `batch`"),
        (lambda: Conditioned(2, 7), "even `batch`"),
        (lambda: Conditioned(length=0.0), "above 0; got 2, 0.02 and 0.0"),
        (lambda: IsoLine(0), "at least 1"),
        (lambda: Grid((2,), ((0, 1),), learning_rate=2.0), "from 0 to 1"),
        (lambda: Grid((2,), ((0, 1),), learning_rate=0.1, threshold_min=-np.inf), "finite fitness"),
        (lambda: Grid((2,), ((0, 1),), outside="ignore"), "'clip' or 'refuse'"),
        (lambda: CVT(0), "at least 1 cell"),
        (lambda: QD(Grid((40_000, 40_000))).init(jax.random.key(0), jnp.zeros(10_000)), "64,0.* bytes and .* are free"),
    ],
)
def test_mistakes_are_told(wrong, said):
    with pytest.raises(ValueError, match=said):
        wrong()


@pytest.mark.parametrize(
    "cells",
    [
        {"kind": "cvt", "cells": 9, "bounds": [[0, 1], [0, 1]]},
        {"grid": {"shape": [3, 3]}},
        {"deep": {"of": {"kind": "cvt", "cells": 7}, "depth": 2}},
        {"unstructured": {"distance": 0.1}},
    ],
)
def test_it_is_a_config(cells):
    from evo import schema
    from evo.strategy import Strategy

    raw = {"kind": "qd", "cells": cells, "emitters": ["iso_line", {"cma": {"searches": 2}}, {"kind": "climb"}]}
    built = schema.build(Strategy, raw, "strategy")
    assert [type(e) for e in built.emitters] == [IsoLine, CMA, Climb]
    assert schema.build(Strategy, schema.unbuild(built), "strategy") == built


@pytest.mark.parametrize(
    "strategy",
    [QD(Grid((4, 4))), QD(CVT(9)), QD(Unstructured(9)), QD(Deep(CVT(9), 2)), MapElites(shape=(4, 4))],
    ids=lambda strategy: type(getattr(strategy, "cells", strategy)).__name__,
)
def test_bounds_that_nobody_gave_are_the_tasks(strategy):
    wide, params = Projection("sphere", 2), jnp.zeros(2)
    assert settle(strategy, wide, params, ()).grid.bounds == wide.descriptor_bounds == ((-5.12, 5.12),) * 2
    plain = lambda params, key: Evaluation(params.sum(), params)  # noqa: E731
    assert settle(strategy, plain, params, ()).grid.bounds == ((0.0, 1.0),) * 2


def test_bounds_that_somebody_gave_stay():
    wide, unit = Projection("sphere", 2), ((0.0, 1.0),) * 2
    assert settle(QD(Grid((4, 4), unit)), wide, jnp.zeros(2), ()).cells.bounds == unit
    assert Grid((4, 4, 4)).bounds == ((0.0, 1.0),) * 3
    with pytest.raises(ValueError, match="one length and one pair"):
        settle(QD(Grid((4, 4, 4))), wide, jnp.zeros(2), ())


def test_a_config_may_leave_bounds_to_its_task(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text("task: {kind: maze}\nstrategy: {kind: qd, cells: {kind: grid, shape: [4, 4]}}\n")
    experiment: Any = load(str(path))
    assert experiment.strategy.cells.bounds == experiment.task.descriptor_bounds
    assert str(experiment.task.descriptor_bounds[1][1]) in dump(experiment)  # the resolved config says them
