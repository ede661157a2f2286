"""Text tasks: tokens, corpora, and the likelihood of text."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from evo.envs.language.tokens import Bytes, Subwords, tokenizer


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
