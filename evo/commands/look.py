"""`evo plot` and `evo render`: curves of runs, and films of what they found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from rich.console import Console
from tyro.conf import Positional, arg

from evo.registry import nearest
from evo.view.scene import Film
from evo.view.statistics import Statistic

if TYPE_CHECKING:
    from evo.opened import Run

X = Literal["generation", "evaluations", "steps", "seconds"]
FILMS = (".gif", ".html", ".mp4")


@dataclass(frozen=True)
class Plot:
    """Learning curves in one picture; several runs compared."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]", help="Run folders.")]
    out: Annotated[
        Path | None,
        arg(metavar="FILE", help="A .png, .svg, .pdf, or .html to explore; RUN/curves.png of the first if left out."),
    ] = None
    x: Annotated[X, arg(help="What the curves go along.")] = "generation"
    y: Annotated[tuple[str, ...], arg(metavar="COLUMN ...", help="Columns of metrics.jsonl, a panel each.")] = ()
    diagnostics: Annotated[
        bool, arg(help="An evolution strategy's update norm, cosine of half-populations, and sigma, too.")
    ] = False
    statistic: Annotated[
        Statistic, arg(help="Of several seeds: median and quartiles, or interquartile mean and bootstrap interval.")
    ] = "median"
    compare: Annotated[bool, arg(help="What the runs ended with, as a Markdown table; --out FILE.md keeps it.")] = False
    descriptors: Annotated[
        bool, arg(help="Where every member ended up, on the task's map, instead of curves; RUN/descriptors.png.")
    ] = False

    def __call__(self, console: Console) -> int:
        if not self.runs:
            raise ValueError("evo plot: wanted at least one run folder, got none.")
        if self.compare:
            console.print(compared(self.runs, self.statistic, self.out), soft_wrap=True)
            return 0
        if self.descriptors:
            picture = draw_places(self.runs, self.out or self.runs[0] / "descriptors.png")
        else:
            out = self.out or self.runs[0] / "curves.png"
            picture = draw_curves(self.runs, out, self.x, self.y, self.diagnostics, self.statistic)
        console.print(str(picture), soft_wrap=True)
        return 0


