"""The 95 % interval covers, over 2,000 simulated comparisons a cell. `pytest -s` prints every cell.

Asserted within 93 and 97 % are the realistic cells at 2, 3, 5 and 10 seeds: deviations of ln perplexity of 0.004 to
0.015 between seeds, 0.03 between the blocks' differences, 0.02 between runs on a block, 80 blocks, which is what
Penn Treebank's test text and small models give. A cell that covers exactly 95 % shows 94 to 96 in two of three draws.

Where one source is (almost) absent the estimate is known to be careful, and only the lower end is asserted:
- without variation between seeds, rest is counted twice where V_seed + V_text - V_rest falls below the larger part;
- without variation between texts Welch's own interval rules, and covers 97.7 % at two seeds per arm;
- without variation between seeds and between texts 98 to 99 %.
"""

import numpy as np
import pytest

from tiebench.comparison.sources import SeedDeviation
from tiebench.comparison.variance import estimate_difference, estimate_from_totals

NUM_SIMULATIONS = 2_000
NUM_BLOCKS = 80
REALISTIC = [0.004, 0.008, 0.015]


def simulate(*, seeds, by_seed, by_block=0.03, rest=0.02, ratio=1.0, lengths=None, seed=0, num=NUM_SIMULATIONS, **rule):
    """p values, and the percentage of intervals that hold the true difference, 0, of arms with `seeds` runs.

    A token here is a block, or `lengths` equal tokens are; `ratio` is how much more the baseline's seeds vary.
    """
    random = np.random.default_rng(seed)
    lengths = np.ones(NUM_BLOCKS, int) if lengths is None else lengths
    starts = np.cumsum(lengths) - lengths
    p_values, covered = [], 0
    for _ in range(num):
        text = random.normal(scale=by_block, size=len(lengths))
        arms = []
        for count, deviation, by_text in zip(seeds, (by_seed, by_seed * ratio), (text, 0.0), strict=True):
            by_run = random.normal(scale=deviation, size=(count, 1))
            of_rest = random.normal(scale=rest, size=(count, len(lengths)))
            arms.append(np.repeat(by_run + by_text + of_rest, lengths, axis=1))
        total = estimate_difference(*arms, block_starts=starts, **rule).total
        p_values.append(total.p)
        covered += total.low <= 0 <= total.high
    return p_values, 100 * covered / num


@pytest.mark.parametrize("by_seed", REALISTIC)
@pytest.mark.parametrize("num_seeds", [2, 3, 5, 10])
def test_the_interval_covers_between_93_and_97_percent(num_seeds, by_seed):
    p_values, covered = simulate(seeds=(num_seeds, num_seeds), by_seed=by_seed)
    print(f"\n{num_seeds} seeds, {by_seed} between seeds: {covered:.1f} %")
    assert 93 <= covered <= 97
    assert np.mean(np.array(p_values) < 0.05) * 100 == pytest.approx(100 - covered)


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_it_covers_where_the_variance_of_a_recipe_is_pooled(num_seeds):
    _, covered = simulate(seeds=(num_seeds, num_seeds), by_seed=0.008, seed_rule="pooled")
    print(f"\n{num_seeds} seeds, pooled: {covered:.1f} %")
    assert 93 <= covered <= 97


def test_it_covers_where_arms_have_other_numbers_of_seeds_and_other_deviations():
    _, covered = simulate(seeds=(3, 6), by_seed=0.012, ratio=0.5)
    print(f"\n3 against 6 seeds of half the deviation: {covered:.1f} %")
    assert 93 <= covered <= 97


def test_it_covers_where_blocks_are_articles_of_unequal_length():
    lengths = np.random.default_rng(9).integers(1, 8, size=60)
    _, covered = simulate(seeds=(5, 5), by_seed=0.006, lengths=lengths)
    print(f"\n60 articles of 1 to 7 thousand tokens: {covered:.1f} %")
    assert 93 <= covered <= 97


def cover_by_seeds(num_seeds, *, ratio, rule="welch", num=10_000):
    """The percentage of intervals over seeds alone that hold the true difference; one deviation is `ratio` times the
    other."""
    draws = np.random.default_rng(num_seeds).normal(size=(num, 2, num_seeds)) * np.array([[1.0], [ratio]])
    found = [estimate_from_totals(*arms, seed_rule=rule).total for arms in draws]
    return 100 * np.mean([total.low <= 0 <= total.high for total in found])


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 10])
def test_by_seeds_alone_it_covers_as_much_as_is_said(num_seeds):
    """Welch's interval of two seeds is careful where arms vary alike. It has to be: fewer than 93 % would be covered by
    a narrower one where they do not (`comparison.sources.combine_sources`)."""
    alike, unlike = cover_by_seeds(num_seeds, ratio=1.0), cover_by_seeds(num_seeds, ratio=10.0)
    pooled = cover_by_seeds(num_seeds, ratio=1.0, rule="pooled")
    print(f"\n{num_seeds} seeds alone: {alike:.1f} %, pooled {pooled:.1f} %, one arm varies tenfold {unlike:.1f} %")
    assert 93 <= alike <= (98.5 if num_seeds == 2 else 97)
    assert 93 <= pooled <= 97 and 93 <= unlike <= 97


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
@pytest.mark.parametrize(
    "absent", [{"by_seed": 0.0}, {"by_seed": 0.008, "by_block": 0.0}, {"by_seed": 0.008, "rest": 0.0}], ids=str
)
def test_it_is_careful_where_a_source_is_absent(absent, num_seeds):
    _, covered = simulate(seeds=(num_seeds, num_seeds), num=1_000, **absent)
    print(f"\n{num_seeds} seeds, {absent}: {covered:.1f} %")
    assert covered >= 93


def test_an_arm_against_itself_is_called_different_as_often_as_p_says():
    """A/A: the same recipe on both sides, so that no block favours either, at three seeds per side."""
    p_values, _ = simulate(seeds=(3, 3), by_seed=0.008, by_block=0.0)
    for level in (0.01, 0.05, 0.2, 0.5):
        found = np.mean(np.array(p_values) < level)
        noise = np.sqrt(level * (1 - level) / NUM_SIMULATIONS)
        print(f"\nA/A, p < {level}: {found:.3f}")
        assert found <= level + 4 * noise
    assert np.mean(np.array(p_values) < 0.05) >= 0.02


def test_one_seed_against_itself_would_be_called_different_far_too_often():
    """The text alone leaves 0 out in half of all A/A pairs, which is why one seed gets no p; with the deviation of the
    recipe known from ten records it is right again."""
    options = {"seeds": (1, 1), "by_seed": 0.008, "by_block": 0.0, "num": 1_000}
    p_values, covered = simulate(**options)
    assert covered < 60 and set(p_values) == {None}
    random = np.random.default_rng(4)
    missed = 0
    for draw in range(500):
        known = SeedDeviation(0.008 * np.sqrt(random.chisquare(9) / 9), 9)
        p_values, _ = simulate(**options | {"num": 2, "seed": draw}, seed_deviation=known)
        missed += sum(p < 0.05 for p in p_values)
    print(f"\none seed, known deviation: {missed / 10:.1f} % of A/A pairs at p < .05")
    assert missed / 10 <= 7
