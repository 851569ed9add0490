import math

import numpy as np
import pytest
from scipy import stats

from tiebench.comparison.pairing import compare_arms, difference_table, group_by_arm, measure_spread
from tiebench.errors import UsageError


def no_nats(record):
    return None


@pytest.fixture
def one_seed(make_record):
    return {"untied": [make_record("untied", test=114.5)], "tied": [make_record("tied", test=110.3)]}


def test_three_seeds_are_a_paired_t_test(three_seeds):
    found = compare_arms(three_seeds, token_nll=no_nats).contrasts[0].differences["test"]
    expected = stats.ttest_rel(np.log([110.0, 110.4, 110.9]), np.log([114.0, 115.0, 114.6]))
    interval = expected.confidence_interval(0.95)
    mean = math.log(110 * 110.4 * 110.9 / 114 / 115 / 114.6) / 3
    assert (found.ln_ratio, found.p) == pytest.approx((mean, expected.pvalue))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.adjusted_p == pytest.approx(found.p), "one arm needs no adjustment"
    assert found.percent == pytest.approx(100 * math.expm1(found.ln_ratio))
    assert found.source == "seeds"


def test_the_baseline_is_the_first_arm(three_seeds):
    forwards = compare_arms(three_seeds, token_nll=no_nats)
    backwards = compare_arms(dict(reversed(three_seeds.items())), token_nll=no_nats)
    assert (forwards.baseline, backwards.baseline) == ("untied", "tied")
    there, back = (each.contrasts[0].differences["test"] for each in (forwards, backwards))
    assert there.ln_ratio == pytest.approx(-back.ln_ratio)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_seeds_are_paired_whatever_their_order(three_seeds):
    shuffled = three_seeds | {"tied": three_seeds["tied"][::-1]}
    assert compare_arms(shuffled, token_nll=no_nats) == compare_arms(three_seeds, token_nll=no_nats)


def test_the_sentence_says_what_was_found(three_seeds):
    sentence = compare_arms(three_seeds, token_nll=no_nats).contrasts[0].sentence
    assert sentence == "tied: 3.6 % lower test perplexity [2.6, 4.5] with 43 % fewer parameters (p = 0.004, 3 seeds)"


def test_a_difference_within_the_noise_is_not_called_one(make_record):
    untied = [make_record("untied", seed, test=test) for seed, test in ((1, 114.0), (2, 112.0))]
    tied = [make_record("tied", seed, test=test) for seed, test in ((1, 113.0), (2, 113.5))]
    sentence = compare_arms({"untied": untied, "tied": tied}, token_nll=no_nats).contrasts[0].sentence
    assert sentence.startswith("tied: not distinguishable from untied with 2 seeds (0.2 % higher test perplexity [-")


def test_parameters_and_perplexities_by_arm(three_seeds):
    untied, tied = compare_arms(three_seeds, token_nll=no_nats).arms
    assert (untied.parameters.output, tied.parameters.output, tied.parameters.shared) == (2_000_000, 0, 2_000_000)
    assert tied.perplexity["test"].mean == pytest.approx((110.0 + 110.4 + 110.9) / 3)
    assert tied.perplexity["test"].deviation == pytest.approx(np.std([110.0, 110.4, 110.9], ddof=1))
    assert tied.perplexity["train"].mean == 38.0


def test_one_seed_is_a_bootstrap_over_the_test_text(one_seed):
    random = np.random.default_rng(0)
    shared = random.exponential(4.7, size=82_430)
    nats = {"untied": shared, "tied": shared - 0.037 + random.normal(0, 1, size=shared.size)}
    comparison = compare_arms(one_seed, token_nll=lambda record: nats[record.arm].astype(np.float32))
    found = comparison.contrasts[0].differences["test"]
    assert found.source == "text"
    assert found.ln_ratio == pytest.approx(math.log(110.3 / 114.5))
    assert found.high - found.low == pytest.approx(2 * 1.96 / math.sqrt(82_430), rel=0.15)
    assert comparison.contrasts[0].differences["valid"].low is None
    assert comparison.contrasts[0].sentence.endswith("(p < 0.001, 1 seed, test text only)")
    assert any("not how training could" in note and "blocks of 200 tokens" in note for note in comparison.notes)


