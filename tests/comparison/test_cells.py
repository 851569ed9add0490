"""A cell's comparison is the tool's own, told per byte."""

import math

import pytest

from tiebench.comparison.cells import compare_cells, count_tokens_per_byte
from tiebench.comparison.pairing import compare_arms
from tiebench.errors import UsageError
from tiebench.experiment.grid import load_grid

TEXT = """\
name: ptb-grid
corpus: ptb
architecture: {type: lstm, layers: 2}
training: {epochs: 13, batch_size: 20, window: 20, optimizer: {type: sgd, learning_rate: 1.0}}
seeds: [1, 2, 3]
arms:
  untied: {tie: false}
  tied: {tie: true}
grid:
  architecture.width: [200, 300]
"""


@pytest.fixture
def grid(tmp_path):
    (tmp_path / "ptb-grid.yaml").write_text(TEXT, "utf-8")
    return load_grid(tmp_path / "ptb-grid.yaml")


def test_the_difference_is_that_of_compare_in_another_unit(grid, three_seeds):
    records = [record for found in three_seeds.values() for record in found]
    (contrast,) = compare_arms(three_seeds, token_nll=lambda record: None).contrasts
    here, _ = compare_cells(grid, [records, []], token_nll=lambda record: None)
    assert here.contrast is not None and here.outcome == contrast.outcome == "better"
    per_token, per_byte = contrast.headline, here.headline
    assert (per_byte.p, per_byte.adjusted_p, per_byte.covers) == (per_token.p, per_token.adjusted_p, ("seeds",))
    evaluation = records[0].evaluations["test"]
    assert count_tokens_per_byte(records[0], "test") == evaluation.tokens / evaluation.bytes
    bits = {
        arm: sum(record.evaluations["test"].nll for record in found) / len(found) / math.log(2) / evaluation.bytes
        for arm, found in three_seeds.items()
    }
    assert per_byte.unit == "byte"
    assert per_byte.percent == pytest.approx((bits["tied"] / bits["untied"] - 1) * 100, rel=1e-9)
    assert [summary.bits_per_byte["test"].mean for summary in here.arms] == pytest.approx(list(bits.values()))
    low, high = per_byte.percent_interval
    shares = (per_token.low / per_token.ln_ratio, per_token.high / per_token.ln_ratio)
    assert (low / per_byte.percent, high / per_byte.percent) == pytest.approx(shares)
    assert per_byte.seeds.error / per_byte.ln_ratio == pytest.approx(per_token.seeds.error / per_token.ln_ratio)


def test_a_cell_says_how_many_runs_it_has(grid, three_seeds):
    untied = three_seeds["untied"]
    one, other = compare_cells(grid, [untied, []], token_nll=lambda record: None)
    assert (one.num_finished, one.num_runs, one.outcome) == (3, 6, None)
    assert (other.num_finished, other.values) == (0, {"architecture.width": "300"})
    (one, _) = compare_cells(grid, [untied[:1], []], token_nll=lambda record: None, seeds=[1])
    assert one.num_runs == 2


def test_one_seed_decides_nothing(grid, three_seeds):
    records = [found[0] for found in three_seeds.values()]
    result, _ = compare_cells(grid, [records, []], token_nll=lambda record: None)
    assert result.outcome == "undecided" and result.headline.p is None


def test_runs_that_may_not_be_compared_are_named_with_their_cell(grid, make_record):
    records = [make_record("untied"), make_record("tied", changes=[("spec.training.epochs", 14)])]
    with pytest.raises(UsageError, match="ptb-grid-width300: not comparable: training.epochs differs"):
        compare_cells(grid, [[], records], token_nll=lambda record: None)
