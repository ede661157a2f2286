"""Quality diversity: one archive, and any mix of emitters judged in one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from evo.archive import Archive, Cells, Grid, Inserted, checked, empty, insert
from evo.bandit import Played, choose, learn, unplayed
from evo.elites import best, filled, stats
from evo.emitter import Emitter, Offspring, Record, Stage
from evo.express import ByPath, Plan, maker
from evo.genome import Genome, as_they_stand, concatenate, expand
from evo.luck import corrected, look, unseen
from evo.noise import Gaussian, Noise
from evo.random import fold_in, kept_keys
from evo.runtime import Runtime
from evo.strategies.emitters.iso_line import IsoLine
from evo.task import Evaluation, Params


class State(NamedTuple):
    """The archive, whose rows go on with the emitters' own; and what the emitters know."""

    archive: Archive
    emitters: tuple[Any, ...]
    played: Played | None
    generation: Int[Array, ""]
    looked: Int[Array, ""]  # how many looks have been taken
    key: Key[Array, ""]


@dataclass(frozen=True)
class QD:
    """Quality diversity with any archive and any mix of emitters, all judged in one batch.

    `cells` is a `Grid`, a `CVT`, an `Unstructured` archive or a `Deep` one. CMA-ME: `emitters=(CMA(),)`; CMA-MAE: a
    `learning_rate` in `cells` and `CMA(ranking="improvement", parents="mu", restart="basic")`; ME-ES: `Climb`. Every
    generation `looks` elites, in turn, are judged again on fresh luck, and what they show is kept beside what let them
    in (see `evo.luck`). With `active`, a bandit picks as many of the emitters, equal in population, each generation, by
    the share of their offspring that changed the archive (see `evo.bandit`, also for `explore`).
    """

    cells: Cells = Grid()
    emitters: tuple[Emitter, ...] = (IsoLine(),)
    looks: int = 0
    active: int | None = None
    explore: float = 0.05
    noise: Noise | ByPath | Plan = Gaussian()

    def __post_init__(self):
        if not self.emitters:
            raise ValueError("Quality diversity needs at least one emitter; got none. Use e.g. `IsoLine()`.")
        if self.looks < 0:
            raise ValueError(f"`looks` counts elites that are judged again, at least 0; got {self.looks}.")
        if self.active is not None:
            self._check_pool(self.active)

    def _check_pool(self, active: int):
        if not 1 <= active <= len(self.emitters):
            raise ValueError(f"`active` is from 1 to the {len(self.emitters)} emitters there are; got {active}.")
        if len(sizes := {emitter.population for emitter in self.emitters}) > 1:
            raise ValueError(f"A bandit swaps emitters of one population; these have {sorted(sizes)}. Make them equal.")

    @property
    def offspring(self) -> int:
        """Newcomers a generation."""
        each = [emitter.population for emitter in self.emitters]
        return sum(each) if self.active is None else self.active * each[0]

    @property
    def population(self) -> int:
        """Newcomers and looks."""
        return self.offspring + self.looks

    @property
    def grid(self) -> Cells:
        """The cells of `archive(state)`."""
        return self.cells.surface

    def init(self, key: Key[Array, ""], params: Params) -> State:
        """An empty archive, whose rows are all `params` but for those that emitters keep."""
        params = jax.tree.map(jnp.asarray, params)
        for emitter in self.emitters:
            getattr(emitter, "check", lambda *_: None)(params, self.noise)
        looks = unseen(len(self.cells.bounds)) if self.looks else None
        record = Record(jnp.int32(-1), jnp.int32(-1), jnp.full(2, -1, jnp.int32), looks)
        archive = empty(self.cells, params, record, self._own[-1] - self.cells.cells)
        made = [emitter.init(fold_in(key, i), params) for i, emitter in enumerate(self.emitters)]
        archive = self._keep(archive, [rows for _, rows in made])
        played = None if self.active is None else unplayed(len(made))
        own_key = fold_in(key, len(made))
        return State(archive, tuple(state for state, _ in made), played, jnp.int32(0), jnp.int32(0), own_key)

    def ask(self, key: Key[Array, ""], state: State) -> tuple[Genome, Int[Array, "n"]]:
        """The offspring of every emitter that plays, then the elites whose turn it is to be looked at."""
        asked = [
            emitter.ask(fold_in(key, i), state.emitters[i], state.archive, own)
            for i, (emitter, own) in enumerate(zip(self.emitters, self._own, strict=False))
        ]
        still = [as_they_stand(self._turn(state)[0])] if self.looks else []
        genomes, trials = alike([genome for genome, _ in asked] + still), [trial for _, trial in asked]
        if state.played is not None:
            who = self._playing(state)
            pick = lambda *x: jnp.stack(x)[who].reshape(-1, *x[0].shape[1:])  # noqa: E731
            genomes = [jax.tree.map(pick, *genomes[: len(asked)]), *genomes[len(asked) :]]
            trials = list(jnp.stack(trials)[who])
        starts = [sum(trial.shape[0] for trial in trials[:i]) for i in range(len(trials))]
        trials = [trial + start for trial, start in zip(trials, starts, strict=True)]
        together = genomes[0] if len(genomes) == 1 else concatenate(*genomes)
        return together, jnp.concatenate([*trials, self.offspring + jnp.arange(self.looks)])

    def bases(self, state: State) -> Params:
        """The archive's rows, and the emitters' own."""
        return state.archive.rows

    def tell(
        self, runtime: Runtime, state: State, genome: Genome, evaluation: Evaluation
    ) -> tuple[State, dict[str, Array]]:
        """Take in the looks, put the offspring in the archive, tell the emitters. Logs the archive's `stats`, how many
        cells were filled (`added`) or got a better elite (`improved`), how many offspring were `out_of_bounds`, and
        how many belong to no cell (`unfiled`: a descriptor that isn't finite, or is out of bounds and refused); the
        first two by emitter where there are several (`added_0`, ...), with a bandit also who played (`played_0`, ...);
        with `looks` what `evo.luck.corrected` says."""
        n, every = self.offspring, checked(self.cells, evaluation.descriptor)
        archive = self._looked(state, evaluation.fitness[n:], every[n:])
        genome = jax.tree.map(lambda x: x[:n], expand(genome))
        fitness, descriptor = evaluation.fitness[:n], every[:n]
        maker_of, rows = self._makers(state), maker(self.noise, archive.rows, genome)
        archive, inserted = insert(
            self.cells, archive, fitness, descriptor, rows, self._record(state, genome, maker_of)
        )
        offspring = Offspring(genome, fitness, descriptor, inserted)
        told = self._told(state, archive, offspring, Stage(self.cells, self.noise, runtime))
        archive = self._keep(archive, [rows for _, rows in told])
        info = stats(self.cells.top(archive), self.cells.offset) | self._counts(fitness, inserted, maker_of)
        played = state.played
        if played is not None:
            chosen = jnp.zeros(len(told), bool).at[self._playing(state)].set(True)
            share = jax.ops.segment_sum((inserted.status > 0).astype(jnp.float32), maker_of, len(told))
            played = learn(played, chosen, share / self.emitters[0].population)
            info |= {f"played_{i}": chosen[i].astype(jnp.int32) for i in range(len(told))}
        if self.looks:
            info |= corrected(self.cells, archive, archive.record.looks)
        looked, emitters = state.looked + self.looks, tuple(new for new, _ in told)
        return State(archive, emitters, played, state.generation + 1, looked, state.key), info

    def archive(self, state: State) -> Archive:
        """The archive, at one elite a cell and without the emitters' own rows."""
        return self.cells.top(self.elites(state))

    def elites(self, state: State) -> Archive:
        """All elites, however many a cell has."""
        return state.archive._replace(rows=jax.tree.map(lambda x: x[: self.cells.cells], state.archive.rows))

    def solution(self, state: State) -> Params:
        """The fittest elite; the initial parameters where there is none."""
        return jax.tree.map(lambda rows: rows[best(state.archive)], state.archive.rows)

    @property
    def _own(self) -> list[int]:
        """Where each emitter's own rows begin, and where the last one's end."""
        spares = [emitter.spare for emitter in self.emitters]
        return [self.cells.cells + sum(spares[:i]) for i in range(len(spares) + 1)]

    def _playing(self, state: State) -> Int[Array, "a"]:
        """Whose offspring are judged, in their order."""
        if state.played is None or self.active is None:
            return jnp.arange(len(self.emitters))
        return choose(state.played, self.active, self.explore)

    def _makers(self, state: State) -> Int[Array, "n"]:
        """Which emitter made each newcomer."""
        if state.played is not None:
            return jnp.repeat(self._playing(state), self.emitters[0].population)
        return jnp.concatenate([jnp.full(emitter.population, i) for i, emitter in enumerate(self.emitters)])

    def _told(self, state: State, archive: Archive, offspring: Offspring, stage: Stage) -> list[tuple[Any, Any]]:
        """Each emitter's state and own rows; those of one that didn't play are as they were."""
        key, found, first = fold_in(state.key, state.generation), [], jnp.int32(0)
        who = self._playing(state)
        for i, (emitter, own) in enumerate(zip(self.emitters, self._own, strict=False)):
            n, old = emitter.population, state.emitters[i]
            if state.played is not None:
                first = jnp.argmax(who == i).astype(jnp.int32) * n
            share = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, n), offspring)  # noqa: B023
            tell = lambda e=emitter, i=i, o=own, s=share, old=old: e.tell(fold_in(key, i), old, archive, o, s, stage)  # noqa: E731
            if state.played is None:
                found.append(tell())
                first += n
            else:
                rows = jax.tree.map(lambda x: x[own : own + emitter.spare], archive.rows) if emitter.spare else None  # noqa: B023
                found.append(jax.lax.cond((who == i).any(), tell, lambda old=old, rows=rows: (old, rows)))
        return found

    def _counts(self, fitness: Array, inserted: Inserted, maker_of: Int[Array, "n"]) -> dict[str, Array]:
        moved = jnp.where(inserted.accepted, inserted.status, 0)
        what, count = {"added": moved == 2, "improved": moved == 1}, len(self.emitters)
        info = {name: which.sum(dtype=jnp.int32) for name, which in what.items()}
        info["out_of_bounds"] = inserted.outside.sum(dtype=jnp.int32)
        info["unfiled"] = (jnp.isfinite(fitness) & jnp.isneginf(inserted.improvement)).sum(dtype=jnp.int32)
        if count > 1:
            for name, which in what.items():
                own = jax.ops.segment_sum(which.astype(jnp.int32), maker_of, count)
                info |= {f"{name}_{i}": own[i] for i in range(count)}
        return info

    def _keep(self, archive: Archive, rows: list[Any]) -> Archive:
        for own, new in zip(self._own, rows, strict=False):
            if new is not None:
                put = lambda old, x, own=own: old.at[own : own + x.shape[0]].set(x.astype(old.dtype))  # noqa: E731
                archive = archive._replace(rows=jax.tree.map(put, archive.rows, new))
        return archive

    def _record(self, state: State, genome: Genome, maker_of: Int[Array, "n"]) -> Record:
        n, parents = self.offspring, genome.parents
        assert parents is not None
        if genome.mix is not None:
            parents = jnp.where(genome.mix == 0, -1, parents)  # of no weight, so none
        both = parents if parents.shape[1] == 2 else jnp.concatenate([parents, jnp.full((n, 1), -1)], 1)
        looks = None
        if self.looks:
            looks = jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape)), unseen(len(self.cells.bounds)))
        return Record(jnp.full(n, state.generation), maker_of, both, looks)

    def _turn(self, state: State) -> tuple[Int[Array, "l"], Array]:
        """Whose turn it is to be looked at, and which of them count: nobody twice in a generation."""
        cells, count = filled(state.archive)
        place = jnp.arange(self.looks)
        return cells[(state.looked + place) % jnp.maximum(count, 1)], place < count

    def _looked(self, state: State, fitness: Float[Array, "l"], descriptor: Float[Array, "l d"]) -> Archive:
        if not self.looks:
            return state.archive
        record = state.archive.record
        looks = look(record.looks, *self._turn(state), fitness, descriptor)
        return state.archive._replace(record=record._replace(looks=looks))


