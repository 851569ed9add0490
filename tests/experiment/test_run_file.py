"""A run can be repeated from its record: one arm, one seed, the same signature."""

import pytest
import yaml

from tiebench.errors import UsageError
from tiebench.experiment.loading import load_experiment
from tiebench.experiment.run_file import describe_run, read_signature


@pytest.fixture
def recorded(write_experiment, tmp_path):
    """The runs of an experiment that was altered, and the folder of one of them."""
    config = write_experiment(seeds=[3, 4])
    runs = load_experiment(config, overrides=("training.window=7",)).list_runs()
    run = next(run for run in runs if (run.arm, run.seed) == ("tied", 4))
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "spec.yaml").write_text(yaml.safe_dump(describe_run(run), sort_keys=False), "utf-8")
    return run, folder


@pytest.mark.parametrize("place", ["folder", "file"])
def test_a_record_describes_its_own_run_and_no_other(place, recorded):
    run, folder = recorded
    experiment = load_experiment(folder if place == "folder" else folder / "spec.yaml")
    (again,) = experiment.list_runs()
    assert (again.name, again.signature, again.spec) == (run.name, run.signature, run.spec)
    assert (again.declared, again.altered, again.folder) == (run.declared, run.altered, run.folder)


def test_an_override_changes_the_repeated_run(recorded):
    run, folder = recorded
    (again,) = load_experiment(folder, overrides=("training.window=8",)).list_runs()
    assert again.spec.training.window == 8 and again.signature != run.signature
    assert again.altered == ("training.window=7", "training.window=8")


def test_a_record_that_was_changed_is_refused(recorded):
    _, folder = recorded
    file = folder / "spec.yaml"
    text = file.read_text("utf-8")
    file.write_text(text.replace("window: 7", "window: 9"), "utf-8")
    with pytest.raises(UsageError, match="was written for the run"):
        load_experiment(folder)
    file.write_text(text.replace("window: 7", "window: x"), "utf-8")
    with pytest.raises(UsageError, match=r"spec.yaml:\d+: training.window: found 'x'"):
        load_experiment(folder)
    file.write_text(text.replace("seed: 4", "seed: four"), "utf-8")
    with pytest.raises(UsageError, match=r"spec.yaml:\d+: seed is missing or damaged"):
        load_experiment(folder)


def test_a_folder_without_a_record_is_a_folder(write_experiment, tmp_path):
    config = write_experiment()
    with pytest.raises(UsageError, match="is a folder, and an experiment is a file") as caught:
        load_experiment(tmp_path)
    assert str(config) in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"signature: [", b"signature: 3\n", b"- a\n", b"{: !!int x}"])
def test_a_damaged_record_has_no_signature(content, recorded):
    run, folder = recorded
    assert read_signature(folder / "spec.yaml") == run.signature
    (folder / "spec.yaml").write_bytes(content)
    assert read_signature(folder / "spec.yaml") is None
    assert read_signature(folder / "nothing.yaml") is None
