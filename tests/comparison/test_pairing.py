import math

import numpy as np
import pytest
from records import describe_evaluation
from scipy import stats

from tiebench.comparison.pairing import compare_arms, difference_table, group_by_arm
from tiebench.comparison.spread import measure_spread
from tiebench.errors import UsageError
from tiebench.results.curve import CurvePoint
from tiebench.results.record import Evaluation


def no_nats(record):
    return None


def make_nats(*, noise):
    """Nats of 82,430 tokens with the record's own mean: a text that all runs share, and noise of their own."""
    text = np.random.default_rng(0).exponential(4.7, size=82_430)

    def read(record):
        own = np.random.default_rng([record.seed, len(record.arm)]).normal(0, noise, size=text.size)
        nats = text + own
        return (nats - nats.mean() + record.evaluations["test"].nll_per_token).astype(np.float32)

    return read


@pytest.fixture
def one_seed(make_record):
    return {"untied": [make_record("untied", test=114.5)], "tied": [make_record("tied", test=110.3)]}


def ln(perplexities):
    return np.log(np.array(perplexities))


OURS, BASELINE = (110.0, 110.4, 110.9), (114.0, 115.0, 114.6)


@pytest.mark.parametrize("rule", ["welch", "pooled", "paired"])
def test_three_seeds_are_the_t_test_that_was_chosen(three_seeds, rule):
    found = compare_arms(three_seeds, token_nll=no_nats, seed_rule=rule).contrasts[0].differences["test"]
    if rule == "paired":
        expected = stats.ttest_rel(ln(OURS), ln(BASELINE))
    else:
        expected = stats.ttest_ind(ln(OURS), ln(BASELINE), equal_var=rule == "pooled")
    interval = expected.confidence_interval(0.95)
    assert (found.ln_ratio, found.p) == pytest.approx((ln(OURS).mean() - ln(BASELINE).mean(), expected.pvalue))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.adjusted_p == pytest.approx(found.p), "one arm needs no adjustment"
    assert found.percent == pytest.approx(100 * math.expm1(found.ln_ratio))
    assert found.covers == ("seeds",) and found.seed_rule == rule


def test_the_headline_covers_seeds_and_text_where_the_nats_of_all_runs_were_kept(three_seeds):
    comparison = compare_arms(three_seeds, token_nll=make_nats(noise=1.0))
    found = comparison.contrasts[0].differences["test"]
    assert found.covers == ("seeds", "text") and found.num_blocks == 80
    assert found.error > max(found.seeds.error, found.text.error) * (1 - 1e-9)
    assert comparison.contrasts[0].differences["valid"].covers == ("seeds",)
    (told,) = [note for note in comparison.notes if note.startswith("Standard error")]
    for part in (found.seeds.error, found.text.error, found.error):
        assert f"{100 * math.expm1(part):.2f}" in told
    assert any("Welch" in note and "80 blocks of 1,030 tokens" in note for note in comparison.notes)


def test_the_headline_is_about_seeds_alone_where_one_run_kept_no_nats(three_seeds):
    nats = make_nats(noise=1.0)
    forgetful = three_seeds["tied"][1]
    comparison = compare_arms(three_seeds, token_nll=lambda record: None if record is forgetful else nats(record))
    assert comparison.contrasts[0].headline.covers == ("seeds",)


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


def test_parameters_and_perplexities_by_arm(three_seeds):
    untied, tied = compare_arms(three_seeds, token_nll=no_nats).arms
    assert (untied.parameters.output, tied.parameters.output, tied.parameters.shared) == (2_000_000, 0, 2_000_000)
    assert tied.perplexity["test"].mean == pytest.approx((110.0 + 110.4 + 110.9) / 3)
    assert tied.perplexity["test"].deviation == pytest.approx(np.std([110.0, 110.4, 110.9], ddof=1))
    assert tied.perplexity["train"].mean == 38.0


def test_one_seed_has_the_interval_of_the_text_and_no_p(one_seed):
    comparison = compare_arms(one_seed, token_nll=make_nats(noise=1.0))
    found = comparison.contrasts[0].differences["test"]
    assert found.covers == ("text",) and found.p is None and found.adjusted_p is None
    assert found.ln_ratio == pytest.approx(math.log(110.3 / 114.5))
    assert found.high - found.low == pytest.approx(2 * 1.99 * math.sqrt(2 / 82_430), rel=0.3)
    assert comparison.contrasts[0].outcome == "undecided" and comparison.contrasts[0].plan is None
    assert any("One seed per arm" in note and "no p" in note for note in comparison.notes)


