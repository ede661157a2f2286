"""What a completion is worth: a Python function of texts on the host, or a JAX function of tokens.

Axes: `q` questions, `b` rows (completions), `t` tokens of a prompt, `n` of a completion, `a` of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int

from evo.envs.custom import load
from evo.envs.language.generate import Completions, padded
from evo.envs.language.questions import Question
from evo.envs.language.tokens import Tokenizer
from evo.envs.language.verify import VERIFIERS
from evo.registry import nearest

REWARDS = {
    "match": "evo.envs.language.reward:Match",
    "verified": "evo.envs.language.reward:Verified",
    "traced": "evo.envs.language.reward:Traced",
}


PIECE = 96_000  # bytes of a callback's argument, at most


class Table(NamedTuple):
    """Questions as tokens: prompts padded on the left, answers with ends behind them."""

    tokens: Int[Array, "q t"]
    real: Bool[Array, "q t"]
    answer: Int[Array, "q a"]
    length: Int[Array, "q"]  # of the answer, its end not among them


@dataclass(frozen=True)
class Asked:
    """What rewards are made of: the questions as text and as tokens, and the token that ends a completion."""

    questions: Sequence[Question]
    table: Table
    tokens: Tokenizer
    end: int


class Reward(Protocol):
    """The contract; a frozen dataclass of settings."""

    weight: float

    def check(self, asked: Asked, new: int):
        """Raise where an answer isn't one to judge by, or no completion of `new` tokens is worth anything."""
        ...

    def scores(self, asked: Asked, rows: Int[Array, "b"], written: Completions) -> Float[Array, "b"]:
        """What completion b of question rows[b] is worth, before the weight."""
        ...


@dataclass(frozen=True)
class Match:
    """1 where the completion is the answer, token by token to the end; on the device.

    With `partial`, a wrong one is worth that much times the share of the answer's tokens, the end among them, that
    stand where they should.
    """

    weight: float = 1.0
    partial: float = 0.0

    def check(self, asked, new):
        least = int(asked.table.length.min()) + 1
        if least > new and not self.partial:
            raise ValueError(
                f"The shortest answer and its end are {least} tokens, so with `new: {new}` `match` can reward no "
                f"completion; wanted `new` of at least {least}."
            )

    def scores(self, asked, rows, written):
        answer, length = asked.table.answer[rows], asked.table.length[rows]
        width = max(answer.shape[1], written.tokens.shape[1])
        answer, said = (
            jnp.pad(x, ((0, 0), (0, width - x.shape[1])), constant_values=asked.end) for x in (answer, written.tokens)
        )
        counted = jnp.arange(width)[None] <= length[:, None]
        right = ((said == answer) & counted).sum(1, dtype=jnp.float32) / (length + 1).astype(jnp.float32)
        whole = (right == 1) & (written.length == length + 1)
        return jnp.where(whole, 1.0, self.partial * right)


@dataclass(frozen=True)
class Verified:
    """A Python function (prompt, completion, answer) -> float, called on the host for every completion.

    `function` is a name of `evo.envs.language.verify` (exact, arithmetic, countdown, gsm8k, thinks) or
    "file.py:function". It may take its time, but mustn't use JAX.
    """

    function: str = "exact"
    weight: float = 1.0

    def __post_init__(self):
        _ = self.verify  # a wrong name is told now

    @property
    def verify(self) -> Callable[[str, str, str], float]:
        """The function."""
        if ":" in self.function:
            return load(self.function)
        if self.function not in VERIFIERS:
            raise ValueError(f"unknown verifier {self.function!r}; {nearest(self.function, VERIFIERS)}")
        return VERIFIERS[self.function]

    def check(self, asked, new):
        for prompt, answer in asked.questions if self.function in VERIFIERS else ():
            try:
                self.verify(prompt, "", answer)
            except ValueError as error:
                raise ValueError(f"`{self.function}` can't judge by the answer to {prompt[-60:]!r}: {error}") from None

    def scores(self, asked, rows, written):
        return on_host(partial(judged, self.verify, asked), rows, written.tokens, written.length)


def on_host(judge: Callable[..., Any], *columns: Int[Array, "b ..."]) -> Float[Array, "b"]:
    """One call of `judge` for the rows of all members, in arguments of less than 100 KB.

    JAX copies larger ones on another thread of the CPU's pool and the callback waits for it, for ever if the pool has
    no other: on one core (jax#24255).
    """

    @custom_vmap
    def call(*columns):
        rows = columns[0].shape[0]
        most = max(1, PIECE * rows // max(x.nbytes for x in columns))  # rows of a piece
        cut = [jnp.split(x, tuple(range(most, rows, most))) for x in columns]
        return jax.pure_callback(whole, jax.ShapeDtypeStruct([rows], jnp.float32), cut)

    def whole(cut):
        return judge(*(np.concatenate([np.asarray(x) for x in pieces]) for pieces in cut))

    @call.def_vmap
    def _(members, batched, *columns):
        full = [x if own else jnp.repeat(x[None], members, 0) for x, own in zip(columns, batched, strict=True)]
        return call(*(x.reshape(-1, *x.shape[2:]) for x in full)).reshape(members, -1), True

    return call(*columns)


def judged(verify: Callable[[str, str, str], float], asked: Asked, rows, written, length) -> Float[np.ndarray, "*b"]:
    """The scores of completions, under any number of leading axes; of NumPy or JAX arrays.

    Two alike, of one question, are verified once.
    """
    rows, written, length = (np.asarray(x) for x in (rows, written, length))
    known: dict[tuple[int, bytes], float] = {}
    scores = np.zeros(rows.shape, np.float32)
    for at in np.ndindex(rows.shape):
        own = written[at][: length[at]]
        key = (int(rows[at]), own.tobytes())
        if key not in known:
            prompt, answer = asked.questions[rows[at]]
            said = asked.tokens.decode([int(token) for token in own if token != asked.end])
            known[key] = verify(prompt, said, answer)
        scores[at] = known[key]
    return scores


@dataclass(frozen=True)
class Traced:
    """A JAX function of one completion: "file.py:function", called with arrays, gives a number.

    function(prompt [t], completion [n], length, answer [a]) -> float; tokens, padded as in `Table` and `Completions`.
    """

    function: str
    weight: float = 1.0

    def check(self, asked, new):
        pass  # only the function knows

    def scores(self, asked, rows, written):
        each = jax.vmap(load(self.function))
        return each(asked.table.tokens[rows], *written, asked.table.answer[rows]).astype(jnp.float32)


def table_of(questions: Sequence[Question], tokens: Tokenizer, end: int) -> Table:
    """Questions as tokens."""
    prompts = padded([tokens.encode(question.prompt) for question in questions])
    answers = [tokens.encode(question.answer) for question in questions]
    width = max(map(len, answers)) + 1
    table = np.array([answer + [end] * (width - len(answer)) for answer in answers], np.int32)
    return Table(*prompts, jnp.asarray(table), jnp.asarray([len(answer) for answer in answers], jnp.int32))


def total(rewards: Sequence[Any], asked: Asked, rows: Int[Array, "b"], written: Completions) -> Float[Array, "b"]:
    """The weighted sum of the rewards."""
    parts = [reward.weight * reward.scores(asked, rows, written) for reward in rewards]
    return sum(parts[1:], start=parts[0])
