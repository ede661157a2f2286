"""Who moved into an archive and when: as it was told, through kill and resume, and who came from whom."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import evo
from evo.archive import Grid
from evo.arrivals import Arrivals, Moves, kind
from evo.cvt import CVT
from evo.deep import Deep
from evo.envs.arm import Arm
from evo.strategies.emitters.iso_line import IsoLine
from evo.strategies.map_elites import MapElites
from evo.strategies.qd import QD
from evo.task import Evaluation
from evo.unstructured import Unstructured
from evo.view import gathered
from evo.view.gather import Again, judged_again
from evo.view.page import Exhibit, content
from evo.view.past import kept, members, parents, tenants

STRATEGY = MapElites(64, (8, 8), offset=-0.5)
TEXT = "task: {kind: arm}\nstrategy: {kind: map_elites, population: 64, shape: [8, 8], offset: -0.5}\nseed: 0\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of eight generations that stopped after five, was cut short in the middle of a row, and went on."""
    out = tmp_path_factory.mktemp("runs") / "arm"
    stop = iter([False] * 4 + [True]).__next__
    evo.run(Arm(), None, STRATEGY, generations=8, out=out, config=TEXT, checkpoint_every=3, stop=stop)
    with (out / "arrivals.bin").open("ab") as file:
        file.write(b"torn")
    evo.run(Arm(), None, STRATEGY, generations=8, out=out, config=TEXT, checkpoint_every=3)
    return evo.open(out)


def test_the_arrivals_tell_every_archive(run, tmp_path):
    rows = run.folder.arrivals.read()
    for generation in (0, 3, 7):
        archive, lives = run.archive(generation + 1), tenants(rows, 64, generation)
        fitness = np.asarray(archive.fitness)
        assert_array_equal(lives >= 0, np.isfinite(fitness))
        there = lives >= 0
        assert_array_equal(rows["fitness"][lives][there], fitness[there])
        assert_array_equal(rows["descriptor"][lives][there], np.asarray(archive.descriptor)[there])
        assert_array_equal(rows["parents"][lives][there], np.asarray(archive.record.parents)[there])
    evo.run(Arm(), None, STRATEGY, generations=8, out=tmp_path / "whole", config=TEXT)
    assert_array_equal(evo.open(tmp_path / "whole").folder.arrivals.read(), rows)


def test_a_deep_archive_knows_its_lines(tmp_path):
    strategy = QD(Deep(Grid((5, 5), offset=-0.5), 3), (IsoLine(64),))
    evo.run(Arm(fitness_noise=0.1), None, strategy, generations=8, out=tmp_path / "run")
    run = evo.open(tmp_path / "run", task=Arm(fitness_noise=0.1), strategy=strategy)
    data, rows = gathered(run), run.folder.arrivals.read()
    assert data.depth == 3
    for generation in (0, 7):
        lives, archive = tenants(rows, 25, generation, 3), run.archive(generation + 1)
        assert_array_equal(np.where(lives >= 0, rows["fitness"][lives], -np.inf), np.asarray(archive.fitness))
    family = parents(rows)
    last = int(np.flatnonzero((family >= 0).all(1))[-1])
    born, state = int(rows["generation"][last]), run.strategy_state(int(rows["generation"][last]))
    found = members(rows, *(run.folder.records.column(name) for name in ("fitness", "descriptor")))
    for parent, row in zip(family[last], rows["parents"][last], strict=True):
        assert rows["generation"][parent] < born
        made = run.member(int(rows["generation"][parent]), int(found[parent]))  # what it was, rebuilt
        assert_array_equal(strategy.bases(state)[row], made)
    shown = content(Exhibit(data))["past"]
    assert (shown["depth"], shown["fathers"]) == (3, 2)


def test_an_arrival_is_a_member_of_its_generation(run):
    rows, records = run.folder.arrivals.read(), run.folder.records
    found = members(rows, records.column("fitness"), records.column("descriptor"))
    last = len(rows) - 1
    generation, member = int(rows["generation"][last]), int(found[last])
    assert run.fitness(generation)[member] == rows["fitness"][last]
    assert_array_equal(run.archive().rows[rows["cell"][last]], run.member(generation, member))


def test_what_is_gathered_needs_no_checkpoint(run):
    data = gathered(run)
    assert_array_equal(data.fitness, np.asarray(run.archive().fitness))
    assert data.columns is not None
    assert data.columns["visits"].sum() == 8 * 64
    assert (data.columns["visits"][np.isfinite(data.fitness)] > 0).all()


