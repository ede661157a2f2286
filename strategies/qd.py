"""Quality diversity: one archive, and any mix of emitters judged in one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from evo.archive import Archive, Cells, Grid, best, empty, filled, stats
from evo.emitter import Emitter, Offspring, Stage
from evo.express import ByPath, Plan, maker
from evo.genome import Genome, concatenate, expand, part
from evo.luck import Looks, corrected, look, unseen
from evo.noise import Gaussian, Noise
from evo.random import fold_in
from evo.runtime import Runtime
from evo.strategies.emitters.iso_line import IsoLine
from evo.task import Evaluation, Params


class Record(NamedTuple):
    """What the archive keeps of each elite beside its parameters."""

    generation: Int[Array, "c"]  # when it moved in, from 0
    emitter: Int[Array, "c"]  # which one made it, counted from 0
    parents: Int[Array, "c p"]  # the rows it was made of, as they were then; from `cells` on, the emitters' own
    looks: Looks | None  # what it showed when it was judged again


class State(NamedTuple):
    """The archive, whose rows go on with the emitters' own; and what the emitters know."""

    archive: Archive
    emitters: tuple[Any, ...]
    generation: Int[Array, ""]
    turn: Int[Array, ""]  # how many looks have been taken
    key: Key[Array, ""]


@dataclass(frozen=True)
class QD:
    """Quality diversity with any archive and any mix of emitters, all judged in one batch.

    `cells` is a `Grid` or a `CVT`. CMA-ME: `emitters=(CMA(),)`; CMA-MAE: a `learning_rate` in `cells` and
    `CMA(ranking="improvement", parents="mu", restart="basic")`; ME-ES: `Climb`. Every generation `looks` elites, in
    turn, are judged again on fresh luck, and what they show is kept beside what let them in (see `evo.luck`).
    """

    cells: Cells = Grid()
    emitters: tuple[Emitter, ...] = (IsoLine(),)
    looks: int = 0
    noise: Noise | ByPath | Plan = Gaussian()

    def __post_init__(self):
        if not self.emitters:
            raise ValueError("Quality diversity needs at least one emitter; got none. Use e.g. `IsoLine()`.")
        if self.looks < 0:
            raise ValueError(f"`looks` counts elites that are judged again, at least 0; got {self.looks}.")

    @property
    def offspring(self) -> int:
        """Newcomers a generation."""
        return sum(emitter.population for emitter in self.emitters)

    @property
    def population(self) -> int:
        """Newcomers and looks."""
        return self.offspring + self.looks

    @property
    def grid(self) -> Cells:
        """Which cell a descriptor belongs to."""
        return self.cells

    def init(self, key: Key[Array, ""], params: Params) -> State:
        """An empty archive, whose rows are all `params` but for those that emitters keep."""
        params = jax.tree.map(jnp.asarray, params)
        looks = unseen(len(self.cells.bounds)) if self.looks else None
        record = Record(jnp.int32(-1), jnp.int32(-1), jnp.full(2, -1, jnp.int32), looks)
        archive = empty(self.cells, params, record, self._own[-1] - self.cells.cells)
        made = [emitter.init(fold_in(key, i), params) for i, emitter in enumerate(self.emitters)]
        archive = self._keep(archive, [rows for _, rows in made])
        own_key = fold_in(key, len(made))
        return State(archive, tuple(state for state, _ in made), jnp.int32(0), jnp.int32(0), own_key)

    def ask(self, key: Key[Array, ""], state: State) -> tuple[Genome, Int[Array, "n"]]:
        """Every emitter's offspring, then the elites whose turn it is to be looked at."""
        genomes, trials, luck = [], [], 0
        for i, (emitter, own) in enumerate(zip(self.emitters, self._own, strict=False)):
            genome, trial = emitter.ask(fold_in(key, i), state.emitters[i], state.archive, own)
            genomes.append(genome)
            trials.append(trial + luck)
            luck += emitter.population
        if self.looks:
            genomes.append(_still(self._turn(state)[0]))
            trials.append(luck + jnp.arange(self.looks))
        return concatenate(*alike(genomes)), jnp.concatenate(trials)

    def bases(self, state: State) -> Params:
        """The archive's rows, and the emitters' own."""
        return state.archive.rows

    def tell(
        self, runtime: Runtime, state: State, genome: Genome, evaluation: Evaluation
    ) -> tuple[State, dict[str, Array]]:
        """Take in the looks, put the offspring in the archive, tell the emitters. Logs the archive's `stats`, how many
        cells were filled (`added`) or got a better elite (`improved`), how many offspring were `out_of_bounds`; each of
        these by emitter where there are several; and with `looks` what `evo.luck.corrected` says."""
        archive, generation = self._looked(state, evaluation), state.generation
        n = self.offspring
        genome = jax.tree.map(lambda x: x[:n], expand(genome))
        fitness, descriptor = evaluation.fitness[:n], _first(evaluation.descriptor, n)
        archive, inserted = self.cells.insert(
            archive, fitness, descriptor, maker(self.noise, archive.rows, genome), self._record(genome, generation)
        )
        told, rows, first = [], [], 0
        stage = Stage(self.cells, self.noise, runtime)
        key = fold_in(state.key, generation)
        for i, (emitter, own) in enumerate(zip(self.emitters, self._own, strict=False)):
            last = first + emitter.population
            own_part = jax.tree.map(lambda x: x[first:last], (fitness, descriptor, inserted))  # noqa: B023
            offspring = Offspring(part(genome, first, last), *own_part)
            new, kept = emitter.tell(fold_in(key, i), state.emitters[i], archive, own, offspring, stage)
            told.append(new)
            rows.append(kept)
            first = last
        archive = self._keep(archive, rows)
        moved = jnp.where(inserted.accepted, inserted.status, 0)
        info = stats(archive, self.cells.offset) | {
            "added": ((moved > 0) & (inserted.status == 2)).sum(dtype=jnp.int32),
            "improved": (moved == 1).sum(dtype=jnp.int32),
            "out_of_bounds": inserted.outside.sum(dtype=jnp.int32),
        }
        if self.looks:
            info |= corrected(self.cells, archive, archive.record.looks)
        return State(archive, tuple(told), generation + 1, state.turn + self.looks, state.key), info

    def archive(self, state: State) -> Archive:
        """The archive, without the emitters' own rows."""
        return state.archive._replace(rows=jax.tree.map(lambda x: x[: self.cells.cells], state.archive.rows))

    def solution(self, state: State) -> Params:
        """The fittest elite; the initial parameters where there is none."""
        return jax.tree.map(lambda rows: rows[best(state.archive)], state.archive.rows)

    @property
    def _own(self) -> list[int]:
        """Where each emitter's own rows begin, and where the last one's end."""
        spares = [emitter.spare for emitter in self.emitters]
        return [self.cells.cells + sum(spares[:i]) for i in range(len(spares) + 1)]

    def _keep(self, archive: Archive, rows: list[Any]) -> Archive:
        for own, new in zip(self._own, rows, strict=False):
            if new is not None:
                put = lambda old, x, own=own: old.at[own : own + x.shape[0]].set(x.astype(old.dtype))  # noqa: E731
                archive = archive._replace(rows=jax.tree.map(put, archive.rows, new))
        return archive

    def _record(self, genome: Genome, generation: Int[Array, ""]) -> Record:
        n, parents = self.offspring, genome.parents
        assert parents is not None
        both = parents if parents.shape[1] == 2 else jnp.concatenate([parents, jnp.full((n, 1), -1)], 1)
        maker_of = [jnp.full(emitter.population, i) for i, emitter in enumerate(self.emitters)]
        looks = None
        if self.looks:
            looks = jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), unseen(len(self.cells.bounds)))
        return Record(jnp.full(n, generation), jnp.concatenate(maker_of), both, looks)

    def _turn(self, state: State) -> tuple[Int[Array, "l"], Array]:
        """Whose turn it is to be looked at, and which of them count: nobody twice in a generation."""
        cells, count = filled(state.archive)
        place = jnp.arange(self.looks)
        return cells[(state.turn + place) % jnp.maximum(count, 1)], place < count

    def _looked(self, state: State, evaluation: Evaluation) -> Archive:
        archive, n = state.archive, self.offspring
        if not self.looks:
            return archive
        cell, valid = self._turn(state)
        looks = look(archive.record.looks, cell, valid, evaluation.fitness[n:], _last(evaluation.descriptor, n))
        return archive._replace(record=archive.record._replace(looks=looks))


