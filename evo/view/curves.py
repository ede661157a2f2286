"""Learning curves of one run or many, as a picture. Axes: `g` rows of a run's metrics."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from evo.files import write
from evo.view.statistics import SAID, Statistic, interval
from evo.view.target import PICTURES, save, target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Columns = Mapping[str, Float[np.ndarray, "g"]]

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5c4b8a", "#7f7f7f")  # Okabe & Ito
X_LABELS = {
    "generation": "generation",
    "evaluations": "evaluations (members judged)",
    "steps": "environment steps",
    "seconds": "wall-clock time (s)",
}
Y_LABELS = {
    "fitness": "fitness",
    "coverage": "coverage (% of cells)",
    "qd_score": "QD score",
    "descriptor_error": "distance to descriptor",
    "update_norm": "length of the update",
    "half_cosine": "cosine between half-populations",
}
ARCHIVE = ("coverage", "qd_score", "descriptor_error")  # panels of a run that has them
DIAGNOSTICS = ("update_norm", "half_cosine", "sigma")  # of an evolution strategy
POINTS = 120  # of a curve whose interval is bootstrapped
CORRECTED = "corrected_"  # before the name of a column: the same as the later looks at elites see it
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a94a0",
    "axes.labelcolor": "#26303e",
    "axes.titlesize": 10.5,
    "xtick.color": "#5b6775",
    "ytick.color": "#5b6775",
    "axes.grid": True,
    "grid.color": "#e3e8ee",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "evo",
}


def curves(
    runs: Sequence[tuple[str, Columns]],
    path: str | Path,
    x: str = "generation",
    y: str | Sequence[str] | None = None,
    statistic: Statistic = "median",
):
    """Draw runs, each (label, columns), into one PNG, SVG or PDF, or into one HTML page where the file is named so.

    `x` is generation, evaluations, steps or seconds. `y` names columns, a panel each; None: the fitness (best; mean
    with a band of one std; what the solution scored on fresh luck where that was measured), then, where a run has them,
    coverage and QD score (dotted: as later looks see them) and how far elites are from their descriptors. Runs of one
    label are seeds: their median, with the band between the quartiles; or, with `statistic="iqm"`, their interquartile
    mean with its 95 % bootstrap interval (rliable). Values that aren't finite are left out. Raises
    ValueError for a column that a run lacks.
    """
    from matplotlib import rc_context

    path = target(path, (*PICTURES, ".html"))
    panels = chosen(runs, x, y)
    if path.suffix == ".html":
        from evo.view.charts import page

        write(path, page(grouped(runs), panels, x, statistic))
        return
    with rc_context(STYLE):
        figure = _figure(runs, panels, x, statistic)
        save(figure, path)


def curve(runs: Sequence[tuple[str, Columns]], ax: Axes, y: str = "fitness", x: str = "generation", statistic="median"):
    """Draw one panel of `curves`, one column of runs, into an axes."""
    chosen(runs, x, y)
    _drawn(ax, grouped(runs), x, y, statistic)


def chosen(runs: Sequence[tuple[str, Columns]], x: str, y: str | Sequence[str] | None) -> list[str]:
    """The panels. Raises where a run lacks what they need."""
    if not runs:
        raise ValueError("There is no run to draw: give at least one (label, columns).")
    panels = [y] if isinstance(y, str) else list(y) if y is not None else _panels(runs)
    needed = [column for column in panels if column != "fitness"] + (["best", "mean"] if "fitness" in panels else [])
    for label, columns in runs:
        for name in [x, *(needed if y is not None else [n for n in needed if n in ("best", "mean")])]:
            _find(label, columns, name)
    return panels


def grouped(runs: Sequence[tuple[str, Columns]]) -> dict[str, list[Columns]]:
    """Runs by label."""
    groups: dict[str, list[Columns]] = {}
    for label, columns in runs:
        groups.setdefault(label, []).append(columns)
    return groups


def seeds(
    runs: Sequence[Columns], x: str, y: str, statistic: Statistic = "median"
) -> tuple[Float[np.ndarray, "g"], Float[np.ndarray, "3 g"]]:
    """Low, middle and high of a column over the runs that reach there, from where the first begins to where the last
    ends, at every x that one of them has.

    The quartiles (25 %, 50 %, 75 %); with "iqm" the interquartile mean between the ends of its interval. Along seconds,
    which runs spend as the machine has them, seeds meet at the same generation, drawn at their median time.
    """
    if x == "seconds" and len(runs) > 1:
        at, found = seeds(runs, "generation", y, statistic)
        lines = _lines(runs, "generation", x)
        return (np.median([_paced(at, *line) for line in lines], 0) if lines else at), found
    lines = _lines(runs, x, y)
    if len(lines) < 2:
        at, up = lines[0] if lines else np.zeros((2, 0))
        return at, np.stack([up] * 3)
    at = np.unique(np.concatenate([line[0] for line in lines]))
    if statistic == "iqm":
        at = at[np.unique(np.linspace(0, len(at) - 1, min(len(at), POINTS)).astype(int))]
    values = np.array([np.interp(at, *line, left=np.nan, right=np.nan) for line in lines])
    reached, found = np.isfinite(values), np.zeros((3, len(at)))
    for some in np.unique(reached, axis=1).T:  # stretches that the same seeds reach
        here = (reached == some[:, None]).all(0)
        found[:, here] = _middle(values[some][:, here], statistic)
    return at, found


def counted(runs: Sequence[Columns], x: str, y: str) -> str:
    """Of how many runs a curve is: "4", or "2 to 4" where some end before others."""
    ends = _lines(runs, "generation" if x == "seconds" else x, "mean" if y == "fitness" else y)
    at = np.concatenate([line[0] for line in ends]) if ends else np.zeros(0)
    reached = sum(((at >= line[0][0]) & (at <= line[0][-1]) for line in ends), np.zeros(len(at), int))
    least, most = min(reached, default=0), max(reached, default=0)
    return f"{least} to {most}" if least < most else str(most)


def _middle(values: Float[np.ndarray, "n g"], statistic: Statistic) -> Float[np.ndarray, "3 g"]:
    if statistic == "iqm" and len(values) > 1:
        return interval(values)
    return np.quantile(values, [0.25, 0.5, 0.75], axis=0)


def _paced(at: np.ndarray, generation: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """When a run was at these generations; after its end, when it would have been at its pace."""
    pace = (seconds[-1] - seconds[0]) / max(generation[-1] - generation[0], 1)
    return np.interp(at, generation, seconds) + pace * np.maximum(at - generation[-1], 0)


def _panels(runs: Sequence[tuple[str, Columns]]) -> list[str]:
    return ["fitness"] + [name for name in ARCHIVE if any(name in columns for _, columns in runs)]


def _find(label: str, columns: Columns, name: str):
    if name not in columns:
        near = difflib.get_close_matches(name, list(columns), 1, 0.3)
        raise ValueError(
            f"The run {label!r} has no column {name!r}"
            + (f"; the nearest is {near[0]!r}." if near else ".")
            + f" It has: {', '.join(sorted(columns)) or 'none'}."
        )


def _lines(runs: Sequence[Columns], x: str, y: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The runs' lines, of those that have a finite point."""
    lines = [_line(columns, x, y) for columns in runs]
    return [line for line in lines if len(line[0])]


