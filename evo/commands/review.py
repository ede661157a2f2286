"""What `evo eval` says of an archive: every elite judged again, and the archive that this leaves.

Axes: `n` elites, `c` cells, `d` descriptor, `e` episodes.
"""

from __future__ import annotations

import csv
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.progress import track
from rich.table import Table

from evo.commands.judge import Estimate, fresh, interval, times
from evo.files import whole

if TYPE_CHECKING:
    from evo.luck import Looks
    from evo.opened import Run

SHOWN = 10  # elites in the table
STEPS = 20  # of the progress bar


def reviewed(run: Run, episodes: int, console: Console):
    """Judge every elite of a run `episodes` times; write eval.csv, tables and the two maps."""
    import jax.numpy as jnp

    from evo.commands.opened import elites
    from evo.luck import refiled
    from evo.view.gather import cells_of, depth

    top, _ = elites(run)
    archive = run.strategy.elites(run.strategy_state()) if hasattr(run.strategy, "elites") else top
    rows = np.flatnonzero(np.isfinite(np.asarray(archive.fitness)))
    seen, grid = judged(run, archive, rows, episodes, console), cells_of(run)
    reported = np.asarray(archive.fitness)[rows], np.asarray(archive.descriptor)[rows]
    said = [
        interval(*of, episodes)
        for of in zip(seen.fitness.tolist(), seen.variance.tolist(), seen.number.tolist(), strict=True)
    ]
    cell, each = rows // depth(run), depth(run)
    write(run.path / "eval.csv", cell, reported, seen, said, {"place": rows % each} if each > 1 else {})
    console.print(best_of(cell, reported[0], said))
    left = refiled(grid, jnp.asarray(seen.fitness), jnp.asarray(seen.descriptor))
    console.print(summary(grid, top, left, reported[1], seen))
    picture = compared(run, left, run.path / "archive-corrected.png")
    for line in (f"{len(rows)} elites, {times(run.task, episodes)} each", run.path / "eval.csv", picture):
        console.print(str(line), soft_wrap=True)


def judged(run: Run, archive: Any, rows: np.ndarray, episodes: int, console: Console) -> Looks:
    """Every elite on luck of its own, as many side by side as fit the memory."""
    import jax
    import jax.numpy as jnp

    from evo.engine import judge
    from evo.host import HostTask
    from evo.luck import gathered

    if isinstance(run.task, HostTask):
        return judged_outside(run, archive, rows, episodes)
    one, (key, *_) = judge(run.task, run.task_state()), fresh(run, 1)

    def elite(pair):
        params, row = pair
        luck = jax.random.split(jax.random.fold_in(key, row), episodes)
        said: Any = jax.vmap(lambda key: one(params, key))(luck)
        return gathered(said.fitness, said.descriptor)

    program = lambda runtime: lambda pairs: jax.lax.map(elite, pairs, batch_size=runtime.chunk)  # noqa: E731
    slice = -(-len(rows) // STEPS)
    picked = lambda index: (jax.tree.map(lambda x: x[index], archive.rows), jnp.asarray(index))  # noqa: E731
    padded = np.pad(rows, (0, -len(rows) % slice), mode="edge").reshape(-1, slice)
    _, compiled = run.engine.runtime.fit(program, slice, picked(padded[0]))
    bar = track(padded, "elites", console=console, disable=not console.is_terminal, transient=True)
    found: Any = [jax.device_get(compiled(picked(index))) for index in bar]
    return jax.tree.map(lambda *x: np.concatenate(x)[: len(rows)], *found)


def judged_outside(run: Run, archive: Any, rows: np.ndarray, episodes: int) -> Looks:
    """`judged` in worlds on the host."""
    import jax
    import jax.numpy as jnp

    from evo.genome import as_they_stand
    from evo.host import Host, Members
    from evo.luck import gathered

    (key, *_), index = fresh(run, 1), np.repeat(rows, episodes)
    luck = jax.vmap(lambda row, i: jax.random.fold_in(jax.random.fold_in(key, row), i))(
        jnp.asarray(index), jnp.tile(jnp.arange(episodes), len(rows))
    )
    genome = as_they_stand(jnp.asarray(index))
    with closing(run.task.open(Host(run.strategy.noise, run.engine.runtime))) as judge:
        said: Any = judge(Members(archive.rows, genome, luck), run.task_state())[0]
    fitness, place = (
        jnp.asarray(x).reshape(len(rows), episodes, *x.shape[1:]) for x in (said.fitness, said.descriptor)
    )
    return jax.device_get(jax.vmap(gathered)(fitness, place))


def write(
    path: Path, cell: np.ndarray, reported: tuple, seen: Looks, said: list[Estimate], more: dict[str, np.ndarray]
):
    """A row an elite: where it is, what let it in, what it showed; and columns of whole numbers besides."""
    d = seen.descriptor.shape[1]
    names = [f"{kind}_{i}" for kind in ("recorded_descriptor", "descriptor") for i in range(d)]
    with whole(path) as part, part.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["cell", "recorded", *Estimate._fields, "valid", *names, *more])
        columns = (cell, reported[0], said, seen.number, reported[1], seen.descriptor, *more.values())
        for own, fitness, one, valid, before, after, *rest in zip(*columns, strict=True):
            out.writerow(
                [int(own), float(fitness), *one, int(valid), *before.tolist(), *after.tolist(), *map(int, rest)]
            )


def best_of(cell: np.ndarray, recorded: np.ndarray, said: list[Estimate]) -> Table:
    """The fittest elites by their means."""
    table = Table(title=f"the best {min(SHOWN, len(cell))} elites on fresh luck", title_justify="left")
    for title in ("cell", "recorded", "mean", "std", "95 % interval"):
        table.add_column(title, justify="right")
    order = np.argsort([-np.nan_to_num(one.mean, nan=-np.inf) for one in said])[:SHOWN]
    for i in order:
        one = said[i]
        numbers = (f"{recorded[i]:.6g}", f"{one.mean:.6g}", f"{one.std:.4g}")
        table.add_row(str(cell[i]), *numbers, f"[{one.low:.6g}, {one.high:.6g}]")
    return table


def summary(grid: Any, reported: Any, left: Any, places: Float[np.ndarray, "n d"], seen: Looks) -> Table:
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


def error(reported: Float[np.ndarray, "n d"], seen: Looks) -> float:
    """The mean distance between the descriptor that let an elite in and the mean of what it showed later."""
    there = seen.number > 0
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
