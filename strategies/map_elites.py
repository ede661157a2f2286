"""MAP-Elites: an archive of elites, and offspring made by mixing two of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from evo.archive import Archive, Grid, best, stats
from evo.express import ByPath, Plan, maker
from evo.genome import Genome
from evo.noise import Gaussian, Noise
from evo.runtime import Runtime
from evo.strategies.emitters.iso_line import IsoLine
from evo.task import Evaluation, Params


class Record(NamedTuple):
    """What the archive keeps of each elite beside its parameters."""

    generation: Int[Array, "c"]  # when it moved in, from 0
    parents: Int[Array, "c 2"]  # the cells of its parents, as they were then


class State(NamedTuple):
    """The archive, and how many generations it has seen."""

    archive: Archive
    generation: Int[Array, ""]


@dataclass(frozen=True)
class MapElites:
    """MAP-Elites (Mouret & Clune 2015) with iso+line variation (Vassiliades & Mouret 2018, eq. 1).

    member = x1 + iso * noise + line * N(0, 1) * (x2 - x1), with x1 and x2 drawn uniformly from the elites and one
    N(0, 1) for the whole member. As long as the archive is empty: initial parameters + `initial` * noise. `shape` and
    `bounds` are the grid's, one entry for each descriptor of the task; `offset` is subtracted in the QD score.
    """

    population: int = 256
    shape: tuple[int, ...] = (32, 32)
    bounds: tuple[tuple[float, float], ...] = ((0.0, 1.0), (0.0, 1.0))
    iso: float = 0.01
    line: float = 0.2
    initial: float = 0.1
    offset: float = 0.0
    noise: Noise | ByPath | Plan = Gaussian()

    def __post_init__(self):
        if self.population < 1:
            raise ValueError(f"MAP-Elites needs a `population` of at least 1; got {self.population}.")
        if min(self.iso, self.line, self.initial) < 0:
            raise ValueError(
                f"`iso`, `line` and `initial` are standard deviations, at least 0; "
                f"got iso={self.iso}, line={self.line}, initial={self.initial}."
            )
        _ = self.grid  # raises where shape and bounds don't fit

    @property
    def grid(self) -> Grid:
        """Which cell a descriptor belongs to."""
        return Grid(self.shape, self.bounds, self.offset)

    def init(self, key: Key[Array, ""], params: Params) -> State:
        """An empty archive. Its empty cells hold `params`, which is what the first offspring are made from."""
        record = Record(jnp.int32(-1), jnp.full(2, -1, jnp.int32))
        return State(self.grid.init(jax.tree.map(jnp.asarray, params), record), jnp.int32(0))

    def ask(self, key: Key[Array, ""], state: State) -> tuple[Genome, Int[Array, "n"]]:
        """Offspring of two elites each, with a trial of their own."""
        variation = IsoLine(self.population, self.iso, self.line, self.initial)
        return variation.ask(key, (), state.archive, jnp.zeros(0, jnp.int32))

    def bases(self, state: State) -> Params:
        """The archive's rows."""
        return state.archive.rows

    def tell(
        self, runtime: Runtime, state: State, genome: Genome, evaluation: Evaluation
    ) -> tuple[State, dict[str, Array]]:
        """Put the offspring in the archive. Logs its `stats`, how many cells were filled (`added`) or got a better
        elite (`improved`), and how many offspring were `out_of_bounds`."""
        assert genome.parents is not None
        archive, (fitness, descriptor, _) = state.archive, evaluation
        rows = maker(self.noise, archive.rows, genome)
        record = Record(jnp.full(fitness.shape, state.generation), genome.parents)
        archive, inserted = self.grid.insert(archive, fitness, descriptor, rows, record)
        moved = jnp.where(inserted.accepted, inserted.status, 0)
        info = stats(archive, self.offset) | {
            "added": (moved == 2).sum(dtype=jnp.int32),
            "improved": (moved == 1).sum(dtype=jnp.int32),
            "out_of_bounds": inserted.outside.sum(dtype=jnp.int32),
        }
        return State(archive, state.generation + 1), info

    def archive(self, state: State) -> Archive:
        """The archive."""
        return state.archive

    def solution(self, state: State) -> Params:
        """The fittest elite; the initial parameters where there is none."""
        return jax.tree.map(lambda rows: rows[best(state.archive)], state.archive.rows)
