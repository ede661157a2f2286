"""The command on a genetic algorithm's run: chains out and back, and the map of where everyone ended up."""

import numpy as np
import pytest
from safetensors.numpy import load_file

import evo
from evo.cli import main
from evo.encoding import decode
from evo.envs.maze import WALLS

CONFIG = """
task: {kind: maze, steps: 5, policy: {kind: mlp, hidden: [2]}}
strategy: {kind: novelty_ga, population: 9, parents: 3, sigma: 0.5, k: 3, horizon: 8, capacity: 8}
generations: 4
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A run of chains, and its folder."""
    folder = tmp_path_factory.mktemp("chains")
    (folder / "maze.yaml").write_text(CONFIG)
    assert main(["run", str(folder / "maze.yaml"), "--quiet", "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_an_individual_goes_out_as_its_chain_and_comes_back(found, tmp_path, capsys):
    out, parent = tmp_path / "a.chain", evo.open(found).strategy_state().lineage
    assert main(["export", str(found), str(out), "--encoding"]) == 0
    links = int(parent.chains.length[0])
    dense = sum(row[0].nbytes for row in map(np.asarray, parent.rows["layers"]["0"].values()))
    dense += sum(row[0].nbytes for row in map(np.asarray, parent.rows["layers"]["1"].values()))
    said = capsys.readouterr().out
    assert f"{links} mutations, {32 + 12 * links} bytes" in said
    assert f"compression {dense / (32 + 12 * links):,.1f} : 1 (its parameters take {dense:,} bytes)" in said
    assert main(["replay", str(found), "--encoding", str(out), "--out", str(tmp_path / "a.npz")]) == 0
    back = np.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(back["layers/0/kernel"], parent.rows["layers"]["0"]["kernel"][0])

    short = tmp_path / "b.chain"
    assert main(["export", str(found), str(short), "--encoding", "--rebase", "1"]) == 0
    assert int(decode(short.read_bytes()).chain.length) == 1
    assert main(["replay", str(found), "--encoding", str(short), "--out", str(tmp_path / "b.safetensors")]) == 0
    for path, x in load_file(tmp_path / "b.safetensors").items():
        np.testing.assert_array_equal(x, back[path])
    for file in (tmp_path / "b.start.safetensors", tmp_path / "b.safetensors", found / "solution.safetensors"):
        assert file.stat().st_mode == short.stat().st_mode  # whoever may read the chain may read these
    (tmp_path / "b.start.safetensors").unlink()
    capsys.readouterr()
    assert main(["replay", str(found), "--encoding", str(short)]) == 2
    assert "its start is missing" in capsys.readouterr().err


def test_the_map_of_all_final_positions(found, tmp_path, capsys):
    assert main(["plot", str(found), "--descriptors", "--out", str(tmp_path / "map.svg")]) == 0
    drawn = (tmp_path / "map.svg").read_text()
    for word in ("x", "y", "start", "goal", "1 run, 40 members"):  # letters are shapes: it stands beside them
        assert f"<!-- {word} -->" in drawn
    walls = drawn.split('id="LineCollection_1"')[1].split("</g>")[0]
    assert walls.count("<path") == len(WALLS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("export RUN a.bin --encoding", "wanted a file that ends in .chain"),
        ("export RUN a.chain --encoding --rebase 99", "links to keep; got 99"),
        ("export RUN a.npz --rebase 2", "give --encoding with it"),
        ("replay RUN --encoding RUN/config.yaml", "aren't an encoded chain"),
        ("replay RUN --encoding a.chain --cell 3", "or --encoding FILE alone"),
    ],
)
def test_mistakes_are_told(found, words, said, capsys):
    assert main(words.replace("RUN", str(found)).split()) == 2
    assert said in capsys.readouterr().err
