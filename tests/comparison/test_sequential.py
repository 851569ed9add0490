import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from tiebench.comparison.planning import compute_power
from tiebench.comparison.sequential import (
    Decision,
    Look,
    compute_e_value,
    count_samples,
    decide,
    find_critical_t,
    find_text_reach,
    replay_looks,
    take_look,
)
from tiebench.comparison.variance import describe_error

NUM_COMPARISONS = 5_000
MOST_PAIRS = 20
NO_PAIR = MOST_PAIRS + 1


def draw_runs(effect, *, ratio=1.0, seed=0, num=NUM_COMPARISONS):
    """Runs of two arms in deviations between seeds, shapes (comparisons, pairs)."""
    random = np.random.default_rng(seed)
    return random.normal(effect, 1.0, (num, MOST_PAIRS)), random.normal(0.0, ratio, (num, MOST_PAIRS))


def follow_intervals(ours, baseline):
    """The confidence sequences, intersected, after each pair from the second on, shapes (comparisons, looks)."""
    lows, highs = [], []
    for num_pairs in range(2, MOST_PAIRS + 1):
        x, y = ours[:, :num_pairs], baseline[:, :num_pairs]
        error = np.sqrt((x.var(axis=1, ddof=1) + y.var(axis=1, ddof=1)) / num_pairs)
        critical = find_critical_t(count_samples(num_pairs, num_pairs))
        difference = x.mean(axis=1) - y.mean(axis=1)
        lows.append(difference - critical * error)
        highs.append(difference + critical * error)
    return np.maximum.accumulate(lows, axis=0).T, np.minimum.accumulate(highs, axis=0).T


def find_first(held):
    """The number of pairs at the first look that holds, shape (comparisons,)."""
    return np.where(held.any(axis=1), held.argmax(axis=1) + 2, NO_PAIR)


def settle(ours, baseline, *, margin=None):
    """When each comparison found a sign or an equivalence, and which sign: `decide`, for all of them at once."""
    lows, highs = follow_intervals(ours, baseline)
    sign = find_first((lows > 0) | (highs < 0))
    inside = np.zeros_like(lows, bool) if margin is None else (-margin < lows) & (highs < margin)
    equivalent = find_first(inside)
    at_sign = np.minimum(sign, MOST_PAIRS) - 2
    worse = lows[np.arange(len(lows)), at_sign] > 0
    return sign, equivalent, worse


@pytest.mark.parametrize(("num_ours", "num_baseline"), [(2, 2), (3, 3), (5, 5), (3, 8), (20, 20)])
@pytest.mark.parametrize("t", [0.0, -1.3, 3.0, 12.0])
@pytest.mark.parametrize("prior_deviation", [0.7, 2.0])
def test_the_closed_form_is_the_bayes_factor_of_noncentral_t(num_ours, num_baseline, t, prior_deviation):
    """Quadrature over the prior of the density of noncentral t, over that of t. Its error is far below 1e-6."""
    freedom, root = num_ours + num_baseline - 2, math.sqrt(num_ours * num_baseline / (num_ours + num_baseline))

    def weigh(effect):
        return stats.nct.pdf(t, freedom, root * effect) * stats.norm.pdf(effect, scale=prior_deviation)

    reach = 8 * prior_deviation
    peaks = [0, t / root] if abs(t / root) < reach else [0]
    density, _ = integrate.quad(weigh, -reach, reach, limit=400, points=peaks)
    expected = density / stats.t.pdf(t, freedom)
    found = compute_e_value(t, count_samples(num_ours, num_baseline), prior_deviation=prior_deviation)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("num_pairs", [2, 3, 8, 20])
def test_evidence_is_one_on_average_where_there_is_no_difference(num_pairs):
    freedom = 2 * num_pairs - 2

    def weigh(t):
        return compute_e_value(t, count_samples(num_pairs, num_pairs)) * stats.t.pdf(t, freedom)

    mean = 2 * sum(integrate.quad(weigh, *part, limit=400)[0] for part in ((0, 10), (10, np.inf)))
    assert mean == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(("num_ours", "num_baseline"), [(3, 3), (4, 6), (20, 20)])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_critical_t_is_where_the_evidence_reaches_one_over_alpha(num_ours, num_baseline, alpha):
    samples = count_samples(num_ours, num_baseline)
    critical = find_critical_t(samples, alpha=alpha)
    assert compute_e_value(critical, samples) == pytest.approx(1 / alpha)
    assert compute_e_value(-critical, samples) == pytest.approx(1 / alpha)


def test_two_pairs_never_decide_and_three_can():
    assert find_critical_t(count_samples(2, 2)) == math.inf
    assert compute_e_value(math.inf, count_samples(2, 2)) == pytest.approx(5)
    assert compute_e_value(1e9, count_samples(2, 2)) == pytest.approx(5)
    assert find_critical_t(count_samples(3, 3)) < 10
    assert find_critical_t(count_samples(1, 1)) == math.inf
    assert compute_e_value(7.0, count_samples(1, 1)) == 1.0


