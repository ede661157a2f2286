"""Checkpoints: logits, left padding and cache as Transformers has them (golden files), and back to a folder."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import load_file

from evo.envs.language.checkpoint import load, save
from evo.envs.language.generate import Prompts, generate
from evo.envs.language.model import logits_of

GOLDEN = Path(__file__).parent / "golden" / "language"
NAMES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
MODELS = pytest.mark.parametrize("name", NAMES)
KEY = jax.random.key(0)


@MODELS
def test_logits_and_greedy_completions_are_those_of_transformers(name):
    _, model, params = load(GOLDEN / name)
    want = load_file(GOLDEN / f"{name}.safetensors")
    prompts = Prompts(jnp.asarray(want["tokens"]), jnp.asarray(want["real"]))
    real, new = want["real"], want["written"].shape[1]
    both = jax.jit(lambda p: (logits_of(model, p, *prompts), generate(model, p, prompts, KEY, new=new, end=-1)))
    logits, written = both(params)
    assert abs(want["logits"]).max() > 1
    assert_allclose(logits[real], want["logits"][real], atol=2e-5)
    assert_array_equal(written.tokens, want["written"])


@MODELS
def test_saved_and_loaded_it_is_the_same(name, tmp_path):
    config, model, params = load(GOLDEN / name)
    save(tmp_path / "out", config, params)
    again = load(tmp_path / "out")
    assert again.model == model
    jax.tree.map(assert_array_equal, again.params, params)
    tensors = {key: x for file in (GOLDEN / name).glob("*.safetensors") for key, x in load_file(file).items()}
    for key, x in load_file(tmp_path / "out" / "model.safetensors").items():
        assert_array_equal(x, tensors[key])
