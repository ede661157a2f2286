"""What `evo eval` says of an archive: every elite judged again, and the archive that this leaves.

Axes: `n` elites, `c` cells, `d` descriptor, `e` episodes.
"""

from __future__ import annotations

import csv
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from rich.console import Console
from rich.progress import track
from rich.table import Table

from evo.commands.judge import Estimate, fresh, interval
from evo.files import whole

if TYPE_CHECKING:
    from evo.opened import Run

SHOWN = 10  # elites in the table
STEPS = 20  # of the progress bar


class Seen(NamedTuple):
    """What the elites showed when they were judged again; invalid episodes don't count."""

    valid: Int[np.ndarray, "n"]
    fitness: Float[np.ndarray, "n"]  # the mean; NaN where no episode was valid
    variance: Float[np.ndarray, "n"]  # mean square about it
    descriptor: Float[np.ndarray, "n d"]  # the mean


def reviewed(run: Run, episodes: int, console: Console):
    """Judge every elite of a run `episodes` times; write eval.csv, tables and the two maps."""
    import jax.numpy as jnp

    from evo.commands.opened import elites
    from evo.luck import refiled
    from evo.view.gather import cells_of

    top, _ = elites(run)
    archive = run.strategy.elites(run.strategy_state()) if hasattr(run.strategy, "elites") else top
    rows = np.flatnonzero(np.isfinite(np.asarray(archive.fitness)))
    seen, grid = judged(run, archive, rows, episodes, console), cells_of(run)
    reported = np.asarray(archive.fitness)[rows], np.asarray(archive.descriptor)[rows]
    said = [
        interval(*of, episodes)
        for of in zip(seen.fitness.tolist(), seen.variance.tolist(), seen.valid.tolist(), strict=True)
    ]
    write(run.path / "eval.csv", rows, reported, seen, said)
    console.print(best_of(rows, reported[0], said))
    left = refiled(grid, jnp.asarray(seen.fitness), jnp.asarray(seen.descriptor))
    console.print(summary(grid, top, left, reported[1], seen))
    picture = compared(run, left, run.path / "archive-corrected.png")
    for line in (f"{len(rows)} elites, {episodes} episodes each", run.path / "eval.csv", picture):
        console.print(str(line), soft_wrap=True)


def judged(run: Run, archive: Any, rows: np.ndarray, episodes: int, console: Console) -> Seen:
    """Every elite on luck of its own, as many side by side as fit the memory."""
    import jax
    import jax.numpy as jnp

    from evo.engine import judge
    from evo.host import HostTask

    if isinstance(run.task, HostTask):
        return judged_outside(run, archive, rows, episodes)
    one, (key, *_) = judge(run.task, run.task_state()), fresh(run, 1)

    def elite(pair):
        """One elite's valid episodes: how many, the mean and variance of their fitness, their mean descriptor."""
        params, row = pair
        luck = jax.random.split(jax.random.fold_in(key, row), episodes)
        said: Any = jax.vmap(lambda key: one(params, key))(luck)
        valid = jnp.isfinite(said.fitness) & jnp.isfinite(said.descriptor).all(-1)
        count = valid.sum(dtype=jnp.int32)
        share = jnp.where(valid, 1.0, 0.0) / jnp.maximum(count, 1).astype(jnp.float32)
        fitness, place = jnp.where(valid, said.fitness, 0.0), jnp.where(valid[:, None], said.descriptor, 0.0)
        mean = (share * fitness).sum()
        variance = (share * (fitness - mean) ** 2).sum()
        return count, jnp.where(count > 0, mean, jnp.nan), variance, share @ place

    program = lambda runtime: lambda pairs: jax.lax.map(elite, pairs, batch_size=runtime.chunk)  # noqa: E731
    slice = -(-len(rows) // STEPS)
    picked = lambda index: (jax.tree.map(lambda x: x[index], archive.rows), jnp.asarray(index))  # noqa: E731
    padded = np.pad(rows, (0, -len(rows) % slice), mode="edge").reshape(-1, slice)
    _, compiled = run.engine.runtime.fit(program, slice, picked(padded[0]))
    bar = track(padded, "elites", console=console, disable=not console.is_terminal, transient=True)
    found = [jax.device_get(compiled(picked(index))) for index in bar]
    return Seen(*(np.concatenate(x)[: len(rows)] for x in zip(*found, strict=True)))


def judged_outside(run: Run, archive: Any, rows: np.ndarray, episodes: int) -> Seen:
    """`judged` in worlds on the host."""
    import jax
    import jax.numpy as jnp

    from evo.genome import as_they_stand
    from evo.host import Host, Members

    (key, *_), index = fresh(run, 1), np.repeat(rows, episodes)
    luck = jax.vmap(lambda row, i: jax.random.fold_in(jax.random.fold_in(key, row), i))(
        jnp.asarray(index), jnp.tile(jnp.arange(episodes), len(rows))
    )
    genome = as_they_stand(jnp.asarray(index))
    with closing(run.task.open(Host(run.strategy.noise, run.engine.runtime))) as judge:
        said, _ = judge(Members(archive.rows, genome, luck), run.task_state())
    fitness = np.asarray(said.fitness, float).reshape(len(rows), episodes)
    place = np.asarray(said.descriptor, float).reshape(len(rows), episodes, -1)
    ok = np.isfinite(fitness) & np.isfinite(place).all(-1)
    share = ok / np.maximum(ok.sum(1, keepdims=True), 1)
    mean = (share * np.where(ok, fitness, 0)).sum(1)
    variance = (share * np.where(ok, fitness - mean[:, None], 0) ** 2).sum(1)
    where = (share[..., None] * np.where(ok[..., None], place, 0)).sum(1)
    return Seen(ok.sum(1), np.where(ok.any(1), mean, np.nan), variance, where)


def write(path: Path, rows: np.ndarray, reported: tuple, seen: Seen, said: list[Estimate]):
    """A row an elite: where it is, what let it in, what it showed."""
    d = seen.descriptor.shape[1]
    names = [f"{kind}_{i}" for kind in ("recorded_descriptor", "descriptor") for i in range(d)]
    with whole(path) as part, part.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["cell", "recorded", *Estimate._fields, "valid", *names])
        columns = (rows, reported[0], said, seen.valid, reported[1], seen.descriptor)
        for row, fitness, one, valid, before, after in zip(*columns, strict=True):
            out.writerow([int(row), float(fitness), *one, int(valid), *before.tolist(), *after.tolist()])