def test_one_seed_without_token_nats_has_no_interval(one_seed):
    comparison = compare_arms(one_seed, token_nll=no_nats)
    found = comparison.contrasts[0].differences["test"]
    assert (found.low, found.high, found.p, found.adjusted_p, found.percent_interval) == (None,) * 5
    assert comparison.arms[0].perplexity["test"].deviation is None
    assert any("No interval can be given" in note for note in comparison.notes)


def test_one_seed_gets_a_p_where_other_runs_of_the_recipe_tell_how_much_seeds_vary(one_seed, make_record):
    more = [("declared", ["tie", "embedding.output_bias"]), ("spec.embedding.output_bias", False)]
    others = [make_record("tied-bare", seed, test=test, changes=more) for seed, test in ((1, 111.0), (2, 112.0))]
    arms = {"untied": [make_record("untied", test=114.5, changes=more[:1])], "tied": [make_record("tied", test=110.3)]}
    found = compare_arms(arms, token_nll=no_nats, others=others).contrasts[0].differences["test"]
    deviation = np.std(ln([111.0, 112.0]), ddof=1)
    assert found.num_borrowed == 2 and found.deviation == pytest.approx(deviation)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.ln_ratio) / (deviation * math.sqrt(2)), 1))
    strangers = [other.model_copy(update={"numerics": 2}) for other in others]
    assert compare_arms(one_seed, token_nll=no_nats, others=others).contrasts[0].headline.p is None, "not declared"
    assert compare_arms(arms, token_nll=no_nats, others=strangers).contrasts[0].headline.p is None
    assert compare_arms(arms, token_nll=no_nats, others=others[:1]).contrasts[0].headline.p is None


def test_one_seed_of_an_arm_takes_the_deviation_of_the_other(three_seeds):
    found = compare_arms(three_seeds | {"tied": three_seeds["tied"][:1]}, token_nll=no_nats).contrasts[0].headline
    expected = stats.ttest_ind(ln(OURS[:1]), ln(BASELINE), equal_var=True)
    assert found.seed_rule == "pooled" and found.p == pytest.approx(expected.pvalue)


def test_p_is_adjusted_over_the_arms(three_seeds, make_record):
    perplexities = zip((1, 2, 3), (112.0, 113.5, 113.6), strict=True)
    more = three_seeds | {"tied-too": [make_record("tied-too", seed, test=test) for seed, test in perplexities]}
    comparison = compare_arms(more, token_nll=no_nats)
    tied, too = (contrast.differences["test"] for contrast in comparison.contrasts)
    assert tied.p < too.p
    assert tied.adjusted_p == pytest.approx(2 * tied.p)
    assert too.adjusted_p == pytest.approx(max(too.p, 2 * tied.p))
    assert any("Holm" in note for note in comparison.notes)


def test_arms_may_have_different_seeds_and_all_of_them_count(three_seeds, make_record):
    more = three_seeds | {"tied": [*three_seeds["tied"], make_record("tied", 9, test=112.0)]}
    comparison = compare_arms(more, token_nll=no_nats)
    expected = stats.ttest_ind(ln([*OURS, 112.0]), ln(BASELINE), equal_var=False)
    assert comparison.contrasts[0].headline.p == pytest.approx(expected.pvalue)
    assert comparison.left_out == {} and comparison.seeds == {"untied": [1, 2, 3], "tied": [1, 2, 3, 9]}
    assert "untied seeds 1, 2, 3, tied seeds 1, 2, 3, 9" in comparison.caption


def test_paired_seeds_without_a_partner_are_left_out_and_named(three_seeds, make_record):
    more = three_seeds | {"tied": [*three_seeds["tied"], make_record("tied", 9, test=50.0)]}
    comparison = compare_arms(more, token_nll=no_nats, seed_rule="paired")
    assert comparison.contrasts == compare_arms(three_seeds, token_nll=no_nats, seed_rule="paired").contrasts
    assert comparison.left_out == {"tied": [9]}
    assert "Left out of tied, because not all arms have them: seed 9." in comparison.notes


def test_paired_arms_without_a_common_seed_are_refused(make_record):
    arms = {"untied": [make_record("untied", 1)], "tied": [make_record("tied", 2)]}
    with pytest.raises(UsageError, match="share no seed .untied: 1; tied: 2"):
        compare_arms(arms, token_nll=no_nats, seed_rule="paired")
    assert compare_arms(arms, token_nll=no_nats).contrasts[0].headline.num_seeds == (1, 1)


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
        ("numerics", 2),
    ],
)
def test_a_comparison_of_unlike_runs_names_the_field(make_record, path, value):
    arms = {"untied": [make_record("untied")], "tied": [make_record("tied", changes=[(path, value)])]}
    with pytest.raises(UsageError, match="not comparable") as caught:
        compare_arms(arms, token_nll=no_nats)
    assert path.removeprefix("spec.") in caught.value.message
    assert "untied: " in caught.value.message and "tied: " in caught.value.message and caught.value.hint


