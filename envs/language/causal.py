"""What a language model is here, and how fresh weights are drawn."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

Memory = Any  # what a model remembers of the tokens so far: a pytree


class Causal(Protocol):
    """What reads prompts and writes completions, many rows at a time: `Decoder`, `RWKV7`, `Whole`. Methods are pure."""

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows."""
        ...

    @property
    def context(self) -> int:
        """The longest text; 0: any."""
        ...

    def begin(self, params: Any, rows: int, length: int) -> Memory:
        """The memory before the first token, with room for `length`."""
        ...

    def grow(self, memory: Memory, more: int) -> Memory:
        """The memory with room for `more`."""
        ...

    def read(
        self, params: Any, tokens: Int[Array, "b t"], real: Bool[Array, "b t"], memory: Memory
    ) -> tuple[Float[Array, "b t w"], Memory]:
        """What the last layer says of every new token; `real` is False at padding on the left."""
        ...

    def logits(self, params: Any, x: Float[Array, "*b w"]) -> Float[Array, "*b v"]:
        """Scores of every token, in float32."""
        ...


def check_vocabulary(tokens: int, model: Causal):
    """Raise where a tokenizer of so many tokens writes some that the model doesn't know; a larger model is fine."""
    if tokens > model.vocabulary:
        raise ValueError(
            f"The tokenizer has {tokens} tokens and the model {model.vocabulary}: they don't belong together. "
            "Take the tokenizer of the model's own folder."
        )


def logits_of(model: Causal, params: Any, tokens: Int[Array, "b t"], real: Bool[Array, "b t"]) -> Float[Array, "b t v"]:
    """Scores of the token after each position."""
    x, _ = model.read(params, tokens, real, model.begin(params, *real.shape))
    return model.logits(params, x)


def fresh(key: Key[Array, ""], shapes: dict[str, Any]) -> dict[str, Any]:
    """Float32 weights: normal with variance 1 / in for matrices and 0.02^2 for tables, ones for norms, else zeros."""
    leaves, tree = jax.tree.flatten_with_path(shapes, is_leaf=lambda x: type(x) is tuple)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(tree, [_drawn(k, path[-1].key, s) for k, (path, s) in zip(keys, leaves, strict=True)])


def _drawn(key: Key[Array, ""], name: str, shape: tuple[int, ...]) -> Array:
    if "norm" in name and not name.endswith("bias"):
        return jnp.ones(shape)
    if name in ("embed", "head", "positions"):
        return 0.02 * jax.random.normal(key, shape)
    return jax.random.normal(key, shape) * shape[-2] ** -0.5 if len(shape) == 3 else jnp.zeros(shape)
