"""`evo archive`: maps of an archive, and a page to explore it, as a file or from a server of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from rich.console import Console
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from evo.opened import Run
    from evo.view.archive import ArchiveData
    from evo.view.page import Exhibit

BODIES, PICTURES = 100, 9  # replays that a page holds: of bodies (kilobytes each), of films (a hundred kilobytes each)
STILL = 1000  # of elites that stand still: a pose, or one picture
LOOKED = 9  # elites that are judged again
KNOWN = 1 << 20  # parameters that a page holds of elites that can't be drawn


@dataclass(frozen=True)
class Archive:
    """The archive as one HTML page to explore, and as pictures: a map, a histogram, its growth.

    Of two runs with the same cells: one page with both maps and their difference.
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN2]", help="A run folder, or two.")]
    out: Annotated[Path | None, arg(metavar="DIR", help="Where the files go; the run's folder if left out.")] = None
    replays: Annotated[
        int | None,
        arg(
            metavar="N", help="How many elites' episodes the page holds; 9 films, 100 of bodies, 1000 that stand still."
        ),
    ] = None
    cell: Annotated[tuple[int, ...], arg(metavar="C ...", help="Cells whose episodes it holds in any case.")] = ()
    episodes: Annotated[int, arg(metavar="N", help="On how many fresh episodes the first 9 of these are judged.")] = 16
    serve: Annotated[bool, arg(help="Show the page on this machine (127.0.0.1) while the run goes on.")] = False
    port: Annotated[int, arg(metavar="P", help="With --serve: the port; 0 takes a free one.")] = 8765

    def __call__(self, console: Console) -> int:
        from evo.commands.opened import opened
        from evo.view.archive import check_alike
        from evo.view.page import archive_page

        if not 1 <= len(self.runs) <= 2:
            raise ValueError(f"wanted one run folder, or two to compare; got {len(self.runs)}.")
        if self.serve:
            from evo.commands.serve import serve

            return serve(self.runs, self.port, console)
        if self.replays is not None and self.replays < 0:
            raise ValueError(f"--replays: wanted at least 0, got {self.replays}.")
        runs = [opened(path) for path in self.runs]
        shown = [exhibit(run) for run in runs]
        if len(shown) == 2:
            check_alike(shown[0].data, shown[1].data)
        cells = shown_cells(shown, self.cell, STILL if self.replays is None else self.replays)
        shown = [
            followed(run, one, cells, self.episodes, len(self.cell), self.replays)
            for run, one in zip(runs, shown, strict=True)
        ]
        for one in shown:
            if one.undrawn:
                console.print(f"{one.title}: no replays; {one.undrawn}", soft_wrap=True)
        out = self.out or self.runs[0]
        if out.is_file():
            raise ValueError(f"--out: wanted a folder; {out} is a file.")
        out.mkdir(parents=True, exist_ok=True)
        drawn = pictures(shown, out)
        if len(runs) == 1 and bool(getattr(runs[0].strategy, "looks", False)):
            from evo.commands.review import looked

            drawn.append(looked(runs[0], out / "archive-corrected.png"))
        for path in [*drawn, archive_page(shown, out / "archive.html")]:
            size = f"  ({path.stat().st_size / 1e6:.1f} MB)" if path.suffix == ".html" else ""
            console.print(f"{path}{size}", soft_wrap=True)
        return 0


def pictures(shown: list[Exhibit], out: Path) -> list[Path]:
    """Write what isn't the page: of one archive its map, histogram and growth; of two their difference."""
    from evo.view import archive_map, difference_map, growth, histogram, parallel

    data, picture = shown[0].data, out / "archive.png"
    if len(shown) == 2:
        difference_map(data, shown[1].data, out / "difference.png", names=(shown[0].title, shown[1].title))
        return [out / "difference.png"]
    archive_map(data, picture)
    histogram(data, out / "archive-fitness.png")
    written = [picture, out / "archive-fitness.png"]
    if len(data.bounds) > 2:
        parallel(data, out / "archive-parallel.png")
        written.append(out / "archive-parallel.png")
    if data.past is not None:
        growth(data, out / "archive.gif")
        written.append(out / "archive.gif")
    return written


def exhibit(run: Run, data: ArchiveData | None = None) -> Exhibit:
    """What a page tells of a run's archive (None: as `gathered`), episodes apart. Raises where it is empty."""
    from evo.commands.look import undrawn
    from evo.commands.opened import elites
    from evo.view.gather import emitters, gathered
    from evo.view.page import Exhibit

    data = gathered(run) if data is None else data
    if not np.isfinite(data.fitness).any():
        elites(run)  # tells it
    return Exhibit(
        data,
        run.path.resolve().name,
        described(run),
        str(run.path),
        members=members(run, data),
        generations=run.generations,
        emitters=tuple(emitters(run)),
        undrawn=undrawn(run),
    )


def shown_cells(shown: list[Exhibit], wanted: tuple[int, ...], count: int) -> list[int]:
    """The cells that are followed up, in this order: those `wanted`, then `count` others; ones that all archives fill,
    if there are any. Raises where a wanted one is empty."""
    from evo.commands.opened import check_occupied

    filled = [np.flatnonzero(np.isfinite(one.data.fitness)) for one in shown]
    for cell in wanted:
        check_occupied(cell, filled[0], len(shown[0].data.fitness), "--cell: ")
    both = np.intersect1d(filled[0], filled[-1])
    return list(dict.fromkeys([*wanted, *chosen(shown[0].data, both if both.size else filled[0], count)]))


