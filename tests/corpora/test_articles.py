"""Where articles begin: in WikiText's own text, and in text that only looks like it."""

from dataclasses import replace

import numpy as np
import pytest
from blocks import open_block

from tiebench.corpora.articles import find_article_starts
from tiebench.corpora.stream import open_streams
from tiebench.corpora.vocabulary import ByteVocabulary, fit_vocabulary
from tiebench.experiment.corpus_config import WordsConfig


def test_wikitext_has_as_many_articles_as_its_authors_count(open_real):
    """60 in valid and in test (Merity et al. 2016, table 1), each from its title on, whatever the tokens are."""
    corpus = open_real("wikitext-2")
    words, text = fit_vocabulary(WordsConfig(type="words"), corpus=corpus), ByteVocabulary()
    for split in ("valid", "test"):
        titles = {}
        for vocabulary in (words, text):
            stream = open_streams(corpus, vocabulary=vocabulary)[split]
            starts = find_article_starts(corpus, split, vocabulary=vocabulary, num_tokens=stream.num_tokens)
            assert len(starts) == 60 and np.diff(starts).min() > 100
            lines = [vocabulary.decode(stream.ids[1 + start : 400 + start]).split("\n")[0] for start in starts]
            titles[vocabulary] = [line.strip() for line in lines]
        assert titles[words] == titles[text]
        assert all(title.startswith("= ") and title.endswith(" =") for title in titles[text])
    assert titles[text][0] == "= Robert <unk> =" and titles[text][1] == "= Du Fu ="


@pytest.fixture
def find_starts(write_corpus):
    """The places, in bytes, at which the articles of these lines begin."""

    def find(*lines, has_titles=True, num_tokens=None):
        text = "".join(f"{line}\n" for line in lines)
        corpus = replace(open_block(write_corpus(test=text)), has_titles=has_titles)
        return find_article_starts(corpus, "test", vocabulary=ByteVocabulary(), num_tokens=num_tokens or len(text))

    return find


def test_a_title_stands_between_blank_lines_and_has_one_sign_on_each_side(find_starts):
    article = (
        " = A cat = ",
        " ",
        " It sat . ",
        " ",
        " = = Later = = ",
        " ",
        " = 1 m and a length = ",
        " of 2 m . ",
        " ",
    )
    length = sum(len(line) + 1 for line in article)
    assert find_starts(" ", *article) == [2]
    assert find_starts(*article, *article) == [0, length], "the first line and the last one too"
    assert find_starts(*article, has_titles=False) == []


def test_where_tokens_reach_over_titles_none_is_placed(find_starts):
    assert find_starts(" = A cat = ", " ", " It sat . ", num_tokens=20) == []
