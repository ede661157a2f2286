"""The command, in this process: a user's mistake is exit 2 and one message; a small run goes through all of it."""

import contextlib
import csv
import io
import json
import re
import signal
import sys
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file

import evo
from evo.archive import Grid, empty, insert
from evo.cli import main
from evo.commands.judge import estimate
from evo.commands.look import labels
from evo.commands.rebuild import writer
from evo.commands.train import misfits
from evo.exchange import arrays, from_file, to_pandas
from evo.progress import clock, line, short, sparkline, watching

SPHERE = ["run", "sphere", "--strategy.population", "8", "--task.dim=3", "--checkpoint-every", "2"]
ARM = ["run", "arm_map_elites", "--strategy.population=64", "--generations", "2", "--quiet"]
LOW_RANK = "--strategy.noise.kind=low_rank --strategy.noise.rank"


@pytest.fixture(scope="module")
def sphere(tmp_path_factory):
    """The folder of a run of six generations."""
    out = tmp_path_factory.mktemp("runs") / "sphere"
    assert main([*SPHERE, "--generations", "6", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """The folder of a run with an archive."""
    out = tmp_path_factory.mktemp("runs") / "arm"
    assert main([*ARM, "--out", str(out)]) == 0
    return out


def test_list_names_everything(capsys):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    for name in ("eggroll", "deep_ga", "map_elites", "evosax", "brax", "arm", "custom", "hopper_eggroll"):
        lines = [line for line in listed if line.split()[:1] == [name]]
        assert lines, f"{name} is not listed"
        assert min(len(line.split()) for line in lines) > 3, f"{name} is listed without a line about it"


def table(path):
    """The rows of a CSV file."""
    return list(csv.DictReader(path.read_text().splitlines()))


def mistakes(sphere, arm, tmp_path):
    """Arguments, and what the message must say."""
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("not a run")
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "versions.json").write_text("{}")
    (torn / "config.yaml").write_text("strategy: [")
    return {
        "run hopper_egroll": "unknown config 'hopper_egroll'; the nearest known one is 'hopper_eggroll'",
        "run sphere --strategy.sigm 1": "strategy.sigm: unknown field",
        "run sphere --strategy.sigma": "--strategy.sigma: wanted a value after it",
        "run sphere --strategy.sigma --resume": "--strategy.sigma: wanted a value after it",
        "run sphere --strategy.population 7": "must be even; got 7. Use 8",
        "run sphere --sigma 1": "unknown option --sigma",
        "run sphere --generations many": "generations: wanted a whole number, got 'many'",
        "run sphere --log tb": "log[0]: wanted one of 'tensorboard', 'wandb'",
        "run rastrigin_cmaes --strategy.name CMAES": "CMA_ES",
        f"run custom {LOW_RANK}=0 --out {tmp_path}/x": "The rank of low-rank noise must be at least 1; got 0",
        f"run custom {LOW_RANK}=99 --out {tmp_path}/x": "rank 99 is larger than every matrix",
        f"run sphere --out {sphere}": "is there already; give --resume",
        f"run sphere --out {tmp_path}/foreign": "is there already",
        f"run sphere --out {tmp_path}/foreign --resume": "is not a run folder",
        f"run sphere --out {torn} --resume": "not valid YAML",
        f"{' '.join(SPHERE)} --out {sphere} --resume --strategy.sigma 0.3": "strategy.sigma: 0.3 here, 0.1 there",
        f"{' '.join(SPHERE)} --out {sphere} --resume --generations 3": "may grow but not shrink; got 3",
        f"run arm_map_elites --out {tmp_path}/big --strategy.shape [40000,40000] --task.joints 200": "bytes and",
        f"eval {tmp_path}/nope": "there is no run folder",
        f"eval {tmp_path}/foreign": "is not a run folder",
        f"eval {torn}": "not valid YAML",
        f"eval {sphere} --episodes 0": "--episodes: wanted at least 1, got 0",
        f"replay {sphere} --generation 6 --member 0": "generations 0 to 5; got 6",
        f"replay {sphere} --generation 0 --member 8": "members 0 to 7; got 8",
        f"replay {sphere} --generation 0 --member 0 --out x.pt": "x.pt: no ending that this writes",
        f"export {sphere} {tmp_path}/x.npy": "the nearest known one is '.npz'",
        f"render {sphere}": "sphere has nothing to film",
        f"render {sphere} --cell 3": "has no archive",
        f"render {arm} --cell 0": "cell 0 of the archive is empty; the nearest occupied one is",
        f"render {arm} --out {tmp_path}/x.avi": "x.avi: no ending that this writes; the nearest known one is '.gif'",
        f"archive {sphere}": "has no archive",
        f"archive {arm} --out {torn}/versions.json": "--out: wanted a folder",
        f"run sphere --out {torn}/versions.json --resume": "--out: wanted a folder",
        f"archive {arm} --cell 9999": "cells 0 to 1023; got 9999",
        f"replay {arm} --cell -1": "cells 0 to 1023; got -1",
        f"archive {arm} --cell 0": "--cell: cell 0 of the archive is empty; the nearest occupied one is",
        f"archive {arm} {arm} {arm}": "wanted one run folder, or two to compare; got 3",
        f"render {arm} --grid 4": "wanted rows x columns as 4x4",
        f"render {arm} --grid 2x2 --cell 3": "wanted --cell C, or --generation G and --member I, or --grid RxC",
        f"render {arm} --member 3": "wanted --cell C, or --generation G and --member I, or --grid RxC",
        f"render {arm} --episodes 0": "--episodes: wanted at least 1",
        f"plot {sphere} --y coverge": "has no column 'coverge'",
        f"plot {sphere} --compare --out {tmp_path}/x.png": "Name it 'x.md'",
        "plot": "wanted at least one run folder",
        "replay": "",
        f"replay {sphere} --generation 1": "wanted --generation G and --member I, or --cell C alone",
        "fly": "",
    }


def test_a_mistake_is_one_message_and_exit_2(sphere, arm, tmp_path, capsys):
    wrong = []
    for command, wanted in mistakes(sphere, arm, tmp_path).items():
        status, said = main(command.split()), capsys.readouterr().err
        sentence = said.count("\n") == 1 if wanted else "Traceback" not in said
        if status != 2 or wanted not in said or not sentence:
            wrong.append((command, status, said))
    assert not wrong
    assert not (tmp_path / "x").exists()


def test_an_empty_archive_has_no_picture(tmp_path, capsys):
    (tmp_path / "lost.py").write_text(
        "import jax.numpy as jnp, evo\ninit = lambda key: jnp.zeros(2)\n"
        "def lost(params, key): return evo.Evaluation(params.sum(), jnp.full(2, jnp.nan))\n"
    )
    task = f"{{kind: custom, fitness: '{tmp_path}/lost.py:lost'}}"
    out = str(tmp_path / "run")
    assert main([*ARM, "--task", task, "--out", out]) == 0
    told = capsys.readouterr().out
    assert "in no cell      64 of the last generation" in told
    assert "empty, so the solution is the initial parameters" in told
    assert main(["archive", out]) == 2
    assert "is empty" in capsys.readouterr().err


def test_misfits_are_told_at_the_end_of_a_run():
    def told(unfiled, outside, elites):
        columns = {
            "unfiled": [0, unfiled],
            "out_of_bounds": [9, outside],
            "elites": [1, elites],
            "evaluations": [8, 16],
        }
        return [name for name, _ in misfits({name: np.array(x, float) for name, x in columns.items()})]

    assert told(0, 4, 1) == []
    assert told(1, 5, 0) == ["in no cell", "out of bounds", "archive"]
    assert list(misfits({"evaluations": np.array([8.0])})) == []


def test_a_failed_run_is_exit_1(tmp_path, capsys):
    (tmp_path / "bad.py").write_text(
        "import jax.numpy as jnp\ninit = lambda key: jnp.ones(2)\nnan = lambda p, k: jnp.nan\n"
    )
    command = ["run", "sphere", "--task", f"{{kind: custom, fitness: '{tmp_path}/bad.py:nan'}}"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 1
    assert "no member of generation 0 had a finite fitness" in capsys.readouterr().err


def test_a_users_own_error_keeps_its_traceback(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "init = lambda key: {'w': 1.0}\ndef mine(params, key): raise ValueError('my own bug')\n"
    )
    command = ["run", "sphere", "--task", f"{{kind: custom, fitness: '{tmp_path}/mine.py:mine'}}"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "my own bug" in said


def test_a_stopped_run_goes_on_to_the_same_end(sphere, tmp_path, monkeypatch, capsys):
    @contextlib.contextmanager
    def killed(*how):
        yield lambda row: signal.raise_signal(signal.SIGTERM) if row["generation"] == 2 else None

    command = [*SPHERE, "--generations", "6", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr("evo.progress.watching", killed)
        assert main(command) == 143
    assert evo.open(tmp_path / "run").generations == 3
    assert f"--out {tmp_path}/run --resume" in capsys.readouterr().out.replace("\n", "")
    assert main([*command, "--resume"]) == 0
    ends = [load_file(run / "solution.safetensors")["value"] for run in (sphere, tmp_path / "run")]
    np.testing.assert_array_equal(*ends)


def test_a_finished_run_grows(sphere, tmp_path):
    out = str(tmp_path / "run")
    assert main([*SPHERE, "--generations", "2", "--out", out, "--quiet"]) == 0
    assert main([*SPHERE, "--generations", "6", "--out", out, "--quiet", "--resume"]) == 0
    ends = [load_file(run / "solution.safetensors")["value"] for run in (sphere, tmp_path / "run")]
    np.testing.assert_array_equal(*ends)
    assert evo.open(out).config["generations"] == 6


def test_eval_says_mean_and_interval(sphere, capsys):
    assert main(["eval", str(sphere), "--episodes", "3"]) == 0
    said = capsys.readouterr().out
    run = evo.open(sphere)
    true = float(run.task.evaluate(run.solution(), (), None).fitness)
    assert f"mean {true:.6g}  std 0  95 % interval [{true:.6g}, {true:.6g}]  (3 episodes)" in said


def test_eval_judges_each_elite(arm, capsys):
    assert main(["eval", str(arm), "--episodes", "2"]) == 0
    rows = table(arm / "eval.csv")
    archive = evo.open(arm).archive()
    taken = np.flatnonzero(np.isfinite(archive.fitness))
    assert [int(row["cell"]) for row in rows] == taken.tolist()
    np.testing.assert_allclose([float(row["mean"]) for row in rows], archive.fitness[taken], rtol=1e-5)
    said = capsys.readouterr().out
    assert f"{taken.size} elites, 2 episodes each" in said
    lines = {line.split("│")[1].strip(): line.split("│")[2:4] for line in said.splitlines() if line.count("│") == 4}
    score = f"{float((archive.fitness[taken] + 0.5).sum()):.6g}"
    assert [cell.strip() for cell in lines["QD score"]] == [score, score]  # without noise nothing is luck
    assert float(lines["distance to descriptor"][1]) < 1e-5
    assert (arm / "archive-corrected.png").stat().st_size > 10_000


def test_replay_rebuilds_and_writes(sphere, tmp_path, capsys):
    out = tmp_path / "member.safetensors"
    assert main(["replay", str(sphere), "--generation", "4", "--member", "3", "--out", str(out)]) == 0
    said, run = capsys.readouterr().out, evo.open(sphere)
    member = load_file(out)["value"]
    assert f"{run.fitness(4)[3]:.9g}" in said
    assert re.search(r"parameters +3 in 1 arrays", said)
    np.testing.assert_allclose(run.task.evaluate(member, (), None).fitness, run.fitness(4)[3], rtol=1e-5)


def test_export_writes_the_solution(sphere, tmp_path):
    out = {suffix: tmp_path / f"solution{suffix}" for suffix in (".safetensors", ".npz", ".csv")}
    for path in out.values():
        assert main(["export", str(sphere), str(path)]) == 0
    solution = np.asarray(evo.open(sphere).solution())
    np.testing.assert_array_equal(load_file(out[".safetensors"])["value"], solution)
    np.testing.assert_array_equal(np.load(out[".npz"])["value"], solution)
    rows = table(out[".csv"])
    np.testing.assert_array_equal(np.float32([row["value"] for row in rows]), solution)


def test_export_writes_the_elites(arm, tmp_path):
    assert main(["export", str(arm), str(tmp_path / "elites.csv")]) == 0
    assert main(["export", str(arm), str(tmp_path / "elites.npz")]) == 0
    archive = evo.open(arm).archive()
    taken = np.flatnonzero(np.isfinite(archive.fitness))
    rows = table(tmp_path / "elites.csv")
    np.testing.assert_array_equal(np.float32([row["fitness"] for row in rows]), archive.fitness[taken])
    for name in ("generation", "emitter"):
        assert [int(row[name]) for row in rows] == getattr(archive.record, name)[taken].tolist()
    assert [int(row["parents_1"]) for row in rows] == archive.record.parents[taken, 1].tolist()
    frame = to_pandas(archive)
    assert list(frame) == list(rows[0])
    np.testing.assert_array_equal(frame["descriptor_1"], archive.descriptor[taken, 1])
    np.testing.assert_array_equal(np.load(tmp_path / "elites.npz")["params/value"], archive.rows[taken])
    assert main(["export", str(arm), str(tmp_path / "elites.safetensors")]) == 0
    grid, row = evo.open(arm).strategy.grid, archive.rows[0]
    with pytest.raises(ValueError, match="no parameters to come back with"):
        from_file(grid, tmp_path / "elites.csv", row)
    assert main(["export", str(arm), str(tmp_path / "elites.csv"), "--parameters"]) == 0
    assert main(["export", str(arm), str(tmp_path / "elites.npz"), "--parameters"]) == 2
    for suffix in (".npz", ".safetensors", ".csv"):
        back = from_file(grid, tmp_path / f"elites{suffix}", row, jax.tree.map(lambda x: x[0], archive.record))
        np.testing.assert_array_equal(back.fitness, archive.fitness)
        for name in ("rows", "descriptor", "record"):
            pairs = jax.tree.map(lambda *x: x, *(getattr(a, name) for a in (back, archive)))
            for mine, theirs in jax.tree.leaves(pairs, is_leaf=lambda x: type(x) is tuple):
                np.testing.assert_array_equal(mine[taken], theirs[taken])
    with pytest.raises(ValueError, match="elites come back from"):
        from_file(grid, tmp_path / "elites.txt", row)
    with pytest.raises(ValueError, match="has shape"):
        from_file(grid, tmp_path / "elites.npz", row[:-1])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_elites_in_half_precision_come_back(suffix, tmp_path):
    grid, one = Grid((4,), ((0.0, 1.0),)), {"w": jnp.ones(3, jnp.bfloat16)}
    rows = {"w": jnp.asarray([[1, 2, 3], [4, 5, 6]], jnp.bfloat16)}
    archive, _ = insert(grid, empty(grid, one), jnp.ones(2), jnp.array([[0.1], [0.6]]), rows)
    writer(tmp_path / f"a{suffix}", (suffix,))(tmp_path / f"a{suffix}", arrays(archive))
    back = from_file(grid, tmp_path / f"a{suffix}", one)
    assert back.rows["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(back.rows["w"], archive.rows["w"])


def test_pictures_are_drawn(sphere, arm, tmp_path):
    assert main(["plot", str(sphere), str(arm), "--x", "evaluations", "--out", str(tmp_path / "curves.png")]) == 0
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert (sphere / "curves.png").exists()
    assert main(["archive", str(arm)]) == 0
    assert list(arm.glob("archive*.png"))
    assert list(arm.glob("archive*.html"))
    assert main(["render", str(arm)]) == 0
    assert (arm / "episode.gif").read_bytes()[:3] == b"GIF"
    assert "<html" in (arm / "episode.html").read_text()


def test_metrics_reach_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    out = tmp_path / "run"
    assert main([*SPHERE, "--generations", "1", "--out", str(out), "--quiet", "--log", "tensorboard"]) == 0
    assert list((out / "tensorboard").glob("events*"))
    assert json.loads((out / "metrics.jsonl").read_text())["generation"] == 0


def test_a_missing_logger_names_its_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["run", "sphere", "--out", str(tmp_path / "run"), "--log", "wandb"]) == 2
    assert "pip install 'evo-engine[wandb]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_progress_line_golden():
    said = {"best": 2.0, "mean": 1.25}
    rows = [
        {"generation": g, "seconds": seconds, "evaluations": 8 * g, "steps": 700_000 * g, **said}
        for g, seconds in enumerate((10.0, 11.0, 14.0))
    ]
    assert line(deque(rows), 23) == "generation 3/23  best 2  mean 1.25  350k env-steps/s  0:40 left"
    assert line(deque(rows[:1]), 23) == "generation 1/23  best 2  mean 1.25"
    assert (clock(3725), short(3.5e6), short(12)) == ("1:02:05", "3.5M", "12")


def test_runs_that_differ_only_in_the_seed_share_a_label():
    told = [("a/hop-s0", 0, "es"), ("a/hop-s1", 1, "es"), ("b/hop-s0", 0, "ga")]
    runs = [
        SimpleNamespace(path=Path(path), config={"task": "hop", "strategy": kind, "seed": seed, "chunk": seed})
        for path, seed, kind in told
    ]
    assert labels(runs) == ["hop", "hop", "b/hop-s0"]


def test_the_interval_holds_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(3.0, 2.0, (4000, 8))
    held = np.mean([low <= 3.0 <= high for _, _, low, high, _ in map(estimate, draws)])
    assert abs(held - 0.95) < 5 * (0.95 * 0.05 / 4000) ** 0.5
    assert estimate(np.array([1.0, np.nan, np.inf])).invalid == 2


def test_pictures_pages_and_tables_of_runs(sphere, arm, tmp_path, capsys):
    """What `evo plot`, `evo render` and `evo archive` write, each as it is named."""
    assert main(["plot", str(sphere), "--diagnostics", "--out", str(tmp_path / "a.html")]) == 0
    assert '"update_norm"' not in (tmp_path / "a.html").read_text()  # in words
    assert "length of the update" in (tmp_path / "a.html").read_text()
    assert main(["plot", str(sphere), str(arm), "--compare", "--out", str(tmp_path / "a.md")]) == 0
    assert (tmp_path / "a.md").read_text().splitlines()[0].split()[1:6] == ["run", "|", "seeds", "|", "evaluations"]
    assert main(["render", str(arm), "--grid", "2x3", "--out", str(tmp_path / "grid.gif")]) == 0
    assert main(["render", str(arm), "--generation", "1", "--member", "3", "--out", str(tmp_path / "one.html")]) == 0
    assert main(["render", str(arm), "--episodes", "2", "--out", str(tmp_path / "two.html")]) == 0
    assert (tmp_path / "two.html").read_text().count('"shapes"') == 2
    assert main(["archive", str(arm), str(arm), "--replays", "1", "--out", str(tmp_path)]) == 0
    assert {"difference.png", "archive.html", "grid.gif"} <= {path.name for path in tmp_path.iterdir()}


def test_small_curves_in_a_terminal():
    """A bar a value, of the whole range; more values than bars are averaged."""
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 20) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 0, 7, 7], 2) == "▁█"
    assert sparkline([3, 3, 3], 9) == "▁▁▁"
    screen = Console(width=80, force_terminal=True, color_system=None, file=io.StringIO())
    with watching(screen, 10, curves=True) as watch:
        for g in range(3):  # at once, as a fused block hands them over: their own seconds count
            watch({"generation": g, "seconds": 2.0 * g, "best": float(g), "mean": 0.5, "evaluations": 10 * g})
    said = screen.file.getvalue()
    assert "generation 3/10  5 evaluations/s  0:14 left" in said
    assert "▁▅█" in said