def test_evidence_stays_a_number_however_strong():
    for t in (1e6, 1e200, math.inf):
        found = compute_e_value(t, count_samples(500, 500))
        assert math.isfinite(found) and 0 < 1 / found < 1e-300


def test_the_interval_holds_the_differences_without_enough_evidence_against_them():
    ours, baseline = [4.70, 4.71, 4.69, 4.72, 4.70], [4.74, 4.73, 4.74, 4.76, 4.74]
    look = take_look(ours, baseline)
    for offset, expected in ((1e-6, True), (-1e-6, False)):
        for shift in (look.low + offset, look.high - offset):
            moved = take_look([value - shift for value in ours], baseline)
            assert (moved.e_value < 20) == expected


@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_false_decisions_stay_below_five_percent_with_a_look_after_every_pair(ratio):
    """5,000 comparisons of arms that do not differ, also where one arm's deviation is twice the other's."""
    ours, baseline = draw_runs(0.0, ratio=ratio, seed=1)
    sign, _, worse = settle(ours, baseline)
    wrong = np.mean(sign <= MOST_PAIRS)
    looking_at_p = np.minimum.reduce(
        [stats.ttest_ind(ours[:, :n], baseline[:, :n], axis=1).pvalue for n in range(2, MOST_PAIRS + 1)]
    )
    print(f"\nfalse decisions: {wrong:.3f}, {np.mean(worse & (sign <= MOST_PAIRS)):.3f} of them 'worse'; with a t test")
    print(f"at every look: {np.mean(looking_at_p < 0.05):.3f}")
    assert 0.005 < wrong <= 0.05
    assert np.mean(looking_at_p < 0.05) > 0.15, "a plain t test does not survive looking, or nothing was tested"


@pytest.mark.parametrize("effect", [1.5, -1.5])
def test_false_equivalences_stay_below_five_percent_at_the_edge_of_the_margin(effect):
    ours, baseline = draw_runs(effect, seed=2)
    _, equivalent, _ = settle(ours, baseline, margin=1.5)
    print(f"\nfalse equivalences: {np.mean(equivalent <= MOST_PAIRS):.4f}")
    assert np.mean(equivalent <= MOST_PAIRS) <= 0.05


@pytest.mark.parametrize("effect", [0.5, 3.0])
def test_the_confidence_sequence_holds_the_truth_at_all_looks_in_95_percent(effect):
    lows, highs = follow_intervals(*draw_runs(effect, seed=3))
    held = np.mean(((lows <= effect) & (effect <= highs)).all(axis=1))
    print(f"\neffect {effect}: held {held:.3f}")
    assert held >= 0.95


def test_looking_costs_little_power_beside_a_t_test_at_a_fixed_number():
    """At 20 pairs, and how many pairs it took. A t test of 20 pairs may look only once, and needs all 20."""
    lower_bounds = {1.0: 0.5, 1.5: 0.9, 2.0: 0.98, 3.0: 0.99}
    most_pairs = {1.0: 17, 1.5: 12, 2.0: 8, 3.0: 6}
    print("\neffect  decided  pairs (mean)  t test at 5 pairs  at 20 pairs  wrong sign")
    for effect in (0.25, 0.5, *lower_bounds):
        sign, _, worse = settle(*draw_runs(effect, seed=5))
        decided = sign <= MOST_PAIRS
        pairs, wrong = np.minimum(sign, MOST_PAIRS).mean(), np.mean(decided & ~worse)
        fixed = [compute_power(effect, deviation=1.0, num_seeds=n, rule="fixed") for n in (5, 20)]
        print(f"{effect:6} {decided.mean():8.3f} {pairs:12.1f} {fixed[0]:17.3f} {fixed[1]:13.3f} {wrong:11.4f}")
        assert wrong <= 0.025
        if effect in lower_bounds:
            assert decided.mean() >= lower_bounds[effect] and pairs <= most_pairs[effect]


def test_equivalence_is_found_where_the_margin_is_wide_enough():
    """Equal arms, a margin of two deviations (1 % where seeds vary by 0.5 %)."""
    sign, equivalent, _ = settle(*draw_runs(0.0, seed=6), margin=2.0)
    print(f"\nequivalent: {np.mean(equivalent < sign):.3f}, pairs {np.minimum(equivalent, MOST_PAIRS).mean():.1f}")
    assert np.mean(equivalent < sign) > 0.9


