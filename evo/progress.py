"""What a person sees of a run: a live line in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

WINDOW = 20  # generations that the speed is taken over
PATIENCE = 10.0  # seconds between plain lines

Watch = Callable[[dict[str, Any]], None]  # is given each generation's row of metrics


@contextmanager
def watching(console: Console, generations: int, quiet: bool = False, curves: bool = False) -> Iterator[Watch]:
    """A watcher of a run of `generations`; silent if `quiet`, with small curves in a terminal if `curves`."""
    recent: deque[tuple[float, dict[str, Any]]] = deque(maxlen=WINDOW)
    if quiet:
        yield lambda row: None
    elif curves and console.is_terminal:
        from evo.watch import live as curved

        with curved(console, generations, recent) as show_curves:
            yield show_curves
    elif console.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20))
        with Progress(*columns, console=console) as live:
            bar = live.add_task("compiling", total=generations)

            def show(row: dict[str, Any]):
                recent.append((row["seconds"], row))
                live.update(bar, completed=row["generation"] + 1, description=line(recent, generations))

            yield show
    else:
        yield _plain(console, generations, recent)


def line(recent: deque[tuple[float, dict[str, Any]]], generations: int) -> str:
    """Generation, best, mean, speed and time left, from the last few rows and their seconds."""
    (began, first), (now, last) = recent[0], recent[-1]
    done = last["generation"] + 1
    said = f"generation {done}/{generations}  best {last['best']:.6g}  mean {last['mean']:.6g}"
    if now > began:
        per_generation = (now - began) / (last["generation"] - first["generation"])
        unit, name = ("env-steps", "steps") if last.get("steps") else ("evaluations", "evaluations")
        rate = (last[name] - first[name]) / (now - began)
        said += f"  {short(rate)} {unit}/s  {clock(per_generation * (generations - done))} left"
    return said


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

    def show(row: dict[str, Any]):
        nonlocal said
        recent.append((row["seconds"], row))
        if time.monotonic() - said >= PATIENCE or row["generation"] + 1 == generations:
            said = time.monotonic()
            console.print(line(recent, generations), highlight=False, soft_wrap=True)

    return show
