"""`evo replay` and `evo export`: parameters out of a run folder, as arrays or as a chain of mutations."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from rich.console import Console
from tyro.conf import Positional, arg

from evo.files import whole, write_safetensors
from evo.registry import nearest

if TYPE_CHECKING:
    from evo.opened import Run


@dataclass(frozen=True)
class Replay:
    """Rebuild one candidate of one generation exactly, from its genome; or take the elite of a cell."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="A run folder.")]
    generation: Annotated[int | None, arg(metavar="G", help="Counted from 0.")] = None
    member: Annotated[int | None, arg(metavar="I", help="Counted from 0.")] = None
    cell: Annotated[int | None, arg(metavar="C", help="A cell of the archive, instead of those two.")] = None
    encoding: Annotated[
        Path | None, arg(metavar="FILE", help="An encoded chain of this run, instead of those: see evo export.")
    ] = None
    out: Annotated[Path | None, arg(metavar="FILE", help="Write it as .safetensors or .npz.")] = None

    def __call__(self, console: Console) -> int:
        from evo.checkpoint import flatten
        from evo.commands.opened import opened

        write = writer(self.out, (".safetensors", ".npz")) if self.out else None
        one = [x is not None for x in (self.cell, self.encoding, self.generation)].count(True) == 1
        if not one or (self.generation is None) != (self.member is None):
            raise ValueError(
                "evo replay: wanted --generation G and --member I, or --cell C alone, or --encoding FILE alone."
            )
        title, fitness, params = self._candidate(opened(self.run))
        arrays = flatten(params)
        norm = sum(float((x.astype(np.float64) ** 2).sum()) for x in arrays.values()) ** 0.5
        console.print(title)
        if fitness is not None:
            console.print(f"fitness     {fitness:.9g}")
        console.print(f"parameters  {sum(x.size for x in arrays.values()):,} in {len(arrays)} arrays")
        console.print(f"norm        {norm:.9g}")
        if write:
            write(self.out, arrays)
            console.print(f"written to  {self.out}", soft_wrap=True)
        return 0

    def _candidate(self, run: Run) -> tuple[str, float | None, Any]:
        """What it is, what it scored when it was judged, in the numbers that people see, and its parameters."""
        from evo.commands.opened import elite
        from evo.task import unit_of

        if self.encoding is not None:
            from evo.commands.chain import decoded

            links, params = decoded(run, self.encoding)
            return f"a chain of {links} mutations", None, params
        if self.cell is not None:
            params = elite(run, self.cell)
            return f"the elite of cell {self.cell}", float(run.archive().fitness[self.cell]) * unit_of(run.task), params
        generation, member = self.generation or 0, self.member or 0
        fitness, params = run.fitness(generation), run.member(generation, member)
        scored = float(fitness[member]) * unit_of(run.task)
        return f"generation {generation}, member {member} of {len(fitness)}", scored, params


@dataclass(frozen=True)
class Export:
    """Write the archive's elites, or the solution where there is no archive, for other programs."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="A run folder.")]
    out: Annotated[
        Positional[Path],
        arg(metavar="OUT", help="A file that ends in .safetensors, .npz or .csv; in .chain with --encoding."),
    ]
    parameters: Annotated[bool, arg(help="In a CSV of elites, a column for each of their parameters too.")] = False
    solution: Annotated[bool, arg(help="The solution, even where there is an archive.")] = False
    encoding: Annotated[
        bool, arg(help="The elite of a genetic algorithm as its chain of mutations, 12 bytes each.")
    ] = False
    rebase: Annotated[
        int | None,
        arg(metavar="LINKS", help="With --encoding: keep this many mutations, and write what they start from beside."),
    ] = None

    def __call__(self, console: Console) -> int:
        from evo.checkpoint import flatten
        from evo.commands.opened import opened

        if self.rebase is not None and not self.encoding:
            raise ValueError("--rebase is about chains; give --encoding with it.")
        if self.parameters and (self.encoding or self.out.suffix != ".csv"):
            raise ValueError("--parameters is about CSV; the other kinds of files always have them.")
        if self.encoding:
            from evo.commands.chain import export

            for line in export(opened(self.run), self.out, self.rebase):
                console.print(line, soft_wrap=True)
            return 0
        write = writer(self.out, tuple(WRITERS))
        run = opened(self.run)
        archive = hasattr(run.strategy, "archive") and not self.solution
        arrays = elites_of(run) if archive else flatten(run.solution())
        if self.parameters:
            write_csv(self.out, arrays, parameters=True)
        else:
            write(self.out, arrays)
        what = f"{len(arrays['cell'])} elites" if archive else f"{sum(x.size for x in arrays.values()):,} parameters"
        console.print(f"{what} written to {self.out}", soft_wrap=True)
        return 0


def elites_of(run: Run) -> dict[str, np.ndarray]:
    """All elites as arrays with a row each: see `evo.exchange.arrays`."""
    from evo.commands.opened import elites
    from evo.exchange import arrays
    from evo.view.gather import depth

    strategy: Any = run.strategy
    top, each = elites(run)[0], depth(run)
    return arrays(top if each == 1 else strategy.elites(run.strategy_state()), each)


def writer(path: Path, suffixes: tuple[str, ...]):
    """What writes arrays to such a file. Raises where its suffix isn't one of these."""
    if path.suffix not in suffixes:
        raise ValueError(f"{path}: no ending that this writes; {nearest(path.suffix, suffixes)}")
    return WRITERS[path.suffix]


def write_npz(path: Path, arrays: dict[str, np.ndarray]):
    """Arrays by name, `params/0/kernel` and so on."""
    with whole(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def write_csv(path: Path, arrays: dict[str, np.ndarray], parameters: bool = False):
    """A row an elite (with its parameters where asked), or, for a solution, a row a number: path, index, value."""
    from evo.exchange import columns

    with whole(path) as part, part.open("w", newline="") as file:
        rows = csv.writer(file)
        if "cell" in arrays:
            told = columns(arrays, parameters)
            rows.writerow(told)
            rows.writerows(zip(*(x.tolist() for x in told.values()), strict=True))
        else:
            rows.writerow(["path", "index", "value"])
            rows.writerows((path, i, v) for path, x in arrays.items() for i, v in enumerate(x.reshape(-1).tolist()))


WRITERS = {".safetensors": write_safetensors, ".npz": write_npz, ".csv": write_csv}
