"""The bench measures the step that trains and says what it measured; nothing here looks at a clock."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tiebench.cli.speed_table import tabulate_measurements
from tiebench.errors import UsageError
from tiebench.execution import bench, workloads
from tiebench.execution.bench import (
    SpeedMeasurement,
    build_trainer,
    measure_arm,
    measure_ceiling,
)
from tiebench.execution.workloads import WORKLOADS, describe_workload, draw_stream, list_parts, open_workload
from tiebench.models.language_model import build_on_meta, count_parameters
from tiebench.reporting.render import render_table
from tiebench.training import evaluation

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MEASUREMENT = SpeedMeasurement(
    workload="lstm-200-ptb",
    arm="tied",
    device="cpu",
    precision="fp32",
    num_threads=2,
    num_parameters=2_652_000,
    flops_per_token=6_000_000,
    train_tokens_per_second=5_000.0,
    evaluation_tokens_per_second=12_000.0,
    peak_memory_bytes=400 * 2**20,
    ceiling_flops_per_second=60e9,
    evaluation_ceiling_flops_per_second=30e9,
    num_steps=10,
)


@pytest.fixture
def tiny(monkeypatch):
    block = workloads.describe_lstm(8)
    block["training"] |= {"batch_size": 4, "window": 5}
    monkeypatch.setitem(WORKLOADS, "tiny", (50, block))
    monkeypatch.setattr(workloads, "NUM_TOKENS", {"train": 2_000, "valid": 1_000})
    monkeypatch.setattr(bench, "WARM_UP_TOKENS", 64)
    monkeypatch.setattr(bench, "CEILING_SHAPES", ((16, 16, 16),))
    return "tiny"


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_named_workload_can_be_built_untied_and_tied(name):
    size, _ = WORKLOADS[name]
    counts = {}
    for part, arm in list_parts([name]):
        assert part == name
        for device in ("cpu", "cuda"):
            run = describe_workload(name, arm=arm, device=device)
            counts[arm] = count_parameters(build_on_meta(run.spec, vocabulary_size=size))
    assert list(counts) == ["untied", "tied"]
    assert counts["untied"].total - counts["tied"].total == counts["tied"].shared > 0


def test_a_measurement_is_of_real_steps(tiny):
    found = measure_arm(tiny, arm="tied", seconds=0.01)
    assert found.num_steps >= bench.MIN_BENCH_STEPS
    assert found.num_parameters == 50 * 8 + 50 + 2 * (8 * 8 * 8 + 8 * 8)
    assert found.train_tokens_per_second > 0 and found.evaluation_tokens_per_second > 0
    assert found.peak_memory_bytes > 2**20 and found.ceiling_flops_per_second > 0
    assert found.num_threads == torch.get_num_threads()


def test_the_step_that_is_timed_learns(tiny, tmp_path):
    trainer = build_trainer(open_workload(tiny, arm="untied"), device=torch.device("cpu"), folder=tmp_path)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    bench.time_training(trainer, seconds=0.0)
    assert trainer.state.step == bench.WARM_UP_STEPS + bench.MIN_BENCH_STEPS
    assert trainer.state.tokens == trainer.state.step * 4 * 5
    assert all(not torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))
    assert not list(tmp_path.iterdir())


def test_the_rate_is_that_of_the_median_step(tiny, monkeypatch, tmp_path):
    trainer = build_trainer(open_workload(tiny, arm="untied"), device=torch.device("cpu"), folder=tmp_path)
    readings = iter([0.0, 0.0, 2.0, 3.0, 5.0, 9.0, 11.0, 11.0])  # steps of 2, 1, 2, 4 and 2 seconds
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    assert bench.time_training(trainer, seconds=11.0) == (4 * 5 / 2.0, 5)


def test_scoring_is_timed_for_as_long_as_training_and_its_rate_is_the_median(tiny, monkeypatch, tmp_path):
    workload = open_workload(tiny, arm="untied")
    trainer = build_trainer(workload, device=torch.device("cpu"), folder=tmp_path)
    warm_up = [0.0, 1.0, 2.0, 3.0, 0.0]  # two passes of one piece, and the end is set
    passes = [0.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 7.0, 7.0]  # three passes of 2, 1 and 4 seconds
    readings = iter([*warm_up, *passes])
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    assert bench.time_evaluation(trainer, workload, seconds=7.0) == 448 / 2.0


def test_fractions_are_arithmetic_over_the_ceiling():
    assert MEASUREMENT.train_fraction == pytest.approx(0.5)
    assert MEASUREMENT.evaluation_fraction == pytest.approx(0.8)
    figures = json.loads(json.dumps(MEASUREMENT.figures()))
    assert figures["train_fraction"] == MEASUREMENT.train_fraction and figures["arm"] == "tied"


def test_the_table_says_what_was_measured_on_what():
    text = render_table(tabulate_measurements([MEASUREMENT]), format="markdown")
    for part in ("lstm-200-ptb", "2,652,000", "50.00", "80.00", "2 threads", torch.__version__, "Zipf"):
        assert part in text


def test_synthetic_tokens_are_zipf_and_repeatable():
    stream, again = (draw_stream(50_000, vocabulary_size=1_000) for _ in range(2))
    assert np.array_equal(stream.ids, again.ids) and len(stream.ids) == stream.num_tokens + 1
    counts = np.bincount(stream.ids, minlength=1_000)
    assert len(counts) == 1_000 and counts.min() > 0
    assert counts[0] / counts[27] == pytest.approx(30.7 / 3.7, rel=0.25)
    assert counts[:100].sum() > counts[100:].sum()


def test_an_experiment_is_a_workload_too():
    parts = list_parts(["quickstart"])
    assert {name for name, _ in parts} == {"quickstart"} and {"tied", "untied"} <= {arm for _, arm in parts}
    assert "gpt2-small" not in {name for name, _ in list_parts([])}
    assert "gpt2-small" in {name for name, _ in list_parts([], device="cuda")}
    with pytest.raises(UsageError, match="lstm-20-ptb") as error:
        list_parts(["lstm-20-ptb"])
    assert "lstm-200-ptb" in error.value.hint


def test_the_ceiling_is_the_median_rate_of_the_fastest_shape(monkeypatch):
    monkeypatch.setattr(bench, "CEILING_SHAPES", ((8, 8, 8), (32, 32, 32)))
    readings = iter([0.0, 9.0, 11.0, 11.0, 20.0, 20.0, 24.0, 24.0, 25.0, 25.0, 30.0, 30.0])
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    assert measure_ceiling(torch.device("cpu"), seconds=19.0) == 2 * 32**3 / 4.0  # repetitions of 4, 1 and 5 seconds


# The scripts around it: what they do with peers, not how fast anything is


def load_script(name: str, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module(name)


def test_the_peer_of_the_installed_package_takes_the_same_steps(tiny, monkeypatch):
    pytest.importorskip("transformers")
    peers = load_script("bench_peers", monkeypatch)
    block = workloads.describe_gpt(1, width=8, heads=2, batch_size=3, window=6)
    monkeypatch.setitem(WORKLOADS, "gpt-tiny", (50, block))
    opened = open_workload("gpt-tiny", arm="tied")
    ids = torch.from_numpy(opened.streams["train"].ids).long()
    train, score = peers.build_hugging_face(opened.run, 50, ids, folder=None)
    assert (train(), score()) == (3 * 6, evaluation.WINDOWS_AT_ONCE * 6)
    assert peers.list_contestants("gpt-256-ptb", {}) == [
        ("tiebench", "tuned"),
        ("HF GPT2LMHeadModel", "shipped"),
        ("HF GPT2LMHeadModel", "tuned"),
    ]


def test_ratios_are_of_one_round_and_above_one_when_ours_is_faster(monkeypatch, tmp_path):
    page = load_script("performance_page", monkeypatch)
    setting = {"hardware": {"cpu": "a cpu", "cores": 2, "threads": 1, "allocator": "as it is"}}
    samples = []
    for number, (ours, theirs) in enumerate([(300, 200), (100, 50), (400, 400)]):
        for program, rate in (("tiebench", ours), ("peer", theirs)):
            figures = {"peak_memory_bytes": 2**20, "other_work": 0.02 * number}
            for kind in ("train", "evaluation"):
                figures |= {f"{kind}_tokens_per_second": rate, f"{kind}_fraction": 0.5}
            names = {"program": program, "workload": "w", "arm": "tied"}
            samples += [{"round": number, **names, "allocator": kind, **figures} for kind in ("shipped", "tuned")]
    content = {"setting": setting | {"versions": {"torch": "2"}}, "samples": samples}
    busy = content["setting"] | {"hardware": setting["hardware"] | {"cpu": "another cpu"}}
    busy |= {"processor": {"model": "family 6", "flags": ["avx2"]}, "at_start": {"busy": True, "other_work": 0.5}}
    for each in (content["setting"], busy):
        page.keep_samples(each, samples, file=tmp_path / "performance.json")
    page.refresh_page(tmp_path)
    text = (tmp_path / "performance.md").read_text("utf-8")
    assert text.count("1.50 (1.00 to 2.00)") == 8 and "50.00" in text and "a cpu, 1 of 2 cores" in text
    assert "## a cpu, 1 threads" in text and "## another cpu, family 6, 1 threads" in text
    assert "another cpu (family 6; avx2), 1 of 2 cores" in text
    assert text.count("beside other work (50% of the machine at the start)") == 1
    assert "Other work took 2.0% of the machine (the median over the processes; at most 4.0%)" in text


@pytest.mark.parametrize("scored_in", [None, "bf16"])
def test_peers_train_in_the_workload_s_precision_and_score_as_ours_do(tiny, monkeypatch, scored_in):
    peers = load_script("bench_peers", monkeypatch)
    block = workloads.describe_gpt(1, width=8, heads=2, batch_size=3, window=6)
    block["training"]["precision"] = "bf16"
    block["evaluation"] = {"precision": scored_in}
    monkeypatch.setitem(WORKLOADS, "gpt-tiny", (50, block))
    opened, seen = open_workload("gpt-tiny", arm="tied"), []
    model = torch.nn.Linear(1, 1)

    def ask(inputs, targets):
        seen.append((len(inputs), torch.is_autocast_enabled("cpu")))
        return model(torch.ones(1)).sum()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = torch.from_numpy(opened.streams["train"].ids).long()
    train, score = peers.build_steps(model, optimizer, opened.run, ids, ask=ask)
    assert (train(), score()) == (3 * 6, evaluation.WINDOWS_AT_ONCE * 6)
    assert seen == [(3, True), (evaluation.WINDOWS_AT_ONCE, scored_in == "bf16")]


def test_in_bfloat16_our_rate_stands_over_peers_in_both_precisions_and_over_our_own_in_float32(monkeypatch, tmp_path):
    peers, page = load_script("bench_peers", monkeypatch), load_script("performance_page", monkeypatch)
    assert peers.list_contestants("lstm-200-ptb-bf16", {"word_language_model": tmp_path}) == [
        ("tiebench", "tuned"),
        ("word_language_model", "tuned"),
    ]
    samples = []
    for workload, program, rate in (
        ("w", "tiebench", 100.0),
        ("w", "peer", 80.0),
        ("w-bf16", "tiebench", 200.0),
        ("w-bf16", "peer", 160.0),
    ):
        figures = {"peak_memory_bytes": 2**20, "train_fraction": 0.5, "train_tokens_per_second": rate}
        names = {"round": 0, "workload": workload, "program": program, "arm": "tied", "allocator": "tuned"}
        samples.append(names | figures)
    rows = page._list_rows(samples, "train", workload="w-bf16", arm="tied")
    assert [(row[5], row[7]) for row in rows] == [
        ("peer", "1.25 (1.25 to 1.25)"),
        ("tiebench, fp32", "2.00 (2.00 to 2.00)"),
        ("peer, fp32", "2.50 (2.50 to 2.50)"),
    ]
    (row,) = page._list_rows(samples, "train", workload="w", arm="tied")
    assert row[5] == "peer" and row[7] == "1.25 (1.25 to 1.25)"


def test_on_a_gpu_peers_run_as_shipped_and_stand_below(monkeypatch, tmp_path):
    peers, page = load_script("bench_peers", monkeypatch), load_script("performance_page", monkeypatch)
    folders = {"nanoGPT": tmp_path}
    assert peers.list_contestants("gpt2-small", folders, device="cuda") == [
        ("tiebench", "tuned"),
        ("nanoGPT", "shipped"),
        ("HF GPT2LMHeadModel", "shipped"),
    ]
    figures = {"peak_memory_bytes": 2**20, "train_fraction": 0.5, "evaluation_fraction": 0.4}
    figures |= {"train_tokens_per_second": 300.0, "evaluation_tokens_per_second": 900.0}
    names = {"round": 0, "workload": "gpt2-small", "arm": "tied"}
    samples = [
        {**names, **figures, "program": program, "allocator": allocator, "other_work": None}
        for program, allocator in (("tiebench", "tuned"), ("nanoGPT", "shipped"))
    ]
    hardware = {"cpu": "a cpu", "gpu": "a gpu", "cores": 2, "threads": 2, "allocator": "as it is"}
    content = {"setting": {"hardware": hardware, "versions": {"torch": "2"}}, "samples": samples}
    content = {"processors": {"a gpu": content}}
    (tmp_path / "performance-cuda.json").write_text(json.dumps(content), "utf-8")
    page.refresh_page(tmp_path)
    text = (tmp_path / "performance.md").read_text("utf-8")
    row = next(line for line in text.splitlines() if "nanoGPT" in line)
    assert "1.00 (1.00 to 1.00)" in row and "None" not in row
    assert "a gpu, 2 of 2 cores" in text and "**Training on a GPU**" in text


def test_other_work_is_that_of_neither_this_process_nor_its_children(monkeypatch):
    machine = load_script("quiet_machine", monkeypatch)
    before = machine.read_other_work()
    if before is None:
        pytest.skip("this system has no /proc/stat")
    subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
    share = machine.measure_other_work(before)
    assert 0.0 <= share <= 1.0
    monkeypatch.setattr(machine, "read_other_work", lambda: (before[0] + 3.0, before[1] + 10.0))
    assert machine.measure_other_work(before) == pytest.approx(0.3)


@pytest.mark.parametrize("share", [0.06, None])
def test_a_busy_machine_is_refused_unless_that_is_known(share, monkeypatch):
    machine = load_script("quiet_machine", monkeypatch)
    with pytest.raises(SystemExit, match="--busy"):
        machine.check_quiet(share, busy=False)
    assert machine.check_quiet(share, busy=True) == {"other_work": share, "busy": True}
    assert machine.check_quiet(0.04, busy=False) == {"other_work": 0.04, "busy": False}


def test_a_processor_is_known_by_its_model_and_units(monkeypatch):
    machine = load_script("quiet_machine", monkeypatch)
    text = "cpu family\t: 25\nmodel\t\t: 17\nstepping : 1\nflags : fpu avx2 avx512_bf16\n\ncpu family : 6\n"
    found = machine.describe_processor(text)
    assert found == {"model": "family 25, model 17, stepping 1", "flags": ["avx2", "avx512_bf16"]}


def test_the_page_shows_how_cost_grows_and_only_what_was_measured(monkeypatch, tmp_path):
    page = load_script("performance_page", monkeypatch)
    curve = {"kind": "vocabulary", "title": "Memory", "columns": ["words", "peak MB"], "rows": [[10_000, 350.25]]}
    starts = {"--help": [0.2, 0.18]}
    content = {"setting": "a cpu, one thread", "curves": [curve], "start_seconds": starts}
    (tmp_path / "costs.json").write_text(json.dumps(content), "utf-8")
    page.refresh_page(tmp_path)
    text = (tmp_path / "performance.md").read_text("utf-8")
    for part in ("a cpu, one thread", "(costs.svg)", "10,000", "350.2", "tiebench --help", "0.200"):
        assert part in text
    assert "over it" not in text
