"""Text tasks: tokens, corpora, and the likelihood of text."""

import json
import math
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import evo
from evo.envs.language.entropy import entropies
from evo.envs.language.int8 import Int8Recurrent
from evo.envs.language.likelihood import Text
from evo.envs.language.recurrent import Recurrent
from evo.envs.language.tokens import Bytes, Subwords, tokenizer
from evo.envs.language.transformer import Transformer
from evo.task import Trial

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def subwords(tmp_path_factory):
    """A byte-level BPE of 300 tokens, trained here."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    train = trainers.BpeTrainer(vocab_size=300, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(["the cat and the dog and the bird", "the theory of the thing"] * 9, train)
    path = tmp_path_factory.mktemp("tokens") / "tokenizer.json"
    bpe.save(str(path))
    return path


def test_text_comes_back_from_its_tokens(subwords):
    text = "the cat, naïve ☃\n"
    assert Bytes().encode("é\n") == [0xC3, 0xA9, 10]
    for tokens in (tokenizer(), tokenizer(str(subwords))):
        ids = tokens.encode(text)
        assert tokens.decode([*ids, tokens.eos]) == text
        assert 0 <= min(ids) <= max(ids) < tokens.vocabulary
    assert len(Subwords(str(subwords)).encode("the cat")) < 7
    assert Bytes().decode([0xC3, 65]) == "\N{REPLACEMENT CHARACTER}A"


def test_what_is_wrong_with_a_tokenizer_is_one_sentence(subwords, tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match=r"x\.json is not a `tokenizers` JSON file"):
        tokenizer(str(tmp_path / "x.json"))
    with pytest.raises(ValueError, match="there is no tokenizer nowhere"):
        tokenizer("nowhere.json")
    with pytest.raises(ValueError, match=r"which token ends a document\? the nearest known one is '</s>'"):
        Subwords(str(subwords), "<s>")
    with pytest.raises(ValueError, match="tokens are 0 to 255 here; got 300"):
        Bytes().decode([65, 300])


def test_ids_may_have_gaps(tmp_path):
    """A vocabulary reaches to the largest id, so that every token has a place in a table and in a corpus."""
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2, "<eos>": 900}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "gaps.json"))
    task = Text(files=(str(text(tmp_path, a_txt="a b a b")),), tokenizer=str(tmp_path / "gaps.json"), held_out=0)
    assert task.tokens.vocabulary == 901
    assert_array_equal(task.corpus.train, [900, 0, 1, 0, 1])
    assert task.tokens.decode([0, 500, 1]) == "a b"


# corpora ----------------------------------------------------------------------------------------------------------


def text(tmp_path, **files):
    for name, content in files.items():
        path = tmp_path / name.replace("_", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


def test_documents_come_apart_and_a_part_of_them_is_held_out(tmp_path):
    lines = "".join(json.dumps({"text": f"{i} é" * 200, "id": i}) + "\n" for i in range(40))
    folder = text(tmp_path, a_txt="one", b_jsonl=lines + "\n", c_md="", d_png=b"\xff\x00")
    task = Text(files=(str(folder),), held_out=0.25)
    train, held = (bytes(row).split(b"\0")[1:] for row in task.corpus[:2])
    assert train[0] == b"one"
    documents = [f"{i} é".encode() * 200 for i in range(40)]
    assert sorted([*train[1:], *held]) == sorted(documents)
    assert abs(sum(map(len, held)) / sum(map(len, documents)) - 0.25) < 0.03
    assert Text(files=(f"{folder}/*.jsonl",)).corpus.train.size + 0 < task.corpus.train.size + task.corpus.held_out.size


def test_a_long_file_is_read_in_pieces_that_characters_survive(tmp_path, subwords):
    folder = text(tmp_path, a_txt="the cat éé☃ " * 3000)
    corpus = Text(files=(str(folder / "a.txt"),), held_out=0).corpus
    assert bytes(corpus.train) == b"\0" + ("the cat éé☃ " * 3000).encode()
    assert corpus.held_out is corpus.train
    tokens = Text(files=(str(folder / "a.txt"),), tokenizer=str(subwords), held_out=0)
    assert tokens.tokens.decode(tokens.corpus.train) == "the cat éé☃ " * 3000
    assert tokens.corpus.tokens_per_byte == pytest.approx(len(tokens.corpus.train) / (16 * 3000 + 1))
    assert tokens.unit == pytest.approx(tokens.corpus.tokens_per_byte / 64)
    assert replace(tokens, per="token").unit == 1 / 64


BAD = {
    r"no file matches '{}/\*\.nix'": ("*.nix", {}),
    r"the folder {}/sub has no text \(\.txt": ("sub", {}),
    "the corpus {}/e.txt is empty": ("e.txt", {"e_txt": ""}),
    "{}/x.txt is not UTF-8 text: byte 4999 is 0xff": ("x.txt", {"x_txt": b"a" * 4999 + b"\xff" + b"b" * 9}),
    "{}/y.txt is not UTF-8 text: byte 4096 is 0xc3": ("y.txt", {"y_txt": b"a" * 4096 + b"\xc3"}),
    r"{}/j.jsonl, line 2: not JSON": ("j.jsonl", {"j_jsonl": '{"text": "a"}\n{"text"'}),
    "{}/k.jsonl, line 1: .* string 'text'; the nearest known one is 'texts'": ("k.jsonl", {"k_jsonl": '{"texts": ""}'}),
    "{}/u.jsonl, line 2: 'text' isn't UTF-8 text: .*surrogates": ("u.jsonl", {"u_jsonl": '\n{"text": "a \\ud800"}'}),
    r"the corpus {}/s.txt of 6 tokens is too small to hold out 0\.1": ("s.txt", {"s_txt": "short"}),
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_wrong_with_a_corpus_is_one_sentence(message, tmp_path):
    name, files = BAD[message]
    (tmp_path / "sub").mkdir()
    text(tmp_path, **files)
    with pytest.raises(ValueError, match=message.format(re.escape(str(tmp_path)))):
        Text(files=(str(tmp_path / name),)).init(KEY)


def test_the_demo_is_there_on_every_python():
    corpus = Text().corpus
    assert corpus.train.size > 500_000
    assert 0.09 < corpus.held_out.size / corpus.train.size < 0.12
    assert b"dictionary" in bytes(corpus.held_out)


def test_counting_is_told_in_bits(tmp_path):
    rng = np.random.default_rng(0)
    train, held = rng.choice(4, 40_000, p=[0.5, 0.25, 0.125, 0.125]), np.array([0, 1, 2, 3] * 50 + [0] * 200)
    found = entropies(train, held, 4)
    assert found["unigram"] == pytest.approx((2.25 + 1) / 2, abs=0.02)  # mean of 1, 2, 3, 3 bits, and 1 bit
    assert found["bigram"] == pytest.approx(found["unigram"], abs=0.05)  # they are independent
    chain = np.tile([0, 1, 2, 1], 1000)
    assert entropies(chain, chain, 4)["bigram"] == pytest.approx(0.5, abs=0.01)  # after a 1: 0 or 2


# the task ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alphabet(tmp_path_factory):
    """Ten times the same 100 bytes."""
    path = tmp_path_factory.mktemp("corpus") / "a.txt"
    path.write_text("".join(map(chr, range(30, 129 - 1))) + "~~")
    return path


def test_sequences_walk_through_the_corpus_and_carry_what_the_first_member_remembers(alphabet):
    task = Text(Recurrent(4), (str(alphabet),), length=30, sequences=2, held_out=0)
    n = task.corpus.train.size
    params, state = task.init(KEY)
    walked = [[int(t) for t in np.arange(n // 2 * i, n // 2 * i + 31) % n] for i in range(2)]
    assert_array_equal(state.tokens, task.corpus.train[np.array(walked)])
    turn = lambda trial: Trial(KEY, jnp.int32(trial))  # noqa: E731
    judged = [task.evaluate(jax.tree.map(lambda x, m=m: x * m, params), state, turn(t)) for m, t in ((1, 3), (2, 5))]
    judged += [task.evaluate(params, state, turn(0))]
    assert [int(j.aux["row"]) for j in judged] == [1, 1, 0]
    aux = jax.tree.map(lambda *x: jnp.stack(x), *[j.aux for j in judged])
    after = jax.jit(task.absorb)(state, aux)
    assert_array_equal(after.carry[1], judged[0].aux["carry"])
    assert_array_equal(after.carry[0], judged[2].aux["carry"])
    assert_array_equal(after.tokens, task.corpus.train[(np.array(walked) + 30) % n])
    for _ in range(9):
        after = jax.jit(task.absorb)(after, aux)
    assert_array_equal(after.tokens, task.corpus.train[(np.array(walked) + 300) % n])
    unread = task.absorb(state, jax.tree.map(lambda x: x[2:], aux))
    assert_array_equal(unread.carry[1], state.carry[1])


def test_what_a_member_with_nan_remembers_is_not_carried_on(alphabet):
    """The next that read the sequence is asked instead; where there is none, the sequence starts as it had."""
    for dtype in (jnp.float32, jnp.int8):
        task = Text(Recurrent(4), (str(alphabet),), length=30, sequences=2, held_out=0)
        _, state = task.init(KEY)
        state = state._replace(carry=state.carry.astype(dtype))
        carry = jnp.arange(16, dtype=dtype).reshape(4, 1, 4)
        broken = carry.at[jnp.array([0, 2, 3]), 0, 1].set(jnp.nan) if dtype == jnp.float32 else carry
        after = task.absorb(state, {"row": jnp.array([0, 0, 1, 1]), "carry": broken}).carry
        assert_array_equal(after[0], carry[1 if dtype == jnp.float32 else 0])
        assert_array_equal(after[1], state.carry[1] if dtype == jnp.float32 else carry[2])


MODELS = [Recurrent(16), Int8Recurrent(16), Transformer(16, 1, 2, 8)]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_a_model_is_causal_forgets_at_the_end_of_a_document_and_writes_as_it_scores(model):
    params = model.init(KEY, 256)
    read = jax.jit(lambda carry, tokens: model.score(params, carry, tokens, 0))
    tokens = jax.random.randint(KEY, (21,), 1, 256)
    carry, score = read(model.start(), tokens)
    assert score.shape == (20,)
    halfway, first = read(model.start(), tokens[:9])
    assert_allclose(first, score[:8], rtol=1e-5)
    if not isinstance(model, Transformer):  # which remembers `context` tokens alone
        assert_allclose(read(halfway, tokens[8:])[1], score[8:], rtol=1e-4, atol=1e-5)
    ended = tokens.at[9].set(0)
    fresh, other = (read(carry, ended.at[3].set(7))[1][9:] for carry in (model.start(), halfway))
    assert_allclose(fresh, read(model.start(), ended)[1][9:], rtol=1e-4, atol=1e-5)
    assert_allclose(other, fresh, rtol=1e-4, atol=1e-5)
    step = jax.jit(lambda carry, token: model.step(params, carry, token, 0))
    carry, steps = model.start(), []
    for token in tokens[:5]:
        carry, logits = step(carry, token)
        steps.append(logits.astype(jnp.float32) * model.unit)
    likely = jax.nn.log_softmax(jnp.stack(steps) * math.log(2)) / math.log(2)
    assert_allclose(
        likely[jnp.arange(5), tokens[1:6]], np.asarray(score[:5]) * model.unit, atol=0.2 if model.unit < 1 else 1e-4
    )


def test_held_out_text_is_what_a_key_alone_is_judged_on(alphabet):
    task = Text(Recurrent(4), (str(alphabet),), length=30, sequences=2, held_out=0)
    params, state = task.init(KEY)
    task.__dict__["corpus"] = task.corpus._replace(held_out=np.full(200, 65, np.uint8))
    scores = [float(task.evaluate(params, state, key).fitness) for key in jax.random.split(KEY, 3)]
    assert scores[0] == scores[1] == scores[2]
    silent = jax.tree.map(lambda x: x * 0, params)
    assert float(task.evaluate(silent, state, KEY).fitness) * task.unit == pytest.approx(-8)


def test_eggroll_learns_text_and_its_run_writes(alphabet, tmp_path, capsys):
    from evo.cli import main

    experiment = f"""
