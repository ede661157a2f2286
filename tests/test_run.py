"""Runs: the same seed gives the same bits, through kill and resume too; nothing already computed is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import evo
from evo.archive import Grid
from evo.checkpoint import Checkpoints
from evo.express import express_dense
from evo.folder import Folder
from evo.genome import around, member
from evo.noise import Gaussian
from evo.run import fresh, prepare, summary
from evo.runtime import Runtime
from evo.strategies.emitters.iso_line import IsoLine
from evo.strategies.es import ES
from evo.strategies.qd import QD
from evo.task import Evaluation

PARAMS = {"w": jnp.linspace(-1, 1, 12).reshape(4, 3), "b": jnp.zeros(3)}
STRATEGY = ES(population=8, sigma=0.1, lr=0.1)


def task(params, key):
    y = jnp.array([1.0, -2.0, 0.5, 3.0]) @ params["w"] + params["b"]
    return -((y - jnp.arange(3.0)) ** 2).sum() + 0.1 * jax.random.normal(key)


def same(a, b):
    jax.tree.map(assert_array_equal, a, b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 generations, and its folder."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return evo.run(task, PARAMS, STRATEGY, generations=12, seed=3, out=out, checkpoint_every=5), out


def test_a_run_learns_and_is_the_same_without_a_folder(whole):
    result, _ = whole
    again = evo.run(task, PARAMS, STRATEGY, generations=12, seed=3)
    same(result.solution, again.solution)
    assert result.metrics["mean"][-1] > result.metrics["mean"][0]
    assert result.metrics["evaluations"].tolist() == [8 * (g + 1) for g in range(12)]


def test_stopped_and_resumed_ends_the_same(whole, tmp_path):
    seen = []
    first = evo.run(
        task, PARAMS, STRATEGY, generations=12, seed=3, out=tmp_path / "r", checkpoint_every=5,
        on_generation=seen.append, stop=lambda: len(seen) == 7,
    )  # fmt: skip
    assert first.stopped
    assert len(first.metrics["mean"]) == 7
    *lines, last = (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()
    late = json.dumps(json.loads(last) | {"seconds": 1000.0})  # and torn in the line after it
    (tmp_path / "r" / "metrics.jsonl").write_text("\n".join([*lines, late, '{"gen']))
    rest = evo.run(task, PARAMS, STRATEGY, generations=12, seed=3, out=tmp_path / "r", checkpoint_every=5)
    same(rest.solution, whole[0].solution)
    assert_array_equal(rest.metrics["mean"], whole[0].metrics["mean"])
    assert (np.diff(rest.metrics["seconds"]) >= 0).all()


def test_a_torn_checkpoint_is_passed_over(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoints, "busy", Checkpoints.finish)  # each is waited for, none left out
    out, seen = tmp_path / "r", []
    evo.run(task, PARAMS, STRATEGY, generations=11, seed=3, out=out, checkpoint_every=3)
    files = [file for file in (out / "checkpoints" / "11").rglob("d/*") if file.stat().st_size > 50]
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    rest = evo.run(
        task, PARAMS, STRATEGY, generations=12, seed=3, out=out, checkpoint_every=3, on_generation=seen.append
    )
    same(rest.solution, whole[0].solution)
    assert len(rest.metrics["mean"]) == 12
    assert [row["generation"] for row in seen] == [9, 10, 11]
    with closing(Checkpoints(out / "checkpoints")) as checkpoints:
        assert checkpoints.generations() == [0, 6, 9, 12]  # the torn one is gone
        assert [checkpoints.latest(g)[0] for g in (5, 6, 8, 11, None)] == [0, 6, 6, 9, 12]


@pytest.mark.parametrize("layout", [{"chunk": 3}, {"devices": 2}], ids=str)
def test_layout_gives_the_same_run(whole, layout):
    other = evo.run(task, PARAMS, STRATEGY, generations=12, seed=3, **layout)
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-4, atol=1e-5), other.solution, whole[0].solution)


def test_any_candidate_is_rebuilt(whole):
    result, out = whole
    run = evo.open(out, task=task)
    assert run.generations == 12
    assert_array_equal(run.metrics["best"], result.metrics["best"])
    same(run.solution(), result.solution)
    for g, i in [(0, 0), (7, 5), (11, 2)]:
        again = evo.run(task, PARAMS, STRATEGY, generations=g + 1, seed=3)
        assert_array_equal(run.fitness(g)[i], _fitness_of(run, g, i))
        same(run.strategy_state(g + 1), again.state)
    with pytest.raises(ValueError, match="generation 2 has members 0 to 7; got 8"):
        run.member(2, 8)


@dataclass(frozen=True)
class Greedy:
    """Goes where its fittest member is; its state is one bare array."""

    population: int = 4
    noise: Gaussian = Gaussian()

    def init(self, key, params):
        return params["w"]

    def ask(self, key, state):
        return around(key, self.population, 0.1), jnp.arange(self.population)

    def bases(self, state):
        return {"w": state}

    def tell(self, runtime, state, genome, evaluation):
        fittest = member(genome, jnp.argmax(evaluation.fitness))
        return express_dense(self.noise, self.bases(state), fittest)["w"], {}

    def solution(self, state):
        return {"w": state}


def test_a_state_may_be_one_array(tmp_path):
    climb = lambda params, key: params["w"].sum()  # noqa: E731
    run = partial(evo.run, climb, {"w": jnp.zeros(3)}, Greedy(), out=tmp_path / "r", checkpoint_every=2)
    run(generations=2)
    result = run(generations=3)
    opened = evo.open(tmp_path / "r", task=climb, strategy=Greedy())
    same(opened.solution(), result.solution)
    assert_allclose(result.solution["w"].sum(), opened.fitness(2).max(), rtol=1e-5)
    same(opened.strategy_state(0), jnp.zeros(3))


def _fitness_of(run, g, i):
    """The recorded fitness, checked against the rebuilt member under its own luck."""
    _, luck = run.engine.ask(g, run.strategy_state(g))
    fitness = task(run.member(g, i), luck[i])
    assert_allclose(fitness, run.fitness(g)[i], rtol=1e-5)
    return run.fitness(g)[i]


def test_a_second_generation_compiles_nothing(caplog):
    with jax.log_compiles():
        evo.run(task, PARAMS, STRATEGY, generations=6, on_generation=lambda row: caplog.records.append(row))
    marks = [i for i, record in enumerate(caplog.records) if isinstance(record, dict)]
    said = {i: r.getMessage() for i, r in enumerate(caplog.records) if not isinstance(r, dict)}
    compiling = {i: message for i, message in said.items() if "Compiling" in message}
    caplog.records.clear()
    assert len(marks) == 6
    assert any(i < marks[0] for i in compiling)  # this is what JAX says of it
    assert [message for i, message in compiling.items() if marks[0] < i] == []


def test_invalid_members_are_counted_and_all_invalid_stops(tmp_path):
    def half(params, key):
        return jnp.where(params["w"][0, 0] > -1, jnp.nan, task(params, key))

    result = evo.run(half, PARAMS, STRATEGY, generations=2, seed=3)
    assert result.metrics["invalid"].max() >= 1
    assert np.isfinite(result.metrics["mean"]).all()
    with pytest.raises(evo.AllInvalid, match="no member of generation 0 had a finite fitness"):
        evo.run(lambda params, key: jnp.nan, PARAMS, STRATEGY, generations=2, out=tmp_path / "r")
    assert evo.open(tmp_path / "r", task=task).folder.checkpoints().generations() == [0]


def test_whatever_is_not_finite_is_invalid_golden():
    fitness = np.array([1.0, np.inf, 4.0, -np.inf, 1.0, np.nan], np.float32)
    assert summary(fitness) == {"best": 4, "mean": 2, "median": 1, "std": 2**0.5, "invalid": 3}


def test_reports_on_the_way_share_no_luck_with_the_search():
    engine, moment, _ = prepare(task, PARAMS, STRATEGY, 3, Runtime())
    reports, search = [], [engine.key[None]]
    vars(engine)["evaluate"] = lambda moment, keys: reports.append(keys) or Evaluation(jnp.zeros(len(keys)))
    vars(engine)["measure"] = lambda moment, begun, key: reports.append(key[None]) or {}
    for generation in range(3):
        fresh(engine, moment, generation, 4)
        own = jax.random.fold_in(engine.key, generation)
        search += [own[None], engine._keys(generation), engine.ask(generation, moment.state)[1]]
    told, used = (
        {tuple(jax.random.key_data(key).tolist()) for row in rows for key in row} for rows in (reports, search)
    )
    assert len(told) == 3 * (4 + 1)
    assert not told & used


def test_tasks_state_is_absorbed_recorded_and_resumed(tmp_path):
    class Count:
        def init(self, key):
            return PARAMS, {"seen": jnp.zeros((), jnp.int32)}

        def evaluate(self, params, state, key):
            return Evaluation(-(params["w"] ** 2).sum(), aux={"steps": jnp.ones((), jnp.int32) * 2})

        def absorb(self, state, aux):
            return {"seen": state["seen"] + aux["steps"].sum()}

    for generations in (3, 5):
        result = evo.run(Count(), None, STRATEGY, generations=generations, out=tmp_path / "r", eval_every=2)
    assert result.task_state["seen"] == 5 * 8 * 2
    assert result.metrics["steps"].tolist() == [16, 32, 48, 64, 80]
    assert np.isfinite(result.metrics["eval_mean"]).tolist() == [False, True, False, True, False]
    run = evo.open(tmp_path / "r", task=Count())
    assert [int(run.task_state(g)["seen"]) for g in (0, 2, None)] == [0, 32, 80]


SCRIPT = """
import sys, evo
sys.path.insert(0, {tests!r})
from test_run import PARAMS, STRATEGY, task
evo.run(task, PARAMS, STRATEGY, generations=400, seed=3, out={out!r}, checkpoint_every=3)
print("done")
"""


def test_killed_at_a_random_moment_it_ends_the_same(tmp_path):
    """SIGKILL twice, at moments drawn from the clock, then to the end."""
    out, env = tmp_path / "r", os.environ | {"JAX_PLATFORMS": "cpu"}
    script = SCRIPT.format(tests=str(Path(__file__).parent), out=str(out))
    for after in (5, 60):
        process = subprocess.Popen([sys.executable, "-c", script], env=env, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None and _lines(out) < after:
            time.sleep(0.005)
        time.sleep(time.time_ns() % 50 / 1000)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert "done" in finished.stdout
    whole = evo.run(task, PARAMS, STRATEGY, generations=400, seed=3)
    same(evo.open(out, task=task).solution(), whole.solution)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["generation"] for row in rows] == list(range(400))
    assert_array_equal([row["mean"] for row in rows], whole.metrics["mean"])


def _lines(out):
    file = out / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


def test_folders_that_are_not_ours_are_refused(whole, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not a run folder"):
        evo.run(task, PARAMS, STRATEGY, generations=1, out=tmp_path)
    with pytest.raises(ValueError, match="already holds a run"):
        evo.run(task, PARAMS, STRATEGY, generations=1, out=whole[1], resume=False)
    with pytest.raises(ValueError, match="there is no run folder"):
        evo.open(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="made by another task or strategy"):
        evo.run(task, {**PARAMS, "more": jnp.zeros(2)}, STRATEGY, generations=13, seed=3, out=whole[1])
    with pytest.raises(ValueError, match="needs `params`"):
        evo.run(task, None, STRATEGY)
    with pytest.raises(ValueError, match="`strategy` needs population, noise, init, ask, bases, tell and solution"):
        evo.run(task, PARAMS, "es")


def test_a_run_that_is_there_goes_on_with_its_own_settings(whole, tmp_path):
    for other, said in ((dict(seed=4), "seed: 4 here, 3 there"), (dict(strategy=ES(8, 0.2)), "sigma: 0.2 here")):
        with pytest.raises(ValueError, match=f"holds another run: .*{said}"):
            evo.run(**(dict(task=task, params=PARAMS, strategy=STRATEGY, generations=13, seed=3, out=whole[1]) | other))
    for generations in (2, 4, 3):
        evo.run(task, PARAMS, STRATEGY, generations=generations, out=tmp_path / "r")
    assert "generations: 4" in (tmp_path / "r" / "config.yaml").read_text()


BEGUN = ["config.yaml", "leaves.json", "versions.json"]


@pytest.mark.parametrize("left", [BEGUN[:1], BEGUN, [*BEGUN, "fitness"]])
def test_killed_as_it_began_it_begins_anew(whole, left, tmp_path):
    result, out = whole
    for name in left:
        copy = shutil.copytree if (out / name).is_dir() else shutil.copy
        copy(out / name, tmp_path / name)
    if "fitness" in left:
        (tmp_path / "fitness" / "fitness.bin").unlink()
    if left == BEGUN:
        Folder(tmp_path).log({"generation": 0, "member": 1}, "lost.jsonl")
    same(evo.run(task, PARAMS, STRATEGY, generations=12, seed=3, out=tmp_path).solution, result.solution)
    assert Folder(tmp_path).rows("lost.jsonl") == []


def test_no_row_of_metrics_has_a_number_that_json_has_not(tmp_path):
    unlucky = lambda params, key: jnp.where(jax.random.uniform(key) < 0.5, jnp.nan, task(params, key))  # noqa: E731
    evo.run(unlucky, PARAMS, STRATEGY, generations=1, out=tmp_path / "r", eval_every=1)
    assert json.loads((tmp_path / "r" / "metrics.jsonl").read_text(), parse_constant=pytest.fail)["eval_mean"] is None


class Drifts:
    def init(self, key):
        return PARAMS, {"n": jnp.int32(0)}

    def evaluate(self, params, state, key):
        return params["w"].sum()

    def absorb(self, state, aux):
        return {"n": jnp.float32(1)}


class Bare:
    init, evaluate = Drifts.init, Drifts.evaluate


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(task=lambda params, key: None), "one fitness for one member, a number, .* got NoneType"),
        (dict(task=lambda params, key: {"f": 1.0}), "got dict"),
        (dict(strategy=ES), r"such as ES\(\); got the class itself"),
        (dict(task=Bare(), params=None), "has init, evaluate and absorb .* no absorb"),
        (dict(task=Drifts(), params=None), "`absorb` returns a state like the one it gets"),
        (dict(params={}), "nothing to search for"),
        (dict(params={"w": jnp.zeros(3, bool)}), "nothing to search for"),
        (dict(params={"w": jnp.ones(3), "k": jax.random.key(0)}), "'k' is a PRNG key"),
        (dict(eval_every=-1), "`eval_every` is a whole number, at least 0; got -1"),
        (dict(eval_episodes=0), "`eval_episodes` is a whole number, at least 1; got 0"),
        (dict(chunk=2.5), "`chunk` is a whole number, at least 1; got 2.5"),
        (dict(generations=0), "`generations` is a whole number, at least 1; got 0"),
        (dict(out=__file__ + "/r"), "can't make the run folder"),
        (dict(out="a[b]"), r"can't have a \[ in it"),
        (dict(seed=2**32), r"below 2\*\*32"),
    ],
)
def test_mistakes_are_told(given, said):
    with pytest.raises(ValueError, match=said):
        evo.run(**(dict(task=task, params=PARAMS, strategy=STRATEGY, generations=1) | given))


def test_one_process_at_a_time_runs_in_a_folder(whole):
    held = evo.open(whole[1], task=task).folder.hold()
    script = SCRIPT.format(tests=str(Path(__file__).parent), out=str(whole[1]))
    ended = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True
    )
    os.close(held)
    assert b"another process is running in" in ended.stderr


def test_files_that_are_gone_are_told_and_nothing_is_cut(whole, tmp_path):
    shutil.copytree(whole[1], tmp_path / "r")
    resumed = lambda: evo.run(task, PARAMS, STRATEGY, generations=13, seed=3, out=tmp_path / "r")  # noqa: E731
    kept = sorted(file.name for file in (tmp_path / "r" / "checkpoints").iterdir())
    (tmp_path / "r" / "metrics.jsonl").rename(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match=r"has checkpoints and no metrics\.jsonl; put it back"):
        resumed()
    (tmp_path / "r" / "metrics.jsonl").write_text('{"gen\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged"):
        resumed()
    shutil.copy(tmp_path / "metrics.jsonl", tmp_path / "r")
    shutil.rmtree(tmp_path / "r" / "fitness")
    with pytest.raises(ValueError, match="has checkpoints and no fitness/; put it back"):
        resumed()
    assert sorted(file.name for file in (tmp_path / "r" / "checkpoints").iterdir()) == kept


def test_a_run_that_could_not_begin_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="Quality diversity needs a descriptor"):
        evo.run(task, PARAMS, QD(Grid((4,)), (IsoLine(8),)), generations=1, out=tmp_path / "r")
    assert not list((tmp_path / "r").iterdir())
