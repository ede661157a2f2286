"""Deep archives: several elites a cell (Flageat & Cully 2020, Deep-Grid MAP-Elites).

Where fitness is noisy, a cell's one elite is often a mediocre member that was lucky. The runners-up that a deep cell
keeps beside it are judged again too (see `evo.luck`), and the best of all the means is what the cell is worth.
Axes: `n` newcomers, `c` cells of the surface, `d` descriptor; elite j of cell i is row i * depth + j.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from evo.archive import Archive, Grid, Inserted, Outside, contest
from evo.cvt import CVT


@dataclass(frozen=True)
class Deep:
    """The `depth` fittest members ever seen in every cell of `of`, a `Grid` or a `CVT`.

    A newcomer moves in if it beats the cell's least fit elite (ties: it doesn't; of two newcomers the lower index). Its
    status and improvement are against the cell's fittest, so a member that moves in below that one has status 0.
    Parents are drawn from all elites alike. Statistics and pictures are of the fittest of each cell.
    """

    of: Grid | CVT = Grid()
    depth: int = 4

    def __post_init__(self):
        if self.depth < 1:
            raise ValueError(f"A cell holds at least 1 elite; got depth={self.depth}.")
        if self.of.learning_rate is not None:
            raise ValueError("A deep archive doesn't anneal; leave out the `learning_rate` of what it is made of.")

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        return self.of.bounds

    @property
    def offset(self) -> float:
        return self.of.offset

    @property
    def learning_rate(self) -> float | None:
        return None

    @property
    def threshold_min(self) -> float:
        return 0.0

    @property
    def outside(self) -> Outside:
        return self.of.outside

    @property
    def cells(self) -> int:
        """How many elites it can hold."""
        return self.of.cells * self.depth

    @property
    def surface(self) -> Grid | CVT:
        """The archive of the fittest elite of each cell."""
        return self.of

    def top(self, archive: Archive) -> Archive:
        """The fittest elite of each cell (ties: the one that is listed first)."""
        row = self._stacked(archive).argmax(1) + jnp.arange(self.of.cells) * self.depth
        return jax.tree.map(lambda x: x[row], archive)

    def compare(self, archive: Archive, fitness: Float[Array, "n"], descriptor: Array | None) -> Inserted:
        """Who moves in where: `depth` contests, each for the place of every cell's least fit elite."""
        cell, outside = self.of.cell(descriptor)
        stack, rest = self._stacked(archive), fitness
        first = contest(Archive((), stack.max(1), archive.descriptor), cell, fitness, self.offset)
        accepted, place = jnp.zeros_like(first.accepted), jnp.full_like(cell, self.cells)
        for _ in range(self.depth):
            least = stack.argmin(1)
            won = contest(Archive((), stack.min(1), archive.descriptor), cell, rest)
            own = least.at[won.cell].get(mode="fill", fill_value=0)
            place = jnp.where(won.accepted, won.cell * self.depth + own, place)
            accepted |= won.accepted
            stack = stack.at[jnp.where(won.accepted, won.cell, self.of.cells), own].set(fitness, mode="drop")
            rest = jnp.where(won.accepted, jnp.nan, rest)
        return first._replace(accepted=accepted, cell=place, outside=outside & jnp.isfinite(fitness))

    def _stacked(self, archive: Archive) -> Float[Array, "c depth"]:
        return archive.fitness.reshape(self.of.cells, self.depth)