def _line(columns: Columns, x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """The finite points of a column, in the order of x."""
    if y not in columns:
        return np.zeros(0), np.zeros(0)
    across, up = np.asarray(columns[x], float), np.asarray(columns[y], float)
    points = np.stack([across, up])[:, np.isfinite(across) & np.isfinite(up)]
    return tuple(points[:, np.argsort(points[0], kind="stable")])


def _figure(runs: Sequence[tuple[str, Columns]], panels: list[str], x: str, statistic: Statistic) -> Figure:
    from matplotlib.figure import Figure

    groups = grouped(runs)
    wide = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = -(-len(panels) // wide)
    figure = Figure(figsize=(7.2 if wide == 1 else 4.4 * wide, 3.6 * rows + 0.7), dpi=140, layout="constrained")
    grid = figure.subplots(rows, wide, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _drawn(axes, groups, x, panel, statistic)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    _legend(
        figure, groups, "fitness" in panels, statistic, [counted(members, x, panels[0]) for members in groups.values()]
    )
    return figure


def _drawn(axes: Axes, groups: dict[str, list[Columns]], x: str, panel: str, statistic: Statistic):
    for i, members in enumerate(groups.values()):
        color = COLORS[i % len(COLORS)]
        if panel == "fitness":
            _fitness(axes, members, x, color, len(groups) == 1, statistic)
        else:
            _column(axes, members, x, panel, color, statistic)
    _dress(axes, x, panel)


def _fitness(axes: Axes, members: list[Columns], x: str, color: str, alone: bool, statistic: Statistic):
    """Best, mean and what the solution scored; alone in the picture, each has its own colour."""
    best, score = (COLORS[1], COLORS[2]) if alone else (color, color)
    at, mean = seeds(members, x, "mean", statistic)
    axes.plot(at, mean[1], color=color, lw=1.8, zorder=3, **dot(at))
    if len(members) > 1:
        axes.fill_between(at, mean[0], mean[2], color=color, alpha=0.2, lw=0)
    elif "std" in members[0]:
        std = seeds([{x: members[0][x], "std": members[0]["std"]}], x, "std")
        spread = np.interp(at, std[0], std[1][1]) if len(std[0]) else 0 * at
        axes.fill_between(at, mean[1] - spread, mean[1] + spread, color=color, alpha=0.16, lw=0)
    top = seeds(members, x, "best", statistic)
    axes.plot(top[0], top[1][1], color=best, lw=1.2, ls=(0, (4, 1.5)), zorder=2, **dot(top[0]))
    fresh = seeds(members, x, "eval_mean", statistic)
    if len(fresh[0]):
        axes.plot(fresh[0], fresh[1][1], color=score, lw=1.0, marker="o", ms=4, mec="white", mew=0.6, zorder=4)
    _references(axes, members[0])


def dot(at: np.ndarray) -> dict[str, Any]:
    """How a line of one point is seen."""
    return {"marker": "o", "ms": 5} if len(at) == 1 else {}


def _references(axes: Axes, columns: Columns):
    """What simple rules would score, as named levels."""
    for name in [name for name in columns if name.startswith("reference_")]:
        known = np.asarray(columns[name], np.float64)
        for level in known[np.isfinite(known)][-1:]:
            axes.axhline(level, color="#7f7f7f", lw=1.0, ls=(0, (1, 1.5)), zorder=1)
            place = axes.get_yaxis_transform()  # x in shares of the axis, y in fitness
            axes.text(1, level, name.removeprefix("reference_"), transform=place, ha="right", va="bottom", fontsize=8)


def _column(axes: Axes, members: list[Columns], x: str, name: str, color: str, statistic: Statistic):
    at, quartiles = seeds(members, x, name, statistic)
    scale = 100.0 if name == "coverage" else 1.0
    axes.plot(at, scale * quartiles[1], color=color, lw=1.8, **dot(at))
    if len(members) > 1:
        axes.fill_between(at, scale * quartiles[0], scale * quartiles[2], color=color, alpha=0.2, lw=0)
    if any(CORRECTED + name in columns for columns in members):
        at, quartiles = seeds(members, x, CORRECTED + name)
        axes.plot(at, scale * quartiles[1], color=color, lw=1.4, ls=(0, (1, 1.2)), **dot(at))


def _dress(axes: Axes, x: str, panel: str):
    from matplotlib.ticker import EngFormatter, MaxNLocator

    from evo.view.ticks import numbered

    axes.set_xlabel(X_LABELS.get(x, x.replace("_", " ")))
    axes.set_ylabel(Y_LABELS.get(panel, panel.replace("_", " ")))
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=x != "seconds", min_n_ticks=1))
    if x in ("evaluations", "steps"):
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if panel == "coverage":
        axes.set_ylim(0, None)
    numbered(axes.yaxis, *axes.get_ylim())


def _legend(
    figure: Figure, groups: dict[str, list[Columns]], fitness: bool, statistic: Statistic, counts: Sequence[str]
):
    """Under the panels, outside them: what a colour is, and what a line style is; `counts`: of how many seeds."""
    from matplotlib.lines import Line2D

    several, ink = len(groups) > 1, "#5b6775"
    handles = []
    for i, ((label, members), count) in enumerate(zip(groups.items(), counts, strict=True)):
        text = label if len(members) == 1 else f"{label} ({SAID[statistic]} of {count} seeds)"
        if several or not fitness or len(members) > 1:
            handles.append((Line2D([], [], color=COLORS[i % len(COLORS)], lw=2.5), text))
    if fitness:
        fresh = any(np.isfinite(c.get("eval_mean", [np.nan])).any() for m in groups.values() for c in m)
        band = any("std" in members[0] and len(members) == 1 for members in groups.values())
        hues = (ink, ink, ink) if several else COLORS[:3]
        handles.append((Line2D([], [], color=hues[0], lw=1.8), "mean ± std of the population" if band else "mean"))
        handles.append((Line2D([], [], color=hues[1], lw=1.2, ls=(0, (4, 1.5))), "best"))
        if fresh:
            dots = Line2D([], [], color=hues[2], lw=1.0, marker="o", ms=4)
            handles.append((dots, "the solution, on fresh luck"))
    if any(column.startswith(CORRECTED) for members in groups.values() for c in members for column in c):
        dots = Line2D([], [], color=ink, lw=1.4, ls=(0, (1, 1.2)))
        handles.append((dots, "coverage and QD score as later looks see them"))
    if not several and len(groups) == 1:
        figure.suptitle(next(iter(groups)).replace("$", r"\$"), fontsize=11, color="#26303e")
    texts = [text.replace("$", r"\$") for _, text in handles]
    fits = [n for n in range(1, len(texts) + 1) if _width(texts, n) < figure.get_figwidth()]
    figure.legend([h for h, _ in handles], texts, loc="outside lower center", ncols=max(fits, default=1), fontsize=9)


def _width(texts: list[str], columns: int) -> float:
    """About how many inches a legend takes: a column is as wide as its longest text, filled top to bottom."""
    rows = -(-len(texts) // columns)
    return sum(0.075 * max(map(len, texts[i : i + rows])) + 0.7 for i in range(0, len(texts), rows))
