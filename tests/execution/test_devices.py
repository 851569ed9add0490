"""What `check --on` says of a device that is not here."""

import json

import pytest
from typer.testing import CliRunner

from tiebench.cli.app import app
from tiebench.execution.bench import SpeedMeasurement
from tiebench.execution.devices import DEVICES, UTILISATION
from tiebench.execution.environment import name_cpu
from tiebench.execution.kept_speeds import FILE, keep_speeds, read_speeds
from tiebench.execution.memory import estimate_memory

SEVEN_BILLION = {"type": "llama", "layers": 32, "width": 4096, "heads": 32, "mlp_width": 11008}
ONE_BILLION = {"type": "llama", "layers": 16, "width": 2048, "heads": 16, "mlp_width": 8192}
TRAINING = {"batch_size": 64, "window": 1024, "optimizer": {"type": "adamw", "learning_rate": 1e-4}}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache in which nothing was measured yet."""
    monkeypatch.setenv("TIEBENCH_CACHE", str(tmp_path / "cache"))


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
    assert "Allowed: a100, h100, cpu." in check(ONE_BILLION, "--on", "abacus", exit_code=2).output


def measure(flops_per_token, flops_per_second, *, precision="fp32", num_threads=2, workload="small"):
    return SpeedMeasurement(
        workload=workload,
        arm="tied",
        device="cpu",
        precision=precision,
        num_threads=num_threads,
        num_parameters=1000,
        flops_per_token=flops_per_token,
        train_tokens_per_second=flops_per_second / flops_per_token,
        evaluation_tokens_per_second=1.0,
        peak_memory_bytes=1,
        ceiling_flops_per_second=4e12,
        evaluation_ceiling_flops_per_second=4e12,
        num_steps=5,
    )


def test_several_devices_share_out_the_rows_and_the_hours(check):
    same = ("--set", "training.accumulate=1", "--set", "architecture.layers=2", "--json", "--on", "h100")
    one, four = (json.loads(check(ONE_BILLION, *same, "--devices", number).stdout) for number in ("1", "4"))
    for before, after in zip(one["arms"], four["arms"], strict=True):
        assert after["time"]["seconds"] == pytest.approx(before["time"]["seconds"] / 4)
        assert after["num_tokens"] == before["num_tokens"]
        copies = 4 * 4 * before["parameters"]["total"]  # weights, gradients, two moments: each device holds them all
        assert copies < after["memory_bytes"] < before["memory_bytes"]
    said = " ".join(check(ONE_BILLION, *same[:4], "--on", "h100", "--devices", "4").output.split())
    assert "A run on 4 x H100 SXM 80 GB" in said and "GiB each" in said and "is not counted" in said


def test_a_model_of_which_no_device_holds_a_copy_is_refused_with_what_splitting_it_would_take(check):
    said = " ".join(check(SEVEN_BILLION, "--on", "h100", "--devices", "8", exit_code=2).output.split())
    assert "since each holds the whole model (with --set training.sharding=true" in said
    cut = ("--set", "training.sharding=true", "--set", "training.accumulate=2")
    sharded = " ".join(check(SEVEN_BILLION, "--on", "h100", "--devices", "8", *cut).output.split())
    assert "A run on 8 x H100 SXM 80 GB" in sharded and "Each device holds its part of the model and" in sharded


def test_more_devices_than_rows_are_refused_and_devices_need_a_name(check):
    assert "has 64 rows to share out" in check(ONE_BILLION, "--on", "h100", "--devices", "65", exit_code=2).output
    assert "--on" in check(ONE_BILLION, "--devices", "2", exit_code=2).output


def test_memory_split_over_devices_is_that_of_one_without_what_the_others_hold(make_arm):
    training = {"epochs": 1, "batch_size": 8, "window": 10, "optimizer": {"type": "adamw", "learning_rate": 0.1}}
    sizes = {"num_parameters": 10**9, "vocabulary_size": 100, "num_devices": 4, "num_whole": 10**6}
    whole, split = (
        estimate_memory(make_arm("tied", training=training | {"sharding": shards}), **sizes) for shards in (False, True)
    )
    assert whole - split == 4 * 4 * (10**9 - 10**9 // 4) - 2 * 4 * 10**6


def test_a_gpu_holds_whole_rows_of_scores(make_arm):
    """512 MiB of them at most in the precision of the products, and four passes in float32."""
    training = {"epochs": 1, "batch_size": 8, "window": 10, "optimizer": {"type": "sgd", "learning_rate": 0.1}}
    spec = make_arm("tied", training=training)
    few, many = ({"num_parameters": 1, "vocabulary_size": size} for size in (100, 10**9))
    assert estimate_memory(spec, **few, on_gpu=True) - estimate_memory(spec, **few) == 4 * 4 * 80 * 100
    assert estimate_memory(spec, **many, on_gpu=True) - estimate_memory(spec, **many) == (5 * 512 - 128) * 2**20


def test_this_machine_is_planned_for_at_the_speed_that_bench_measured(check):
    """The workload nearest in size, of those in the same precision with the most threads."""
    small = ("--set", "training.tokens=1000", "--set", "training.batch_size=4", "--set", "training.window=8")
    small += ("--set", "training.precision=fp32", "--on", "cpu")
    model = {"type": "llama", "layers": 1, "width": 32, "heads": 2}
    arm = json.loads(check(model, *small, "--json").stdout)["arms"][0]
    assert arm["time"]["seconds"] > 0 and "measured just now" in " ".join(check(model, *small).output.split())
    setting = {"hardware": {"cpu": name_cpu()}}
    near = arm["flops_per_token"] * 2
    found = [measure(near, 1e12), measure(near * 100, 3e12, workload="large")]
    keep_speeds([*found, measure(near, 5e11, num_threads=1), measure(near, 9e12, precision="bf16")], setting=setting)
    planned = json.loads(check(model, *small, "--json").stdout)
    assert planned["arms"][0]["time"]["seconds"] == pytest.approx(arm["time"]["flops"] / 1e12)
    assert "small (tied) reached in tiebench bench" in planned["device"]["speeds"]["untied"]
    assert "25% of the fastest matrix product" in planned["device"]["speeds"]["untied"]


def test_what_was_measured_on_an_h100_serves_plans_for_one(check):
    keep_speeds(
        [measure(10**9, 2e14, precision="bf16")], setting={"hardware": {"cpu": "x", "gpu": "NVIDIA H100 80GB HBM3"}}
    )
    same = ("--set", "training.accumulate=64", "--json", "--on")
    h100, a100 = (json.loads(check(ONE_BILLION, *same, name).stdout)["arms"][0]["time"] for name in ("h100", "a100"))
    assert h100["seconds"] == pytest.approx(h100["flops"] / 2e14)
    assert a100["seconds"] == pytest.approx(a100["flops"] / (UTILISATION * DEVICES["a100"].peaks["bf16"]))


def test_a_later_measurement_replaces_the_one_of_its_kind_and_damage_is_nothing_measured(tmp_path):
    setting = {"hardware": {"cpu": "some processor"}}
    file = keep_speeds([measure(100, 1e9)], setting=setting)
    keep_speeds([measure(100, 2e9), measure(100, 3e9, num_threads=1)], setting=setting)
    assert [each.flops_per_second for each in read_speeds()] == pytest.approx([2e9, 3e9])
    assert file == tmp_path / "cache" / FILE
    file.write_text("{", "utf-8")
    assert read_speeds() == []
