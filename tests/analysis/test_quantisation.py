"""Rounding by its rules, and the scores of a rounded run by rounding its weights oneself."""

import numpy as np
import pytest
import torch

from tiebench.analysis.quantisation import count_stored_bytes, quantise_run, round_rows
from tiebench.execution.run import open_model
from tiebench.execution.run_data import reload_data
from tiebench.results.record import read_record
from tiebench.training.evaluation import score_stream


@pytest.fixture
def table():
    table = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    table[3] *= 1000
    table[7] = 0
    return table


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_each_row_is_rounded_to_the_nearest_step_of_its_own_grid(table, bits):
    rounded, most = round_rows(table, bits=bits), 2 ** (bits - 1) - 1
    scale = table.abs().amax(dim=1, keepdim=True) / most
    assert ((rounded - table).abs() <= scale * 0.5 * (1 + 1e-5)).all()
    steps = rounded / scale.clamp(min=1e-30)
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)
    torch.testing.assert_close(rounded.abs().amax(dim=1), table.abs().amax(dim=1))
    assert all(len(row.unique()) <= 2 * most + 1 for row in rounded)
    torch.testing.assert_close(round_rows(rounded, bits=bits), rounded)
    assert (rounded[7] == 0).all()


def test_a_grid_by_hand():
    """Four bits: seven steps up to the largest value, 14 here, so that a step is 2."""
    rounded = round_rows(torch.tensor([[14.0, 2.9, -2.9, -13.1, 0.9]]), bits=4)
    assert rounded.tolist() == [[14, 2, -2, -14, 0]]


def test_a_large_row_costs_the_others_nothing(table):
    others = torch.arange(40) != 3
    assert torch.equal(round_rows(table, bits=4)[others], round_rows(table[others], bits=4))


def test_bytes_are_packed_values_and_a_scale_for_each_row(table):
    assert count_stored_bytes(table, bits=None) == 40 * 16 * 4
    assert count_stored_bytes(table, bits=8) == 40 * (16 + 4)
    assert count_stored_bytes(table, bits=6) == 40 * (12 + 4)
    assert count_stored_bytes(table[:, :3], bits=4) == 40 * (2 + 4), "a row ends with a whole byte"


def test_a_grid_of_one_bit_is_refused(table):
    with pytest.raises(ValueError, match="two bits"):
        round_rows(table, bits=1)


@pytest.mark.parametrize(
    ("arm", "names"), [("untied", ["none", "input", "output", "both"]), ("tied", ["none", "tied"])]
)
def test_a_rounded_run_scores_as_its_rounded_weights_do(trained_once, arm, names):
    folder = trained_once / "results" / "tiny" / arm / "seed-1"
    record = read_record(folder)
    stream = reload_data(record, folder).streams["valid"]
    found = quantise_run(folder, bits=[4])
    assert [score.embedding for score in found] == names
    spec = record.spec.for_split("valid")
    trained = score_stream(open_model(record, folder), stream, spec=spec).token_nll
    for score in found:
        model = open_model(record, folder)
        ends = {"input": model.embedding.input_embedding, "output": model.embedding.output_embedding}
        ends |= {"tied": ends["input"]}
        with torch.no_grad():
            for name in ["input", "output"] if score.embedding == "both" else [score.embedding]:
                if name != "none":
                    ends[name].copy_(round_rows(ends[name], bits=4))
        token_nll = score_stream(model, stream, spec=spec).token_nll
        assert score.perplexity == pytest.approx(float(np.exp(token_nll.mean(dtype=np.float64))), rel=1e-6)
        assert score.difference == pytest.approx(float((token_nll - trained).mean(dtype=np.float64)), abs=1e-6)
    assert found[0].num_bytes == 4 * (record.parameters.input + record.parameters.output + record.parameters.shared)
    assert len({score.perplexity for score in found}) == len(found), "every rounding is another one"
