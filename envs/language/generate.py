"""Generation: prompts in, tokens out, many prompts at a time, stopping when every row of every member is done.

Axes: `b` rows, `t` positions of the prompts, `n` new tokens, `v` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int, Key

from evo.envs.language.causal import Causal


class Prompts(NamedTuple):
    """Prompts of different lengths side by side: padding is on the left."""

    tokens: Int[Array, "b t"]
    real: Bool[Array, "b t"]


class Completions(NamedTuple):
    """What was generated: `length` tokens of each row count, the end among them; behind them stands the end."""

    tokens: Int[Array, "b n"]
    length: Int[Array, "b"]


def padded(prompts: Sequence[Sequence[int]], width: int = 0) -> Prompts:
    """Prompts as arrays, `width` wide or as wide as the longest. Raises on an empty prompt, or one that is too long."""
    longest = max(map(len, prompts), default=0)
    if not prompts or min(map(len, prompts)) == 0:
        raise ValueError("A prompt needs at least one token; got an empty one. Begin it with the model's first token.")
    if width and longest > width:
        raise ValueError(f"A prompt has {longest} tokens; wanted at most {width}.")
    tokens = np.zeros((len(prompts), width or longest), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[len(row) - len(prompt) :] = prompt
    lengths = np.array([len(prompt) for prompt in prompts])
    real = np.arange(tokens.shape[1])[None] >= tokens.shape[1] - lengths[:, None]
    return Prompts(jnp.asarray(tokens), jnp.asarray(real))


def check_length(model: Causal, prompt: int, new: int):
    """Raise where a prompt and its completion don't fit the model's context."""
    if model.context and prompt + new > model.context:
        room = model.context - prompt
        way = f"Generate at most {room}, or shorten the prompts." if room > 0 else "Shorten the prompts."
        raise ValueError(
            f"A prompt of {prompt} tokens and {new} new ones are {prompt + new}, but the model's context is "
            f"{model.context}. {way}"
        )


def generate(
    model: Causal,
    params: Any,
    prompts: Prompts,
    key: Key[Array, ""],
    *,
    new: int,
    end: int | tuple[int, ...],
    temperature: float = 0.0,
    vocabulary: int | None = None,
) -> Completions:
    """Up to `new` tokens after each prompt: the likeliest at temperature 0, else drawn from softmax(logits / T).

    A row is done once it wrote an `end`, of several any, which then stands there as the first of them; the loop ends
    when all rows are, those of vmapped members included, so it never runs some members with their state selected. Of
    tokens from `vocabulary` on only ends are written. Raises where prompt and completion exceed the context.
    """
    rows, width = prompts.tokens.shape
    check_length(model, width, new)
    ends = np.array(end, np.int32).reshape(-1)
    end, ids = int(ends[0]), np.arange(model.vocabulary)
    known = (ids < (vocabulary or model.vocabulary)) | np.isin(ids, ends)

    def choose(logits, step):
        logits = logits if known.all() else jnp.where(known[None], logits, -jnp.inf)
        token = chosen(logits, step, key, temperature)
        return jnp.where((token[:, None] == ends[None]).any(-1), end, token)

    memory = model.begin(params, rows, width)
    x, memory = model.read(params, prompts.tokens, prompts.real, memory)
    first = choose(model.logits(params, x[:, -1]), 0)
    written = jnp.full((rows, new), end, jnp.int32).at[:, 0].set(first)
    length = jnp.ones((rows,), jnp.int32)

    def going(carry):
        step, _, _, _, done, _ = carry
        return (step < new) & ~everyone(done)

    def body(carry):
        step, token, written, length, done, memory = carry
        x, memory = model.read(params, token[:, None], ~done[:, None], memory)
        token = jnp.where(done, end, choose(model.logits(params, x[:, 0]), step))
        written = lax.dynamic_update_slice(written, token[:, None], (0, step))
        return step + 1, token, written, length + (~done).astype(jnp.int32), done | (token == end), memory

    carry = (jnp.int32(1), first, written, length, first == end, model.grow(memory, new - 1))
    _, _, written, length, _, _ = lax.while_loop(going, body, carry)
    return Completions(written, length)


def chosen(logits: Float[Array, "b v"], step: Any, key: Key[Array, ""], temperature: float) -> Int[Array, "b"]:
    """The next token of each row; equal keys draw the same uniform numbers, whatever the logits."""
    if temperature == 0:
        return jnp.argmax(logits, -1).astype(jnp.int32)
    return jax.random.categorical(jax.random.fold_in(key, step), logits / temperature).astype(jnp.int32)


@custom_vmap
def everyone(done: Bool[Array, "*b"]) -> Bool[Array, ""]:
    """Whether all are done: one answer for all that vmap puts side by side, so a loop on it is one loop."""
    return done.all()


@everyone.def_vmap
def _everyone_of_all(size, batched, done):
    return everyone(done), False