def best_of(rows: np.ndarray, recorded: np.ndarray, said: list[Estimate]) -> Table:
    """The fittest elites by their means."""
    table = Table(title=f"the best {min(SHOWN, len(rows))} elites on fresh luck", title_justify="left")
    for title in ("cell", "recorded", "mean", "std", "95 % interval"):
        table.add_column(title, justify="right")
    order = np.argsort([-np.nan_to_num(one.mean, nan=-np.inf) for one in said])[:SHOWN]
    for i in order:
        one = said[i]
        numbers = (f"{recorded[i]:.6g}", f"{one.mean:.6g}", f"{one.std:.4g}")
        table.add_row(str(rows[i]), *numbers, f"[{one.low:.6g}, {one.high:.6g}]".replace("[", r"\["))
    return table


def summary(grid: Any, reported: Any, left: Any, places: Float[np.ndarray, "n d"], seen: Seen) -> Table:
    """The archive as it reports itself, and as refiled by what its elites really do (Flageat & Cully 2023)."""
    table = Table(title="the archive, reported and corrected", title_justify="left")
    for title in ("", "reported", "corrected"):
        table.add_column(title, justify="right")
    for name, number in {
        "QD score": lambda f: f"{(f[np.isfinite(f)] - grid.offset).sum():.6g}",
        "coverage": lambda f: f"{np.isfinite(f).mean():.2%}",
        "best": lambda f: f"{f.max():.6g}",
        "mean": lambda f: f"{f[np.isfinite(f)].mean():.6g}",
    }.items():
        table.add_row(name, number(np.asarray(reported.fitness)), number(np.asarray(left.fitness)))
    table.add_row("distance to descriptor", "0", f"{error(places, seen):.4g}")
    return table


def error(reported: Float[np.ndarray, "n d"], seen: Seen) -> float:
    """The mean distance between the descriptor that let an elite in and the mean of what it showed later."""
    there = seen.valid > 0
    return float(np.linalg.norm(reported - seen.descriptor, axis=1)[there].mean()) if there.any() else float("nan")


def looked(run: Run, path: Path) -> Path:
    """The archive as reported and as the looks of the run itself see it, side by side."""
    from evo.luck import refiled, seen_as
    from evo.view.gather import cells_of

    strategy: Any = run.strategy
    every = strategy.elites(run.strategy_state())
    fitness, descriptor, _ = seen_as(every, every.record.looks)
    return compared(run, refiled(cells_of(run), fitness, descriptor), path)


def compared(run: Run, left: Any, path: Path) -> Path:
    """The archive as reported, and what is `left` of it, side by side."""
    from evo.view.archive import pair
    from evo.view.gather import gathered

    reported = gathered(run)._replace(columns=None)
    return pair(
        reported, reported._replace(fitness=np.asarray(left.fitness), descriptor=np.asarray(left.descriptor)), path
    )
