"""MAP-Elites: an archive of elites, and offspring made by mixing two of them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Array, Int, Key

from evo.archive import UNIT, Archive, Bounds, Grid
from evo.express import ByPath, Plan
from evo.genome import Genome
from evo.noise import Gaussian, Noise
from evo.runtime import Runtime
from evo.strategies.emitters.iso_line import IsoLine
from evo.strategies.qd import QD, State
from evo.task import Evaluation, Params


@dataclass(frozen=True)
class MapElites:
    """MAP-Elites (Mouret & Clune 2015) with iso+line variation (Vassiliades & Mouret 2018, eq. 1).

    member = x1 + iso * noise + line * N(0, 1) * (x2 - x1), with x1 and x2 drawn uniformly from the elites and one
    N(0, 1) for the whole member. As long as the archive is empty: initial parameters + `initial` * noise. `shape` and
    `bounds` are the grid's, one entry for each descriptor of the task; bounds that aren't given are the task's own.
    `offset` is subtracted in the QD score. It is `QD` with a grid and this one emitter.
    """

    population: int = 256
    shape: tuple[int, ...] = (32, 32)
    bounds: Bounds = UNIT
    iso: float = 0.01
    line: float = 0.2
    initial: float = 0.1
    offset: float = 0.0
    noise: Noise | ByPath | Plan = Gaussian()

    def __post_init__(self):
        _ = self.qd  # raises where a field makes no sense

    @property
    def qd(self) -> QD:
        """The same search, spelled out."""
        emitter = IsoLine(self.population, self.iso, self.line, self.initial)
        return QD(self.grid, (emitter,), noise=self.noise)

    @property
    def grid(self) -> Grid:
        """Which cell a descriptor belongs to."""
        return Grid(self.shape, self.bounds, self.offset)

    def init(self, key: Key[Array, ""], params: Params) -> State:
        """An empty archive. Its empty cells hold `params`, which is what the first offspring are made from."""
        return self.qd.init(key, params)

    def ask(self, key: Key[Array, ""], state: State) -> tuple[Genome, Int[Array, "n"]]:
        """Offspring of two elites each, with a trial of their own."""
        return self.qd.ask(key, state)

    def bases(self, state: State) -> Params:
        """The archive's rows."""
        return self.qd.bases(state)

    def tell(
        self, runtime: Runtime, state: State, genome: Genome, evaluation: Evaluation
    ) -> tuple[State, dict[str, Array]]:
        """Put the offspring in the archive. Logs what `QD.tell` logs."""
        return self.qd.tell(runtime, state, genome, evaluation)

    def archive(self, state: State) -> Archive:
        """The archive."""
        return self.qd.archive(state)

    def elites(self, state: State) -> Archive:
        """The same: a cell has one."""
        return self.qd.elites(state)

    def solution(self, state: State) -> Params:
        """The fittest elite; the initial parameters where there is none."""
        return self.qd.solution(state)
