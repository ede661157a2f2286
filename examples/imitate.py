"""Two tiny Llama-shaped models taught by backpropagation what an answer looks like, for reward to improve.

    python examples/imitate.py runs/format --countdown
    python examples/imitate.py runs/tiny

The first learns the format of Countdown's answers and nothing else: after "[3, 7] 21:" comes any of the sixteen
"3+3", "3+7", ... "7/7", all equally likely, whatever the target. The second learns sums, "7+12=19", and then copies a
bad teacher. Both write a Hugging Face folder, and both ship: as `folder: format`, and as what `folder` left out is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from evo.envs.language.architecture import architecture
from evo.envs.language.causal import logits_of
from evo.envs.language.checkpoint import save
from evo.envs.language.questions import Countdown, Question, Sums
from evo.envs.language.reward import table_of
from evo.envs.language.tokens import Bytes

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 256, "hidden_size": 16}
CONFIG |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
CONFIG |= {"intermediate_size": 48, "max_position_embeddings": 32, "rope_theta": 100.0, "rms_norm_eps": 1e-5}
CONFIG |= {"tie_word_embeddings": True, "hidden_act": "silu", "bos_token_id": None, "eos_token_id": 0}
PAIRS = Countdown(count=900, least=2, most=2, largest=20, template="{numbers} {target}:")  # of countdown_eggroll.yaml


def loss(model, table, params, rows, said):
    """Cross-entropy of the answers `said` and their ends, given the prompts `rows`."""
    tokens = jnp.concatenate([table.tokens[rows], table.answer[said]], axis=1)
    own = jnp.arange(table.answer.shape[1])[None] <= table.length[said][:, None]
    real = jnp.concatenate([table.real[rows], own], axis=1)
    scores = jax.nn.log_softmax(logits_of(model, params, tokens, real))
    width = table.tokens.shape[1]
    each = jnp.take_along_axis(scores[:, width - 1 : -1], table.answer[said][..., None], axis=-1)[..., 0]
    return -(each * own).sum() / own.sum()


def taught(model, params, table, draw: Callable, steps: int, lr, key):
    """Parameters after `steps` of Adam on pairs of 64 prompts and answers, `draw(key)`, and the last loss."""
    optimizer = optax.adam(lr)

    def step(carry, key):
        params, state = carry
        value, gradient = jax.value_and_grad(partial(loss, model, table))(params, *draw(key))
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    keys = jax.random.split(key, steps)
    (params, _), values = jax.jit(partial(jax.lax.scan, step))((params, optimizer.init(params)), keys)
    return params, float(values[-1]) if steps else float("nan")


def trained(questions: list[Question], held_out: float) -> list[Question]:
    """Those that aren't held out."""
    return questions[: len(questions) - round(held_out * len(questions))]


def only_format(steps: int, seed: int):
    """Countdown with two numbers: an answer is number, operator, number, each number one of the two given."""
    model, key = architecture(CONFIG), jax.random.key(seed)
    shown = []
    for prompt, answer in trained(PAIRS.all(), 0.3):
        numbers = answer.split()[1:]
        shown += [Question(prompt, f"{x}{o}{y}") for x, o, y in product(numbers, "+-*/", numbers)]
    table = table_of(shown, Bytes(), 0)

    def draw(key):
        rows = jax.random.randint(key, (64,), 0, len(shown))
        return rows, rows

    lr = optax.cosine_decay_schedule(5e-3, steps)
    params, value = taught(model, model.init(key), table, draw, steps, lr, jax.random.fold_in(key, 1))
    return params, [value]


def bad_sums(steps: int, sloppy: int, seed: int):
    """Sums, all but a fifth of them; then, for `sloppy` steps, answers of which a quarter is right.

    The others are the answers of other questions.
    """
    model, key = architecture(CONFIG), jax.random.key(seed)
    shown = trained(Sums().all(), 0.2)
    table = table_of(Sums().all(), Bytes(), 0)

    def draw(key, right):
        rows, others = jax.random.randint(key, (2, 64), 0, len(shown))
        return rows, jnp.where(jnp.arange(64) < right, rows, others)

    params, values = model.init(key), []
    for phase, count, right, lr in ((1, steps, 64, 5e-3), (2, sloppy, 16, 1e-3)):
        own = jax.random.fold_in(key, phase)
        params, value = taught(model, params, table, partial(draw, right=right), count, lr, own)
        values.append(value)
    return params, values


def main():
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("out", type=Path)
    flags.add_argument("--countdown", action="store_true", help="the format of Countdown's answers; else sums, badly")
    flags.add_argument("--steps", type=int, default=2000)
    flags.add_argument("--sloppy", type=int, default=400, help="steps on bad sums after them")
    flags.add_argument("--seed", type=int, default=0)
    flags = flags.parse_args()
    ours = (flags.steps, flags.seed) if flags.countdown else (flags.steps, flags.sloppy, flags.seed)
    params, values = only_format(*ours) if flags.countdown else bad_sums(*ours)
    save(flags.out, CONFIG, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))
    said = ", ".join(f"{value:.3f}" for value in values)
    print(f"{flags.out}: {sum(x.size for x in jax.tree.leaves(params)):,} weights, last losses {said}")


if __name__ == "__main__":
    main()
