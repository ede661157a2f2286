"""Learning curves as one HTML page: zoom, read values, choose what they go along. Drawn by uPlot, which is inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evo.view import embed
from evo.view.curves import COLORS, X_LABELS, Y_LABELS, Columns, counted, seeds
from evo.view.statistics import SAID, Statistic

LINES = {"fitness": ("mean", "best", "eval_mean")}  # what a panel draws of each group, where it isn't its own column
DASHES: dict[str, list[int]] = {"best": [7, 4], "eval_mean": [2, 3]}
NAMES = {"mean": "mean", "best": "best", "eval_mean": "fresh luck"}
MOST = 1000  # points of a line


def page(groups: Mapping[str, Sequence[Columns]], panels: Sequence[str], x: str, statistic: Statistic) -> str:
    """The page as text."""
    members = [run for runs in groups.values() for run in runs]
    ways = [x, *(way for way in X_LABELS if way != x and all(np.any(run.get(way, 0)) for run in members))]
    content: dict[str, Any] = {
        "title": " and ".join(groups),
        "said": _said(groups, panels[0], x, statistic),
        "x": x,
        "ways": [[way, X_LABELS.get(way, way.replace("_", " "))] for way in ways],
        "panels": [
            {"name": Y_LABELS.get(panel, panel.replace("_", " ")), "lines": _lines(groups, panel, ways, statistic)}
            for panel in panels
        ],
    }
    return embed.template("curves.html", "Learning curves: " + content["title"], content)


def _said(groups: Mapping[str, Sequence[Columns]], panel: str, x: str, statistic: Statistic) -> str:
    """What lines of several seeds are, and of how many."""
    counts = [f"{label} of {counted(runs, x, panel)}" for label, runs in groups.items() if len(runs) > 1]
    return f"{SAID[statistic]} over seeds: {', '.join(counts)}" if counts else ""


def _lines(groups: Mapping[str, Sequence[Columns]], panel: str, ways: list[str], statistic: Statistic) -> list[Any]:
    lines = []
    for i, (label, runs) in enumerate(groups.items()):
        for name in LINES.get(panel, (panel,)):
            data = {way: _points(runs, way, name, statistic) for way in ways}
            if any(points for points in data.values()):
                said = label if name == panel else f"{label}: {NAMES[name]}"
                color, dash = COLORS[i % len(COLORS)], DASHES.get(name)
                lines.append({"label": said, "color": color, "dash": dash, "data": data, "band": name != "best"})
    return lines


def _points(runs: Sequence[Columns], x: str, y: str, statistic: Statistic) -> list[list[float]] | None:
    """x, middle, and low and high where there are several seeds; thinned."""
    at, (low, middle, high) = seeds(runs, x, y, statistic)
    if not len(at):
        return None
    kept = np.unique(np.linspace(0, len(at) - 1, min(len(at), MOST)).astype(int))
    scale = 100.0 if y == "coverage" else 1.0
    band = [scale * low[kept], scale * high[kept]] if len(runs) > 1 else []
    return [[float(f"{v:.7g}") for v in column] for column in (at[kept], scale * middle[kept], *band)]
