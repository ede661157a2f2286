"""Where everyone of a run ended up: descriptors of all members on the task's map, as a picture.

Axes: `g` generations, `n` members, `d` descriptors, `w` walls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from evo.view.curves import STYLE
from evo.view.target import PICTURES, save, target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = {"start": ("o", "#0072b2"), "goal": ("*", "#d55e00")}


class Map(NamedTuple):
    """What descriptors are drawn on: names and bounds of both, walls, and places by name."""

    names: Sequence[str]
    bounds: Sequence[tuple[float, float]]
    walls: Float[np.ndarray, "w 2 2"] | None = None
    places: Mapping[str, tuple[float, float]] = {}


def places(runs: Sequence[tuple[str, Float[np.ndarray, "g n d"]]], map: Map, path: str | Path):
    """Draw the first two descriptors of every member, a panel for each label, dark late and light early.

    `runs` are (label, descriptors); those of one label share its panel. Descriptors that aren't finite are left out;
    ones out of bounds are drawn at the edge. Raises where a run describes its members by fewer than two numbers.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    path = target(path, PICTURES)
    groups: dict[str, list[np.ndarray]] = {}
    for label, found in runs:
        if found.ndim != 3 or found.shape[-1] < 2:
            raise ValueError(f"A map needs two descriptors; the run {label!r} has records of shape {found.shape}.")
        groups.setdefault(label, []).append(found[..., :2])
    wide = min(len(groups), 4)
    rows = -(-len(groups) // wide)
    across, up = np.ptp(np.asarray(map.bounds[:2], float), axis=1)
    with rc_context({**STYLE, "axes.grid": False}):
        size = (3.3 * wide + 0.9, rows * (min(max(3.3 * up / across, 2.0), 5.0) + 0.6))
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        grid = figure.subplots(rows, wide, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, (label, members) in zip(grid, groups.items(), strict=False):
            dots = _panel(axes, members, map)
            total = sum(x.shape[0] * x.shape[1] for x in members)
            axes.set_title(f"{label}\n{_runs(len(members))}, {total:,} members".replace("$", r"\$"))
        for axes in grid[len(groups) :]:
            axes.set_axis_off()
        bar = figure.colorbar(dots, ax=list(grid[: len(groups)]), shrink=0.6, pad=0.01)
        bar.set_label("share of the run", color="#26303e")
        save(figure, path)


def _panel(axes: Axes, members: list[np.ndarray], map: Map):
    """One strategy's members, early ones below."""
    from matplotlib.collections import LineCollection

    points = np.concatenate([x.reshape(-1, 2) for x in members])
    when = np.concatenate([np.repeat(np.linspace(0, 1, len(x)), x.shape[1]) for x in members])
    kept = np.isfinite(points).all(1)
    order = np.argsort(when[kept], kind="stable")
    low, high = np.asarray(map.bounds[:2], float).T
    points = np.clip(points[kept][order], low, high)
    colors = when[kept][order]
    dots = axes.scatter(
        points[:, 0], points[:, 1], c=colors, cmap="viridis_r", s=1.6, lw=0, vmin=0, vmax=1, rasterized=True
    )
    if map.walls is not None:
        axes.add_collection(LineCollection(list(map.walls), colors="#26303e", lw=1.8, capstyle="round"))
    for name, place in map.places.items():
        marker, color = MARKS.get(name, ("s", "#5b6775"))
        size = 130 if marker == "*" else 60
        axes.scatter(place[0], place[1], marker=marker, s=size, color=color, ec="white", lw=0.8, zorder=4)
        box: dict[str, Any] = {"fc": "white", "ec": "none", "alpha": 0.85, "pad": 0.6}
        text = axes.annotate(name, place, (0, -9), textcoords="offset points", fontsize=8, color=color, bbox=box)
        text.set(ha="center", va="top", zorder=5)
    pad = 0.02 * (high - low)
    axes.set(xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))
    scaled = map.walls is not None or alike(map)
    axes.set(xlabel=map.names[0], ylabel=map.names[1], aspect="equal" if scaled else "auto")
    return dots


def alike(map: Map) -> bool:
    """Whether both descriptors are drawn to one scale: they span about the same, or name the same unit, "x (m)"."""
    across, up = np.ptp(np.asarray(map.bounds[:2], float), axis=1)
    first, second = (re.search(r"\([^()]+\)$", name) for name in map.names[:2])
    same = bool(first and second and first[0] == second[0])
    return max(across / up, up / across) <= (4 if same else 1.1)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
