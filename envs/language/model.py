"""What a language model is to the text tasks, and the table of them. Axes: `t` tokens, `v` vocabulary."""

from __future__ import annotations

from typing import Any, Protocol

from jaxtyping import Array, Float, Int, Key

MODELS = {
    "recurrent": "evo.envs.language.recurrent:Recurrent",
    "int8_recurrent": "evo.envs.language.int8:Int8Recurrent",
    "transformer": "evo.envs.language.transformer:Transformer",
}
Params = dict[str, Any]
Carry = Any  # what a model remembers between tokens, a pytree of arrays; () if it starts anew with every window


class LanguageModel(Protocol):
    """The contract: plain functions of a parameter pytree and of one sequence, not a batch.

    A token equal to `eos` ends a document: what came before it is forgotten.
    """

    @property
    def unit(self) -> float:
        """How many bits a score of 1 is."""
        ...

    def init(self, key: Key[Array, ""], vocabulary: int) -> Params:
        """Random parameters."""
        ...

    def start(self) -> Carry:
        """What it remembers before the first token."""
        ...

    def score(
        self, params: Params, carry: Carry, tokens: Int[Array, "t+1"], eos: int
    ) -> tuple[Carry, Float[Array, "t"] | Int[Array, "t"]]:
        """log2 of the likelihood of each token but the first, given those before, in `unit`s; the carry before the
        last token."""
        ...

    def step(
        self, params: Params, carry: Carry, token: Int[Array, ""], eos: int
    ) -> tuple[Carry, Float[Array, "v"] | Int[Array, "v"]]:
        """After one more token: log2 of what is how likely next, in `unit`s, up to a constant."""
        ...
