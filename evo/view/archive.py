"""Maps of an archive: where elites are and how fit. Plain numpy in, matplotlib or a PNG out.

Axes: `c` cells, `d` descriptor, `n` elites.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from evo.arrivals import Rows
from evo.view.target import PICTURES, save, target
from evo.view.ticks import color_bar, numbered
from evo.view.voronoi import voronoi

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EMPTY, INK = "#e4e8ed", "#26303e"
MOST = 4  # descriptors of which a picture shows every pair


class ArchiveData(NamedTuple):
    """An archive to look at. A cell is empty where its fitness is -inf or NaN; its other values mean nothing there."""

    fitness: Float[np.ndarray, "c"]
    descriptor: Float[np.ndarray, "c d"]
    shape: tuple[int, ...] | None  # of a grid, cells numbered row-major, the last descriptor fastest; None: centroids
    bounds: tuple[tuple[float, float], ...]
    names: tuple[str, ...] = ()  # of the descriptors; (): "descriptor 1", ...
    centroids: Float[np.ndarray, "c d"] | None = None
    columns: Mapping[str, np.ndarray] | None = None  # more to say of each cell, [c]: numbers, or strings
    offset: float = 0.0  # the QD score is the sum of fitness - offset
    past: Rows | None = None  # who moved in when: evo/arrivals.py
    depth: int = 1  # how many elites a cell has in the past: its own are depth * cell and those that follow


def checked(data: ArchiveData) -> ArchiveData:
    """The archive with float arrays, a name for each descriptor, and -inf in each empty cell.

    Raises ValueError when its parts disagree, or when there is no elite in it.
    """
    fitness = np.asarray(data.fitness, float)
    fitness = np.where(np.isfinite(fitness), fitness, -np.inf)
    cells, d = len(fitness), len(data.bounds)
    wanted = np.prod(data.shape) if data.shape is not None else len(places(data))
    if cells != wanted or np.shape(data.descriptor) != (cells, d) or (data.shape is not None and len(data.shape) != d):
        raise ValueError(
            f"An archive of {int(wanted)} cells and {d} bounds has fitness [{int(wanted)}] and descriptors "
            f"[{int(wanted)}, {d}]; got {np.shape(data.fitness)} and {np.shape(data.descriptor)}."
        )
    low, high = np.asarray(data.bounds, float).T
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise ValueError(f"Bounds are finite and go from low to high, e.g. (0, 1); got {data.bounds}.")
    for name, column in (data.columns or {}).items():
        if np.shape(column) != (cells,):
            raise ValueError(f"The column {name!r} has one value a cell, [{cells}]; got {np.shape(column)}.")
    if np.isneginf(fitness).all():
        raise ValueError("The archive is empty: no member has entered a cell yet, so there is nothing to draw.")
    names = tuple(data.names) or tuple(f"descriptor {i + 1}" for i in range(d))
    if len(names) != d:
        raise ValueError(f"An archive has a name for each of its {d} descriptors; got {names}.")
    descriptor = np.asarray(data.descriptor, float)
    return data._replace(fitness=fitness, descriptor=descriptor, names=names)


def check_alike(data: ArchiveData, other: ArchiveData):
    """Raise ValueError unless the two archives have the same cells, so that they compare cell by cell."""
    if data.shape != other.shape or data.bounds != other.bounds:
        raise ValueError(
            "Two archives compare where they have the same cells; the first has "
            f"{_said(data)}, the second {_said(other)}."
        )
    if data.shape is None and (
        data.centroids is None or not np.array_equal(data.centroids, np.asarray(other.centroids))
    ):
        raise ValueError("Two archives compare where they have the same cells; the places of these differ.")


def _said(data: ArchiveData) -> str:
    """What cells an archive has, in words."""
    count = f"{len(data.fitness):,}"
    if data.shape is not None:
        kind = f"a grid of {' x '.join(map(str, data.shape))} ({count} cells)"
    else:
        kind = f"an unstructured archive of {count} elites" if data.centroids is None else f"a CVT of {count} cells"
    return f"{kind} over {', '.join(f'{a:g} to {b:g}' for a, b in data.bounds)}"


def occupied(data: ArchiveData) -> Bool[np.ndarray, "c"]:
    """Which cells have an elite."""
    return np.isfinite(np.asarray(data.fitness, float))


def places(data: ArchiveData) -> Float[np.ndarray, "c d"]:
    """The centroids of an archive that is no grid; where its elites were seen, if it has none of those either."""
    return np.asarray(data.descriptor if data.centroids is None else data.centroids, float)


def archive_map(data: ArchiveData, path: str | Path | None = None, ax: Axes | None = None):
    """Draw the fitness of every cell (viridis; empty cells pale), with coverage, QD score and best above.

    A 2-D grid or CVT is drawn as it is, a 1-D archive as a profile. Of more dimensions every pair of the first four is
    a panel, and a place shows the best elite over the others. Into `path` (PNG, SVG, PDF), or into `ax`, which takes
    one panel: the first two descriptors. Raises ValueError for an empty archive.
    """
    data = checked(data)
    pairs: list[tuple[int, ...]] = [*combinations(range(min(len(data.bounds), MOST)), 2)] or [(0,)]
    if ax is not None:
        panel(ax, data, pairs[0], bar=True)
        ax.set_title(_note(data, pairs[:1]), fontsize=9, color=INK)
    if path is not None:
        _save(data, target(path, PICTURES), pairs)


def pair(reported: ArchiveData, corrected: ArchiveData, path: str | Path) -> Path:
    """Draw an archive as it reports itself, and corrected by what its elites showed later, on one scale of fitness.

    The first two descriptors, or the profile of one. Raises ValueError where either is empty.
    """
    both = [checked(reported), checked(corrected)]
    axes = (0, 1) if len(both[0].bounds) > 1 else (0,)
    figure, both_axes = sheet(1, 2, (11.0, 4.9))
    for ax, data, name in zip(both_axes, both, ("reported", "corrected"), strict=True):
        drawn = panel(ax, data, axes, bar=False)
        ax.set_title(f"{name}\n{summary(data)}", fontsize=9.5, color=INK)
        if len(axes) == 2:
            drawn.set_clim(*limits(*both))
    if len(axes) == 2:
        color_bar(drawn, list(both_axes), elite_fitness(*both), fraction=0.03, pad=0.015)
    if said := folding(both[0], [axes]):
        figure.suptitle(said, fontsize=9.5, color=INK)
    save(figure, path := target(path, PICTURES))
    return path


def histogram(data: ArchiveData, path: str | Path | None = None, ax: Axes | None = None):
    """Draw how many elites have which fitness, and (orange, right axis) the share of them up to it."""
    data = checked(data)
    if path is not None:
        figure, axes = sheet(1, 1, (6.4, 4.0))
        histogram(data, ax=axes[0])
        save(figure, target(path, PICTURES))
    if ax is None:
        return
    from matplotlib.ticker import MaxNLocator

    fitness = np.sort(data.fitness[occupied(data)])
    ax.hist(fitness, bins=min(60, max(10, len(fitness) // 20)), color="#3b6ea5", edgecolor="white", linewidth=0.4)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    numbered(ax.xaxis, *ax.get_xlim())
    share, (left, right) = ax.twinx(), ax.get_xlim()
    steps = 100 * np.array([0, *range(len(fitness) + 1), len(fitness)]) / len(fitness)
    share.step([left, fitness[0], *fitness, right], steps, color="#d55e00", lw=1.6, where="post")
    ax.set_xlim(left, right)
    share.set(ylim=(0, 102), ylabel="elites up to this fitness (%)")
    share.spines[["top"]].set_visible(False)
    ax.spines[["top"]].set_visible(False)
    ax.set(xlabel="fitness", ylabel="elites")
    ax.set_title(summary(data), fontsize=10, color=INK)


def summary(data: ArchiveData) -> str:
    """One line: coverage, QD score and the best fitness."""
    fitness = np.asarray(data.fitness, float)
    fit = fitness[np.isfinite(fitness)]
    score = (fit - data.offset).sum()
    share = 100 * len(fit) / len(fitness)
    if not len(fit):
        return f"coverage 0.0 % (0 of {len(fitness):,})"
    best = fit.max() + 0.0  # no -0
    return f"coverage {share:.1f} % ({len(fit):,} of {len(fitness):,})  ·  QD score {score:,.6g}  ·  best {best:.6g}"


def folded(data: ArchiveData, axes: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """A grid's fitness over some of its axes, in that order: the best over the others."""
    grid = np.asarray(data.fitness, float).reshape(data.shape)
    others = tuple(i for i in range(grid.ndim) if i not in axes)
    kept = [i for i in range(grid.ndim) if i in axes]
    return np.transpose(grid.max(others), [kept.index(i) for i in axes])


