"""Archives another way: what two of them differ in, and all descriptors of one at once. Axes: `c` cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evo.view.archive import INK, ArchiveData, check_alike, checked, limits, occupied, panel, plain, sheet
from evo.view.target import PICTURES, save, target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = 2000  # elites that parallel axes show: the fittest, and others spread evenly over fitness


def difference_map(data: ArchiveData, other: ArchiveData, path: str | Path | None = None, ax: Axes | None = None):
    """Draw the fitness of `other` minus that of `data`, cell by cell: orange where `other` is fitter, blue where not.

    Cells that only one of them fills have a pale shade of its colour. Into `path` (PNG, SVG, PDF), or into `ax`. Raises
    ValueError unless both have the same cells, and for more than two descriptors that are no grid.
    """
    data, other = checked(data), checked(other)
    check_alike(data, other)
    if path is not None:
        figure, axes = sheet(1, 1, (6.4, 5.4))
        difference_map(data, other, ax=axes[0])
        save(figure, target(path, PICTURES))
    if ax is not None:
        _difference(ax, data, other)


def parallel(data: ArchiveData, path: str | Path | None = None, ax: Axes | None = None):
    """Draw every elite as a line over all its descriptors, each along its own bounds; the fittest on top (viridis)."""
    data = checked(data)
    if path is not None:
        figure, axes = sheet(1, 1, (max(6.4, 1.5 * len(data.bounds)), 4.6))
        parallel(data, ax=axes[0])
        save(figure, target(path, PICTURES))
    if ax is None:
        return
    from matplotlib.collections import LineCollection

    order = np.flatnonzero(occupied(data))
    order = order[np.argsort(data.fitness[order])]
    order = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), LINES)).astype(int))]
    low, high = np.asarray(data.bounds, float).T
    share = np.clip((data.descriptor[order] - low) / (high - low), 0, 1)
    across = np.broadcast_to(np.arange(len(low)), share.shape)
    lines = LineCollection(list(np.stack([across, share], -1)), array=data.fitness[order], lw=0.7, alpha=0.55)
    lines.set(cmap="viridis", clim=limits(data))
    ax.add_collection(lines)
    for i, (a, b) in enumerate(data.bounds):
        ax.axvline(i, color=INK, lw=0.9)
        ax.text(i, -0.025, f"{a:g}", ha="center", va="top", fontsize=8, color=INK)
        ax.text(i, 1.02, f"{b:g}", ha="center", va="bottom", fontsize=8, color=INK)
    ax.set(xlim=(-0.1, len(low) - 0.9), ylim=(-0.02, 1.02), yticks=[])
    ax.set_xticks(range(len(low)), [plain(name) for name in data.names], fontsize=9)
    ax.tick_params(axis="x", pad=14, length=0)
    ax.spines[:].set_visible(False)
    bar: Any = ax.figure.colorbar(lines, ax=ax, label="fitness", fraction=0.04, pad=0.02)
    bar.solids.set_alpha(1)


def _difference(ax: Axes, data: ArchiveData, other: ArchiveData):
    from matplotlib.colors import LinearSegmentedColormap, ListedColormap
    from matplotlib.patches import Patch

    here, there = occupied(data), occupied(other)
    gap = np.where(here & there, np.where(there, other.fitness, 0) - np.where(here, data.fitness, 0), -np.inf)
    axes = (0, 1) if len(data.bounds) > 1 else (0,)
    alone = {"#9bbcdc": here & ~there, "#f2bd8f": there & ~here}
    for hue, where in alone.items():
        if where.any() and len(axes) == 2:
            panel(ax, data._replace(fitness=np.where(where, 0.0, -np.inf)), axes, bar=False).set_cmap(
                ListedColormap([hue])
            )
    if (here & there).any():
        most = float(np.abs(gap[here & there]).max()) or 1.0
        drawn = panel(ax, data._replace(fitness=gap), axes, bar=False)
        if len(axes) == 2:
            drawn.set(cmap=LinearSegmentedColormap.from_list("", ["#2166ac", "#eef0f2", "#d95f02"]), clim=(-most, most))
            ax.figure.colorbar(drawn, ax=ax, label="difference of fitness", fraction=0.046, pad=0.02)
    counts = [int((gap > 0).sum()), int((np.isfinite(gap) & (gap < 0)).sum())]
    ax.set_title(f"fitter in {counts[0]:,} cells, less fit in {counts[1]:,}", fontsize=10, color=INK)
    labels = ("only in the first", "only in the second")
    handles = [
        Patch(color=hue, label=f"{text} ({where.sum():,})")
        for (hue, where), text in zip(alone.items(), labels, strict=True)
    ]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False, fontsize=8.5)
