"""What a strategy is."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Int, Key

from evo.genome import Genome
from evo.runtime import Runtime
from evo.task import Evaluation, Params

State = Any  # a NamedTuple of arrays; what the next generation needs, and all that a checkpoint keeps
Info = dict[str, Array]  # scalars for people: a column each in metrics.jsonl


@runtime_checkable
class Strategy(Protocol):
    """A frozen dataclass of settings with these methods, all pure; `ask` and `tell` run under jit.

    Some things are optional. `again(key, state, genome, evaluation) -> (genome, trial)` names members that deserve
    a second look: they come from the same bases, and `tell` gets both rounds joined, the first round first.
    `horizon` is the longest run, in generations, whose record the state can hold. `archive(state)` is the archive at
    one elite a cell, whose cells are `grid` (wanted with it); `elites(state)` all elites, where a cell has several.
    `whole = True` asks for fitness in whole numbers. `pack(state)` leaves out what `unpack` can rebuild, to the same
    bits; checkpoints keep what it returns. `check(params)` warns or raises, before a run, where the settings don't
    suit the parameters.
    """

    population: int
    noise: Any  # Noise | ByPath | Plan

    def init(self, key: Key[Array, ""], params: Params) -> State:
        """The state before the first generation, around `params`."""
        ...

    def ask(self, key: Key[Array, ""], state: State) -> tuple[Genome, Int[Array, "n"]]:
        """The members to judge, and which trial judges each: equal trials share their luck."""
        ...

    def bases(self, state: State) -> Params:
        """What genomes are expressed from: the shared centre, or rows with a leading axis if they have parents."""
        ...

    def tell(self, runtime: Runtime, state: State, genome: Genome, evaluation: Evaluation) -> tuple[State, Info]:
        """Learn from what the members scored."""
        ...

    def solution(self, state: State) -> Params:
        """What the user takes home."""
        ...
