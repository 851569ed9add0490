import numpy as np
import pytest
from scipy import stats

from tiebench.comparison.blocks import cut_blocks
from tiebench.comparison.sources import SeedDeviation
from tiebench.comparison.variance import Estimate, estimate_difference, estimate_from_totals

OURS, BASELINE = [4.701, 4.712, 4.698, 4.709], [4.742, 4.741, 4.735, 4.76]


def draw_arms(*, num_ours=3, num_baseline=4, num_tokens=600, seed=0):
    """Two arms that vary with the seed, with the text and with both, shapes (seeds, tokens)."""
    random = np.random.default_rng(seed)
    text = random.normal(4.7, 2.0, size=num_tokens)
    arms = []
    for num_seeds in (num_ours, num_baseline):
        by_arm = text + random.normal(scale=0.7, size=num_tokens)
        by_seed = random.normal(scale=0.1, size=(num_seeds, 1))
        arms.append(by_arm + by_seed + random.normal(scale=0.5, size=(num_seeds, num_tokens)))
    return arms


@pytest.mark.parametrize(("rule", "equal_var"), [("welch", False), ("pooled", True)])
@pytest.mark.parametrize("baseline", [BASELINE, BASELINE[:2]])
def test_seeds_alone_agree_with_scipys_t_test(rule, equal_var, baseline):
    found = estimate_from_totals(OURS, baseline, seed_rule=rule)
    expected = stats.ttest_ind(OURS, baseline, equal_var=equal_var)
    interval = expected.confidence_interval(0.95)
    assert found.difference == pytest.approx(np.mean(OURS) - np.mean(baseline))
    assert found.total.p == pytest.approx(expected.pvalue)
    assert found.total.degrees_of_freedom == pytest.approx(expected.df)
    assert (found.total.low, found.total.high) == pytest.approx((interval.low, interval.high))
    assert found.covers == ("seeds",) and found.text is None


def test_paired_seeds_agree_with_scipys_paired_t_test():
    found = estimate_from_totals(OURS, BASELINE, seed_rule="paired")
    assert found.total.p == pytest.approx(stats.ttest_rel(OURS, BASELINE).pvalue)


def test_paired_estimate_is_the_crossed_analysis_of_variance():
    """Var = (MS_seed + MS_block - MS_rest) / (S B), from a table of differences, seeds by blocks of equal length."""
    ours, baseline = draw_arms(num_ours=4, num_baseline=4)
    starts = np.arange(0, 600, 50)
    table = (ours - baseline).reshape(4, 12, 50).mean(axis=2)
    by_seed, by_block, all_of_it = table.mean(axis=1), table.mean(axis=0), table.mean()
    ms_seed = 12 * ((by_seed - all_of_it) ** 2).sum() / 3
    ms_block = 4 * ((by_block - all_of_it) ** 2).sum() / 11
    ms_rest = ((table - by_seed[:, None] - by_block + all_of_it) ** 2).sum() / 33
    found = estimate_difference(ours, baseline, block_starts=starts, seed_rule="paired")
    assert found.difference == pytest.approx(all_of_it)
    assert found.seeds.error**2 == pytest.approx(ms_seed / 48)
    assert found.text.error**2 == pytest.approx(ms_block / 48)
    assert found.total.error**2 == pytest.approx(max(ms_seed + ms_block - ms_rest, ms_seed, ms_block) / 48)
    assert ms_seed + ms_block - ms_rest > max(ms_seed, ms_block)


def test_the_difference_is_weighted_by_tokens_whatever_the_blocks():
    ours, baseline = draw_arms()
    for starts in ([0, 300], [0, 10, 590], list(range(0, 600, 7))):
        found = estimate_difference(ours, baseline, block_starts=np.array(starts))
        assert found.difference == pytest.approx(ours.mean() - baseline.mean())
        totals = estimate_from_totals(ours.mean(axis=1), baseline.mean(axis=1))
        assert found.seeds.error == pytest.approx(totals.seeds.error)
        assert found.seeds.p == pytest.approx(totals.seeds.p)


