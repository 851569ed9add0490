"""What `check --on` says of a device that is not here."""

import json

import pytest
from typer.testing import CliRunner

from tiebench.cli.app import app
from tiebench.execution.devices import DEVICES, UTILISATION

SEVEN_BILLION = {"type": "llama", "layers": 32, "width": 4096, "heads": 32, "mlp_width": 11008}
ONE_BILLION = {"type": "llama", "layers": 16, "width": 2048, "heads": 16, "mlp_width": 8192}
TRAINING = {"batch_size": 64, "window": 1024, "optimizer": {"type": "adamw", "learning_rate": 1e-4}}


@pytest.fixture
def check(write_experiment):
    """Check an experiment of two arms on a tiny text with some architecture and 100B tokens."""

    def invoke(architecture, *options, exit_code=0):
        training = TRAINING | {"tokens": 100_000_000_000, "precision": "bf16"}
        config = write_experiment(architecture=architecture, training=training)
        answer = CliRunner().invoke(app, ["check", str(config), *options])
        assert answer.exit_code == exit_code, (answer.output, answer.exception)
        return answer

    return invoke


def test_seven_billion_parameters_are_refused_by_what_they_need_without_being_allocated(check):
    said = " ".join(check(SEVEN_BILLION, "--on", "h100", exit_code=2).output.split())
    assert "arm 'untied' needs about" in said and "has 74.5 GiB" in said
    assert "Even a batch cut into single rows needs about" in said


def test_a_batch_that_does_not_fit_is_told_the_fewest_micro_batches_that_do(check):
    said = " ".join(check(ONE_BILLION, "--on", "h100", exit_code=2).output.split())
    pieces = int(said.split("training.accumulate=")[1].split(":")[0])
    check(ONE_BILLION, "--on", "h100", "--set", f"training.accumulate={pieces}")
    check(ONE_BILLION, "--on", "h100", "--set", f"training.accumulate={pieces // 2}", exit_code=2)


def test_hours_are_the_operations_at_the_stated_share_of_the_peak_of_the_precision(check):
    same = ("--set", "training.accumulate=64", "--json")
    for name, precision in (("h100", "bf16"), ("h100", "fp32"), ("a100", "auto")):
        options = ("--on", name, "--set", f"training.precision={precision}", *same)
        found = json.loads(check(ONE_BILLION, *options).stdout)
        arm = found["arms"][0]
        peak = DEVICES[name].peaks["fp32" if precision == "fp32" else "bf16"]
        assert arm["num_tokens"] >= 100_000_000_000
        assert arm["time"]["flops"] > 6 * 1e9 * 1e11  # six operations for a parameter and token, and evaluations
        assert arm["time"]["seconds"] == pytest.approx(arm["time"]["flops"] / (UTILISATION * peak))
        assert found["device"]["utilisation"] == UTILISATION and not arm["time"]["timed"]


def test_an_unknown_device_is_refused_with_those_that_are_known(check):
    assert "Allowed: a100, h100." in check(ONE_BILLION, "--on", "abacus", exit_code=2).output
