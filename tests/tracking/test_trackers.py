"""What a tracker shows is what the run's own files say; a run that goes on is followed in the same place."""

import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tiebench.cli.app import app
from tiebench.cli.workflow import gather_settings
from tiebench.errors import UsageError
from tiebench.execution.execute import execute
from tiebench.execution.plan import plan_runs
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.results.curve import read_curve
from tiebench.results.store import Store
from tiebench.tracking import following, tensorboard
from tiebench.tracking.following import TRACKERS, Tracking, check_trackers
from tiebench.tracking.tracker import Tracker
from tiebench.training.callbacks import Callback
from tiebench.training.signals import Interrupted


class Stopping(Callback):
    """Asks the run to stop at its second evaluation."""

    num_evaluations = 0

    def report_evaluation(self, point) -> None:
        self.num_evaluations += 1
        if self.num_evaluations == 2:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def track(write_experiment, tmp_path):
    """Train a small experiment with trackers; returns its finished records."""
    settings = Settings(store=Store(tmp_path / "results"), device="cpu", num_threads=1)
    runs = load_experiment(write_experiment(seeds=[1, 2])).list_runs(arms=["tied"])

    def train(*names: str, watch=lambda run, index: Callback(), jobs: str = "1"):
        tracking = Tracking(names, results=settings.store.root)
        try:
            return execute(
                plan_runs(runs, settings=settings), settings=settings, watch=tracking.follow(watch), jobs=jobs
            )
        finally:
            tracking.close()

    train.store = settings.store
    return train


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Values by name, as TensorBoard itself reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulator.EventAccumulator(str(folder))
    reader.Reload()
    return {tag: [(each.step, each.value) for each in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_tensorboard_reads_back_the_curve_and_the_scores_of_every_seed(track, jobs):
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    for record in track("tensorboard", jobs=jobs):
        folder = track.store.root / "tensorboard" / "tiny" / "tied" / f"seed-{record.seed}"
        events, curve = read_events(folder), track.store.curve(record)
        assert [step for step, _ in events["valid/perplexity"]] == [point.step for point in curve]
        assert [value for _, value in events["valid/perplexity"]] == pytest.approx(
            [point.valid_perplexity for point in curve], rel=1e-6
        )
        ((step, value),) = events["scored/test_perplexity"]
        assert (step, value) == (record.usage.steps, pytest.approx(record.evaluations["test"].perplexity, rel=1e-6))
    assert len(track.store.folders()) == 2, "the event files are no runs"


def test_a_run_that_goes_on_is_followed_in_the_same_folder(track):
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    with pytest.raises(Interrupted):
        track("tensorboard", watch=lambda run, index: Stopping())
    folder = track.store.root / "tensorboard" / "tiny" / "tied" / "seed-1"
    assert "scored/test_perplexity" not in read_events(folder)
    record = track("tensorboard")[0]
    steps = [step for step, _ in read_events(folder)["valid/perplexity"]]
    assert sorted(set(steps)) == [point.step for point in track.store.curve(record)]
    assert len(list(folder.iterdir())) == 2, "one file of events before, one after"


def read_wandb(file: Path) -> list:
    """The records of an offline run: protocol buffers in a LevelDB log, blocks of 32,768 bytes after a header of 7."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts, records = file.read_bytes(), 7, b"", []
    while place + 7 <= len(content):
        left = 32_768 - place % 32_768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(Record.FromString(parts))
            parts = b""
    return records


def test_wandb_offline_holds_every_evaluation(track, monkeypatch):
    pytest.importorskip("wandb", reason="the extra 'wandb' is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    records = track("wandb")
    files = sorted(track.store.root.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    found = [record for file in files for record in read_wandb(file)]
    runs = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    names = {("tiny/tied", "tiny/tied/seed-1"), ("tiny/tied", "tiny/tied/seed-2")}
    assert {(run.run_group, run.display_name) for run in runs} == names
    logged = [
        float(item.value_json)
        for record in found
        for item in record.history.item
        if "valid/perplexity" in (item.key, *item.nested_key)
    ]
    expected = [point.valid_perplexity for record in records for point in track.store.curve(record)]
    assert logged == pytest.approx(expected)


def test_trackio_holds_every_evaluation_and_leaves_stdout_alone(track, monkeypatch, tmp_path, capsys):
    pytest.importorskip("trackio", reason="the extra 'trackio' is not installed")
    from trackio.sqlite_storage import SQLiteStorage

    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    for record in track("trackio"):
        logged = SQLiteStorage.get_logs("tiebench", f"tiny/tied/seed-{record.seed}")
        found = [each["valid/perplexity"] for each in logged if "valid/perplexity" in each]
        assert found == pytest.approx([point.valid_perplexity for point in track.store.curve(record)])
    assert capsys.readouterr().out == ""


class Failing(Tracker):
    """Cannot log."""

    def open(self, config, *, resumed) -> None:
        self.config = config

    def log(self, values, *, step) -> None:
        raise OSError("no space left")

    def close(self, *, finished) -> None:
        raise AssertionError("and cannot be closed either")


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(track, caplog):
    records = track(watch=lambda run, index: Failing(run, results=track.store.root))
    assert [record.seed for record in records] == [1, 2]
    warnings = [message for message in caplog.messages if "does not follow" in message]
    assert len(warnings) == 2 and "no space left" in warnings[0], "said once for each run"


def test_a_command_that_trains_follows_with_the_callbacks_of_the_settings_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tiebench.tracking.following.find_spec", lambda package: True)  # nothing is opened here
    (tmp_path / "tiebench.toml").write_text('callbacks = ["tensorboard"]\n', "utf-8")
    asked = {"device": "cpu", "data_dir": None, "force": False}
    assert gather_settings(tmp_path / "results", **asked, track=[]).track == ("tensorboard",)
    assert gather_settings(tmp_path / "results", **asked).track == (), "a command that trains nothing follows nothing"
    (tmp_path / "tiebench.toml").write_text('callbacks = ["tensorbord"]\n', "utf-8")
    with pytest.raises(UsageError, match="no tracker 'tensorbord'"):
        gather_settings(tmp_path / "results", **asked, track=[])


def test_a_tracker_that_is_not_there_is_refused_before_training(monkeypatch):
    with pytest.raises(UsageError, match="no tracker 'tensorbord'") as caught:
        check_trackers(["tensorbord"])
    assert "tensorboard" in caught.value.hint
    for name in TRACKERS:
        monkeypatch.setattr("tiebench.tracking.following.find_spec", lambda package: None)
        with pytest.raises(UsageError, match=f"'{name}' needs the package") as caught:
            check_trackers([name])
        assert f"pip install 'tiebench[{name}]'" in caught.value.hint


def test_trials_are_followed_under_a_tag_beside_the_runs(write_experiment, tmp_path, monkeypatch):
    tuning = {"grid": {"training.optimizer.learning_rate": [0.5, 2]}, "seeds": [101], "steps": 12}
    config = write_experiment(tuning=tuning)
    opened = {}

    class Noting(Tracker):
        def open(self, config, *, resumed):
            opened[self.name] = (config["experiment"], config["tags"], self.results)

        def log(self, values, *, step):
            pass

        def close(self, *, finished):
            assert finished

    monkeypatch.setattr(tensorboard, "TensorBoardTracker", Noting)
    monkeypatch.setattr(following, "find_spec", lambda package: True)
    options = ["--arm", "tied", "--track", "tensorboard", "--results", str(tmp_path / "results"), "--jobs", "1"]
    answer = CliRunner().invoke(app, ["train", str(config), *options])
    assert answer.exit_code == 0, answer.output
    assert opened == {
        **{
            f"tiny/tuning/tied+learning_rate-{rate}+steps-12/seed-101": ("tiny", ["trial"], tmp_path / "results")
            for rate in ("0.5", "2")
        },
        "tiny/tied/seed-1": ("tiny", [], tmp_path / "results"),
    }


def test_tensorboard_has_the_curve_of_a_trial(write_experiment, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    tuning = {"grid": {"training.optimizer.learning_rate": [2]}, "seeds": [101], "steps": 12}
    config, results = write_experiment(tuning=tuning), tmp_path / "results"
    options = ["--arm", "tied", "--track", "tensorboard", "--results", str(results), "--jobs", "1"]
    assert CliRunner().invoke(app, ["train", str(config), *options]).exit_code == 0
    trial = "tiny/tuning/tied+learning_rate-2+steps-12/seed-101"
    events, curve = read_events(results / "tensorboard" / trial), read_curve(results / trial)
    assert [step for step, _ in events["valid/perplexity"]] == [point.step for point in curve]
    assert "scored/valid_perplexity" in events and "scored/test_perplexity" not in events