def test_one_seed_without_token_nats_has_no_interval(one_seed):
    comparison = compare_arms(one_seed, token_nll=no_nats)
    found = comparison.contrasts[0].differences["test"]
    assert (found.low, found.high, found.p, found.adjusted_p, found.percent_interval) == (None,) * 5
    assert comparison.arms[0].perplexity["test"].deviation is None
    assert comparison.contrasts[0].sentence.endswith("with 43 % fewer parameters (1 seed, no interval)")
    assert any("no interval can be given" in note for note in comparison.notes)


def test_p_is_adjusted_over_the_arms(three_seeds, make_record):
    perplexities = zip((1, 2, 3), (112.0, 113.5, 113.6))
    more = three_seeds | {"tied-too": [make_record("tied-too", seed, test=test) for seed, test in perplexities]}
    comparison = compare_arms(more, token_nll=no_nats)
    tied, too = (contrast.differences["test"] for contrast in comparison.contrasts)
    assert tied.p < too.p
    assert tied.adjusted_p == pytest.approx(2 * tied.p)
    assert too.adjusted_p == pytest.approx(max(too.p, 2 * tied.p))
    assert any("Holm" in note for note in comparison.notes)


def test_seeds_without_a_partner_are_left_out_and_named(three_seeds, make_record):
    more = three_seeds | {"tied": [*three_seeds["tied"], make_record("tied", 9, test=50.0)]}
    comparison = compare_arms(more, token_nll=no_nats)
    assert comparison.contrasts == compare_arms(three_seeds, token_nll=no_nats).contrasts
    assert comparison.left_out == {"tied": [9]}
    assert "Left out of tied, for want of a partner: seed 9." in comparison.notes


def test_arms_without_a_common_seed_are_refused(make_record):
    with pytest.raises(UsageError, match="share no seed .untied: 1; tied: 2"):
        compare_arms({"untied": [make_record("untied", 1)], "tied": [make_record("tied", 2)]}, token_nll=no_nats)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.training.epochs", 14),
        ("spec.embedding.output_bias", False),
        ("spec.training.optimizer", {"type": "adamw", "learning_rate": 1.0}),
        ("corpus.checksum", "sha256:other"),
        ("corpus.splits.test.tokens", 82_431),
        ("vocabulary.identity", "other"),
        ("evaluations.test.protocol", {"batch_size": 10}),
        ("evaluations.test.tokens", 82_400),
    ],
)
def test_a_comparison_of_unlike_runs_names_the_field(make_record, path, value):
    arms = {"untied": [make_record("untied")], "tied": [make_record("tied", changes=[(path, value)])]}
    with pytest.raises(UsageError, match="not comparable") as caught:
        compare_arms(arms, token_nll=no_nats)
    assert path.removeprefix("spec.") in caught.value.message
    assert "untied: " in caught.value.message and "tied: " in caught.value.message and caught.value.hint


def test_seeds_of_one_arm_must_agree_even_in_what_is_declared(make_record):
    other = make_record("tied", 2, changes=[("spec.tie", {"type": "untied"})])
    arms = {"untied": [make_record("untied", 1), make_record("untied", 2)], "tied": [make_record("tied", 1), other]}
    with pytest.raises(UsageError, match="tie.type differs .tied, seed 1: 'tied'; tied, seed 2: 'untied'"):
        compare_arms(arms, token_nll=no_nats)


def test_a_corpus_may_lie_elsewhere(make_record):
    moved = make_record("tied", changes=[("spec.corpus", {"type": "text", "train": "a", "valid": "b", "test": "c"})])
    compare_arms({"untied": [make_record("untied")], "tied": [moved]}, token_nll=no_nats)


def test_the_tie_may_differ_between_two_files_of_one_arm_each(make_record):
    apart = [("declared", []), ("experiment", "other")]
    arms = {"untied": [make_record("untied", changes=apart[:1])], "tied": [make_record("tied", changes=apart)]}
    assert compare_arms(arms, token_nll=no_nats).experiment == "ptb-lstm-small and other"