@pytest.mark.parametrize("path", ["training.epochs", "training"])
def test_a_difference_may_be_allowed_and_the_caption_says_so(make_record, path):
    tied = make_record("tied", changes=[("spec.training.epochs", 14)])
    arms = {"untied": [make_record("untied")], "tied": [tied]}
    with pytest.raises(UsageError, match="training.epochs differs") as caught:
        compare_arms(arms, token_nll=no_nats)
    assert "--allow training.epochs" in caught.value.hint
    caption = compare_arms(arms, token_nll=no_nats, allow=[path]).caption
    assert "Compared across training.epochs, which the arms do not declare (--allow)" in caption
    with pytest.raises(UsageError, match="training.epochs differs"):
        compare_arms(arms, token_nll=no_nats, allow=["training.window"])


def test_no_other_text_can_be_allowed(make_record):
    other = make_record("tied", changes=[("corpus.checksum", "sha256:other")])
    with pytest.raises(UsageError, match="corpus.checksum differs"):
        compare_arms({"untied": [make_record("untied")], "tied": [other]}, token_nll=no_nats, allow=["corpus"])


def describe_bpe(seed, *, test, unknown=4_794, declared=("tie", "vocabulary")):
    """Changes that give a record a vocabulary of its own: half as many tokens again for the same bytes."""
    tokens = 123_645
    evaluation = describe_evaluation("test", perplexity=test, tokens=tokens, unknown=unknown)
    valid = describe_evaluation("valid", perplexity=test, tokens=110_000)
    return [
        ("declared", list(declared)),
        ("spec.vocabulary", {"type": "bpe", "size": 4_000}),
        ("vocabulary", {"type": "bpe", "size": 4_000, "identity": "bb"}),
        ("corpus.splits.test.tokens", tokens),
        ("evaluations", {"valid": valid, "test": evaluation}),
    ]


def test_arms_with_different_vocabularies_are_compared_per_byte_of_the_same_text(make_record):
    perplexities = ((1, 114.0), (2, 115.0))
    untied = [make_record("untied", seed, test=test) for seed, test in perplexities]
    tied = [make_record("tied", seed, changes=describe_bpe(seed, test=test / 5)) for seed, test in perplexities]
    comparison = compare_arms({"untied": untied, "tied": tied}, token_nll=make_nats(noise=1.0))
    found = comparison.contrasts[0].headline
    per_byte = [[record.evaluations["test"].nll / 449_945 for record in arm] for arm in (tied, untied)]
    assert found.unit == comparison.unit == "byte" and found.covers == ("seeds",)
    assert found.ln_ratio == pytest.approx(np.mean(per_byte[0]) - np.mean(per_byte[1]))
    assert found.percent == pytest.approx(100 * (np.mean(per_byte[0]) / np.mean(per_byte[1]) - 1))
    assert found.p == pytest.approx(stats.ttest_ind(*per_byte, equal_var=False).pvalue)
    assert comparison.arms[1].bits_per_byte["test"].mean == pytest.approx(np.mean(per_byte[0]) / math.log(2))
    assert "untied 10,000 words, tied 4,000 bpe" in comparison.caption and "same text" in comparison.caption
    assert "test bits per byte" in comparison.contrasts[0].sentence


def test_a_vocabulary_that_loses_more_words_is_not_compared_per_byte(make_record):
    arms = {
        "untied": [make_record("untied", changes=[("declared", ["tie", "vocabulary"])])],
        "tied": [make_record("tied", changes=describe_bpe(1, test=22.0, unknown=0))],
    }
    with pytest.raises(UsageError, match="evaluations.test.unknown differs .untied: 4794; tied: 0.") as caught:
        compare_arms(arms, token_nll=no_nats)
    assert "bpe or bytes" in caught.value.hint


def test_a_vocabulary_that_is_not_declared_is_refused(make_record):
    tied = make_record("tied", changes=describe_bpe(1, test=22.0, declared=["tie"]))
    with pytest.raises(UsageError, match="vocabulary.* differs"):
        compare_arms({"untied": [make_record("untied")], "tied": [tied]}, token_nll=no_nats)


def make_curve(*perplexities):
    point = {"step": 1, "epoch": 1.0, "tokens": 1, "seconds": 1.0, "learning_rate": 1.0}
    return [CurvePoint(**point, valid_perplexity=value) for value in perplexities]


