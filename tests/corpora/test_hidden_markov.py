"""The source against what it is by definition: sums over all paths of states, and frequencies of what it draws."""

import itertools

import numpy as np
import pytest

from tiebench.corpora.hidden_markov import STAY, build_source, draw_words, measure_nats


def build(agreement=0.5, **options):
    return build_source(**{"num_words": 12, "num_states": 3, "agreement": agreement, "seed": 4} | options)


def sum_over_paths(source, words):
    """p(words), by definition: the sum over every path of states."""
    num_states = len(source.transitions)
    total = 0.0
    for path in itertools.product(range(num_states), repeat=len(words)):
        probability = source.start[path[0]]
        for place, word in enumerate(words):
            probability *= source.emissions[path[place], word]
            if place + 1 < len(words):
                step = (1 - STAY) * source.transitions[source.context_roles[word], path[place + 1]]
                probability *= step + STAY * (path[place + 1] == path[place])
        total += probability
    return total


@pytest.mark.parametrize("words", [[3], [0, 5, 2], [7, 7, 1, 0, 11, 4]])
def test_the_loss_is_that_of_all_paths_of_states(words):
    source = build()
    nats = measure_nats(source, words)
    assert len(nats) == len(words)
    assert float(nats.sum()) == pytest.approx(-np.log(sum_over_paths(source, words)))


def test_probabilities_of_the_next_word_add_up_to_one():
    source, begun = build(), [3, 0, 8]
    total = sum(np.exp(-measure_nats(source, [*begun, word])[-1]) for word in range(12))
    assert total == pytest.approx(1)


@pytest.mark.parametrize("agreement", [0.0, 0.5, 1.0])
def test_no_other_distribution_fits_what_is_drawn_better(agreement):
    """Not even the bigrams fitted to the very words: the source knows more than the last word."""
    source = build(agreement)
    words = draw_words(source, num_words=40_000, generator=np.random.default_rng(1))
    assert len(words) >= 40_000 and words[-1] == 0
    pairs = np.zeros((12, 12))
    np.add.at(pairs, (words[:-1], words[1:]), 1)
    bigram = -(
        pairs * np.log(pairs / pairs.sum(axis=1, keepdims=True), where=pairs > 0, out=np.zeros_like(pairs))
    ).sum()
    found = measure_nats(source, words)[1:]
    # 132 free probabilities fit the drawn pairs better than the true ones by half a nat each (Wilks), +- 5 deviations
    slack = (132 + 5 * np.sqrt(2 * 132)) / 2
    assert bigram + slack > found.sum() > 0.9 * bigram


def test_words_are_drawn_as_often_as_the_states_emit_them():
    """The stationary chain of states gives each word its share; transitions are permutations, so that none is rare."""
    source = build(1.0, num_words=6)
    words = draw_words(source, num_words=60_000, generator=np.random.default_rng(2))
    counts = np.bincount(words, minlength=6) / len(words)
    np.testing.assert_allclose(source.transitions.sum(axis=0), 1)
    np.testing.assert_allclose(source.emissions.sum(axis=1), 1)
    step = (source.emissions[:, :, None] * source.transitions[source.context_roles]).sum(axis=1)
    chain = (1 - STAY) * step + STAY * np.eye(3)
    values, vectors = np.linalg.eig(chain.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    expected = stationary / stationary.sum() @ source.emissions
    np.testing.assert_allclose(counts, expected, atol=0.02)  # about five deviations of correlated draws


def test_the_agreement_is_the_share_of_words_with_one_role():
    options = {"num_words": 4_000, "num_states": 40}
    target = np.arange(4_000) % 40
    shares = {}
    for agreement in (0.0, 0.5, 1.0):
        source = build(agreement, **options)
        shares[agreement] = (source.context_roles == target).mean()
    assert shares[1.0] == 1
    assert shares[0.5] == pytest.approx(0.5 + 0.5 / 40, abs=0.04)  # five deviations of 4,000 draws
    assert shares[0.0] == pytest.approx(1 / 40, abs=0.0125)


def test_a_lower_agreement_makes_more_words_disagree_and_changes_nothing_else():
    half, none = build(0.5, num_words=200), build(0.0, num_words=200)
    target = np.arange(200) % 3
    changed = half.context_roles != none.context_roles
    assert changed.any() and (half.context_roles[changed] == target[changed]).all()
    np.testing.assert_array_equal(half.emissions, none.emissions)
    np.testing.assert_array_equal(half.transitions, none.transitions)
