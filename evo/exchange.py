"""Archives from the files of `evo export`, and to and from pyribs (flat rows) and QDax, which nothing here needs.

Rows, fitness and descriptors survive, bit for bit, and in our own files the records. The thresholds of an archive that
anneals stay behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evo.archive import Archive, Cells, Grid, empty, insert
from evo.checkpoint import flatten, unflatten
from evo.cvt import CVT


def arrays(archive: Archive) -> dict[str, np.ndarray]:
    """The elites as arrays with a row each: `cell`, `fitness`, `descriptor`, `record/...` (when each came, who made it
    of whom) and `params/...`."""
    taken = np.flatnonzero(np.isfinite(np.asarray(archive.fitness)))
    kept: dict[str, Any] = {"fitness": archive.fitness, "descriptor": archive.descriptor}
    kept |= {f"record/{path}": x for path, x in flatten(archive.record).items()}
    kept |= {f"params/{path}": x for path, x in flatten(archive.rows).items()}
    return {"cell": taken} | {name: np.asarray(x)[taken] for name, x in kept.items()}


def columns(elites: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A table of `arrays` without the parameters: `cell`, `fitness`, `descriptor_0`, ..., `generation`, ..."""
    table: dict[str, np.ndarray] = {}
    for name, x in elites.items():
        if not name.startswith("params/"):
            name = name.removeprefix("record/")
            table |= {name: x} if x.ndim == 1 else {f"{name}_{i}": x[:, i] for i in range(x.shape[1])}
    return table


def to_pandas(archive: Archive) -> Any:
    """The elites as a pandas DataFrame, without their parameters; as the CSV of `evo export`."""
    try:
        import pandas
    except ImportError:
        raise ValueError("A DataFrame needs pandas: `pip install 'evo-engine[view]'`.") from None
    return pandas.DataFrame(columns(arrays(archive)))


def to_pyribs(cells: Cells, archive: Archive) -> Any:
    """A pyribs `GridArchive` or `CVTArchive` with the same cells and elites; float32."""
    from ribs.archives import CVTArchive, GridArchive

    taken = np.isfinite(np.asarray(archive.fitness))
    rows = _flat(archive)
    common: dict[str, Any] = {"solution_dim": rows.shape[1], "ranges": cells.bounds, "dtype": np.float32}
    common["qd_score_offset"] = cells.offset
    if cells.learning_rate is not None:
        common |= {"learning_rate": cells.learning_rate, "threshold_min": cells.threshold_min}
    made: Any
    if isinstance(cells, Grid):
        made = GridArchive(dims=cells.shape, **common)
    elif isinstance(cells, CVT):
        made = CVTArchive(centroids=cells.centroids, **common)
    else:
        raise ValueError(f"pyribs has archives like a Grid or a CVT; got {type(cells).__name__}.")
    if taken.any():
        made.add(rows[taken], np.asarray(archive.fitness)[taken], np.asarray(archive.descriptor)[taken])
    return made


def from_pyribs(cells: Cells, theirs: Any) -> Archive:
    """The elites of a pyribs archive, filed in these cells; the best where two meet."""
    data = theirs.data()
    rows = jnp.asarray(data["solution"], jnp.float32)
    return _filed(cells, data["objective"], data["measures"], rows, jnp.zeros(rows.shape[1]))


def to_qdax(cells: Cells, archive: Archive) -> Any:
    """A QDax `MapElitesRepertoire` over the same cells, whose centroids are a grid's middles in its own order."""
    from qdax.core.containers.mapelites_repertoire import MapElitesRepertoire

    centroids = cells.centroids if isinstance(cells, CVT) else middles(cells)
    return MapElitesRepertoire(
        genotypes=archive.rows, fitnesses=archive.fitness[:, None], descriptors=archive.descriptor,
        centroids=jnp.asarray(centroids), extra_scores={}, keys_extra_scores=(),
    )  # fmt: skip


def from_qdax(cells: Cells, theirs: Any) -> Archive:
    """The elites of a QDax repertoire, filed in these cells; the best where two meet."""
    rows = theirs.genotypes
    return _filed(cells, theirs.fitnesses[:, 0], theirs.descriptors, rows, jax.tree.map(lambda x: x[0], rows))


def from_file(cells: Cells, path: Path, like: Any, record: Any = None) -> Archive:
    """The elites of an .npz or .safetensors that `evo export` wrote, filed in these cells; the best where two meet.

    `like` is one elite's row: the parameters, or whatever the archive holds; `record` one elite's record, where those
    are to come back too. A CSV has no parameters to come back with.
    """
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        found = load_file(path)
    elif path.suffix == ".npz":
        with np.load(path) as file:
            found = dict(file)
    else:
        raise ValueError(f"{path}: elites come back from an .npz or a .safetensors, as `evo export` writes them.")
    if lacking := [name for name in ("fitness", "descriptor") if name not in found]:
        raise ValueError(f"{path} has no {lacking[0]!r}: wanted the elites of an archive, as `evo export` writes them.")
    rows, records = (_named(found, prefix, one) for prefix, one in (("params/", like), ("record/", record)))
    return _filed(cells, found["fitness"], found["descriptor"], rows, like, records, record)


def _named(found: dict[str, np.ndarray], prefix: str, like: Any) -> Any:
    """The arrays under this prefix, as a pytree of rows like this."""
    count, one = len(found["fitness"]), jax.eval_shape(lambda: like)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), one)
    return unflatten({name.removeprefix(prefix): x for name, x in found.items() if name.startswith(prefix)}, shapes)


def middles(grid: Any) -> np.ndarray:
    """The middle of every cell of a grid, in the order of its cells."""
    low, high = np.asarray(grid.bounds, np.float32).T
    place = np.indices(grid.shape).reshape(len(grid.shape), -1).T + 0.5
    return (low + (high - low) * place / np.asarray(grid.shape)).astype(np.float32)


def _flat(archive: Archive) -> np.ndarray:
    if not hasattr(archive.rows, "ndim") or archive.rows.ndim != 2:
        raise ValueError("pyribs' archives hold flat rows, an array [cells, parameters]; ravel yours first.")
    return np.asarray(archive.rows)


def _filed(cells: Cells, fitness, descriptor, rows: Any, like: Any, records: Any = None, record: Any = None) -> Archive:
    nobody = empty(cells, like, record)
    if not len(fitness):
        return nobody
    return insert(
        cells, nobody, jnp.asarray(fitness, jnp.float32), jnp.asarray(descriptor, jnp.float32), rows, records
    )[0]