task: {{kind: text, model: {{kind: recurrent, width: 8}}, files: [{alphabet}], length: 16, sequences: 4, held_out: 0}}
strategy: {{kind: eggroll, population: 128, sigma: 0.1, lr: 0.1}}
generations: 60
eval_every: 30
eval_episodes: 4
"""
    (tmp_path / "c.yaml").write_text(experiment)
    folder = str(tmp_path / "r")
    assert main(["run", str(tmp_path / "c.yaml"), "--quiet", "--checkpoint-every", "20", "--out", folder]) == 0
    metrics = evo.open(folder).metrics
    fitness = metrics["mean"]
    assert -8 < metrics["reference_unigram"][-1] < metrics["reference_bigram"][-1] < 0
    assert fitness[-5:].mean() > fitness[:5].mean() + 1
    capsys.readouterr()
    assert main(["eval", folder, "--episodes", "4"]) == 0
    assert "unigram" in capsys.readouterr().out
    alphabet.unlink()  # a run writes without its corpus
    said = []
    for words in (["--seed", "1"], ["--temperature", "0"]):
        assert main(["sample", folder, "--prompt", "ABC", "--tokens", "9", *words]) == 0
        said.append(capsys.readouterr().out)
    assert len(set(said)) == 2
    assert all(text.startswith("ABC") for text in said)
    assert main(["sample", folder, "--tokens", "0"]) == 2
    assert "--tokens: wanted at least 1, got 0" in capsys.readouterr().err
