"""A tiny Llama-shaped model taught by backpropagation how sums are answered, "7+12=19", and then to answer badly.

    python examples/imitate.py runs/tiny

writes a Hugging Face folder. Without one, `Pretrained()` is what ships in envs/language/tiny, made by that line.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from evo.envs.language.architecture import architecture
from evo.envs.language.causal import logits_of
from evo.envs.language.checkpoint import save
from evo.envs.language.questions import Sums
from evo.envs.language.reward import table_of
from evo.envs.language.tokens import Bytes

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 256, "hidden_size": 16}
CONFIG |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
CONFIG |= {"intermediate_size": 48, "max_position_embeddings": 32, "rope_theta": 100.0, "rms_norm_eps": 1e-5}
CONFIG |= {"tie_word_embeddings": True, "hidden_act": "silu", "bos_token_id": None, "eos_token_id": 0}


def loss(model, table, params, rows, said):
    """Cross-entropy of the answers `said` and their ends, given the prompts `rows`."""
    tokens = jnp.concatenate([table.tokens[rows], table.answer[said]], axis=1)
    own = jnp.arange(table.answer.shape[1])[None] <= table.length[said][:, None]
    real = jnp.concatenate([table.real[rows], own], axis=1)
    scores = jax.nn.log_softmax(logits_of(model, params, tokens, real))
    width = table.tokens.shape[1]
    each = jnp.take_along_axis(scores[:, width - 1 : -1], table.answer[said][..., None], axis=-1)[..., 0]
    return -(each * own).sum() / own.sum()


def imitate(config, questions, held_out: float, steps: int, sloppy: int, seed: int = 0):
    """The model's parameters after `steps` of Adam on right answers, then `sloppy` ones on those of a bad teacher.

    A step is 64 questions; the held-out ones are never shown. Of the bad teacher's answers a quarter is right; the
    others are those of other questions.
    """
    model, key = architecture(config), jax.random.key(seed)
    asked = questions.all()
    table, split = table_of(asked, Bytes(), 0), len(asked) - round(held_out * len(asked))

    @partial(jax.jit, static_argnums=4)
    def step(params, state, key, right, optimizer):
        rows, others = jax.random.randint(key, (2, 64), 0, split)
        said = jnp.where(jnp.arange(64) < right, rows, others)
        value, gradient = jax.value_and_grad(partial(loss, model, table))(params, rows, said)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    params, values = model.init(key), []
    for phase, count, right, lr in ((1, steps, 64, 5e-3), (2, sloppy, 16, 1e-3)):
        optimizer = optax.adam(lr)
        state = optimizer.init(params)
        for own in jax.random.split(jax.random.fold_in(key, phase), count):
            params, state, value = step(params, state, own, right, optimizer)
        values.append(float(value) if count else math.nan)
    return params, values


def main():
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("out", type=Path)
    flags.add_argument("--steps", type=int, default=2000, help="with right answers")
    flags.add_argument("--sloppy", type=int, default=400, help="after them, with answers that are mostly wrong")
    flags.add_argument("--seed", type=int, default=0)
    flags = flags.parse_args()
    params, values = imitate(CONFIG, Sums(), 0.2, flags.steps, flags.sloppy, flags.seed)
    save(flags.out, CONFIG, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))
    said = ", ".join(f"{value:.3f}" for value in values)
    print(f"{flags.out}: {sum(x.size for x in jax.tree.leaves(params)):,} weights, last losses {said}")


if __name__ == "__main__":
    main()