@pytest.mark.parametrize("rule", ["welch", "pooled"])
def test_each_source_is_found_without_bias_at_unequal_blocks_and_unequal_numbers_of_seeds(rule):
    """Rest and text vary alike in all blocks: 2,000 tables, whose mean variances lie within four of their errors."""
    random = np.random.default_rng(11)
    lengths = np.array([5, 1, 2, 3, 1, 4, 2, 2, 6, 1])
    weights = lengths / lengths.sum()
    starts = np.cumsum(lengths) - lengths
    found = []
    for _ in range(2_000):
        text = random.normal(scale=0.3, size=10)
        arms = [
            random.normal(scale=0.2, size=(n, 1)) + random.normal(scale=0.5, size=(n, 10)) + shift
            for n, shift in ((2, text), (4, 0))
        ]
        tokens = [np.repeat(arm, lengths, axis=1) for arm in arms]
        estimate = estimate_difference(*tokens, block_starts=starts, seed_rule=rule)
        found.append((estimate.seeds.error**2, estimate.text.error**2))
    squares, per_run = (weights**2).sum(), 1 / 2 + 1 / 4
    rest = 0.25 * squares * per_run
    mean, noise = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(2_000)
    assert abs(mean[0] - (0.04 * per_run + rest)) < 4 * noise[0]
    # B / (B - 1) makes blocks of equal length unbiased; at unequal ones this variance of a ratio is so by 1 - sum w^2
    correction = 10 / 9 * (1 - 2 * (weights**3).sum() / squares + squares)
    assert abs(mean[1] - (0.09 * squares + rest) * correction) < 4 * noise[1]


def test_no_source_is_larger_than_the_total():
    for seed in range(50):
        ours, baseline = draw_arms(seed=seed, num_ours=3, num_baseline=3)
        for rule in ("welch", "pooled", "paired"):
            found = estimate_difference(ours, baseline, block_starts=np.arange(0, 600, 30), seed_rule=rule)
            for part in (found.seeds, found.text):
                assert found.total.error >= part.error
                assert found.total.low <= part.low + 1e-9 and found.total.high >= part.high - 1e-9


def test_blocks_of_unequal_length_count_for_fewer():
    """Shares 1/2, 1/4, 1/4: (1/4 + 2/16)^2 / (1/16 + 2/256) = 2 free blocks, less one."""
    ours, baseline = draw_arms()
    for starts, expected in (([0, 300, 450], 1), ([0, 200, 400], 2), (range(0, 600, 20), 29)):
        found = estimate_difference(ours, baseline, block_starts=np.array(starts))
        assert found.text.degrees_of_freedom == pytest.approx(expected)


def test_one_seed_per_arm_has_an_interval_of_the_text_and_no_p():
    ours, baseline = draw_arms(num_ours=1, num_baseline=1)
    for rule in ("welch", "pooled", "paired"):
        found = estimate_difference(ours, baseline, block_starts=np.arange(0, 600, 20), seed_rule=rule)
        assert found.covers == ("text",) and found.seeds is None
        assert found.total == found.text and found.total.p is None
        blocks = (ours - baseline)[0].reshape(30, 20).mean(axis=1)
        interval = stats.ttest_1samp(blocks, 0).confidence_interval(0.95)
        assert (found.total.low, found.total.high) == pytest.approx((interval.low, interval.high))


def test_one_seed_in_one_arm_is_enough_only_where_the_arms_vary_alike():
    ours, baseline = draw_arms(num_ours=1, num_baseline=4)
    starts = np.arange(0, 600, 20)
    assert estimate_difference(ours, baseline, block_starts=starts).total.p is None
    pooled = estimate_difference(ours, baseline, block_starts=starts, seed_rule="pooled")
    assert pooled.seeds.degrees_of_freedom == 3 and pooled.total.p is not None


def test_nothing_is_known_from_one_figure_per_arm():
    found = estimate_from_totals([4.7], [4.8])
    assert found.total is None and found.covers == () and found.difference == pytest.approx(-0.1)


