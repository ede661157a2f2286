"""`evo run --watch`: small curves of a run in the terminal, for those who are logged in from afar."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from evo.progress import Watch

BARS = "▁▂▃▄▅▆▇█"
CURVES = ("best", "mean", "eval_mean", "coverage", "qd_score", "corrected_qd_score")  # those that a run has


@contextmanager
def live(console: Console, generations: int, recent: deque[tuple[float, dict[str, Any]]]) -> Iterator[Watch]:
    """A watcher that draws in place: a line of progress, and a curve of the whole run for each of `CURVES`."""
    past: list[dict[str, Any]] = []
    drawn = lambda: view(past, recent, generations, console.width) if past else Text("compiling")  # noqa: E731
    with Live(get_renderable=drawn, console=console, refresh_per_second=4):  # drawn four times a second, not more

        def show(row: dict[str, Any]):
            recent.append((time.monotonic(), row))
            past.append({name: row.get(name) for name in CURVES})

        yield show


def view(
    past: Sequence[dict[str, Any]], recent: deque[tuple[float, dict[str, Any]]], generations: int, width: int
) -> Group:
    """What the terminal shows: where the run stands, and its curves."""
    from evo.progress import line

    drawn = []
    for name in CURVES:
        values = [row[name] for row in past if row[name] is not None and math.isfinite(row[name])]
        if values:
            curve, last = sparkline(values, max(width - 36, 10)), f"{values[-1]:.5g}"
            drawn.append(Text.assemble((f"{name.replace('_', ' '):>18} ", "dim"), (curve, "cyan"), f"  {last}"))
    said = [part for part in line(recent, generations).split("  ") if not part.startswith(("best ", "mean "))]
    return Group(Text("  ".join(said)), *drawn)


def sparkline(values: Sequence[float], width: int) -> str:
    """A curve as a line of bars at most `width` wide, each the mean of its share of the values; flat if they are."""
    count = min(len(values), width)
    edges = [i * len(values) // count for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    if high <= low:
        return BARS[0] * count
    return "".join(BARS[min(int((x - low) / (high - low) * len(BARS)), len(BARS) - 1)] for x in means)