@dataclass(frozen=True)
class Render:
    """Film episodes of the solution, an elite, a candidate, or many elites, on luck that the search never saw."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="A run folder.")]
    cell: Annotated[int | None, arg(metavar="C", help="The cell of the archive whose elite is filmed.")] = None
    generation: Annotated[int | None, arg(metavar="G", help="With --member: of which generation.")] = None
    member: Annotated[int | None, arg(metavar="I", help="The candidate of that generation that is filmed.")] = None
    episodes: Annotated[int, arg(metavar="N", help="How many episodes, each on luck of its own.")] = 1
    grid: Annotated[
        str | None, arg(metavar="RxC", help="Many elites in one picture, as 4x4: the fittest of each part of the map.")
    ] = None
    out: Annotated[
        Path | None, arg(metavar="FILE", help="A .gif, .html or .mp4; RUN/episode.gif and .html if left out.")
    ] = None

    def __call__(self, console: Console) -> int:
        from evo.commands.opened import opened

        films = [self.out] if self.out else [self.run / f"{self._name()}{suffix}" for suffix in FILMS[:2]]
        for film in films:
            if film.suffix not in FILMS:
                raise ValueError(f"{film}: no ending that this writes; {nearest(film.suffix, FILMS)}")
        shape = self._shape()
        scenes, columns = self._scenes(opened(self.run), shape), shape[1] if shape else None
        for film in films:
            write_film(scenes, film, columns)
            console.print(str(film), soft_wrap=True)
        return 0

    def _name(self) -> str:
        which = {"grid": self.grid, "cell": self.cell, "generation": self.generation, "member": self.member}
        said = [str(x) if name in ("grid", "cell") else f"{name[0]}{x}" for name, x in which.items() if x is not None]
        return "-".join(["episode", *said])

    def _shape(self) -> tuple[int, int] | None:
        """The rows and columns of the grid. Raises where two things are asked for at once."""
        asked = [x is not None for x in (self.grid, self.cell, self.member)].count(True)
        if asked > 1 or (self.generation is None) != (self.member is None):
            raise ValueError(
                "wanted --cell C, or --generation G and --member I, or --grid RxC, one of these and the whole of it."
            )
        if self.episodes < 1 or (self.grid is not None and self.episodes > 1):
            raise ValueError(f"--episodes: wanted at least 1, and 1 with --grid; got {self.episodes}.")
        if self.grid is None:
            return None
        found = re.fullmatch(r"([1-9]\d?)x([1-9]\d?)", self.grid)
        if not found:
            raise ValueError(f"--grid: wanted rows x columns as 4x4, each at most 99; got {self.grid!r}.")
        return int(found[1]), int(found[2])

    def _scenes(self, run: Run, shape: tuple[int, int] | None) -> list[Any]:
        from evo.commands.opened import elite

        if shape:
            return tiles(run, *shape)
        if self.member is not None and self.generation is not None:
            params = run.member(self.generation, self.member)
        else:
            params = run.solution() if self.cell is None else elite(run, self.cell)
        return [_kept(filmed(run, params, i), self.episodes) for i in range(self.episodes)]


def tiles(run: Run, rows: int, columns: int) -> list[Any]:
    """An episode of the fittest elite in each part of the map (of its first two descriptors), laid out as the map is:
    row by row from the top. None where nobody lives. An archive of one descriptor is cut along it alone."""
    import jax

    from evo.commands.opened import elites

    strategy: Any = run.strategy
    archive, cells = elites(run)
    fitness, descriptor = np.asarray(archive.fitness)[cells], np.asarray(archive.descriptor)[cells]
    part = parts(descriptor, strategy.grid.bounds, rows, columns)
    found: list[Any] = [None] * (rows * columns)
    for place in range(rows * columns):
        there = np.flatnonzero(part == place)
        if there.size:
            cell = int(cells[there[fitness[there].argmax()]])
            scene = _kept(filmed(run, jax.tree.map(lambda x, c=cell: x[c], archive.rows)), rows * columns)
            found[place] = scene._replace(title=f"cell {cell}: {fitness[there].max() + 0.0:.4g}")
    return found


def _kept(shown: Any, count: int) -> Any:
    """An episode to be shown with others, `count` in all: a film only in the size that it will have, for its raw
    pictures may take a gigabyte."""
    from evo.view.embed import thinned

    return thinned(shown) if count > 1 and isinstance(shown, Film) else shown


def parts(descriptor: np.ndarray, bounds: Sequence[tuple[float, float]], rows: int, columns: int) -> np.ndarray:
    """Which part of the map each descriptor is in, counted row by row from the top left."""
    low, high = np.asarray(bounds, float).T
    share = np.clip((descriptor - low) / (high - low), 0, 1 - 1e-9)
    if share.shape[1] == 1:
        return (share[:, 0] * rows * columns).astype(int)
    return (rows - 1 - (share[:, 1] * rows).astype(int)) * columns + (share[:, 0] * columns).astype(int)


def compared(paths: Sequence[Path], statistic: Statistic, out: Path | None) -> str:
    """What these runs ended with, as a Markdown table; written to `out`, too, where that is given."""
    from evo.commands.opened import opened
    from evo.files import write
    from evo.view.curves import grouped
    from evo.view.statistics import table
    from evo.view.target import target

    runs = [opened(path) for path in paths]
    text = table(grouped([(label, run.metrics) for label, run in zip(labels(runs), runs, strict=True)]), statistic)
    if out:
        write(target(out, (".md",)), text)
    return text


def draw_curves(
    paths: Sequence[Path],
    out: Path,
    x: str = "generation",
    y: Sequence[str] = (),
    diagnostics: bool = False,
    statistic: Statistic = "median",
) -> Path:
    """Draw the learning curves of these runs; returns the picture's path."""
    from evo.commands.opened import opened
    from evo.view.curves import DIAGNOSTICS, chosen, curves

    runs = [opened(path) for path in paths]
    for run in runs:
        if x == "steps" and not run.metrics["steps"].any():
            raise ValueError(f"--x: {run.path} counts no environment steps; the nearest is evaluations.")
    shown = [(label, run.metrics) for label, run in zip(labels(runs), runs, strict=True)]
    panels = list(y) or chosen(shown, x, None)
    if diagnostics:
        panels += [name for name in DIAGNOSTICS if all(name in columns for _, columns in shown) and name not in panels]
    out.parent.mkdir(parents=True, exist_ok=True)
    curves(shown, out, x, panels if y or diagnostics else None, statistic)
    return out


