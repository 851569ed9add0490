"""The performance page says what answers cost: runs saved by looking, commands, a step by its parts."""

import importlib
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tiebench.comparison.sequential import decide, replay_looks
from tiebench.results.record import write_record
from tiebench.results.store import Store

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load_script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_a_replay_decides_as_the_comparison_did_in_every_order(load_script, make_record, monkeypatch):
    replay = load_script("replay_decisions")
    ours = [make_record("tied", seed, test=test) for seed, test in ((1, 110.0), (2, 110.6), (3, 110.3))]
    baseline = [make_record("untied", seed, test=test) for seed, test in ((1, 114.0), (2, 114.9), (3, 114.2))]
    monkeypatch.setattr(replay, "NUM_DRAWS", 50)
    found = replay.replay_records(baseline, ours)
    nats = [[record.evaluations["test"].nll_per_token for record in arm] for arm in (ours, baseline)]
    decision = decide(replay_looks(*nats))
    rows = found["rows"]
    assert rows["the runs, in the order of their seeds"]["median"] == decision.num_ours == 3
    assert rows["the runs, in every order"]["num_comparisons"] == 6
    assert found["difference"] == pytest.approx(decision.difference)
    page = replay.render_decisions([{"experiment": "e", "arms": ["untied", "tied"], **found}])
    assert f" {2 * (10 - 3):.2f} |" in page


def test_a_drawn_comparison_errs_as_rarely_as_it_promises(load_script):
    replay = load_script("replay_decisions")
    without = replay.summarise(replay.draw_decisions(difference=0.0, deviation=1.0, num_draws=400))
    assert 1 - without["outcomes"]["undecided"] < 0.05 and without["median"] == 10
    large = replay.summarise(replay.draw_decisions(difference=9.0, deviation=1.0, num_draws=50))
    assert large["outcomes"] == {"worse": 1.0} and large["median"] < 5
    assert large["median"] <= large["ninetieth"] <= large["most"]


def test_copied_runs_are_valid_records_of_their_own(load_script, trained_once, tmp_path):
    overheads = load_script("measure_overheads")
    source = Store(trained_once / "results")
    copies = overheads.copy_runs(source, "tiny", ("tied", "untied"), number=6, folder=tmp_path)
    records = copies.records()
    assert [(record.arm, record.seed) for record in records] == [(a, s) for a in ("tied", "untied") for s in (1, 2, 3)]
    assert len({record.evaluations["test"].nll for record in records}) == 6
    assert all(copies.token_nll(record) is not None for record in records)


def test_the_share_of_evaluation_is_that_of_the_records(load_script, make_record, tmp_path):
    overheads = load_script("measure_overheads")
    record = make_record("tied", 1)
    usage = record.usage.model_copy(update={"train_seconds": 90.0, "evaluation_seconds": 10.0})
    write_record(record.model_copy(update={"usage": usage}), Store(tmp_path).folder_of(record))
    shares = overheads.list_evaluation_shares(Store(tmp_path))
    assert shares == {record.experiment: [pytest.approx(0.1)]}
    command = {"compare, 1,000 runs": {"seconds": 3.25, "cpu_seconds": 1.75}}
    content = {"setting": "a cpu.", "commands": command, "evaluation_shares": shares}
    (tmp_path / "overheads.json").write_text(json.dumps(content), "utf-8")
    load_script("performance_page").refresh_page(tmp_path)
    text = (tmp_path / "performance.md").read_text("utf-8")
    assert "10.0 (10.0 to 10.0)" in text and "1.750" in text and "3.250" in text


def test_every_operator_of_a_step_is_counted_once(load_script):
    shares = load_script("step_shares")
    events = [SimpleNamespace(name=f"aten::{name}", self_cpu_time_total=10) for name in ("addmm", "mm", "copy_", "odd")]
    assert shares.add_up(events) == Counter({"matrix products": 20, "copies and fills": 10, shares.REST: 10})
    found = [shares.find_part(f"aten::{name}") for name in ("native_layer_norm", "gelu_backward", "mkldnn_rnn_layer")]
    assert found == ["norms", "GELU", "LSTM"]


def test_a_step_is_taken_apart_into_its_operators(load_script):
    shares = load_script("step_shares")
    left, right = torch.ones(64, 64), torch.ones(64, 64)
    found = shares.profile_steps(lambda: torch.nn.functional.gelu(left @ right), num_steps=3)
    assert {"matrix products", "GELU"} <= set(found) and "LSTM" not in found


def test_a_busy_machine_has_shares_of_a_step_and_a_quiet_one_its_times(load_script):
    shares = load_script("step_shares")
    rounds = [{"parts": {"LSTM": 2.0, "the rest": rest}, "whole": whole} for rest, whole in ((6.0, 9.5), (5.0, 9.0))]
    ours = shares.summarise([*rounds, {"parts": {"the rest": 7.0}, "whole": 11.25}])
    assert ours == {"parts": {"LSTM": 2.0, "the rest": 6.0}, "whole": 9.5}
    peer = {"parts": {"LSTM": 1.0, "the rest": 3.0}, "whole": 4.75}
    page = {"workloads": [{"workload": "w", "arm": "tied", "programs": {"tiebench": ours, "peer": peer}}]}
    page |= {"num_steps": 3, "num_rounds": 2, "setting": "a cpu."}
    quiet, busy = ({**page, "start": {"busy": is_busy, "other_work": 0.9}} for is_busy in (False, True))
    text = shares.render_shares({"processors": {"one, 1 threads": quiet, "another, 1 threads": busy}})
    of_quiet, of_busy = text.split("### A step by its parts: another, 1 threads")
    assert of_quiet.startswith("### A step by its parts: one, 1 threads")
    assert "tiebench, ms" in of_quiet and "| the rest" in of_quiet and "9.500" in of_quiet and "4.750" in of_quiet
    assert "25.00" in of_busy and "75.00" in of_busy and "shares, and no times" in of_busy
    assert " ms" not in of_busy and "4.750" not in of_busy
