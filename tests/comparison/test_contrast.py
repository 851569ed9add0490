"""The sentence: what was decided, the bound, what is saved, what more would take; and one convention of signs."""

import re

import pytest

from tiebench.comparison.bounds import check_value
from tiebench.comparison.captions import format_p
from tiebench.comparison.difference import Difference
from tiebench.comparison.estimate_error import StudentError
from tiebench.comparison.looking import look_at_pairs
from tiebench.comparison.pairing import compare_arms
from tiebench.comparison.variance import Uncertainty
from tiebench.reporting.tables import comparison_table


@pytest.fixture
def compare(make_record):
    """Compare test perplexities of untied and tied runs, from seed 1 on."""

    def compare(untied, tied, **options):
        arms = {
            arm: [make_record(arm, seed, test=test) for seed, test in enumerate(tests, start=1)]
            for arm, tests in (("untied", untied), ("tied", tied))
        }
        return compare_arms(arms, token_nll=lambda record: None, **options).contrasts[0]

    return compare


def test_better_is_a_lower_perplexity(compare):
    found = compare((114.0, 115.0, 114.6), (110.0, 110.4, 110.9))
    assert found.outcome == "better"
    assert found.sentence == (
        "tied lowers test perplexity by 3.6 % (between 4.5 % lower and 2.6 % lower; p < 0.001, 3 seeds) and saves 43 % "
        "of the parameters"
    )


def test_worse_is_a_higher_one(compare):
    found = compare((110.0, 110.4, 110.9), (114.0, 115.0, 114.6))
    assert found.outcome == "worse"
    assert found.sentence.startswith("tied raises test perplexity by 3.7 % (between 2.7 % higher and 4.7 % higher; p <")


def test_undecided_says_what_it_costs_at_most_and_what_it_would_take_to_know(compare):
    found = compare((114.0, 112.0, 113.1), (112.0, 112.9, 112.3))
    assert found.outcome == "undecided" and found.plan.sign > 1
    low, high = found.headline.percent_interval
    assert low < 0 < high
    assert found.sentence.startswith(
        f"tied costs at most {high:.1f} % test perplexity here (between {-low:.1f} % lower"
    )
    assert f"and {high:.1f} % higher" in found.sentence and "the sign is not decided) and saves 43 %" in found.sentence
    assert found.sentence.endswith(f"; about {found.plan.sign} more seeds per arm would settle the sign")


def test_an_equivalence_is_claimed_only_with_its_margin(compare):
    close = (112.0, 112.1, 112.05), (112.03, 112.12, 112.0)
    assert compare(*close).outcome == "undecided"
    found = compare(*close, margin=1.0)
    assert (found.outcome, found.within_margin) == ("equivalent", True)
    assert found.sentence.startswith("tied and untied are equivalent within 1 % of test perplexity (between 0.1")
    assert found.sentence.endswith("; tied saves 43 % of the parameters")
    wide = compare((114.0, 110.0, 112.0), (112.0, 113.9, 110.3), margin=1.0)
    assert (wide.outcome, wide.within_margin) == ("undecided", False)
    assert "the equivalence within 1 %" in wide.sentence


def test_the_equivalence_of_several_arms_is_adjusted_over_them(make_record):
    """One arm is within 1 % at p = 0.03. With another one beside it, Holm asks for less than 2.5 %."""
    untied, tied = (112.0, 112.9, 111.2), (112.3, 111.5, 112.9)
    runs = {"untied": untied, "tied": tied, "tied-again": tied}
    arms = {arm: [make_record(arm, seed, test=test) for seed, test in enumerate(tests)] for arm, tests in runs.items()}

    def compare(*names):
        return compare_arms({name: arms[name] for name in names}, token_nll=lambda record: None, margin=1.6)

    (alone,) = compare("untied", "tied").contrasts
    assert 0.025 < alone.headline.p_within < 0.05 and alone.outcome == "equivalent"
    assert alone.headline.adjusted_p_within == alone.headline.p_within
    among = compare("untied", "tied", "tied-again")
    for contrast in among.contrasts:
        assert contrast.headline.adjusted_p_within == pytest.approx(2 * alone.headline.p_within)
        assert (contrast.outcome, contrast.within_margin) == ("undecided", False)
        assert f"{format_p(2 * alone.headline.p_within)} for the equivalence within 1.6 %" in contrast.sentence
    assert any(note.startswith("p and p within (that of the equivalence) are each adjusted") for note in among.notes)
    table = comparison_table(among)
    place = [column.name for column in table.columns].index("p within")
    assert [row[place] for row in table.rows] == [None, *(each.headline.adjusted_p_within for each in among.contrasts)]
    unasked = comparison_table(compare_arms(arms, token_nll=lambda record: None))
    assert "p within" not in {column.name for column in unasked.columns}


