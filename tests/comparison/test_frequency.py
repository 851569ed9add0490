"""Who gains: the bins are parts of the whole difference, with errors by the same rules as the whole."""

import numpy as np
import pytest
from scipy import stats

from tiebench.comparison.blocks import cut_blocks, cut_text
from tiebench.comparison.frequency import estimate_by_frequency, name_decade
from tiebench.comparison.pairing import compare_arms
from tiebench.comparison.variance import estimate_difference

TOKENS = 20_000


def split(ours, baseline, decades):
    """The bins of two arms from the nats of their tokens."""
    text = cut_text(TOKENS, decades=decades)
    first, second = (text.average([text.add_up(nats) for nats in arm]) for arm in (ours, baseline))
    return estimate_by_frequency(first, second, text=text, seed_rule="welch")


@pytest.fixture
def drawn():
    """Three seeds of two arms whose difference, 0.2 nats, is in the words seen 1 to 9 times, and the decades."""
    generator = np.random.default_rng(7)
    decades = generator.choice(4, TOKENS, p=[0.01, 0.09, 0.3, 0.6]).astype(np.uint8)
    text = generator.exponential(4.0, TOKENS) + 1 / (1 + decades)
    baseline, ours = (text + generator.normal(0, 0.3, (3, TOKENS)) for _ in range(2))
    return ours - 0.2 * (decades == 1), baseline, decades


def test_the_parts_add_up_to_the_whole(drawn):
    ours, baseline, decades = drawn
    bins = split(ours, baseline, decades)
    assert [each.decade for each in bins] == [0, 1, 2, 3]
    assert sum(each.num_tokens for each in bins) == TOKENS
    assert sum(each.part for each in bins) == pytest.approx(float((ours - baseline).mean()), abs=1e-12)
    for each in bins:
        chosen = decades == each.decade
        assert each.difference == pytest.approx(float((ours - baseline)[:, chosen].mean()))
        assert each.baseline == pytest.approx(float(baseline[:, chosen].mean()))


def test_the_gain_is_found_where_it_is(drawn):
    ours, baseline, decades = drawn
    never, rare, middle, frequent = split(ours, baseline, decades)
    assert rare.low is not None and rare.low < -0.2 < rare.high < 0
    for other in (never, middle, frequent):
        assert other.low < 0 < other.high
    assert rare.covers == ("seeds", "text")


def test_one_bin_is_the_whole_comparison(drawn):
    ours, baseline, _ = drawn
    (only,) = split(ours, baseline, np.full(TOKENS, 2, np.uint8))
    whole = estimate_difference(ours, baseline, block_starts=cut_blocks(TOKENS))
    assert (only.difference, only.low, only.high) == (whole.difference, whole.total.low, whole.total.high)
    assert only.part == only.difference


def test_words_in_one_block_only_have_the_interval_of_their_seeds(drawn):
    """Nothing is known of other texts then: what is left is the t test of the seeds' means over the bin."""
    ours, baseline, _ = drawn
    decades = np.zeros(TOKENS, np.uint8)
    decades[10:60] = 1
    _, found = split(ours, baseline, decades)
    expected = stats.ttest_ind(ours[:, 10:60].mean(1), baseline[:, 10:60].mean(1), equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.covers == ("seeds",)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_one_seed_has_the_interval_of_the_text_with_blocks_that_have_tokens(drawn):
    """A ratio over blocks: B / (B - 1) sum w^2 (d - D)^2 over those blocks alone, written out."""
    ours, baseline, _ = drawn
    decades = np.zeros(TOKENS, np.uint8)
    places = np.r_[100:140, 3_200:3_210, 15_000:15_050]  # three of the twenty blocks
    decades[places] = 1
    _, found = split(ours[:1], baseline[:1], decades)
    gaps = np.split((ours - baseline)[0, places], [40, 50])
    weights, means = np.array([0.4, 0.1, 0.5]), np.array([gap.mean() for gap in gaps])
    error = np.sqrt(3 / 2 * (weights**2 * (means - weights @ means) ** 2).sum())
    assert found.covers == ("text",) and found.error == pytest.approx(error)


def test_decades_of_another_text_are_refused(drawn):
    ours, baseline, decades = drawn
    with pytest.raises(ValueError, match="as many decades"):
        split(ours, baseline, decades[:-1])


def test_decades_are_named_by_the_counts_in_them():
    assert [name_decade(decade) for decade in range(5)] == ["never", "1-9", "10-99", "100-999", "1,000-9,999"]


def test_a_comparison_has_its_bins_where_nats_and_decades_are_known(three_seeds):
    def read_nats(record):
        own = np.random.default_rng([record.seed, len(record.arm)]).exponential(4.7, 82_430)
        return (own * record.evaluations["test"].nll_per_token / own.mean()).astype(np.float32)

    decades = np.random.default_rng(0).integers(0, 3, 82_430).astype(np.uint8)
    (found,) = compare_arms(three_seeds, token_nll=read_nats, decades=lambda record: decades).contrasts
    assert [each.decade for each in found.by_frequency] == [0, 1, 2]
    assert sum(each.part for each in found.by_frequency) == pytest.approx(found.headline.ln_ratio, abs=1e-6)
    for nats, known in ((read_nats, None), (lambda record: None, decades)):
        (found,) = compare_arms(three_seeds, token_nll=nats, decades=lambda record, known=known: known).contrasts
        assert found.by_frequency == []
