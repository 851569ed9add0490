import csv
import io
from xml.etree import ElementTree

import numpy as np
import pytest

from tiebench.comparison.pairing import compare_arms
from tiebench.errors import UsageError
from tiebench.reporting.frequency_table import frequency_table, plot_by_frequency
from tiebench.reporting.render import render_table


@pytest.fixture
def comparison(three_seeds):
    def read_nats(record):
        own = np.random.default_rng([record.seed, len(record.arm)]).exponential(4.7, 82_430)
        return (own * record.evaluations["test"].nll_per_token / own.mean()).astype(np.float32)

    decades = np.random.default_rng(0).integers(0, 6, 82_430).astype(np.uint8)
    return compare_arms(three_seeds, token_nll=read_nats, decades=lambda record: decades)


def test_a_row_for_each_decade_in_one_piece_at_80_columns(comparison):
    text = render_table(frequency_table(comparison), width=80)
    assert max(map(len, text.splitlines())) <= 80
    for decade in ("never", "1-9", "10-99", "100-999", "1,000-9,999", "10,000-99,999"):
        assert sum(line.startswith(f"{decade} ") for line in text.splitlines()) == 1
    assert "95 % intervals over seeds and test text" in " ".join(text.split())
    whole = comparison.contrasts[0].headline.ln_ratio
    assert f"Over the whole test text, in nats per token: tied {whole:+.4f}" in text


def test_every_digit_is_there_for_programs(comparison):
    rows = list(csv.DictReader(io.StringIO(render_table(frequency_table(comparison), format="csv"))))
    for row, found in zip(rows, comparison.contrasts[0].by_frequency, strict=True):
        assert float(row["tied_change"]) == found.difference and float(row["tied_change_low"]) == found.low
        assert float(row["tied_part"]) == found.part and int(row["targets"]) == found.num_tokens


def test_a_picture_of_who_gains(comparison, three_seeds, tmp_path):
    file = plot_by_frequency(comparison, file=tmp_path / "gains.svg")
    assert ElementTree.parse(file).getroot().tag.endswith("svg")
    same = plot_by_frequency(comparison, file=tmp_path / "again.svg")
    assert file.read_bytes() == same.read_bytes()
    unknown = compare_arms(three_seeds, token_nll=lambda record: None)
    assert frequency_table(unknown) is None
    with pytest.raises(UsageError, match="no change by training frequency"):
        plot_by_frequency(unknown, file=tmp_path / "none.svg")
