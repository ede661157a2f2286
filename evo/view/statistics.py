"""What several seeds say: the interquartile mean and its bootstrap interval, by rliable (Agarwal et al. 2021).

Axes: `n` runs, `g` points of a curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

Statistic = Literal["median", "iqm"]
SAID = {"median": "median and quartiles", "iqm": "interquartile mean and 95 % interval"}
REPEATS = 2000  # of the bootstrap
RESULTS = ("eval_mean", "mean", "best", "coverage", "qd_score", "corrected_qd_score")  # columns of a table


def interval(scores: Float[np.ndarray, "n g"]) -> Float[np.ndarray, "3 g"]:
    """Low end, interquartile mean and high end: the mean of the middle half of the runs, with a 95 % percentile
    bootstrap over runs. Raises ValueError where rliable isn't installed."""
    try:
        from rliable import library
    except ImportError:
        raise ValueError("The interquartile mean needs rliable: `pip install 'evo-engine[view]'`.") from None
    from scipy.stats import trim_mean

    before = np.random.get_state()  # noqa: NPY002 (rliable draws from numpy's global generator)
    np.random.seed(0)  # noqa: NPY002 (so that a picture drawn twice is the same)
    try:
        middle, ends = library.get_interval_estimates({"": scores}, lambda x: trim_mean(x, 0.25, axis=0), reps=REPEATS)
    finally:
        np.random.set_state(before)  # noqa: NPY002
    return np.stack([ends[""][0], middle[""], ends[""][1]])


def table(groups: Mapping[str, Sequence[Mapping[str, np.ndarray]]], statistic: Statistic = "median") -> str:
    """What each group of runs ended with, as a Markdown table: the middle of the seeds [low, high], per column."""
    names = [name for name in RESULTS if any(_ends(runs, name).size for runs in groups.values())]
    count = [name for name in ("evaluations", "steps", "seconds") if any(_ends(r, name).any() for r in groups.values())]
    lines = [["run", "seeds", *count, *names]]
    for label, runs in groups.items():
        spent = [_spent(_ends(runs, name), name) for name in count]
        shown = label.replace("|", r"\|")
        lines.append([shown, str(len(runs)), *spent, *(_said(_ends(runs, name), statistic) for name in names)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * (w - 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)]
    rows = [lines[0], rule, *lines[1:]]
    text = "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows)
    uneven = any(np.ptp(_ends(runs, "evaluations")) for runs in groups.values() if _ends(runs, "evaluations").size)
    note = " Seeds that ended after different evaluations stand in one row." if uneven else ""
    return f"{text}\n\nWhat runs ended with: {SAID[statistic]} over seeds.{note}\n"


def _ends(runs: Sequence[Mapping[str, np.ndarray]], name: str) -> Float[np.ndarray, "n"]:
    """The last finite value of a column in every run that has one."""
    finite = [np.asarray(run[name], float)[np.isfinite(run[name])] for run in runs if name in run]
    return np.array([x[-1] for x in finite if x.size]) + 0.0  # no -0


def _spent(ends: Float[np.ndarray, "n"], name: str) -> str:
    """What seeds cost: from the least to the most, of seconds (which differ always) the median."""
    if not ends.size:
        return ""
    low, high = (np.median(ends),) * 2 if name == "seconds" else (ends.min(), ends.max())
    return f"{low:,.0f} to {high:,.0f}" if low < high else f"{high:,.0f}"


def _said(ends: Float[np.ndarray, "n"], statistic: Statistic) -> str:
    if not ends.size:
        return ""
    if ends.size == 1:
        return f"{ends[0]:.5g}"
    low, middle, high = interval(ends[:, None])[:, 0] if statistic == "iqm" else np.quantile(ends, [0.25, 0.5, 0.75])
    return f"{middle:.5g} [{low:.5g}, {high:.5g}]"
