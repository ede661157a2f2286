"""What an emitter is: a source of offspring for an archive.

A strategy runs any mix of them and has all their offspring judged at once. An emitter whose members aren't mixes of
elites keeps rows of its own: they follow the cells' rows in `archive.rows`, from the index that it is told.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from evo.archive import Archive, Cells, Inserted, Rows
from evo.genome import Genome
from evo.luck import Looks
from evo.runtime import Runtime
from evo.task import Params

State = Any  # a NamedTuple of arrays


class Record(NamedTuple):
    """What an archive keeps of each elite beside its parameters."""

    generation: Int[Array, "c"]  # when it moved in, from 0
    emitter: Int[Array, "c"]  # which one made it, counted from 0
    parents: Int[
        Array, "c p"
    ]  # the rows it was made of, as they were then; from `cells` on, the emitters' own; -1: none
    looks: Looks | None  # what it showed when it was judged again


class Offspring(NamedTuple):
    """An emitter's members of a generation, and what became of them."""

    genome: Genome
    fitness: Float[Array, "n"]
    descriptor: Float[Array, "n d"]
    inserted: Inserted


class Stage(NamedTuple):
    """What emitters of one strategy share."""

    cells: Cells
    noise: Any  # Noise | ByPath | Plan
    runtime: Runtime


def slopes(stage: Stage, rows: Rows, genome: Genome, weight: Float[Array, "b p"]) -> Rows:
    """sum_i weight_bi scale_bi noise_bi, for each of the rows [b, ...]; members are b after b, in antithetic pairs, a
    key each."""
    b, p = weight.shape
    key, scale = genome.key[::2].reshape(b, p // 2, -1), genome.scale.reshape(b, p, -1)
    total = lambda row, key, scale, w: stage.runtime.sum(stage.noise, row, Genome(key, scale), w)  # noqa: E731
    return jax.vmap(total)(rows, key, scale, weight)


def either(flag: Bool[Array, "b"], x: Array, y: Array) -> Array:
    """`x` in the rows whose flag is up, `y` in the others."""
    return jax.vmap(jnp.where)(flag, x, y)


@runtime_checkable
class Emitter(Protocol):
    """A frozen dataclass of settings with these methods, all pure.

    It may have `check(params, noise)`, which raises where it can't search these parameters.
    """

    @property
    def population(self) -> int:
        """How many offspring it makes in a generation."""
        ...

    @property
    def spare(self) -> int:
        """How many rows it keeps beside the archive's."""
        ...

    def init(self, key: Key[Array, ""], params: Params) -> tuple[State, Rows]:
        """Its state before the first generation, around `params`, and its own rows."""
        ...

    def ask(self, key: Key[Array, ""], state: State, archive: Archive, own: int) -> tuple[Genome, Int[Array, "n"]]:
        """The offspring, as genomes over `archive.rows`, in which its own rows begin at index `own`; and trials."""
        ...

    def tell(
        self, key: Key[Array, ""], state: State, archive: Archive, own: int, offspring: Offspring, stage: Stage
    ) -> tuple[State, Rows]:
        """Learn from what became of the offspring; `archive` has them already. Its state and its own rows."""
        ...
