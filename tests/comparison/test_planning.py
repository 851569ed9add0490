import math

import numpy as np
import pytest
from scipy import stats

from tiebench.comparison.planning import MOST_PLANNED_SEEDS, compute_power, plan_seeds
from tiebench.comparison.sequential import count_samples, decide, find_critical_t, replay_looks


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("effect", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("rule", ["fixed", "sequential"])
def test_power_is_that_of_noncentral_t(num_seeds, effect, rule):
    """400 slices of the deviation's distribution hold the chance to better than 1 / 400."""
    freedom = 2 * num_seeds - 2
    critical = stats.t.ppf(0.975, freedom)
    if rule == "sequential":
        critical = find_critical_t(count_samples(num_seeds, num_seeds))
    expected = stats.nct.sf(critical, freedom, effect * math.sqrt(num_seeds / 2)) if math.isfinite(critical) else 0.0
    found = compute_power(-effect * 0.01, deviation=0.01, num_seeds=num_seeds, rule=rule)
    assert found == pytest.approx(expected, abs=1 / 400)


@pytest.mark.parametrize(("effect", "num_seeds"), [(0.0, 3), (0.0, 6), (0.5, 10), (-0.5, 10)])
def test_power_of_an_equivalence_is_that_of_simulated_pairs_of_one_sided_tests(effect, num_seeds):
    random = np.random.default_rng(1)
    ours, baseline = (random.normal(mean, 1.0, (20_000, num_seeds)) for mean in (effect, 0.0))
    p_values = [
        stats.ttest_ind(ours - side, baseline, axis=1, alternative=alternative).pvalue
        for side, alternative in ((1.5, "less"), (-1.5, "greater"))
    ]
    expected = np.mean(np.maximum(*p_values) < 0.05)
    found = compute_power(effect, deviation=1.0, num_seeds=num_seeds, margin=1.5, rule="fixed")
    assert found == pytest.approx(expected, abs=4 * 0.5 / math.sqrt(20_000))


def test_the_planned_number_settles_four_of_five_comparisons():
    plan = plan_seeds(-0.02, deviation=0.012, num_seeds=3)
    random = np.random.default_rng(2)
    ours, baseline = (random.normal(mean, 0.012, (1_000, 3 + plan.sign)).tolist() for mean in (4.68, 4.70))
    outcomes = [decide(replay_looks(x, y)).outcome for x, y in zip(ours, baseline, strict=True)]
    assert outcomes.count("better") / 1_000 >= 0.8 - 3 * 0.4 / math.sqrt(1_000)
    assert compute_power(-0.02, deviation=0.012, num_seeds=2 + plan.sign) < 0.8
    assert plan.equivalence is None


def test_a_t_test_that_looks_once_needs_the_classical_seventeen():
    """An effect of one deviation at 80 % power and 5 %: 17 per arm, as every table of two-sample t tests has it."""
    assert plan_seeds(1.0, deviation=1.0, num_seeds=2, rule="fixed").sign == 15


def test_what_no_number_of_seeds_settles_has_no_plan():
    assert plan_seeds(0.0, deviation=0.01, num_seeds=3).sign is None
    assert plan_seeds(0.001, deviation=0.05, num_seeds=3, margin=0.0005).equivalence is None
    assert plan_seeds(0.02, deviation=0.001, num_seeds=3, margin=0.01).equivalence is None
    assert plan_seeds(-0.01, deviation=0.005, num_seeds=3, text_reach=0.011).sign is None
    assert plan_seeds(1.0, deviation=1.0, num_seeds=2, most_seeds=10).sign is None


def test_more_precise_runs_need_fewer_seeds_and_the_text_needs_more():
    def count(**options):
        return plan_seeds(-0.01, num_seeds=2, **options).sign

    assert count(deviation=0.003) < count(deviation=0.006) < count(deviation=0.012) < MOST_PLANNED_SEEDS
    assert count(deviation=0.006) < count(deviation=0.006, text_reach=0.004)


def test_enough_seeds_need_no_more():
    assert plan_seeds(-0.05, deviation=0.001, num_seeds=8).sign == 0
    assert plan_seeds(0.0, deviation=0.0, num_seeds=3, margin=0.01).equivalence == 0


@pytest.mark.parametrize("options", [{"deviation": -1.0}, {"deviation": 1.0, "margin": 0.0}])
def test_a_plan_that_cannot_be_meant_is_refused(options):
    with pytest.raises(ValueError, match="a plan needs"):
        plan_seeds(0.1, num_seeds=3, **options)
