import numpy as np
import pytest
from blocks import open_block
from pydantic import ValidationError

from tiebench.corpora.hidden_markov import build_source, measure_nats
from tiebench.corpora.stream import open_streams
from tiebench.corpora.vocabulary import fit_vocabulary
from tiebench.errors import TiebenchError
from tiebench.experiment.corpus_config import WordsConfig

BLOCK = {"type": "synthetic", "words": 30, "states": 4, "tokens": 3_000, "agreement": 0.5}


def test_equal_options_are_equal_text_and_each_option_matters():
    first = open_block(BLOCK)
    assert open_block(BLOCK) == first
    changes = {"words": 31, "states": 5, "tokens": 3_100, "agreement": 0.4, "seed": 2}
    others = [open_block(BLOCK | {key: value}).checksum for key, value in changes.items()]
    assert len({first.checksum, *others}) == len(others) + 1


def test_the_text_is_the_same_on_every_machine():
    assert open_block(BLOCK).checksum == "a66859ac4b2a0091fc990995c287f7e3d0ada9c7b5d95eab0b27bb8122d9cb2a"


def test_the_tokens_of_a_model_are_those_of_the_source():
    """Read back from the stream, the words have the very loss that is kept: an end of line is a word of the source."""
    corpus = open_block(BLOCK)
    vocabulary = fit_vocabulary(WordsConfig(type="words"), corpus=corpus)
    streams = open_streams(corpus, vocabulary=vocabulary)
    assert set(corpus.source_nats) == {"valid", "test"}
    source = build_source(num_words=30, num_states=4, agreement=0.5, seed=1)
    for split, kept in corpus.source_nats.items():
        stream = streams[split]
        names = [vocabulary.token(int(id)) for id in stream.ids[1:]]
        words = [0 if name == "<eos>" else int(name[1:]) for name in names]
        assert float(measure_nats(source, words).sum()) == pytest.approx(kept)
        assert stream.num_unknown == 0 and 300 <= stream.num_tokens < 400
    assert 3_000 <= streams["train"].num_tokens < 3_200


def test_a_word_that_could_not_be_learned_is_refused():
    with pytest.raises(TiebenchError, match="never stand in train") as caught:
        open_block(BLOCK | {"words": 2_000, "tokens": 500})
    assert "raise corpus.tokens" in caught.value.hint


def test_more_states_than_words_are_refused():
    with pytest.raises(ValidationError, match=r"states \(40\) must not be more than words"):
        open_block(BLOCK | {"states": 40})


def test_splits_are_drawn_apart():
    corpus = open_block(BLOCK)
    texts = [corpus.files[split].read_text("utf-8") for split in ("train", "valid", "test")]
    assert len({text[:200] for text in texts}) == 3
    assert np.isfinite(list(corpus.source_nats.values())).all()
