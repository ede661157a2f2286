"""Archives from the files of `evo export`; archives of flat rows to and from pyribs and QDax, which nothing here needs.

Rows, fitness and descriptors survive. Records and the thresholds of an archive that anneals stay behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from evo.archive import Archive, Cells, Grid, empty, insert
from evo.checkpoint import unflatten
from evo.cvt import CVT


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
    return _flat_filed(cells, data["objective"], data["measures"], data["solution"])


def to_qdax(cells: Cells, archive: Archive) -> Any:
    """A QDax `MapElitesRepertoire` over the same cells, whose centroids are a grid's middles in its own order."""
    from qdax.core.containers.mapelites_repertoire import MapElitesRepertoire

    centroids = cells.centroids if isinstance(cells, CVT) else middles(cells)
    fitness = jnp.asarray(archive.fitness)[:, None]
    rows = jnp.asarray(_flat(archive))
    return MapElitesRepertoire(
        genotypes=rows, fitnesses=fitness, descriptors=archive.descriptor, centroids=jnp.asarray(centroids),
        extra_scores={}, keys_extra_scores=(),
    )  # fmt: skip


def from_qdax(cells: Cells, theirs: Any) -> Archive:
    """The elites of a QDax repertoire of flat genotypes, filed in these cells; the best where two meet."""
    return _flat_filed(cells, np.asarray(theirs.fitnesses)[:, 0], theirs.descriptors, theirs.genotypes)


def from_file(cells: Cells, path: Path, like: Any) -> Archive:
    """The elites of an .npz or .safetensors that `evo export` wrote, filed in these cells; the best where two meet.

    `like` is one elite's row: the parameters, or whatever the archive holds. A CSV has no parameters to come back with.
    """
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        arrays = load_file(path)
    elif path.suffix == ".npz":
        with np.load(path) as file:
            arrays = dict(file)
    else:
        raise ValueError(f"{path}: elites come back from an .npz or a .safetensors, as `evo export` writes them.")
    if lacking := [name for name in ("fitness", "descriptor") if name not in arrays]:
        raise ValueError(f"{path} has no {lacking[0]!r}: wanted the elites of an archive, as `evo export` writes them.")
    count = len(arrays["fitness"])
    named = {name.removeprefix("params/"): x for name, x in arrays.items() if name.startswith("params/")}
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), jax.eval_shape(lambda: like))
    return _filed(cells, arrays["fitness"], arrays["descriptor"], unflatten(named, shapes), like)


def middles(grid: Any) -> np.ndarray:
    """The middle of every cell of a grid, in the order of its cells."""
    low, high = np.asarray(grid.bounds, np.float32).T
    place = np.indices(grid.shape).reshape(len(grid.shape), -1).T + 0.5
    return (low + (high - low) * place / np.asarray(grid.shape)).astype(np.float32)


def _flat(archive: Archive) -> np.ndarray:
    if not hasattr(archive.rows, "ndim") or archive.rows.ndim != 2:
        raise ValueError("pyribs and QDax archives hold flat rows, an array [cells, parameters]; ravel yours first.")
    return np.asarray(archive.rows)


def _flat_filed(cells: Cells, fitness: Any, descriptor: Any, rows: Any) -> Archive:
    rows = jnp.asarray(rows, jnp.float32)
    return _filed(cells, fitness, descriptor, rows, jnp.zeros(rows.shape[1]))


def _filed(cells: Cells, fitness: Any, descriptor: Any, rows: Any, like: Any) -> Archive:
    nobody = empty(cells, like)
    if not len(fitness):
        return nobody
    return insert(cells, nobody, jnp.asarray(fitness, jnp.float32), jnp.asarray(descriptor, jnp.float32), rows)[0]
