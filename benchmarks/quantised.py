"""What fine-tuning needs of memory, read off compiled programs: bf16 AdamW by backpropagation, bf16 ES, int4 QZO, QES.

    python benchmarks/quantised.py [--quick] [--json FILE]

Llama-shaped models, one sequence of 128 tokens, next-token likelihood; the searches judge two members, one at a
time. Nothing is run: arguments, results and temporaries are XLA's own figures, of the largest of a method's programs.
They are of this machine's backend: on CPUs it multiplies bf16 by way of float32 copies.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from measure import Row, arguments, show

from evo.axes import split_axes
from evo.envs.language.causal import logits_of
from evo.envs.language.decoder import Decoder
from evo.envs.language.quantised import quantised
from evo.express import plan
from evo.runtime import Runtime
from evo.strategies.es import EGGROLL
from evo.strategies.qes import QES
from evo.strategies.qzo import QZO
from evo.task import Evaluation

KEY = jax.random.key(0)
SMALL = Decoder(4096, width=512, layers=4, heads=8, groups=4, head=64, hidden=1408, context=128, tied=True)
LARGE = Decoder(32000, width=2048, layers=16, heads=32, groups=8, head=64, hidden=5632, context=128, tied=True)
SEVEN = Decoder(32000, width=4096, layers=32, heads=32, groups=32, head=128, hidden=11008, context=128)  # Llama 2 7B


def likelihood(model, params, key):
    """Mean log-likelihood of 128 tokens, drawn by the key."""
    tokens = jax.random.randint(key, (1, 128), 0, model.vocabulary)
    scores = jax.nn.log_softmax(logits_of(model, params, tokens, tokens >= 0))[:, :-1]
    return jnp.take_along_axis(scores, tokens[:, 1:, None], axis=-1).mean()


def needs(program, donated: int | None, *args) -> int:
    """Bytes that a program has alive at once, its arguments among them."""
    donate = () if donated is None else (donated,)
    said: Any = jax.jit(program, donate_argnums=donate).lower(*args).compile().memory_analysis()
    whole = said.argument_size_in_bytes + said.output_size_in_bytes + said.temp_size_in_bytes
    return whole - said.alias_size_in_bytes


def backprop(model, params, moments: Any) -> int:
    """AdamW on bf16 weights and gradients, with moments of this dtype."""
    optimizer = optax.adamw(1e-5)
    wide = lambda tree: jax.tree.map(lambda x: x.astype(moments), tree)  # noqa: E731

    def step(held, key):
        params, state = held
        gradient = jax.grad(lambda p: -likelihood(model, p, key))(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(wide(gradient), state, params)
        return optax.apply_updates(params, updates), state

    return needs(step, 0, (params, jax.eval_shape(lambda p: optimizer.init(wide(p)), params)), KEY)


def search(model, params, strategy) -> int:
    """The larger of judging two members, one at a time, and telling the strategy."""
    task, runtime = partial(likelihood, model), Runtime(chunk=1)
    axes = split_axes(task, params, KEY)
    strategy = type(strategy)(**{**vars(strategy), "noise": plan(strategy.noise, params, axes)})
    state = jax.eval_shape(strategy.init, KEY, params)
    genome, _ = jax.eval_shape(strategy.ask, KEY, state)
    luck = jax.eval_shape(lambda: jax.random.split(KEY, 2))
    judged = lambda state, *a: runtime.map(task, strategy.noise, strategy.bases(state), *a)  # noqa: E731
    tell, scores = partial(strategy.tell, runtime), Evaluation(jax.ShapeDtypeStruct((2,), jnp.float32))
    return max(needs(judged, None, state, genome, luck), needs(tell, 0, state, genome, scores))


def table_of(model) -> list[Row]:
    """What each method needs for a model of this shape."""
    params = jax.eval_shape(lambda: jax.tree.map(lambda x: x.astype(jnp.bfloat16), model.init(KEY)))
    small = jax.eval_shape(lambda p: quantised(p, 4, 128), params)
    nudged = jax.eval_shape(lambda p: quantised(p, 4, 128, nudge=True), params)
    count = sum(x.size for x in jax.tree.leaves(params)) / 1e6
    found = {
        "bf16, AdamW with float32 moments": backprop(model, params, jnp.float32),
        "bf16, AdamW with bf16 moments": backprop(model, params, jnp.bfloat16),
        "bf16, EGGROLL rank 1 (float32 centre)": search(model, params, EGGROLL(2, optimizer="sgd")),
        "int4, QZO on scales": search(model, small, QZO()),
        "int4, QES on codes": search(model, nudged, QES(2)),
    }
    weights = {"weights in bf16": params, "weights in int4, groups of 128 (embedding bf16)": small}
    found |= {name: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)) for name, tree in weights.items()}
    least = found["int4, QZO on scales"]
    return [Row(f"{count:,.0f} M, {name}", size / 1e6, "MB", size / least, "QZO") for name, size in found.items()]


def main():
    flags = arguments(__doc__)
    models = (SMALL,) if flags.quick else (LARGE, SEVEN)
    show("memory of a step", [row for model in models for row in table_of(model)], flags.json)


if __name__ == "__main__":
    main()
