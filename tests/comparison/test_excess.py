import pytest

from tiebench.comparison.excess import describe_excess, measure_excess
from tiebench.comparison.pairing import compare_arms

TOKENS = 82_430


@pytest.fixture
def drawn(three_seeds):
    """The three seeds on a text whose source has a loss of 4.5 nats per token."""
    source = {"valid": 4.6 * 73_760, "test": 4.5 * TOKENS}
    return {
        arm: [
            record.model_copy(
                update={
                    "corpus": record.corpus.model_copy(update={"source_nats": source}),
                    "evaluations": {
                        split: evaluation.model_copy(update={"unknown": 0})
                        for split, evaluation in record.evaluations.items()
                    },
                }
            )
            for record in records
        ]
        for arm, records in three_seeds.items()
    }


def test_the_excess_is_what_stands_above_the_source(drawn):
    record = drawn["tied"][0]
    assert measure_excess(record, "test") == pytest.approx(record.evaluations["test"].nll_per_token - 4.5)
    comparison = compare_arms(drawn, token_nll=lambda record: None)
    untied, tied = (arm.excess_nats["test"] for arm in comparison.arms)
    assert tied.mean - untied.mean == pytest.approx(comparison.contrasts[0].differences["test"].ln_ratio)
    (note,) = [note for note in comparison.notes if "forward algorithm" in note]
    assert "4.5000 nats per test token" in note and f"tied {tied.mean:.4f}" in note


def test_a_vocabulary_that_loses_words_is_not_above_the_source_by_what_it_lost(drawn):
    record = drawn["tied"][0]
    test = record.evaluations["test"].model_copy(update={"unknown": 1})
    assert measure_excess(record.model_copy(update={"evaluations": {"test": test}}), "test") is None


def test_text_that_people_wrote_has_no_known_source(three_seeds):
    assert measure_excess(three_seeds["tied"][0], "test") is None
    assert describe_excess(three_seeds) == []
    assert compare_arms(three_seeds, token_nll=lambda record: None).arms[0].excess_nats == {}
