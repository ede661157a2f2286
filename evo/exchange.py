"""Archives from the files of `evo export`, and to and from pyribs (flat rows) and QDax, which nothing here needs.

Rows, fitness, descriptors, records and the thresholds of an archive that anneals survive, bit for bit. (QDax knows no
thresholds: those stay behind.)
"""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evo.archive import Archive, Cells, Grid, empty, insert
from evo.checkpoint import flatten, unflatten
from evo.cvt import CVT


def arrays(archive: Archive, depth: int = 1) -> dict[str, np.ndarray]:
    """The elites as arrays with a row each: `cell`, `fitness`, `descriptor`, `record/...` (when each came, who made it
    of whom), `params/...`, and `threshold` where the archive anneals; of `depth` elites a cell also their `place` in
    it."""
    taken = np.flatnonzero(np.isfinite(np.asarray(archive.fitness)))
    kept: dict[str, Any] = {"fitness": archive.fitness, "descriptor": archive.descriptor}
    kept |= {f"record/{path}": x for path, x in flatten(archive.record).items()}
    kept |= {f"params/{path}": x for path, x in flatten(archive.rows).items()}
    kept |= {} if archive.threshold is None else {"threshold": archive.threshold}
    place = {"place": taken % depth} if depth > 1 else {}
    return {"cell": taken // depth} | place | {name: np.asarray(x)[taken] for name, x in kept.items()}


def columns(elites: dict[str, np.ndarray], parameters: bool = False) -> dict[str, np.ndarray]:
    """A table of `arrays`: `cell`, `fitness`, `descriptor_0`, ..., `generation`, ...; with `parameters` also
    `params/w_0`, ..., a column a number."""
    table: dict[str, np.ndarray] = {}
    for name, x in elites.items():
        if parameters or not name.startswith("params/"):
            table |= {column: x.reshape(len(x), -1)[:, i] for i, column in enumerate(_named_columns(name, x.shape[1:]))}
    return table


def to_pandas(archive: Archive, parameters: bool = False) -> Any:
    """The elites as a pandas DataFrame; as the CSV of `evo export`, with or without their parameters."""
    try:
        import pandas
    except ImportError:
        raise ValueError("A DataFrame needs pandas: `pip install 'evo-engine[view]'`.") from None
    return pandas.DataFrame(columns(arrays(archive), parameters))


def to_pyribs(cells: Cells, archive: Archive) -> Any:
    """A pyribs `GridArchive` or `CVTArchive` with the same cells and elites; float32. Records are its extra fields."""
    from ribs.archives import CVTArchive, GridArchive

    taken = np.isfinite(np.asarray(archive.fitness))
    rows = _flat(archive)
    common: dict[str, Any] = {"solution_dim": rows.shape[1], "ranges": cells.bounds, "dtype": np.float32}
    common["qd_score_offset"] = cells.offset
    if cells.learning_rate is not None:
        common |= {"learning_rate": cells.learning_rate, "threshold_min": cells.threshold_min}
    told = arrays(archive)
    records = {_field(name): x for name, x in told.items() if name.startswith("record/")}
    common["extra_fields"] = {name: (x.shape[1:], x.dtype) for name, x in records.items()}
    made: Any
    if isinstance(cells, Grid):
        made = GridArchive(dims=cells.shape, **common)
    elif isinstance(cells, CVT):
        made = CVTArchive(centroids=cells.centroids, **common)
    else:
        raise ValueError(f"pyribs has archives like a Grid or a CVT; got {type(cells).__name__}.")
    if taken.any():
        made.add(rows[taken], told["fitness"], told["descriptor"], **records)
        if archive.threshold is not None:  # `add` made its own; pyribs has no public way to set them
            made._store.add(made.index_of(told["descriptor"]), _stored(made, told))
    return made


def from_pyribs(cells: Cells, theirs: Any, record: Any = None) -> Archive:
    """The elites of a pyribs archive, filed in these cells; the best where two meet. `record` is one elite's record,
    where those that `to_pyribs` took along are to come back."""
    data = theirs.data()
    rows = jnp.asarray(data["solution"], jnp.float32)
    told = {**data, "fitness": data["objective"], "descriptor": data["measures"]}
    names = {f"record/{path}" for path in flatten(record)}
    told |= {name: data[_field(name)] for name in names if _field(name) in data}
    return _filed(cells, told, rows, jnp.zeros(rows.shape[1]), record)


def to_qdax(cells: Cells, archive: Archive) -> Any:
    """A QDax `MapElitesRepertoire` over the same cells, whose centroids are a grid's middles in its own order. Records
    are its extra scores."""
    from qdax.core.containers.mapelites_repertoire import MapElitesRepertoire

    centroids = cells.centroids if isinstance(cells, CVT) else middles(cells)
    records = {f"record/{path}": jnp.asarray(x) for path, x in flatten(archive.record).items()}
    return MapElitesRepertoire(
        genotypes=archive.rows, fitnesses=archive.fitness[:, None], descriptors=archive.descriptor,
        centroids=jnp.asarray(centroids), extra_scores=records, keys_extra_scores=tuple(records),
    )  # fmt: skip


def from_qdax(cells: Cells, theirs: Any, record: Any = None) -> Archive:
    """The elites of a QDax repertoire, filed in these cells; the best where two meet. `record` as in `from_pyribs`."""
    rows = theirs.genotypes
    told = {**theirs.extra_scores, "fitness": theirs.fitnesses[:, 0], "descriptor": theirs.descriptors}
    return _filed(cells, told, rows, jax.tree.map(lambda x: x[0], rows), record)


def from_file(cells: Cells, path: Path, like: Any, record: Any = None) -> Archive:
    """The elites of an .npz, .safetensors or .csv that `evo export` wrote, filed in these cells.

    Where two meet, the best stays. `like` is one elite's row: the parameters, or whatever the archive holds; `record`
    one elite's record, where those are to come back too. Raises where the file lacks something of these: a CSV has
    parameters only if it was written with `--parameters`.
    """
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        found = load_file(path)
    elif path.suffix == ".npz":
        own = {f"params/{name}": x.dtype for name, x in flatten(like).items()}
        with np.load(path) as file:  # which knows no bfloat16, but keeps its bytes
            found = {name: x.view(own.get(name, x.dtype)) if x.dtype.kind == "V" else x for name, x in file.items()}
    elif path.suffix == ".csv":
        found = _table(path, len(cells.bounds), like, record)
    else:
        raise ValueError(f"{path}: elites come back from an .npz, .safetensors or .csv, as `evo export` writes them.")
    if lacking := [name for name in ("fitness", "descriptor") if name not in found]:
        raise ValueError(f"{path} has no {lacking[0]!r}: wanted the elites of an archive, as `evo export` writes them.")
    if not any(name.startswith("params/") for name in found):
        raise ValueError(f"{path} has no parameters to come back with; write it with `evo export --parameters`.")
    return _filed(cells, found, _named(found, "params/", like), like, record)


def _named(found: dict[str, np.ndarray], prefix: str, like: Any) -> Any:
    """The arrays under this prefix, as a pytree of rows like this."""
    shapes = _rows_like(like, len(found["fitness"]))
    return unflatten({name.removeprefix(prefix): x for name, x in found.items() if name.startswith(prefix)}, shapes)


def _rows_like(like: Any, count: int) -> Any:
    one = jax.eval_shape(lambda: like)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), one)


