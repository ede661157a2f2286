"""Honest timing for the scripts beside this one: interleaved rounds, medians, ratios within a round.

Times are CPU time where JAX computes on CPUs, for other processes don't count there, and wall time on any other device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
from rich.console import Console
from rich.table import Table


class Row(NamedTuple):
    """One line of a benchmark's table: `ratio` is value / the value of `against` in the same round."""

    case: str
    value: float
    unit: str
    ratio: float | None = None
    against: str | None = None


def arguments(description: str) -> argparse.Namespace:
    """--quick (under two minutes on two cores) and --json FILE, which every script takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds: under 2 minutes on 2 cores")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    return parser.parse_args()


def compiled_once():
    """Let runs that differ only in their seed share compiled programs, on disk, unless a place for them is set."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(Path(tempfile.gettempdir()) / "evo-benchmarks"))


def on_cpu() -> bool:
    """Whether JAX computes on CPUs by default."""
    return jax.default_backend() == "cpu"


def milliseconds() -> str:
    """The unit of a time in a table."""
    return "CPU ms" if on_cpu() else "ms"


def interleaved(programs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each program in each round; every round runs all of them once, after one warm-up."""
    clock = time.process_time if on_cpu() else time.perf_counter
    for program in programs.values():
        jax.block_until_ready(program())
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            began = clock()
            jax.block_until_ready(program())
            times[name].append(clock() - began)
    return times


def rows(times: dict[str, list[float]], against: str) -> list[Row]:
    """Medians, and the median over rounds of the ratio to `against`."""
    limit = times[against]
    return [
        Row(
            name,
            1e3 * statistics.median(t),
            milliseconds(),
            statistics.median(a / b for a, b in zip(t, limit, strict=True)),
            against,
        )
        for name, t in times.items()
    ]


def show(title: str, rows: list[Row], path: Path | None = None):
    """Print the table; write the rows as JSON where asked."""
    table = Table(title=title, title_justify="left")
    for name in ("case", "value", "unit", "ratio", "against"):
        table.add_column(name, justify="right" if name in ("value", "ratio") else "left")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.case, f"{row.value:.4g}", row.unit, ratio, row.against or "")
    Console(width=120).print(table)
    if path is not None:
        path.write_text(json.dumps([row._asdict() for row in rows], indent=1))
