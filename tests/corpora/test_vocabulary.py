import json
from collections import Counter
from random import Random

import pytest
from blocks import open_block
from tokenizers import Tokenizer

from tiebench.corpora.vocabulary import fit_vocabulary, load_vocabulary, save_vocabulary
from tiebench.errors import TiebenchError
from tiebench.experiment.corpus_config import BPEConfig, BytesConfig, WordsConfig

WORDS, BYTES, SMALL_BPE = WordsConfig(type="words"), BytesConfig(type="bytes"), BPEConfig(type="bpe", size=300)
TRICKY = ["", "  two  spaces ", "naïve 北京 🙂", "tab\tand \x00 and \r", "'s n't @-@ <unk>", "\u2028"]


@pytest.mark.parametrize(("name", "size"), [("ptb", 10_000), ("wikitext-2", 33_278)])
def test_words_of_the_real_corpora(name, size, open_real):
    corpus = open_real(name)
    vocabulary = fit_vocabulary(WORDS, corpus=corpus)
    counts = Counter(word for line in corpus.lines("train") for word in [*line.split(), "<eos>"])
    assert vocabulary.size == size == len(counts)
    order = [vocabulary.token(id) for id in range(size)]
    assert order == sorted(counts, key=lambda word: (-counts[word], word))
    assert vocabulary.token(vocabulary.boundary) == "<eos>" and vocabulary.token(vocabulary.unknown) == "<unk>"


@pytest.mark.parametrize("options", [WORDS, SMALL_BPE, BYTES], ids=lambda options: options.type)
def test_saved_vocabulary_is_the_same(options, write_corpus, tmp_path):
    vocabulary = fit_vocabulary(options, corpus=open_block(write_corpus()))
    save_vocabulary(vocabulary, tmp_path / "vocabulary.json")
    loaded = load_vocabulary(tmp_path / "vocabulary.json")
    assert (loaded.identity, loaded.size, loaded.boundary, loaded.unknown) == (
        vocabulary.identity,
        vocabulary.size,
        vocabulary.boundary,
        vocabulary.unknown,
    )
    ids = loaded.encode("a cat sat")
    assert ids == vocabulary.encode("a cat sat\n") and ids[-1] == loaded.boundary and max(ids) < loaded.size
    assert loaded.decode(ids * 2) == "a cat sat\na cat sat\n"
    assert len({loaded.token(id) for id in range(loaded.size)}) == loaded.size


def test_bpe_of_chunks_is_that_of_whole_lines(write_corpus, monkeypatch):
    """Whatever white space stands where, and whether or not a chunk's tokens are still known."""
    vocabulary = fit_vocabulary(SMALL_BPE, corpus=open_block(write_corpus()))
    tokenizer = Tokenizer.from_str(vocabulary.describe()["tokenizer"])
    monkeypatch.setattr("tiebench.corpora.vocabulary.MOST_KNOWN", 2_000)
    draw = Random(5)
    for number in range(300):
        line_length = draw.randrange(12)
        text = "".join(draw.choices("    \t\n'aes1!\r\x1c\x85\xa0\u180e\u200b\u3000é北", k=4 * line_length))
        text += TRICKY[number % len(TRICKY)]
        *lines, rest = text.split("\n")
        expected = [id for line in lines for id in [*tokenizer.encode(line).ids, vocabulary.boundary]]
        assert vocabulary.encode_piece(text)[0].tolist() == expected + tokenizer.encode(rest).ids


@pytest.mark.parametrize("options", [SMALL_BPE, BYTES], ids=lambda options: options.type)
def test_bpe_and_bytes_are_lossless(options, write_corpus):
    vocabulary = fit_vocabulary(options, corpus=open_block(write_corpus(train="some text of another kind\n" * 9)))
    text = "\n".join(TRICKY) + "\n"
    assert vocabulary.unknown is None
    assert vocabulary.decode(vocabulary.encode_piece(text)[0]) == text
    assert vocabulary.decode([id for line in TRICKY for id in vocabulary.encode(line)]) == text


def test_a_word_of_valid_alone_is_unknown(write_corpus):
    corpus = open_block(write_corpus(train="a cat sat\n", valid="a dog sat\n", test="a bird\n"))
    vocabulary = fit_vocabulary(WORDS, corpus=corpus)
    assert sorted(vocabulary.tokens) == ["<eos>", "<unk>", "a", "cat", "sat"]
    assert vocabulary.decode(vocabulary.encode("a dog sat")) == "a <unk> sat\n"


def test_size_and_min_count_keep_the_most_frequent(write_corpus):
    corpus = open_block(write_corpus(train="d d d d c c c b b a\n", valid="a\n", test="a\n"))
    assert fit_vocabulary(WORDS, corpus=corpus).tokens == ["d", "c", "b", "<eos>", "a", "<unk>"]
    assert fit_vocabulary(WordsConfig(type="words", size=4), corpus=corpus).tokens == ["d", "<unk>", "c", "<eos>"]
    assert fit_vocabulary(WordsConfig(type="words", min_count=3), corpus=corpus).tokens == ["d", "<unk>", "c", "<eos>"]


def test_bpe_is_deterministic_and_bounded(open_real, monkeypatch, tmp_path):
    corpus, identities = open_real("ptb"), set()
    for place in ("one", "two"):
        monkeypatch.setenv("TIEBENCH_CACHE", str(tmp_path / place))
        vocabulary = fit_vocabulary(BPEConfig(type="bpe", size=700), corpus=corpus)
        identities.add(vocabulary.identity)
        assert vocabulary.size == 700
    assert len(identities) == 1
    assert len(vocabulary.encode("consumers may want to move")) < 24
    assert vocabulary.token(vocabulary.boundary) == "Ċ" and vocabulary.decode([vocabulary.boundary]) == "\n"


def test_damaged_cache_is_fitted_again(write_corpus, cache):
    corpus = open_block(write_corpus())
    before = fit_vocabulary(WORDS, corpus=corpus)
    file = next(cache.glob("vocabularies/*/vocabulary.json"))
    file.write_text(file.read_text("utf-8").replace("cat", "cow"), "utf-8")
    assert fit_vocabulary(WORDS, corpus=corpus).identity == before.identity
    assert "cow" not in file.read_text("utf-8")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        json.dumps({"type": "runes"}),
        json.dumps({"type": "words"}),
        json.dumps({"type": "words", "tokens": ["a"]}),
    ],
)
def test_file_that_is_no_vocabulary_is_an_error(content, tmp_path):
    (tmp_path / "vocabulary.json").write_text(content, "utf-8")
    with pytest.raises(TiebenchError, match=r"vocabulary\.json is not a vocabulary"):
        load_vocabulary(tmp_path / "vocabulary.json")


def test_a_missing_vocabulary_is_said_to_be_missing_and_its_run_is_not_to_be_deleted(tmp_path):
    with pytest.raises(TiebenchError, match=r"vocabulary\.json is missing") as raised:
        load_vocabulary(tmp_path / "vocabulary.json")
    assert "published records" in (raised.value.hint or "")
    assert "delete" not in (raised.value.hint or "")
