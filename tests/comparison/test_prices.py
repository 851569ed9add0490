"""Perplexity paid per million parameters saved, in the embeddings and in the layers."""

import math

import pytest

from tiebench.comparison.pairing import compare_arms


@pytest.fixture
def make_arms(make_record):
    """Arms of three seeds at a test perplexity, with a number of parameters less in the layers."""

    def make(**arms: tuple[float, int]):
        def record(arm: str, seed: int):
            perplexity, fewer = arms[arm]
            counts = [("parameters.architecture", 643_200 - fewer)]
            total = {"untied": 4_653_200, "tied": 2_653_200}[arm.partition("_")[0]] - fewer
            shared = [("spec.architecture.share", "all"), ("declared", ["tie", "architecture.share"])]
            changes = [*counts, ("parameters.total", total), *(shared if fewer else shared[1:])]
            return make_record(arm, seed, test=perplexity + 0.1 * seed, changes=changes)

        return {arm: [record(arm, seed) for seed in (1, 2, 3)] for arm in arms}

    return make


def compare(arms):
    return compare_arms(arms, token_nll=lambda record: None)


def test_a_price_is_the_change_over_the_millions_saved(make_arms):
    comparison = compare(make_arms(untied=(100.0, 0), tied=(97.0, 0), untied_all=(104.0, 400_000)))
    tied, shared = comparison.prices
    assert (tied.arm, tied.saved, tied.saved_in_embeddings, tied.saved_in_layers) == ("tied", 2_000_000, 2_000_000, 0)
    assert (shared.saved, shared.saved_in_embeddings, shared.saved_in_layers) == (400_000, 0, 400_000)
    contrast = comparison.contrasts[1].headline
    assert shared.ln_ratio == contrast.ln_ratio
    assert math.isclose(shared.percent, contrast.percent / 0.4)
    assert shared.percent_interval == pytest.approx([end / 0.4 for end in contrast.percent_interval])
    assert tied.percent < 0 < shared.percent, "a tie that helps is paid for with less than nothing"


def test_both_savings_add_up(make_arms):
    (price,) = compare(make_arms(untied=(100.0, 0), tied_all=(101.0, 400_000))).prices
    assert (price.saved, price.saved_in_embeddings, price.saved_in_layers) == (2_400_000, 2_000_000, 400_000)


def test_what_saves_nothing_or_only_what_matching_leaves_over_has_no_price(make_arms):
    assert compare(make_arms(untied=(100.0, 0), untied_all=(101.0, 30_000))).prices == []
    arms = make_arms(tied=(97.0, 0), untied=(100.0, 0))
    assert compare(arms).prices == []


def test_without_an_interval_the_price_has_none(make_arms):
    arms = {arm: records[:1] for arm, records in make_arms(untied=(100.0, 0), tied=(97.0, 0)).items()}
    (price,) = compare(arms).prices
    assert price.percent_interval is None
    assert math.isclose(price.percent, price.change_percent / 2)