def test_the_other_rule_for_the_checkpoint_stands_beside_where_it_would_differ(three_seeds):
    curves = {"untied": make_curve(120.0, 119.0), "tied": make_curve(113.5, 114.0)}
    notes = compare_arms(three_seeds, token_nll=no_nats, curve=lambda record: curves[record.arm]).notes
    (note,) = [note for note in notes if "checkpoint was scored" in note]
    assert "The best checkpoint was scored" in note
    assert "untied 119.00 and 119.00, tied 114.00 and 113.50" in note
    assert "evaluation of the same runs" in note
    same = compare_arms(three_seeds, token_nll=no_nats, curve=lambda record: make_curve(120.0, 119.0)).notes
    assert not any("same runs" in note for note in same)


def test_the_last_checkpoint_stands_beside_the_best_where_both_were_scored(three_seeds):
    def add_last(records, perplexity):
        last = {"test": Evaluation.model_validate(describe_evaluation("test", perplexity=perplexity))}
        return [record.model_copy(update={"at_last": last}) for record in records]

    def describe(arms):
        notes = compare_arms(arms, token_nll=no_nats, curve=lambda record: make_curve(110.0, 112.0)).notes
        return [note for note in notes if "declared beside" in note]

    arms = {"untied": add_last(three_seeds["untied"], 120.0), "tied": add_last(three_seeds["tied"], 114.0)}
    (told,) = describe(arms)
    assert "untied 120.00, tied 114.00 (-5.0 %)" in told
    assert describe({**arms, "tied": three_seeds["tied"]}) == []


def test_where_two_seeds_alone_would_be_less_sure_a_note_says_so(three_seeds):
    def read(record):
        """Nats whose text is harder for one arm here, for the other there, with the record's own mean."""
        nats = np.random.default_rng(len(record.arm)).normal(0, 0.8, 82_430)
        return (nats - nats.mean() + record.evaluations["test"].nll_per_token).astype(np.float32)

    def compare(num_seeds):
        return compare_arms({arm: runs[:num_seeds] for arm, runs in three_seeds.items()}, token_nll=read)

    headline = compare(2).contrasts[0].headline
    assert headline.seeds.p > 1.1 * headline.p, "Welch's way with two seeds of each"
    assert sum(note.startswith("By seeds alone: tied p = ") for note in compare(2).notes) == 1
    assert not any(note.startswith("By seeds alone") for note in compare(3).notes)


def test_runs_of_several_code_versions_are_told(three_seeds, make_record):
    assert not any("versions" in note for note in compare_arms(three_seeds, token_nll=no_nats).notes)
    newer = make_record("tied", 3, test=110.9, changes=[("provenance.commit", "fedcba9876543210")])
    mixed = three_seeds | {"tied": [*three_seeds["tied"][:2], newer]}
    notes = compare_arms(mixed, token_nll=no_nats).notes
    assert "These runs were made by 2 versions of the program: commits 0123456789ab, fedcba987654." in notes


def test_runs_of_one_arm_by_other_mathematics_are_not_pooled(make_record):
    arms = {"untied": [make_record("untied", 1), make_record("untied", 2, changes=[("numerics", 2)])]}
    with pytest.raises(UsageError, match="numerics differs .untied, seed 1: 1; untied, seed 2: 2"):
        compare_arms(arms | {"tied": [make_record("tied")]}, token_nll=no_nats)


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


def test_the_caption_says_which_seeds_ran_on_another_device(make_record):
    here = ("provenance.hardware", {"device": "cpu", "cpu": "Some Processor"})
    there = ("provenance.hardware", {"device": "cuda:0", "cpu": "Other", "gpu": "NVIDIA H200"})
    seeds = {1: here, 2: there, 3: there}

    def caption(**devices):
        arms = {
            arm: [make_record(arm, seed, changes=[device]) for seed, device in by.items()]
            for arm, by in devices.items()
        }
        return compare_arms(arms, token_nll=no_nats).caption

    alike = caption(untied=seeds, tied=seeds)
    told = "seed 1 on cpu (Some Processor) and seeds 2, 3 on cuda (NVIDIA H200)."
    assert f"; seeds 1, 2, 3; on different devices: {told}" in alike
    apart = caption(untied={1: here, 2: here}, tied={1: there, 2: there})
    assert "devices: untied seeds 1, 2 on cpu (Some Processor) and tied seeds 1, 2 on cuda (NVIDIA H200)." in apart
    assert "devices" not in caption(untied={1: here, 2: here}, tied={1: here, 2: here})


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


def test_the_nats_of_a_run_are_read_once(three_seeds):
    """They are most of what a comparison of many runs reads: whole text and frequencies share them."""
    nats, read = make_nats(noise=1.0), []

    def count(record):
        read.append((record.arm, record.seed))
        return nats(record)

    found = compare_arms(three_seeds, token_nll=count, decades=lambda record: np.ones(82_430, np.uint8))
    assert found.contrasts[0].by_frequency
    assert len(read) == len(set(read)) == sum(map(len, three_seeds.values()))