def _named_columns(name: str, shape: tuple[int, ...]) -> list[str]:
    """The columns of a table that hold an array of so many numbers an elite."""
    name = name.removeprefix("record/")
    return [f"{name}_{i}" for i in range(math.prod(shape))] if shape else [name]


def _table(path: Path, descriptors: int, like: Any, record: Any) -> dict[str, np.ndarray]:
    """What `columns` made a table of, as far as it is there. Numbers of 32 bits survive their way through text."""
    with path.open(newline="") as file:
        head, *lines = csv.reader(file)
    told = {name: [line[i] for line in lines] for i, name in enumerate(head)}
    wanted: dict[str, tuple[int, ...]] = {"fitness": (), "threshold": (), "descriptor": (descriptors,)}
    for prefix, one in (("params/", like), ("record/", record)):
        wanted |= {prefix + name: x.shape for name, x in flatten(one).items()}
    found = {name: (_named_columns(name, shape), shape) for name, shape in wanted.items()}
    return {
        name: np.array([told[column] for column in names], float).T.reshape(len(lines), *shape)
        for name, (names, shape) in found.items()
        if told.keys() >= set(names)
    }


def middles(grid: Any) -> np.ndarray:
    """The middle of every cell of a grid, in the order of its cells."""
    low, high = np.asarray(grid.bounds, np.float32).T
    place = np.indices(grid.shape).reshape(len(grid.shape), -1).T + 0.5
    return (low + (high - low) * place / np.asarray(grid.shape)).astype(np.float32)


def _flat(archive: Archive) -> np.ndarray:
    if not hasattr(archive.rows, "ndim") or archive.rows.ndim != 2:
        raise ValueError("pyribs' archives hold flat rows, an array [cells, parameters]; ravel yours first.")
    return np.asarray(archive.rows)


def _field(name: str) -> str:
    """The name as pyribs allows it."""
    return re.sub(r"\W", "_", name)


def _stored(theirs: Any, told: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a pyribs archive holds of the elites, in our order, with our thresholds."""
    held = theirs.retrieve(told["descriptor"])[1]
    return {name: x for name, x in held.items() if name != "index"} | {"threshold": told["threshold"]}


def _filed(cells: Cells, told: Any, rows: Any, like: Any, record: Any = None) -> Archive:
    """An archive of the elites of these `fitness`, `descriptor`, `record/...` and `threshold`."""
    nobody = empty(cells, like, record)
    if not len(told["fitness"]):
        return nobody
    fitness, descriptor = (jnp.asarray(told[name], jnp.float32) for name in ("fitness", "descriptor"))
    archive, inserted = insert(cells, nobody, fitness, descriptor, rows, _named(told, "record/", record))
    if archive.threshold is None or "threshold" not in told:
        return archive
    cell = jnp.where(inserted.accepted, inserted.cell, cells.cells)
    bars = jnp.asarray(told["threshold"], jnp.float32)
    return archive._replace(threshold=archive.threshold.at[cell].set(bars, mode="drop"))
