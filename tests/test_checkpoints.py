"""Checkpoints: logits, left padding and cache as Transformers has them (golden files), and back to a folder."""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import load_file, save_file

from evo.axes import split_axes
from evo.envs.language import shards
from evo.envs.language.causal import check_vocabulary, logits_of
from evo.envs.language.checkpoint import load, save
from evo.envs.language.decoder import Decoder
from evo.envs.language.generate import Prompts, generate, padded
from evo.express import express_dense, plan
from evo.genome import Genome, member
from evo.lazy import report
from evo.noise import LowRank
from evo.runtime import Runtime, temporaries
from evo.task import Evaluation

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
    want = {key: x for file in (GOLDEN / name).glob("*.safetensors") for key, x in load_file(file).items()}
    got = load_file(tmp_path / "out" / "model.safetensors")
    assert set(want) - set(got) <= {"lm_head.weight"}
    for key, x in got.items():
        assert_array_equal(x, want[key])


def test_saved_in_shards_and_in_half_precision_it_is_the_same(tmp_path, monkeypatch):
    config, _, params = load(GOLDEN / "qwen2", "bfloat16")
    monkeypatch.setattr(shards.write, "__defaults__", (8000,))
    (tmp_path / "tokenizer.json").write_text("{}")
    save(tmp_path / "out", config, params, beside=tmp_path)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    again = load(tmp_path / "out")
    jax.tree.map(assert_array_equal, again.params, params)
    assert again.params["embed"].dtype == jnp.bfloat16
    assert again.config["dtype"] == "bfloat16"
    assert (tmp_path / "out" / "tokenizer.json").exists()


def test_saved_over_another_checkpoint_it_is_what_was_saved(tmp_path, monkeypatch):
    """Old shards and their index go, but only once the new files are whole."""
    shutil.copytree(GOLDEN / "llama", tmp_path / "f")  # three shards
    config, _, old = load(tmp_path / "f")
    new = jax.tree.map(lambda x: x + 1, old)
    save(tmp_path / "f", config, new)
    assert [file.name for file in (tmp_path / "f").glob("model*")] == ["model.safetensors"]
    jax.tree.map(assert_array_equal, load(tmp_path / "f").params, new)
    monkeypatch.setattr(shards.write, "__defaults__", (8000,))
    (tmp_path / "f" / "tokenizer.json").write_text("{}")
    room = iter([shards.save_file])  # for one shard
    with monkeypatch.context() as full:
        full.setattr(shards, "save_file", lambda *a, **how: next(room)(*a, **how))
        with pytest.raises(StopIteration):
            save(tmp_path / "f", config, old)
    jax.tree.map(assert_array_equal, load(tmp_path / "f").params, new)
    save(tmp_path / "f", config, old, beside=tmp_path / "f")  # its own tokenizer stays
    assert not (tmp_path / "f" / "model.safetensors").exists()
    jax.tree.map(assert_array_equal, load(tmp_path / "f").params, old)


@MODELS
def test_nothing_is_made_dense(name):
    _, model, params = load(GOLDEN / name)
    assert report(lambda p, key: generate(model, p, padded([[3, 1]]), key, new=3, end=7).length, params).dense == ()


def says(model, params, key):
    return Evaluation(logits_of(model, params, *padded([[3, 1, 4, 1, 5], [2, 7]]))[:, -1, :5].mean())


def writes(model, params, key):
    out = generate(model, params, padded([[3, 1, 4, 1, 5], [2, 7]]), key, new=6, end=7, temperature=1.0)
    return Evaluation(out.tokens.sum(), aux=out)


@pytest.mark.parametrize(("name", "does"), [("qwen2", writes), ("rwkv7", says)])
def test_members_are_as_their_dense_twins(name, does):
    """Two pairs judged by the runtime, against a member's own dense weights."""
    _, model, params = load(GOLDEN / name)
    task = partial(does, model)
    noise = plan(LowRank(), params, split_axes(task, params, KEY))
    genome = Genome(jax.random.split(KEY, 2)[:, None], 0.2 * jnp.array([1.0, -1.0, 1.0, -1.0])[:, None])
    luck = jnp.repeat(jax.random.split(KEY, 2), 2)
    got = jax.jit(lambda p: Runtime().map(task, noise, p, genome, luck))(params)
    want = jax.jit(lambda g, key: task(express_dense(noise, params, g), key))(member(genome, 3), luck[3])
    assert_allclose(got.fitness[3], want.fitness, rtol=1e-5)
    assert len(np.unique(got.fitness)) == 4
    if does is writes:
        assert_array_equal(got.aux.tokens[3], want.aux.tokens)
        tokens = np.asarray(got.aux.tokens)
        ended = np.where((tokens == 7).any(-1), (tokens == 7).argmax(-1) + 1, 6)
        assert_array_equal(got.aux.length, ended)
        assert ended.min() < 6