def followed(run: Run, shown: Exhibit, cells: list[int], looks: int, wanted: int = 0, replays: int | None = None):
    """The exhibit with these cells' episodes, or parameters where there is nothing to be seen; and with further looks
    at the first of them. `wanted`: how many cells come first in any case; None `replays`: as many as are cheap."""
    from evo.commands.look import undrawn

    cells = [cell for cell in cells if np.isfinite(shown.data.fitness[cell])]
    why = undrawn(run)
    if not cells:
        return shown._replace(undrawn=why)
    archive = run.archive()
    films: dict[int, Any] = {}
    if not why:
        try:
            films = filmed_all(run, archive.rows, cells, wanted, replays)
        except ValueError as error:  # a world that can't draw itself here
            why = str(error)
    numbers = {} if films else known(archive, cells)
    again = scored(run, archive, cells[: wanted + LOOKED], looks)
    return shown._replace(episodes=films, scores=again, numbers=numbers, undrawn=why)


def filmed_all(run: Run, rows: Any, cells: list[int], wanted: int, replays: int | None) -> dict[int, Any]:
    """An episode of each of these cells' elites; with None `replays`, of as many as are cheap beside those `wanted`."""
    import jax

    from evo.commands.look import filmed
    from evo.view import embed
    from evo.view.scene import Film

    found: dict[int, Any] = {}
    for cell in cells:
        shown = filmed(run, jax.tree.map(lambda rows, c=cell: rows[c], rows))
        found[cell] = embed.thinned(shown) if isinstance(shown, Film) else shown
        still = len(shown.frames if isinstance(shown, Film) else shown.position) == 1
        most = STILL if still else PICTURES if isinstance(shown, Film) else BODIES
        if replays is None and len(found) >= wanted + most:
            break
    return found


def known(archive: Any, cells: list[int]) -> dict[int, np.ndarray]:
    """The parameters of all elites where they are few; else those of these cells'."""
    from evo.checkpoint import flatten
    from evo.view.page import NUMBERS

    rows = [np.asarray(x).reshape(len(x), -1) for x in flatten(archive.rows).values()]
    everyone = np.flatnonzero(np.isfinite(np.asarray(archive.fitness))).tolist()
    few = len(everyone) * min(sum(x.shape[1] for x in rows), NUMBERS) <= KNOWN
    chosen = np.array(everyone if few else cells)
    some = np.concatenate([x[chosen] for x in rows], 1)[:, :NUMBERS]
    return dict(zip(chosen.tolist(), some, strict=True))


def scored(run: Run, archive: Any, cells: list[int], looks: int) -> dict[int, np.ndarray]:
    """What each of these cells' elites scores on fresh luck, the same for all; nothing where luck plays no part."""
    import jax

    from evo.commands.look import task_state
    from evo.compiler import options
    from evo.engine import judge
    from evo.random import MORE_LOOKS
    from evo.task import Task

    if looks < 1 or not isinstance(run.task, Task):
        return {}
    keys = jax.random.split(run.luck(MORE_LOOKS), looks)
    one = judge(run.task, task_state(run))
    rows = jax.tree.map(lambda x: x[np.array(cells)], archive.rows)
    program = lambda rows: jax.lax.map(lambda row: jax.vmap(lambda key: one(row, key).fitness)(keys), rows)  # noqa: E731
    many = jax.jit(program, compiler_options=options())
    found = np.asarray(many(rows))
    lucky = np.nanmax(np.ptp(found, axis=1)) > 0
    return dict(zip(cells, found, strict=True)) if lucky else {}


def members(run: Run, data: ArchiveData) -> np.ndarray | None:
    """Which member of its generation each arrival was."""
    from evo.view import past

    if data.past is None:
        return None
    records = run.folder.records
    return past.members(data.past, records.column("fitness"), records.column("descriptor"))


def described(run: Run) -> dict[str, str]:
    """What the page's head says of a run."""
    task, strategy = (run.config[name] for name in ("task", "strategy"))
    kinds = [x.get("kind", "") if isinstance(x, dict) else str(x) for x in (task, strategy)]
    env = f" {task['env']}" if isinstance(task, dict) and "env" in task else ""
    evaluations = run.metrics["evaluations"][-1] if len(run.metrics.get("evaluations", ())) else 0
    return {
        "task": kinds[0] + env,
        "strategy": kinds[1],
        "generations": f"{run.generations:,}",
        "evaluations": f"{int(evaluations):,}",
        "seed": str(run.config["seed"]),
    }


def chosen(data: ArchiveData, cells: np.ndarray, count: int) -> list[int]:
    """The cells whose elites are filmed: the fittest, then others spread evenly over the archive, a few of them first
    and ever more between."""
    if count < 1:
        return []
    order = [int(cells[data.fitness[cells].argmax()])]
    sizes = [n for n in (LOOKED, BODIES) if n < count] + [count]
    for size in sizes:
        there, spread = set(order), cells[np.linspace(0, len(cells) - 1, size - 1).astype(int)].tolist()
        order += list(dict.fromkeys(cell for cell in spread if cell not in there))[: size - len(order)]
    return order[:count]
