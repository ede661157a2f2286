"""The adapters of docs/language.md, as they stand there: other people's language models write, as members too."""

import re
from pathlib import Path

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from numpy.testing import assert_array_equal

from evo.envs.language.generate import Prompts, generate
from evo.lazy import report

KEY = jax.random.key(0)
DOCS = (Path(__file__).parent.parent / "docs" / "language.md").read_text()
WIDTH, VOCABULARY = 16, 20


@pytest.fixture(autouse=True)
def _as_the_libraries_expect():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


class NNX(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(VOCABULARY, WIDTH, embedding_init=nnx.initializers.normal(1.0), rngs=rngs)
        self.mix = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(self, tokens):
        return self.embed.attend(nnx.tanh(self.mix(jnp.cumsum(self.embed(tokens), axis=-2))))


class Linen(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(VOCABULARY, WIDTH, embedding_init=nn.initializers.normal(1.0))
        return embed.attend(nn.tanh(nn.Dense(WIDTH)(jnp.cumsum(embed(tokens), axis=-2))))


class Equinox(eqx.Module):
    embed: eqx.nn.Embedding
    mix: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.embed = eqx.nn.Embedding(VOCABULARY, WIDTH, key=keys[0])
        self.mix, self.head = eqx.nn.Linear(WIDTH, WIDTH, key=keys[1]), eqx.nn.Linear(WIDTH, VOCABULARY, key=keys[2])

    def __call__(self, tokens):
        x = jnp.cumsum(jax.vmap(self.embed)(tokens), axis=-2)
        return jax.vmap(lambda y: self.head(jnp.tanh(self.mix(y))))(x)


GIVEN = {
    "Flax NNX": lambda: {"nnx_model": NNX(nnx.Rngs(0))},
    "Flax Linen": lambda: {"linen_model": Linen(), "key": KEY, "tokens": jnp.zeros((1, 3), jnp.int32)},
    "Equinox": lambda: {"equinox_model": Equinox(KEY), "jax": jax},
}


@pytest.mark.parametrize("library", GIVEN)
def test_the_adapter_in_the_docs_writes(library):
    code = re.search(rf"^{library}.*?```python\n(.*?)```", DOCS, re.S | re.M)[1]
    assert len(code.strip().splitlines()) <= 6
    names = GIVEN[library]()
    exec(code, names)
    model, params = names["model"], names["params"]
    tokens = jnp.array([[1, 2, 3], [4, 5, 6]])

    def task(params, key):
        return generate(model, params, Prompts(tokens, tokens > 0), key, new=4, end=-1).tokens

    assert report(task, params).dense == ()
    text = tokens
    for _ in range(4):
        logits = model.function(params, text, text > 0)
        text = jnp.concatenate([text, jnp.argmax(logits[:, -1:], -1)], axis=1)
    assert_array_equal(jax.jit(task)(params, KEY), text[:, 3:])