def test_any_of_several_ends_ends_a_completion_and_is_written_as_the_first():
    _, model, params = load(GOLDEN / "llama")
    write = lambda **how: generate(model, params, padded([[3, 1]] * 12), KEY, new=6, temperature=3.0, **how)  # noqa: E731
    free, got = np.asarray(write(end=-1).tokens), write(end=(7, 3, 11))
    ends = np.isin(free, (7, 3, 11))
    length = np.where(ends.any(-1), ends.argmax(-1) + 1, 6)
    assert len(set(free[ends])) > 1
    assert_array_equal(got.length, length)
    behind = np.arange(6) >= (length - ends.any(-1))[:, None]
    assert_array_equal(got.tokens, np.where(behind, 7, free))
    few = np.asarray(write(end=(30, 3), vocabulary=20).tokens)
    assert set(few.ravel()) <= {*range(20), 30} - {3}


def test_members_share_one_model():
    """n members x p prompts need one model, thin factors and their caches: a member costs a twentieth of the model."""
    n, model = 32, Decoder(512, width=256, layers=4, heads=8, groups=4, head=32, hidden=768, context=128, tied=True)
    params = jax.eval_shape(model.init, KEY)
    prompts = Prompts(jnp.ones((2, 8), jnp.int32), jnp.ones((2, 8), bool))

    def task(params, key):
        return generate(model, params, prompts, key, new=8, end=0).length.mean()

    noise = plan(LowRank(), params, split_axes(task, params, KEY))
    split = partial(jax.random.split, KEY)
    shapes = jax.eval_shape(lambda: (split(n // 2)[:, None], jnp.ones((n, 1)), split(n)))
    program = jax.jit(lambda p, keys, scale, luck: Runtime().map(task, noise, p, Genome(keys, scale), luck))
    cache = sum(x.size * 4 for x in jax.eval_shape(lambda p: model.begin(p, 2, 16), params)[:2])
    matrices = [leaf.matrix(x.shape) for leaf, x in zip(noise.of(params), jax.tree.leaves(params), strict=True)]
    factors = sum(4 * np.prod(stack) * sum(ends) for *stack, ends in (((*m[:-2], m[-2:])) for m in matrices))
    rows = 4 * 2 * 8 * 768
    one = sum(x.size * 4 for x in jax.tree.leaves(params))
    assert temporaries(program.lower(params, *shapes).compile()) < n * (3 * cache + 2 * factors + rows) < n * one / 20


def test_generation_is_one_loop_for_all_members():
    """A loop that each member left for itself would select its whole cache, every step."""
    _, model, params = load(GOLDEN / "llama")
    rows = jax.vmap(lambda key: generate(model, params, padded([[3, 1]]), key, new=5, end=7, temperature=1.0))
    jaxpr = jax.make_jaxpr(rows)(jax.random.split(KEY, 3)).jaxpr
    (loop,) = (eqn for eqn in every(jaxpr) if eqn.primitive.name == "while" and len(eqn.outvars) > 5)
    selects = [eqn for eqn in every(loop.params["body_jaxpr"].jaxpr) if eqn.primitive.name == "select_n"]
    cache = (3, 2, 1, 6, 2, 4)  # members, layers, rows, slots, heads, numbers
    assert cache in [var.aval.shape for var in loop.outvars]
    assert all(eqn.outvars[0].aval.shape != cache for eqn in selects)


def every(jaxpr):
    """The equations of a program, inner programs included."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from every(inner)


BROKEN = {
    "no config": (lambda f: (f / "config.json").unlink(), "no Hugging Face folder: it has no config.json"),
    "not JSON": (lambda f: (f / "config.json").write_text("{"), "config.json can't be read as JSON"),
    "text": (lambda f: edit(f, hidden_size="16"), "`hidden_size` is a whole number above 0; got '16'"),
    "unknown": (lambda f: edit(f, model_type="qwen4"), "unknown architecture, model_type 'qwen4'; the nearest .*'qwen"),
    "a field lacks": (lambda f: edit(f, vocab_size=None), "'vocab_size' is missing or null, which llama models have"),
    "null": (lambda f: null(f, "hidden_size"), "'hidden_size' is missing or null, which llama models have"),
    "no heads": (lambda f: edit(f, num_attention_heads=0), "`num_attention_heads` is a whole number above 0; got 0"),
    "a word": (lambda f: edit(f, quantization_config="gptq"), "`quantization_config` is a mapping; got 'gptq'"),
    "groups": (lambda f: edit(f, num_key_value_heads=3), "4 heads can't share 3 heads of keys and values"),
    "uneven": (
        lambda f: edit(f, num_attention_heads=3, num_key_value_heads=3, head_dim=None),
        "3 heads don't divide a width of 16",
    ),
    "theta": (lambda f: edit(f, rope_parameters={"rope_theta": "x"}), "`rope_theta` of .* is a number; got 'x'"),
    "odd": (lambda f: edit(f, head_dim=5), "rotary positions turn pairs, so a head has an even size; got 5"),
    "rope": (lambda f: edit(f, rope_parameters={"rope_type": "yarn"}), "`rope_type` 'yarn' isn't known"),
    "quantised": (lambda f: edit(f, quantization_config={"quant_method": "awq"}), "quantised by 'awq' can't be read"),
    "no weights": (lambda f: [p.unlink() for p in f.glob("*.s*s*")], "has no safetensors files"),
    "a shard lacks": (lambda f: shard(f).unlink(), "lacks the shard model-00002-of-00003.safetensors, which has 9 of"),
    "torn": (lambda f: shard(f).write_bytes(shard(f).read_bytes()[:-9]), "can't be read as safetensors"),
    "a tensor lacks": (lambda f: retype(f, lambda x: None), "has no tensor '.*', although"),
    "wrong dtype": (lambda f: retype(f, lambda x: x.astype(np.int32)), "is I32; wanted F32 or F16 or BF16"),
    "wrong shape": (lambda f: retype(f, lambda x: x[:1]), r"has shape \(1.*\); config.json says"),
}


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    text = json.dumps({name: value for name, value in config.items() if value is not None})
    (folder / "config.json").write_text(text)


def null(folder, name):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {name: None}))


def shard(folder):
    return folder / "model-00002-of-00003.safetensors"


def retype(folder, change):
    """Change the first tensor of a shard."""
    found = load_file(shard(folder))
    first = next(iter(sorted(found)))
    found[first] = change(found[first])
    save_file({name: x for name, x in found.items() if x is not None}, shard(folder))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_one_clear_error(name, tmp_path):
    shutil.copytree(GOLDEN / "llama", tmp_path / "llama")
    change, message = BROKEN[name]
    change(tmp_path / "llama")
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path / "llama")
    assert len(str(error.value)) < 400


def test_what_does_not_fit_is_told():
    config, model, params = load(GOLDEN / "llama")
    with pytest.raises(ValueError, match=r"3 tokens and 30 new ones are 33, .* context is 32. Generate at most 29"):
        generate(model, params, padded([[1, 2, 3]]), KEY, new=30, end=0)
    with pytest.raises(ValueError, match="at least one token; got an empty one"):
        padded([[1], []])
    with pytest.raises(ValueError, match="has 3 tokens; wanted at most 2"):
        padded([[1, 2, 3]], width=2)
    with pytest.raises(ValueError, match="tokenizer has 41 tokens and the model 40"):
        check_vocabulary(41, model)
    with pytest.raises(ValueError, match="`dtype` is float32, float16, bfloat16 or left out; got 'int8'"):
        load(GOLDEN / "llama", "int8")
    with pytest.raises(ValueError, match=r"head has shape None, wanted \(40, 16\)"):
        save("nowhere", config, {name: x for name, x in params.items() if name != "head"})


@pytest.mark.slow
def test_transformers_loads_what_was_saved_and_still_says_the_golden_logits(tmp_path):
    """Needs the extra `lm-test`: torch and transformers."""
    pytest.importorskip("torch")
    sys.path.insert(0, str(Path(__file__).parent / "oracle"))
    import models
    import rwkv7

    models.main(tmp_path)
    rwkv7.main(tmp_path)
    for name in NAMES:
        want, got = load_file(GOLDEN / f"{name}.safetensors"), load_file(tmp_path / f"{name}.safetensors")
        assert_allclose(got["logits"], want["logits"], atol=1e-5)
        assert_array_equal(got["written"], want["written"])
        if name in models.MODELS:
            config, _, params = load(GOLDEN / name)
            save(tmp_path / "saved", config, params)
            again = models.AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
            real = want["real"]
            assert_allclose(models.expected(again)["logits"][real], want["logits"][real], atol=1e-5)
            half = load(GOLDEN / name, "bfloat16")
            save(tmp_path / "half", config, half.params)
            assert models.AutoModelForCausalLM.from_pretrained(tmp_path / "half").dtype == models.torch.bfloat16