def _save(data: ArchiveData, path: Path, pairs: list[tuple[int, ...]]):
    columns = min(len(pairs), 3)
    rows = -(-len(pairs) // columns)
    size = (6.4, 5.4) if len(pairs) == 1 else (4.0 * columns + 0.8, 3.6 * rows + 0.6)
    figure, axes = sheet(rows, columns, size)
    low, high = limits(data)
    for ax, pair in zip(axes, pairs, strict=False):
        drawn = panel(ax, data, pair, bar=len(pairs) == 1 and len(pair) == 2)
    if len(pairs) > 1:
        drawn.set_clim(low, high)
        color_bar(drawn, list(axes), elite_fitness(data), fraction=0.03, pad=0.015)
    figure.suptitle(_note(data, pairs), fontsize=10.5, color=INK)
    save(figure, path)


def sheet(rows: int, columns: int, size: tuple[float, float], dpi: int = 140) -> tuple[Figure, np.ndarray]:
    """An empty figure of this size (inches) and its axes in a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False).ravel()


def _note(data: ArchiveData, pairs: list[tuple[int, ...]]) -> str:
    return "\n".join(filter(None, [summary(data), folding(data, pairs)]))


def folding(data: ArchiveData, pairs: Sequence[tuple[int, ...]]) -> str:
    """What maps of these pairs do with the other descriptors, in words; "" where there are no others."""
    d = len(data.bounds)
    if d <= 2:
        return ""
    which = f"pairs of the first {MOST} of {d} descriptors" if d > MOST else "each pair of descriptors"
    which = f"the first 2 of {d} descriptors" if len(pairs) == 1 else which
    return f"{which}: {'best over the others' if data.shape is not None else 'a dot an elite, the fittest on top'}"


def tiled(data: ArchiveData) -> bool:
    """Whether its cells are drawn as Voronoi polygons: a CVT of two descriptors."""
    return data.shape is None and len(data.bounds) == 2 and data.centroids is not None


def elite_fitness(*archives: ArchiveData) -> Float[np.ndarray, "n"]:
    """The fitness of all elites."""
    return np.concatenate([data.fitness[occupied(data)] for data in archives])


def limits(*archives: ArchiveData) -> tuple[float, float]:
    """The lowest and highest fitness of their elites; where these are equal, as far below as above."""
    fit = elite_fitness(*archives)
    low, high = float(fit.min()), float(fit.max())
    half = 0.0 if low < high else max(abs(high), 1) / 2
    return low - half, high + half


def panel(ax: Axes, data: ArchiveData, axes: tuple[int, ...], bar: bool):
    """One map into an axes; what was drawn, for a colour bar."""
    ax.set_facecolor(EMPTY)
    ax.set_xlabel(plain(data.names[axes[0]]))
    if len(axes) == 1:
        return _profile(ax, data)
    drawn = _grid(ax, data, axes) if data.shape is not None else _cells(ax, data, axes)
    drawn.set_cmap("viridis")
    drawn.set_clim(*limits(data))
    ax.set(xlim=data.bounds[axes[0]], ylim=data.bounds[axes[1]], ylabel=plain(data.names[axes[1]]))
    ax.tick_params(colors="#5b6775", labelsize=9)
    for spine in ax.spines.values():
        spine.set_color("#c3ccd6")
    if bar:
        color_bar(drawn, ax, elite_fitness(data), fraction=0.046, pad=0.02)
    return drawn


def plain(name: str) -> str:
    """A name as matplotlib shows it, with no formula in it."""
    return str(name).replace("$", r"\$")


def _grid(ax: Axes, data: ArchiveData, axes: tuple[int, ...]):
    shown = folded(data, axes).T
    (x0, x1), (y0, y1) = data.bounds[axes[0]], data.bounds[axes[1]]
    masked = np.ma.masked_invalid(shown)
    return ax.imshow(masked, origin="lower", extent=(x0, x1, y0, y1), aspect="auto", interpolation="nearest")


def _cells(ax: Axes, data: ArchiveData, axes: tuple[int, ...]):
    """CVT: Voronoi polygons in two dimensions; above, or without centroids, each elite as a dot where it was seen, the
    fittest on top."""
    from matplotlib.collections import PolyCollection

    taken = occupied(data)
    if tiled(data):
        corners, counts = voronoi(places(data), data.bounds)
        polygons = np.split(corners, np.cumsum(counts)[:-1])
        kept = [polygon for polygon, there in zip(polygons, taken, strict=True) if there]
        drawn = PolyCollection(kept, array=data.fitness[taken], edgecolors="face", linewidths=0.2)
        return ax.add_collection(drawn)
    order = np.flatnonzero(taken)[np.argsort(data.fitness[taken])]
    place = data.descriptor[order][:, axes]
    return ax.scatter(place[:, 0], place[:, 1], c=data.fitness[order], s=max(9, 6000 / len(order) ** 0.9), lw=0)


def edges(data: ArchiveData) -> tuple[Float[np.ndarray, "c"], Float[np.ndarray, "c"]]:
    """Where each cell of one descriptor begins and ends."""
    low, high = data.bounds[0]
    if data.shape is not None:
        cut = np.linspace(low, high, data.shape[0] + 1)
        return cut[:-1], cut[1:]
    order = np.argsort(places(data)[:, 0])
    middle = places(data)[order, 0]
    cut = np.concatenate([[low], (middle[1:] + middle[:-1]) / 2, [high]])
    place = np.argsort(order)
    return cut[:-1][place], cut[1:][place]


def _profile(ax: Axes, data: ArchiveData):
    """One descriptor: fitness over it, a bar a cell."""
    from matplotlib import colormaps

    taken, (left, right) = occupied(data), edges(data)
    bottom, top = limits(data)
    base = 0.0 if bottom >= 0 else bottom - 0.05 * (top - bottom)
    fit = data.fitness[taken]
    shade = colormaps["viridis"]((fit - bottom) / (top - bottom))
    bars = ax.bar(left[taken], fit - base, (right - left)[taken], base, align="edge", color=shade)
    ax.set(xlim=data.bounds[0], ylabel="fitness")
    numbered(ax.yaxis, *ax.get_ylim())
    return bars
