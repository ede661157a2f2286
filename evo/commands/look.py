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
from evo.view.statistics import Statistic

if TYPE_CHECKING:
    from evo.opened import Run

X = Literal["generation", "evaluations", "steps", "seconds"]
FILMS = (".gif", ".html", ".mp4")
REPLAY = 0xF11A  # what the key of a filmed episode folds in, so that the search never saw its luck


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
            console.print(compared(self.runs, self.statistic, self.out), highlight=False, soft_wrap=True, markup=False)
            return 0
        if self.descriptors:
            picture = draw_places(self.runs, self.out or self.runs[0] / "descriptors.png")
        else:
            out = self.out or self.runs[0] / "curves.png"
            picture = draw_curves(self.runs, out, self.x, self.y, self.diagnostics, self.statistic)
        console.print(str(picture), highlight=False, soft_wrap=True)
        return 0


@dataclass(frozen=True)
class Render:
    """Film one episode of the solution, or of one elite, on luck that the search never saw."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="A run folder.")]
    cell: Annotated[int | None, arg(metavar="C", help="The cell of the archive whose elite is filmed.")] = None
    out: Annotated[
        Path | None, arg(metavar="FILE", help="A .gif, .html or .mp4; RUN/episode.gif and .html if left out.")
    ] = None

    def __call__(self, console: Console) -> int:
        from evo.commands.opened import elite, opened

        name = "episode" if self.cell is None else f"episode-{self.cell}"
        films = [self.out] if self.out else [self.run / f"{name}{suffix}" for suffix in FILMS[:2]]
        for film in films:
            if film.suffix not in FILMS:
                raise ValueError(f"{film}: wanted one of {', '.join(FILMS)}; {nearest(film.suffix, FILMS)}")
        run = opened(self.run)
        params = run.solution() if self.cell is None else elite(run, self.cell)
        scene = filmed(run, params)
        for film in films:
            write_film(scene, film)
            console.print(str(film), highlight=False, soft_wrap=True)
        return 0


def compared(paths: Sequence[Path], statistic: Statistic, out: Path | None) -> str:
    """What these runs ended with, as a Markdown table; written to `out`, too, where that is given."""
    from evo.commands.opened import opened
    from evo.view.curves import grouped
    from evo.view.statistics import table
    from evo.view.target import target

    runs = [opened(path) for path in paths]
    text = table(grouped([(label, run.metrics) for label, run in zip(labels(runs), runs, strict=True)]), statistic)
    if out:
        target(out, (".md",)).write_text(text, encoding="utf-8")
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
    from evo.view.places import Map, places

    runs = [opened(path) for path in paths]
    tasks: list[Any] = [run.task for run in runs]
    for run, task in zip(runs, tasks, strict=True):
        if "descriptor" not in run.folder.records.read(0):
            raise ValueError(f"--descriptors: {run.path} has none on record; its task gives only fitness.")
        if task != tasks[0]:
            raise ValueError(f"--descriptors: {run.path} is of another task than {runs[0].path}; draw them apart.")
    task = tasks[0]
    drawn = Map(
        task.descriptor_names, task.descriptor_bounds, getattr(task, "walls", None), getattr(task, "places", {})
    )
    found = [np.stack([run.folder.records.read(g)["descriptor"] for g in range(run.generations)]) for run in runs]
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


def filmed(run: Run, params: Any) -> Any:
    """One episode as a scene. Raises where the task can't be drawn."""
    import jax

    if not hasattr(run.task, "scene"):
        kind = run.config["task"].get("kind", "this task")
        raise ValueError(f"{run.path}: {kind} has nothing to film; tasks that do have a `scene`, such as brax and arm.")
    key = jax.random.fold_in(jax.random.key(run.config["seed"]), REPLAY)
    return run.task.scene(params, task_state(run), key)


def task_state(run: Run) -> Any:
    """The task's state at the end; of a run that goes on, the last one that is on record."""
    done = (run.path / "task.safetensors").exists()
    return run.task_state(None if done else run.generations - 1)


def write_film(scene: Any, path: Path):
    """Write a scene in the form that the path's suffix asks for."""
    from evo.view import episode

    path.parent.mkdir(parents=True, exist_ok=True)
    {".gif": episode.gif, ".html": episode.page, ".mp4": episode.mp4}[path.suffix](scene, path)