@pytest.mark.parametrize(
    "declared", ["embedding.output_projection.penalty", "embedding.output_projection", "embedding"]
)
def test_a_declared_block_may_be_missing_in_an_arm(make_record, declared):
    projection = {"penalty": 0.15, "form": "paper", "bias": False}
    changes = [("declared", ["tie", declared]), ("spec.embedding.output_projection", projection)]
    arms = {"untied": [make_record("untied")], "tied": [make_record("tied", changes=changes)]}
    compare_arms(arms, token_nll=no_nats)


def test_a_declared_path_covers_no_neighbour(make_record):
    changes = [("declared", ["tie", "training.batch"]), ("spec.training.batch_size", 40)]
    with pytest.raises(UsageError, match="training.batch_size differs"):
        compare_arms(
            {"untied": [make_record("untied")], "tied": [make_record("tied", changes=changes)]}, token_nll=no_nats
        )


@pytest.mark.parametrize(
    ("arms", "reason"),
    [({"untied": ["untied"]}, "two arms"), ({"untied": ["untied"], "tied": []}, "no finished run")],
)
def test_too_few_runs_are_refused(make_record, arms, reason):
    with pytest.raises(UsageError, match=reason):
        compare_arms({arm: [make_record(name) for name in names] for arm, names in arms.items()}, token_nll=no_nats)


def test_one_seed_twice_is_refused(make_record):
    with pytest.raises(UsageError, match="seed 1 more than once"):
        compare_arms({"untied": [make_record("untied")], "tied": [make_record("tied")] * 2}, token_nll=no_nats)


def test_the_caption_holds_what_is_shared_and_not_what_differs(make_record):
    changes = [("declared", ["tie", "architecture.dropout"]), ("spec.architecture.dropout", 0.5)]
    arms = {"untied": [make_record("untied")], "tied": [make_record("tied", changes=changes)]}
    caption = compare_arms(arms, token_nll=no_nats).caption
    assert "929,589 train / 82,430 test tokens" in caption
    assert "lstm, layers 2, width 200" in caption and "dropout" not in caption
    assert "13 epochs, batch 20, window 20, sgd at 1.0; seed 1." in caption


def test_the_difference_table_has_the_leaves_that_differ():
    specs = {
        "untied": {"tie": {"type": "untied"}, "embedding": {"output_projection": None, "width": 200}, "epochs": 13},
        "tied": {
            "tie": {"type": "tied"},
            "embedding": {"output_projection": {"penalty": 0.15}, "width": 200},
            "epochs": 13,
        },
    }
    assert difference_table(specs) == [
        ("embedding.output_projection.penalty", {"untied": None, "tied": 0.15}),
        ("tie.type", {"untied": "untied", "tied": "tied"}),
    ]


def test_a_mean_over_seeds_needs_all_of_them():
    assert measure_spread([1.0, None]) is None
    assert measure_spread([]) is None
    assert measure_spread([2.0]).deviation is None


def test_an_untied_arm_is_read_first(make_record):
    records = [make_record(arm, seed) for arm in ("tied", "also-untied", "untied") for seed in (2, 1)]
    arms = group_by_arm(records)
    assert list(arms) == ["untied", "also-untied", "tied"]
    assert [record.seed for record in arms["tied"]] == [1, 2]


def test_auto_precision_is_compared_as_what_it_was(make_record):
    """One spec, two processors: `auto` was bf16 on the one and fp32 on the other."""
    auto = ("spec.training.precision", "auto")
    arms = {
        arm: [make_record(arm, changes=[auto, ("provenance.precision", used)])]
        for arm, used in (("untied", "fp32"), ("tied", "bf16"))
    }
    with pytest.raises(UsageError, match=r"training\.precision differs \(untied: 'fp32'; tied: 'bf16'\)"):
        compare_arms(arms, token_nll=no_nats)
    same = {arm: [make_record(arm, changes=[auto, ("provenance.precision", "bf16")])] for arm in arms}
    assert len(compare_arms(same, token_nll=no_nats).contrasts) == 1