def test_an_equivalence_is_no_surer_over_both_sources_than_over_one():
    """p is read far out in the tails once it is adjusted, where few seeds weigh more than at 95 %."""
    found = Difference(
        split="test", unit="token", ln_ratio=0.0, reference=4.7, error=0.001, degrees_of_freedom=60.0, p=1.0,
        seeds=Uncertainty(error=0.001, degrees_of_freedom=2.0, low=-1.0, high=1.0, p=1.0),
        seed_rule="welch", num_seeds=(2, 2),
    )  # fmt: skip
    expected = check_value(0.0, published=0.0, margin=found.in_nats(1.0), error=StudentError(0.001, 2.0))
    assert found.find_p_within(1.0) == pytest.approx(expected.p_within)


def test_a_small_but_sure_difference_is_both(compare):
    found = compare((112.0, 112.01, 112.02), (111.8, 111.81, 111.82), margin=1.0)
    assert (found.outcome, found.within_margin) == ("better", True)
    assert found.sentence.endswith("; it stays within the margin of 1 %")


def test_one_seed_decides_nothing(compare):
    found = compare((114.5,), (110.3,))
    assert found.outcome == "undecided"
    assert found.sentence == (
        "tied: 3.7 % lower test perplexity in a single pair of runs; it saves 43 % of the parameters. One seed decides "
        "nothing: add at least one more per arm"
    )


def test_the_sentence_has_the_ends_of_the_interval_in_the_order_of_the_figures(compare):
    """Figures are negative where the perplexity is lower; sentences say so in words and keep the order."""
    cases = ((114.0, 115.0), (110.0, 110.4)), ((110.0, 110.4), (114.0, 115.0)), ((114.0, 112.0), (113.0, 113.5))
    for untied, tied in cases:
        found = compare(untied, tied)
        told = re.search(r"between ([\d.]+) % (\w+) and ([\d.]+) % (\w+)", found.sentence)
        signs = {"lower": -1, "higher": 1}
        ends = [signs[told[word]] * float(told[number]) for number, word in ((1, 2), (3, 4))]
        assert ends == pytest.approx(found.headline.percent_interval, abs=0.05)
        assert ends == sorted(ends)


def test_a_decision_under_looking_replaces_the_t_test(make_record):
    pairs = [
        (make_record("untied", seed, test=one), make_record("tied", seed, test=other))
        for seed, one, other in ((1, 114.0, 110.0), (2, 115.0, 110.4), (3, 114.6, 110.9), (4, 114.2, 110.1))
    ]
    arms = {arm: [pair[place] for pair in pairs] for place, arm in enumerate(("untied", "tied"))}
    decision = look_at_pairs(pairs, margin=None).decision
    comparison = compare_arms(arms, token_nll=lambda record: None, decision=decision)
    assert any("hold for a single look" in note for note in comparison.notes)
    found = comparison.contrasts[0]
    assert found.outcome == decision.outcome == "better"
    assert decision.p > 3 * found.headline.p and format_p(decision.p) in found.sentence
    assert "however often one looks, 4 seeds per arm, on this text" in found.sentence
    expected = [found.headline.in_percent(end) for end in (decision.low, decision.high)]
    assert found.interval_percent == pytest.approx(expected)
    assert expected[0] < found.headline.percent_interval[0], "what holds under looking is wider"
