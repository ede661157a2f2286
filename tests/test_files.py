"""Files: whole or not at all, and a full disk is an error that names the path (/dev/full is one)."""

import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from evo import files
from evo.arrivals import Arrivals, Moves
from evo.checkpoint import Checkpoints
from evo.commands.rebuild import write_csv, write_npz
from evo.folder import Folder
from evo.records import Records
from evo.view.target import save

FULL = Path("/dev/full")
NUMBERS = {"w": np.arange(3.0)}
MOVE = Moves(*(jnp.zeros(s, jnp.int32) for s in (1, 1)), jnp.zeros(1), jnp.zeros((1, 0), jnp.int32), jnp.zeros((1, 2)))
WRITERS = {  # what is written, and how
    "metrics.jsonl": lambda path: Folder(path).log({"best": 1.0}),
    "w.bin": lambda path: Records(path).append(0, NUMBERS),
    "index.json": lambda path: Records(path).append(0, NUMBERS),
    "arrivals.bin": lambda path: Arrivals(path).append(0, MOVE),
    "config.yaml": lambda path: Folder(path).configure("seed: 1"),
    "solution.safetensors": lambda path: Folder(path).save("solution", NUMBERS),
    "out.npz": lambda path: write_npz(path / "out.npz", NUMBERS),
    "out.csv": lambda path: write_csv(path / "out.csv", NUMBERS),
    "out.png": lambda path: save(Figure(), path / "out.png"),
}


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_breaks_no_file(name, tmp_path):
    file, part = tmp_path / name, tmp_path / f"part.{name}"
    WRITERS[name](tmp_path)
    before = file.read_bytes()
    assert before
    assert not part.exists()
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    appended = name in ("metrics.jsonl", "w.bin", "arrivals.bin")
    (file if appended else part).symlink_to(FULL)
    if not appended:
        file.write_bytes(before) if name != "index.json" else None
    with pytest.raises(OSError, match="No space left") as error:
        WRITERS[name](tmp_path)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(file))
    assert appended or name == "index.json" or file.read_bytes() == before
    assert not part.is_symlink()


def test_a_checkpoint_for_which_there_is_no_room_is_not_begun(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=60_000))
    with pytest.raises(OSError, match="No space left") as error:
        checkpoints.save(0, NUMBERS)
    assert error.value.filename == str(tmp_path / "checkpoints")
    assert checkpoints.generations() == []
    monkeypatch.undo()
    checkpoints.save(0, NUMBERS)
    checkpoints.finish()
    assert checkpoints.generations() == [0]
    checkpoints.close()


def test_a_checkpoint_whose_digest_differs_is_damaged(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, NUMBERS)
    checkpoints.finish()
    np.testing.assert_array_equal(checkpoints.load(0)["w"], NUMBERS["w"])
    [file] = [file for file in (tmp_path / "0" / "check").rglob("*") if b'"digest"' in file.read_bytes()]
    digest = json.loads(file.read_text())["digest"]
    file.write_text(json.dumps({"digest": digest[::-1]}))
    with pytest.raises(ValueError, match="0 is damaged: its digest differs"):
        checkpoints.load(0)
    checkpoints.close()


def test_what_was_there_stays_until_the_new_is_whole(tmp_path, monkeypatch):
    def killed(self, target):
        raise KeyboardInterrupt

    files.write(tmp_path / "out", "old")
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "out", "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("out", "old")]


def test_cut_forgets_who_was_lost_then_too_golden(tmp_path):
    folder = Folder(tmp_path)
    for generation in range(3):
        folder.log({"generation": generation})
        folder.log({"generation": generation, "member": 4}, "lost.jsonl")
    for left in (2, 0):
        folder.cut(left)
        assert [row["generation"] for row in folder.rows()] == list(range(left))
        assert [row["generation"] for row in folder.rows("lost.jsonl")] == list(range(left))


def test_errors_that_name_a_file_keep_it(tmp_path):
    with pytest.raises(FileNotFoundError) as error, files.whole(tmp_path / "out"):
        (tmp_path / "other").read_bytes()
    assert error.value.filename == str(tmp_path / "other")
    files.write(tmp_path / "new" / "out", "text")
    with pytest.raises(FileExistsError) as error:  # where a folder is wanted
        files.write(tmp_path / "new" / "out" / "in", "text")
    assert error.value.filename == str(tmp_path / "new" / "out")
