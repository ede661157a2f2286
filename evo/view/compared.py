"""Archives another way: what two of them differ in, and all descriptors of one at once. Axes: `c` cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evo.view.archive import (
    INK,
    ArchiveData,
    check_alike,
    checked,
    edges,
    folding,
    limits,
    occupied,
    panel,
    plain,
    sheet,
)
from evo.view.target import PICTURES, save, target
from evo.view.ticks import color_bar, numbered

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIFFERENCE = ("#2166ac", "#eef0f2", "#d95f02")  # from less fit to fitter
ALONE = ("#8d949c", "#a678c8")  # only the first has it, only the second: no colours of a difference
LINES = 2000  # elites that parallel axes show: the fittest, and others spread evenly over fitness


def difference_map(
    data: ArchiveData,
    other: ArchiveData,
    path: str | Path | None = None,
    ax: Axes | None = None,
    names: tuple[str, str] = ("the first", "the second"),
):
    """Draw the fitness of `other` minus that of `data`, cell by cell: orange where `other` is fitter, blue where not.

    Cells that only one of them fills are grey (`data`) or violet. `names` are what the picture calls the two. Into
    `path` (PNG, SVG, PDF), or into `ax`. Raises ValueError unless both have the same cells.
    """
    data, other = checked(data), checked(other)
    check_alike(data, other)
    if path is not None:
        figure, axes = sheet(1, 1, (6.4, 5.4))
        difference_map(data, other, ax=axes[0], names=names)
        save(figure, target(path, PICTURES))
    if ax is not None:
        _difference(ax, data, other, [plain(name) for name in names])


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
    color_bar(lines, ax, data.fitness[order], fraction=0.04, pad=0.02).solids.set_alpha(1)


def _difference(ax: Axes, data: ArchiveData, other: ArchiveData, names: list[str]):
    from matplotlib.colors import LinearSegmentedColormap, ListedColormap
    from matplotlib.patches import Patch

    here, there = occupied(data), occupied(other)
    gap = np.where(here & there, np.where(there, other.fitness, 0) - np.where(here, data.fitness, 0), -np.inf)
    axes = (0, 1) if len(data.bounds) > 1 else (0,)
    alone = list(zip(ALONE, (here & ~there, there & ~here), names, strict=True))
    scale = LinearSegmentedColormap.from_list("", DIFFERENCE)
    most = float(np.abs(gap[here & there]).max(initial=0))
    if len(axes) == 1:
        _profile(ax, data, np.where(here & there, gap, 0), [scale(0.0 if g < 0 else 1.0) for g in gap], alone)
    else:
        for hue, where, _ in alone:
            if where.any():
                only = data._replace(fitness=np.where(where, 0.0, -np.inf))
                panel(ax, only, axes, bar=False).set_cmap(ListedColormap([hue]))
        if (here & there).any():
            drawn = panel(ax, data._replace(fitness=gap), axes, bar=False)
            drawn.set(cmap=scale, clim=(-(most or 1), most or 1))
            color_bar(drawn, ax, np.array([-most, most]), "difference of fitness", fraction=0.046, pad=0.02)
    said = f"fitter in {(gap > 0).sum():,} cells, less fit in {(np.isfinite(gap) & (gap < 0)).sum():,}"
    title = [f"{names[1]} minus {names[0]}: {said}", folding(data, [axes])]
    ax.set_title("\n".join(filter(None, title)), fontsize=10, color=INK, wrap=True)
    handles = [Patch(color=hue, label=f"only in {name} ({where.sum():,})") for hue, where, name in alone]
    wide = 2 if len("".join(names)) < 60 else 1
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=wide, frameon=False, fontsize=8.5)


def _profile(ax: Axes, data: ArchiveData, gap: np.ndarray, hues: list, alone: list):
    """Over one descriptor: the difference as a bar, and over the whole height the cells that one alone fills."""
    left, right = edges(data)
    ax.bar(left, gap, right - left, align="edge", color=hues)
    for hue, where, _ in alone:
        ax.bar(left[where], 1, (right - left)[where], align="edge", color=hue, transform=ax.get_xaxis_transform())
    ax.axhline(0, color=INK, lw=0.9)
    ax.set(xlim=data.bounds[0], xlabel=plain(data.names[0]), ylabel="difference of fitness")
    numbered(ax.yaxis, *ax.get_ylim())