def test_a_known_deviation_of_the_recipe_stands_in_for_missing_seeds():
    ours, baseline = draw_arms(num_ours=1, num_baseline=1)
    known = SeedDeviation(0.1, 8)
    found = estimate_difference(ours, baseline, block_starts=np.arange(0, 600, 20), seed_deviation=known)
    assert found.covers == ("seeds", "text") and found.total.p is not None
    assert found.seeds.error == pytest.approx(0.1 * np.sqrt(2))
    assert found.seeds.degrees_of_freedom == 8
    assert found.total.error == pytest.approx(np.hypot(found.seeds.error, found.text.error))


def test_a_known_deviation_is_pooled_with_what_the_runs_say():
    alone = estimate_from_totals(OURS, BASELINE, seed_rule="pooled")
    known = estimate_from_totals(OURS, BASELINE, seed_deviation=SeedDeviation(0.02, 4))
    assert known.seeds.degrees_of_freedom == 10
    assert known.seeds.error**2 == pytest.approx((6 * alone.seeds.error**2 + 4 * 0.02**2 * 2 / 4) / 10)


def test_a_constant_shift_is_certain_and_so_is_none():
    nats = np.random.default_rng(1).normal(5.0, 2.0, size=(1, 4_000)).repeat(3, axis=0)
    starts = np.arange(0, 4_000, 1_000)
    shifted = estimate_difference(nats - 0.05, nats, block_starts=starts)
    assert (shifted.total.low, shifted.total.high) == pytest.approx((-0.05, -0.05), abs=1e-9)
    assert shifted.total.p < 1e-9
    same = estimate_difference(nats, nats, block_starts=starts)
    assert (same.total.low, same.total.high, same.total.p) == (0.0, 0.0, 1.0)


def test_tokens_that_hang_together_need_long_blocks():
    """Topics of 500 tokens: blocks of 10 tokens find a seventh of the error that blocks of 1,000 find."""
    topics = np.random.default_rng(5).normal(size=400).repeat(500)[None]
    errors = [
        estimate_difference(topics, 0 * topics, block_starts=np.arange(0, 200_000, length)).text.error
        for length in (10, 1_000)
    ]
    assert errors[0] == pytest.approx(topics.std() / np.sqrt(20_000), rel=0.01)
    assert errors[1] == pytest.approx(topics.std() / np.sqrt(400), rel=0.15)  # four times 1 / sqrt(2 * 199) is 20 %


@pytest.mark.parametrize(
    ("ours", "baseline", "options", "message"),
    [
        (np.ones((2, 9)), np.ones((2, 8)), {}, "of one text"),
        (np.ones(9), np.ones((2, 9)), {}, "of one text"),
        (np.ones((0, 9)), np.ones((2, 9)), {}, "of one text"),
        (np.full((2, 9), np.nan), np.ones((2, 9)), {}, "finite"),
        (np.ones((2, 9)), np.ones((3, 9)), {"seed_rule": "paired"}, "as many"),
        (np.ones((2, 9)), np.ones((2, 9)), {"seed_rule": "paired", "seed_deviation": SeedDeviation(1, 1)}, "paired"),
    ],
)
def test_what_cannot_be_compared_is_refused(ours, baseline, options, message):
    with pytest.raises(ValueError, match=message):
        estimate_difference(ours, baseline, block_starts=np.array([0, 4]), **options)


def test_an_estimate_is_read_back_from_json():
    ours, baseline = draw_arms()
    found = estimate_difference(ours, baseline, block_starts=np.arange(0, 600, 30))
    assert Estimate.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("num_seeds", [3, 4, 6])
def test_p_is_never_smaller_than_that_of_one_source_alone(num_seeds):
    """Also far out, where an adjustment over several arms reads it: few degrees of freedom weigh more there."""
    random = np.random.default_rng(4)
    text = random.exponential(4.7, size=20_000)
    for shift in (0.01, 0.03, 0.1):
        arms = [
            np.array(
                [text + level + random.normal(0, 0.3, text.size) + random.normal(0, 0.01) for _ in range(num_seeds)]
            )
            for level in (shift, 0.0)
        ]
        found = estimate_difference(*arms, block_starts=cut_blocks(text.size))
        assert found.total.p >= max(found.seeds.p, found.text.p)
        assert (found.total.p < 0.05) == (found.total.low > 0 or found.total.high < 0), "p and interval say the same"