def draw_places(paths: Sequence[Path], out: Path) -> Path:
    """Draw what all members of these runs were described by; returns the picture's path."""
    from evo.commands.opened import opened
    from evo.view.gather import cells_of
    from evo.view.places import Map, places

    runs = [opened(path) for path in paths]
    tasks: list[Any] = [run.task for run in runs]
    for run, task in zip(runs, tasks, strict=True):
        if "descriptor" not in run.folder.records.read(0):
            raise ValueError(f"--descriptors: {run.path} has none on record; its task gives only fitness.")
        if task != tasks[0]:
            raise ValueError(f"--descriptors: {run.path} is of another task than {runs[0].path}; draw them apart.")
    task = tasks[0]
    found = [np.stack([run.folder.records.read(g)["descriptor"] for g in range(run.generations)]) for run in runs]
    bounds = cells_of(runs[0]).bounds if hasattr(runs[0].strategy, "archive") else ()
    bounds = getattr(task, "descriptor_bounds", ()) or bounds or ((0.0, 1.0),) * found[0].shape[-1]
    names = getattr(task, "descriptor_names", ()) or [f"descriptor {i}" for i in range(len(bounds))]
    drawn = Map(names, bounds, getattr(task, "walls", None), getattr(task, "places", {}))
    out.parent.mkdir(parents=True, exist_ok=True)
    places(list(zip(labels(runs), found, strict=True)), drawn, out)
    return out


def labels(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its folder's without -sSEED; runs that differ in nothing but the seed share the first's."""
    from evo.experiment import searched

    kinds: list[dict] = []
    names: list[str] = []
    for run in runs:
        kind = {**searched(run.config), "seed": None}
        name = re.sub(r"-s\d+$", "", run.path.resolve().name)
        if kind not in kinds:
            kinds.append(kind)
            names.append(str(run.path) if name in names else name)
    return [names[kinds.index({**searched(run.config), "seed": None})] for run in runs]


def filmed(run: Run, params: Any, episode: int = 0) -> Any:
    """One episode as a scene or a film; each `episode` has luck of its own. Raises where the task can't be drawn."""
    import jax

    from evo.random import FILM

    if why := undrawn(run):
        raise ValueError(f"{run.path}: {why}")
    key = run.luck(FILM)
    task: Any = run.task
    hook = task.scene if hasattr(task, "scene") else task.film
    shown = hook(params, task_state(run), jax.random.fold_in(key, episode) if episode else key)
    return Film(shown.frames, shown.dt, *shown[2:]) if hasattr(shown, "frames") else shown


def undrawn(run: Run) -> str:
    """Why the task's episodes can't be seen: it has neither a `scene` (bodies, or pictures) nor a `film` (pictures);
    "" where it has one."""
    if hasattr(run.task, "scene") or hasattr(run.task, "film"):
        return ""
    kind = run.config["task"].get("kind", "this task")
    return f"{kind} has nothing to film; tasks that do have a `scene`, such as brax, maze and arm."


def task_state(run: Run) -> Any:
    """The task's state at the end; of a run that goes on, the last one that is on record."""
    done = (run.path / "task.safetensors").exists()
    return run.task_state(None if done else run.generations - 1)


def write_film(scenes: Sequence[Any], path: Path, columns: int | None = None):
    """Write episodes in the form that the path's suffix asks for: side by side, or to choose from on a page."""
    from evo.view import episode

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        episode.page([scene for scene in scenes if scene is not None], path)
    elif len(scenes) > 1:
        episode.grid(scenes, path, columns)
    else:
        {".gif": episode.gif, ".mp4": episode.mp4}[path.suffix](scenes[0], path)