def test_a_mix_of_emitters_and_looks_is_told(tmp_path):
    cells = evo.archive.Grid((4, 4), offset=-0.5)
    strategy = QD(cells, looks=4)
    evo.run(Arm(fitness_noise=0.1), None, strategy, generations=3, out=tmp_path / "run")
    opened = evo.open(tmp_path / "run", task=Arm(fitness_noise=0.1), strategy=strategy)
    data = gathered(opened)
    assert_array_equal(np.unique(opened.folder.arrivals.read()["emitter"]), [0])
    assert data.columns is not None
    assert np.isfinite(data.columns["corrected"]).sum() == np.isfinite(data.columns["luck"]).sum() > 0
    assert data.columns["visits"].sum() == 3 * strategy.offspring


def coarse(params, key):
    """An arm whose scores are sixteenths: how a compiler rounds doesn't show in them."""
    told = Arm().evaluate(params, (), key)
    return Evaluation(jnp.round(told.fitness * 16) / 16, jnp.round(told.descriptor * 16) / 16)


@pytest.mark.parametrize("cells", [Grid((8, 8)), CVT(60), Deep(Grid((6, 6)), 2), Unstructured(40, 0.1)])
def test_fused_generations_leave_the_same_file(cells, tmp_path):
    strategy, params = QD(cells, (IsoLine(40, 0.1), IsoLine(24)), looks=4), Arm().init(jax.random.key(0))[0]
    for name, fuse in (("one", 1), ("fused", 5)):
        evo.run(coarse, params, strategy, generations=14, out=tmp_path / name, fuse=fuse, checkpoint_every=12)
    one, other = (Arrivals(tmp_path / name).read() for name in ("one", "fused"))
    assert_array_equal(one, other)
    assert set(one["generation"]) == set(range(14))
    cell, generation = one["cell"].astype(int), one["generation"] // 5
    assert len(np.unique(cell * 99 + generation)) < len(one)  # some came and went within a block
    assert (tmp_path / "one/arrivals.bin").read_bytes() == (tmp_path / "fused/arrivals.bin").read_bytes()


def test_cut_it_keeps_what_came_before_golden(tmp_path):
    arrivals = Arrivals(tmp_path)
    for generation, cells in enumerate([[0, 1], [2], [1, -1], [0, 3], [5]]):
        known = jnp.array(cells)
        arrivals.append(
            generation, Moves(known, known, jnp.zeros(len(cells)), known[:, None], jnp.zeros((len(cells), 2)))
        )
    arrivals.cut(3)
    rows = arrivals.read()
    assert_array_equal(rows["generation"], [0, 0, 1, 2])
    assert_array_equal(rows["cell"], [0, 1, 2, 1])


def test_an_elite_that_moved_out_leaves_its_looks_golden(tmp_path):
    again = Again(np.array([1.0, 2, 3]), np.array([0.5, 0.75, 9]), np.array([4, 5, 0]))
    told = judged_again(SimpleNamespace(path=tmp_path), np.array([1.0, 2.5, 3], np.float32), again)
    assert_array_equal(told["corrected"], [0.5, np.nan, np.nan])
    assert_array_equal(told["luck"], [0.5, np.nan, np.nan])
    assert_array_equal(told["looks"], [4, 0, 0])


def rows_of(*told):
    rows = np.zeros(len(told), kind(1, 2))
    for row, (generation, cell, fitness, *from_cells) in zip(rows, told, strict=True):
        row["generation"], row["cell"], row["fitness"], row["parents"] = generation, cell, fitness, from_cells
    return rows


def test_lines_of_ancestors_golden():
    rows = rows_of(
        (0, 3, 1.0, 0, 0),  # of the initial parameters
        (0, 5, 1.0, 0, 0),
        (1, 3, 2.0, 3, 5),  # of both
        (1, 4, 0.5, 3, 9),  # in the same generation: of the first, not of its successor
        (2, 5, -np.inf, 0, 0),  # it left
        (3, 4, 3.0, 3, 5),  # nobody lives in 5 now
    )
    assert_array_equal(parents(rows), [[-1, -1], [-1, -1], [0, 1], [0, -1], [-1, -1], [2, -1]])
    assert_array_equal(tenants(rows, 6), [-1, -1, -1, 2, 5, -1])
    assert_array_equal(tenants(rows, 6, 1), [-1, -1, -1, 2, 3, 1])
    assert_array_equal(tenants(rows, 3, depth=2), [-1, 2, 5])  # two places a cell: the fitter
    assert_array_equal(tenants(rows, 3, 1, depth=2), [-1, 2, 1])


def test_what_is_left_out_of_a_page_is_no_ancestor():
    generator = np.random.default_rng(0)
    told = [(g, int(c), float(g), int(p), -1) for g in range(400) for c, p in generator.integers(0, 9, (5, 2))]
    rows = rows_of(*told)
    family = parents(rows)
    some = kept(rows, family, 9, most=900)
    assert 9 < some.sum() < 1500
    line = tenants(rows, 9)
    while (line >= 0).any():
        line = line[line >= 0]
        assert some[line].all()
        line = family[line, 0]


def test_a_run_without_an_archive_has_no_arrivals(tmp_path):
    assert len(Arrivals(tmp_path).read()) == 0
