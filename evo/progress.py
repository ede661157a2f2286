"""What a person sees of a run: in a terminal a live line, with curves if asked; elsewhere a plain line now and then."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

WINDOW = 20  # generations that the speed is taken over
PATIENCE = 10.0  # seconds between plain lines
BARS = "▁▂▃▄▅▆▇█"
CURVES = ("best", "mean", "eval_mean", "coverage", "qd_score", "corrected_qd_score")  # those that a run has

Row = dict[str, Any]  # of metrics
Watch = Callable[[Row], None]  # is given each generation's


@contextmanager
def watching(console: Console, generations: int, quiet: bool = False, curves: bool = False) -> Iterator[Watch]:
    """A watcher of a run of `generations`; silent if `quiet`, with small curves in a terminal if `curves`."""
    recent: deque[Row] = deque(maxlen=WINDOW)
    if quiet:
        yield lambda row: None
    elif curves and console.is_terminal:
        past: list[Row] = []
        drawn = lambda: view(past, recent, generations, console.width) if past else Text("compiling")  # noqa: E731
        with Live(get_renderable=drawn, console=console, refresh_per_second=4):  # drawn four times a second, not more

            def draw(row: Row):
                recent.append(row)
                past.append({name: row.get(name) for name in CURVES})

            yield draw
    elif console.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20))
        with Progress(*columns, console=console) as live:
            bar = live.add_task("compiling", total=generations)

            def show(row: Row):
                recent.append(row)
                live.update(bar, completed=row["generation"] + 1, description=line(recent, generations))

            yield show
    else:
        yield _plain(console, generations, recent)


def line(recent: deque[Row], generations: int) -> str:
    """Generation, best, mean, speed and time left, from the last few rows."""
    first, last = recent[0], recent[-1]
    done, seconds = last["generation"] + 1, last["seconds"] - first["seconds"]
    said = f"generation {done}/{generations}  best {last['best']:.6g}  mean {last['mean']:.6g}"
    if seconds > 0:
        per_generation = seconds / (last["generation"] - first["generation"])
        unit, name = ("env-steps", "steps") if last.get("steps") else ("evaluations", "evaluations")
        rate = (last[name] - first[name]) / seconds
        said += f"  {short(rate)} {unit}/s  {clock(per_generation * (generations - done))} left"
    return said


def view(past: Sequence[Row], recent: deque[Row], generations: int, width: int) -> Group:
    """Where the run stands, and a curve of the whole of it for each of `CURVES`."""
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


def short(number: float) -> str:
    """A number to three digits, with k or M: 76.4k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def clock(seconds: float) -> str:
    """Seconds as 1:05 or 2:00:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _plain(console: Console, generations: int, recent: deque) -> Watch:
    said = -PATIENCE

    def show(row: Row):
        nonlocal said
        recent.append(row)
        if time.monotonic() - said >= PATIENCE or row["generation"] + 1 == generations:
            said = time.monotonic()
            console.print(line(recent, generations), soft_wrap=True)

    return show
