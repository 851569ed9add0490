"""Through AutoTokenizer, text becomes the ids that a token stream has, and they become the text again."""

import json

import pytest
from blocks import open_block

from tiebench.corpora.stream import open_streams
from tiebench.corpora.tokenizer_files import describe_tokenizer
from tiebench.corpora.vocabulary import Vocabulary, fit_vocabulary
from tiebench.errors import UsageError
from tiebench.experiment.corpus_config import SPLITS, BPEConfig, BytesConfig, WordsConfig

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
VOCABULARIES = [WordsConfig(type="words", size=300), BPEConfig(type="bpe", size=600), BytesConfig(type="bytes")]
NASTY = [
    "",
    "\n\n  two spaces \n\n\n at\tboth  ends  \n",
    "a <eos> in the text, one<eos>within, <unk> and x<unk>y\n",
    "separators\x1cthat\x1donly\x1ePython\x1fknows, \x85 \xa0 \u2028 \u3000 and \u200b which is none\n",
    "the letter Ċ stands for a newline, ĊĊ Ġ <|endoftext|>\n",
    "naïve \U0001f600 e\u0301 don't DON'T 1234567 \r\n",
]


@pytest.fixture(scope="module")
def corpus(tiny_corpus):
    return open_block(tiny_corpus)


@pytest.fixture(scope="module", params=VOCABULARIES, ids=lambda options: options.type)
def pair(request, corpus, tmp_path_factory):
    """A vocabulary, and what AutoTokenizer makes of its files beside the config of a gpt2."""
    vocabulary = fit_vocabulary(request.param, corpus=corpus)
    folder = tmp_path_factory.mktemp("tokenizer")
    for name, text in describe_tokenizer(vocabulary, max_tokens=64).items():
        (folder / name).write_text(text, "utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "vocab_size": vocabulary.size}), "utf-8")
    return vocabulary, transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("split", SPLITS)
def test_a_real_text_becomes_the_ids_of_its_stream(pair, corpus, split):
    vocabulary, tokenizer = pair
    expected = open_streams(corpus, vocabulary=vocabulary)[split].ids.tolist()
    text = corpus.files[split].read_text("utf-8")
    assert len(expected) > 200
    assert [tokenizer.bos_token_id, *tokenizer(text, verbose=False)["input_ids"]] == expected


@pytest.mark.parametrize("text", NASTY)
def test_text_with_anything_in_it_becomes_the_same_ids(pair, text):
    vocabulary, tokenizer = pair
    assert tokenizer(text)["input_ids"] == vocabulary.encode_piece(text)[0].tolist()


def test_ids_become_the_same_text(pair):
    vocabulary, tokenizer = pair
    ids = vocabulary.encode_piece("Return the value of x.\n\n the next line , or not\nand a third")[0].tolist()
    assert tokenizer.decode(ids) == vocabulary.decode(ids)


def test_the_special_tokens_are_the_boundary_and_the_unknown_word(pair):
    vocabulary, tokenizer = pair
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == vocabulary.boundary
    assert tokenizer.unk_token_id == vocabulary.unknown
    assert len(tokenizer) == vocabulary.size and tokenizer.model_max_length == 64


def test_another_kind_of_vocabulary_is_refused_by_name():
    class Characters(Vocabulary):
        def encode_piece(self, piece):
            raise NotImplementedError

        decode = token = encode_piece

        def describe(self):
            return {"type": "characters"}

    with pytest.raises(UsageError, match="vocabulary.type: characters has no tokenizer.json"):
        describe_tokenizer(Characters(), max_tokens=8)
