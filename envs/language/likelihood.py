"""Next-token likelihood of text: what language models are trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from evo.envs.language import demo
from evo.envs.language.corpus import Corpus, corpus, documents, found, window
from evo.envs.language.entropy import entropies
from evo.envs.language.model import Carry, LanguageModel
from evo.envs.language.recurrent import Recurrent
from evo.envs.language.tokens import Tokenizer, tokenizer
from evo.random import integers
from evo.task import Evaluation, Trial

HELD = 1 << 20  # tokens of held-out text that a program carries, at most


class TextState(NamedTuple):
    """Where the task stands in its corpus."""

    cursor: Int[Array, ""]  # windows read so far
    tokens: Int[Array, "s t+1"]  # this generation's windows
    carry: Carry  # [s, ...]: what the model remembers of each sequence


@dataclass(frozen=True)
class Text:
    """Next-token likelihood over files, folders and globs of text or JSONL: fitness is minus the bits per byte.

    Without `files` it is the demo: the text that every Python brings along. A generation sees `sequences` windows of
    `length` tokens; trial i reads window i mod `sequences`, so population / `sequences` members share one (of pairs,
    both do). Each sequence runs through the whole corpus from its own place, a window a generation, and what a model
    remembers runs along: a window's members all begin where the first of them that is finite ended the one before
    (truncated ES).

    A `held_out` share of the text is never trained on. On a key alone, as in `evo eval`, a model is judged there, on a
    window at a random place, after reading as much before it. Text is UTF-8, a token a byte, or tokens of the
    `tokenizers` JSON file `tokenizer`, whose documents end with `end`; `per: token` gives bits per token. Each line's
    `field` of a .jsonl file is a document. A fitness counts in `unit`s: it is the score summed over the window.
    """

    model: LanguageModel = Recurrent()
    files: tuple[str, ...] = ()
    field: str = "text"
    tokenizer: str = ""
    end: str = ""
    length: int = 64
    sequences: int = 16
    held_out: float = 0.1
    per: Literal["byte", "token"] = "byte"

    trials: ClassVar[bool] = True

    def __post_init__(self):
        if self.length < 1 or self.sequences < 1:
            raise ValueError(f"`length` and `sequences` are at least 1; got {self.length} and {self.sequences}.")
        if self.end and not self.tokenizer:
            raise ValueError(f"`end` is a token of the `tokenizer` file; bytes end with 0, so leave {self.end!r} out.")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"`held_out` is a share of the text, at least 0 and below 1; got {self.held_out}.")

    @cached_property
    def tokens(self) -> Tokenizer:
        """What text is made of."""
        return tokenizer(self.tokenizer, self.end)

    @cached_property
    def corpus(self) -> Corpus:
        """The text; read at its first use."""
        files = found(self.files) if self.files else ()
        pieces = documents(files, self.field) if self.files else demo.documents()
        return corpus(pieces, self.tokens, self.held_out, ", ".join(self.files[:3]) or "of the demo")

    @property
    def unit(self) -> float:
        """Bits per byte (or token) in a fitness of 1."""
        return self.model.unit / self.length * (self.corpus.tokens_per_byte if self.per == "byte" else 1.0)

    @cached_property
    def references(self) -> dict[str, float]:
        """What counting single tokens and pairs would score on the held-out text."""
        scale = self.corpus.tokens_per_byte if self.per == "byte" else 1.0
        bits = entropies(self.corpus.train, self.corpus.held_out, self.tokens.vocabulary)
        return {name: -scale * value for name, value in bits.items()}

    def init(self, key):
        params = self.model.init(key, self.tokens.vocabulary)
        carry = jax.tree.map(lambda x: jnp.repeat(x[None], self.sequences, 0), self.model.start())
        return params, TextState(jnp.int32(0), jnp.asarray(self._windows(0)), carry)

    def evaluate(self, params, state, key):
        if not isinstance(key, Trial):
            return Evaluation(self._held_out(params, key))
        row = key.number % self.sequences
        carry = jax.tree.map(lambda x: x[row], state.carry)
        carry, score = self.model.score(params, carry, state.tokens[row], self.tokens.eos)
        aux = {"steps": jnp.int32(self.length), "row": row, "carry": carry}
        return Evaluation(score.sum(dtype=score.dtype), aux=aux)

    def absorb(self, state, aux):
        """On to the next window. A sequence starts it as it had started this one if nobody read it to a finite end."""
        n = aux["row"].shape[0]
        sound = jnp.ones(n, bool)
        for leaf in jax.tree.leaves(aux["carry"]):
            sound &= jnp.isfinite(leaf).reshape(n, -1).all(1)
        place = jnp.where(sound, jnp.arange(n, dtype=jnp.int32), n)
        first = jnp.full(self.sequences, n, jnp.int32).at[aux["row"]].min(place)
        read = first < n

        def carried(old, new):
            return jnp.where(read.reshape(-1, *[1] * (old.ndim - 1)), new[jnp.minimum(first, n - 1)], old)

        cursor = state.cursor + 1
        shape = jax.ShapeDtypeStruct(state.tokens.shape, jnp.int32)
        tokens = jax.pure_callback(self._windows, shape, cursor)
        return TextState(cursor, tokens, jax.tree.map(carried, state.carry, aux["carry"]))

    def sample(self, params, prompt: str, count: int, temperature: float, key: Key[Array, ""]) -> str:
        """Text that goes on after `prompt`, up to `count` tokens or the document's end; likeliest tokens at 0."""
        asked = jnp.array([self.tokens.eos, *self.tokens.encode(prompt)], jnp.int32)
        step = lambda carry, token: self.model.step(params, carry, token, self.tokens.eos)  # noqa: E731

        @jax.jit
        def write(asked, keys):
            carry, logits = jax.lax.scan(step, self.model.start(), asked)

            def more(before, key):
                carry, logits = before
                bits = logits.astype(jnp.float32) * (self.model.unit * math.log(2))
                drawn = jax.random.categorical(key, bits / max(temperature, 1e-6))
                token = jnp.argmax(bits) if temperature == 0 else drawn
                return step(carry, token), token

            return jax.lax.scan(more, (carry, logits[-1]), keys)[1]

        written = write(asked, jax.random.split(key, count)).tolist()
        end = written.index(self.tokens.eos) if self.tokens.eos in written else count
        return self.tokens.decode(written[:end])

    def _windows(self, cursor) -> Int[np.ndarray, "s t+1"]:
        """The windows of one generation: each sequence begins at its own share of the corpus."""
        row, moved = self.corpus.train, int(cursor) * self.length
        starts = [len(row) * i // self.sequences + moved for i in range(self.sequences)]
        return np.stack([window(row, start, self.length + 1) for start in starts])

    def _held_out(self, params, key):
        """The score of a window at a random place of the held-out text, after reading as much before it."""
        held, long = self.corpus.held_out[:HELD], 2 * self.length + 1
        text = jnp.asarray(held if len(held) >= long else window(held, 0, long))
        start = integers(key, 1, jnp.int32(len(text) - long + 1))[0]
        tokens = jax.lax.dynamic_slice(text, [start], [long]).astype(jnp.int32)
        score = self.model.score(params, self.model.start(), tokens, self.tokens.eos)[1][self.length :]
        return score.sum(dtype=score.dtype)
