"""The table and the plot of what saved parameters cost."""

import json
from pathlib import Path

import pytest

from tiebench.cli.output import print_comparisons
from tiebench.comparison.pairing import compare_arms
from tiebench.execution.settings import Settings
from tiebench.reporting.price_table import has_prices, price_table
from tiebench.reporting.render import render_table
from tiebench.results.store import Store


@pytest.fixture
def arms(three_seeds, make_record):
    counts = [("parameters.architecture", 243_200), ("parameters.total", 2_253_200)]
    changes = [("spec.architecture.share", "all"), ("declared", ["tie", "architecture.share"]), *counts]
    shared = [make_record("tied-all", seed, test=118.0 + seed, changes=changes) for seed in (1, 2, 3)]
    return three_seeds | {"tied-all": shared}


@pytest.fixture
def comparison(arms):
    return compare_arms(arms, token_nll=lambda record: None)


def test_each_arm_that_saves_has_a_row_with_the_place_of_its_saving(comparison):
    text = render_table(price_table(comparison), width=80)
    assert max(map(len, text.splitlines())) <= 80
    tied, both = (
        next(line for line in text.splitlines() if line.startswith(f"{arm} ")) for arm in ("tied", "tied-all")
    )
    assert tied.split()[1:5] == ["2,000,000", "2,000,000", "0", "-0.036"]
    assert both.split()[1:4] == ["2,400,000", "2,000,000", "400,000"]
    assert "-1.8 % [" in tied, "3.6 % less for two millions"


def test_one_arm_alone_is_no_table(three_seeds):
    assert not has_prices(compare_arms(three_seeds, token_nll=lambda record: None))


@pytest.mark.parametrize("format", ["text", "markdown"])
def test_compare_prints_it_and_json_holds_it(comparison, arms, format, tmp_path: Path, capsys):
    settings = Settings(store=Store(tmp_path), device="cpu")
    print_comparisons([comparison], [arms], settings=settings, format=format, plot=None)
    assert "perplexity paid for parameters saved" in capsys.readouterr().out
    print_comparisons([comparison], [arms], settings=settings, format="json", plot=None)
    (content,) = json.loads(capsys.readouterr().out)
    assert [price["arm"] for price in content["prices"]] == ["tied", "tied-all"]
    assert content["prices"][0]["percent"] < 0