def alike(genomes: list[Genome]) -> list[Genome]:
    """The same members with as many genes and parents each as the one with the most; those added weigh 0.

    What stands alone stays as it is: members that share parents go on sharing them.
    """
    if len(genomes) == 1:
        return genomes
    genes = max(g.scale.shape[1] for g in genomes)
    parents = max(g.parents.shape[1] for g in genomes if g.parents is not None)
    mixed = parents > 1 or any(g.mix is not None for g in genomes)
    return [_padded(expand(g), genes, parents, mixed) for g in genomes]


def _padded(genome: Genome, genes: int, parents: int, mixed: bool) -> Genome:
    assert genome.parents is not None
    n, more = genome.scale.shape[0], genes - genome.scale.shape[1]
    spare = jnp.broadcast_to(jax.random.key(0), (n, more))
    key = kept_keys(genome.key)
    key = jnp.concatenate([key, spare], 1) if more else key
    scale = jnp.pad(genome.scale, ((0, 0), (0, more)))
    lacking = parents - genome.parents.shape[1]
    mix = genome.mix
    if mixed:
        mix = jnp.eye(1, genome.parents.shape[1]).repeat(n, 0) if mix is None else mix
        mix = jnp.pad(mix, ((0, 0), (0, lacking)))
    return Genome(key, scale, jnp.pad(genome.parents, ((0, 0), (0, lacking)), mode="edge"), mix)