@pytest.mark.parametrize("effect", [0.0, 1.0, -2.0])
def test_decide_does_what_the_simulations_did(effect):
    ours, baseline = draw_runs(effect, seed=7, num=100)
    sign, equivalent, worse = settle(ours, baseline, margin=2.0)
    for index in range(100):
        decision = decide(replay_looks(ours[index].tolist(), baseline[index].tolist()), margin=2.0)
        first = min(sign[index], equivalent[index])
        if first == NO_PAIR:
            assert decision.outcome == "undecided" and decision.num_ours == MOST_PAIRS
            continue
        expected = ("worse" if worse[index] else "better") if sign[index] == first else "equivalent"
        assert (decision.outcome, decision.num_ours) == (expected, first)
        assert decision.within_margin == (equivalent[index] <= first)


def test_every_look_is_kept_and_p_never_rises():
    ours, baseline = draw_runs(0.8, seed=8, num=1)
    looks = replay_looks(ours[0].tolist(), baseline[0].tolist())
    decision = decide(looks, margin=0.1)
    assert list(decision.looks) == looks and len(looks) == MOST_PAIRS - 1
    assert all(later.p <= sooner.p for sooner, later in itertools.pairwise(looks))
    assert all(look.p <= 1 / look.e_value + 1e-12 for look in looks)
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


def test_looking_one_pair_at_a_time_is_what_replaying_gives():
    ours, baseline = (runs[0].tolist() for runs in draw_runs(1.0, seed=9, num=1))
    looks: list[Look] = []
    for num_pairs in range(2, 8):
        looks.append(take_look(ours[:num_pairs], baseline[:num_pairs], earlier=looks))
    assert looks == replay_looks(ours[:7], baseline[:9])


def test_a_lower_perplexity_is_better():
    low, high = [4.60, 4.61, 4.605, 4.602], [4.70, 4.71, 4.705, 4.702]
    assert decide(replay_looks(low, high)).outcome == "better"
    assert decide(replay_looks(high, low)).outcome == "worse"


def test_a_difference_can_be_sure_and_small():
    ours, baseline = [4.6000, 4.6001, 4.6002, 4.6001], [4.6010, 4.6011, 4.6012, 4.6011]
    decision = decide(replay_looks(ours, baseline), margin=math.log(1.01))
    assert decision.outcome == "better" and decision.within_margin
    assert decide(replay_looks(ours, baseline)).within_margin is None


def test_runs_without_spread_decide_as_soon_as_three_pairs_can():
    different = decide(replay_looks([1.0] * 4, [2.0] * 4))
    assert (different.outcome, different.num_ours, different.low, different.high) == ("better", 3, -1.0, -1.0)
    same = decide(replay_looks([1.0] * 4, [1.0] * 4), margin=0.01)
    assert (same.outcome, same.num_ours) == ("equivalent", 3)
    assert decide(replay_looks([1.0] * 4, [1.0] * 4)).outcome == "undecided"


def test_a_claim_beyond_this_text_is_widened_by_the_text():
    ours, baseline = [4.700, 4.702, 4.698, 4.701], [4.712, 4.713, 4.709, 4.710]
    text = describe_error(-0.01, 0.006, 79)
    reach = find_text_reach(text)
    assert reach == pytest.approx(0.006 * stats.t.ppf(0.9875, 79))
    looks = replay_looks(ours, baseline, alpha=0.025)
    on_this_text, beyond = decide(looks), decide(looks, text_reach=reach)
    assert (on_this_text.outcome, on_this_text.covers) == ("better", ("seeds",))
    assert (beyond.outcome, beyond.covers) == ("undecided", ("seeds", "text"))
    assert beyond.high == pytest.approx(looks[-1].high + reach)


def test_seeds_and_text_together_err_at_most_as_often_as_promised():
    """2,000 comparisons without a difference in the language, but with one on the text at hand."""
    random = np.random.default_rng(12)
    ours, baseline = draw_runs(0.0, seed=10, num=2_000)
    text = random.normal(scale=0.8, size=(2_000, 1))
    reach = 0.8 * stats.norm.ppf(1 - 0.025 / 2)
    wrong = 0
    for x, y in zip((ours + text).tolist(), baseline.tolist(), strict=True):
        looks = replay_looks(x[:8], y[:8], alpha=0.025)
        wrong += decide(looks, text_reach=reach).outcome != "undecided"
    assert wrong / 2_000 <= 0.05


@pytest.mark.parametrize(
    ("looks", "options", "message"),
    [([], {}, "at least one look"), (None, {"margin": 0.0}, "positive"), (None, {"text_reach": -1.0}, "not negative")],
)
def test_a_decision_that_cannot_be_meant_is_refused(looks, options, message):
    looks = replay_looks([1.0, 2.0], [1.0, 3.0]) if looks is None else looks
    with pytest.raises(ValueError, match=message):
        decide(looks, **options)


def test_a_look_needs_two_runs_of_each_arm():
    with pytest.raises(ValueError, match="two runs"):
        take_look([1.0], [1.0, 2.0])
    assert replay_looks([1.0], [1.0, 2.0]) == []