def _still(cell: Int[Array, "l"]) -> Genome:
    """The elites of these cells as they are."""
    n = cell.shape[0]
    return Genome(jax.random.split(jax.random.key(0), n)[:, None][:, :0], jnp.zeros((n, 0)), cell[:, None])


def alike(genomes: list[Genome]) -> list[Genome]:
    """The same members with as many genes and parents each as the one with the most; those added weigh 0."""
    genes = max(g.scale.shape[1] for g in genomes)
    parents = max(g.parents.shape[1] for g in genomes if g.parents is not None)
    mixed = parents > 1 or any(g.mix is not None for g in genomes)
    return [_padded(expand(g), genes, parents, mixed) for g in genomes]


def _padded(genome: Genome, genes: int, parents: int, mixed: bool) -> Genome:
    assert genome.parents is not None
    n, more = genome.scale.shape[0], genes - genome.scale.shape[1]
    spare = jnp.broadcast_to(jax.random.key(0), (n, more))
    key = jnp.concatenate([genome.key, spare], 1) if more else genome.key
    scale = jnp.pad(genome.scale, ((0, 0), (0, more)))
    lacking = parents - genome.parents.shape[1]
    mix = genome.mix
    if mixed:
        mix = jnp.eye(1, genome.parents.shape[1]).repeat(n, 0) if mix is None else mix
        mix = jnp.pad(mix, ((0, 0), (0, lacking)))
    return Genome(key, scale, jnp.pad(genome.parents, ((0, 0), (0, lacking)), mode="edge"), mix)


def _first(descriptor: Any, n: int) -> Any:
    return None if descriptor is None else descriptor[:n]


def _last(descriptor: Any, n: int) -> Any:
    if descriptor is None:
        raise ValueError("Quality diversity needs a descriptor, and this task gives none. Return `evo.Evaluation`.")
    return descriptor[n:]
