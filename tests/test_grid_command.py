"""`tiebench grid` as a user has it: every cell is trained, compared and drawn, and nothing is trained twice."""

import json
import shutil

import pytest
import yaml
from typer.testing import CliRunner

from tiebench.cli.app import app
from tiebench.execution import forecast
from tiebench.results.store import Store

GRID = {"architecture.width": [8, 16]}


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def invoke(*arguments, exit_code: int = 0):
        answer = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert answer.exit_code == exit_code, (answer.output, answer.exception)
        return answer

    return invoke


@pytest.fixture(scope="module")
def trained_grid(tiny_corpus, tmp_path_factory):
    """A folder with `tiny.yaml`, a grid of two cells, and its runs in `results`."""
    folder = tmp_path_factory.mktemp("grid")
    content = {
        "description": "Two widths.",
        "corpus": dict(tiny_corpus),
        "architecture": {"type": "lstm", "layers": 1},
        "embedding": {"init": {"uniform": 0.1}},
        "training": {"tokens": 200, "batch_size": 4, "window": 10, "optimizer": {"type": "sgd", "learning_rate": 1.0}},
        "seeds": [1, 2],
        "arms": {"untied": {"tie": False}, "tied": {"tie": True}},
        "grid": GRID,
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    arguments = ["grid", str(folder / "tiny.yaml"), "--results", str(folder / "results"), "--jobs", "1"]
    answer = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    assert answer.exit_code == 0, (answer.output, answer.exception)
    (folder / "stdout.txt").write_text(answer.stdout, "utf-8")
    return folder


@pytest.fixture
def folder(trained_grid, tmp_path):
    return shutil.copytree(trained_grid, tmp_path / "grid")


def read_times(results):
    return {file: file.stat().st_mtime_ns for file in results.rglob("record.json")}


def test_every_cell_is_trained_compared_and_drawn(trained_grid):
    results = trained_grid / "results"
    cells = [record.experiment for record in Store(results).records()]
    assert cells == ["tiny-width16"] * 4 + ["tiny-width8"] * 4
    text = (trained_grid / "stdout.txt").read_text("utf-8")
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "Of 2 cells, tied has lower bits per byte than untied in" in text.replace("\n", " ")
    assert "## Cell by cell" in (results / "tiny.md").read_text("utf-8")
    assert (results / "tiny.svg").read_text("utf-8").startswith("<svg ")


def test_a_cell_is_an_ordinary_experiment_to_other_commands(run, folder):
    compared = run("compare", "tied", "untied", "--results", folder / "results", "--json").stdout
    by_cell = {each["experiment"]: each for each in json.loads(compared)}
    found = json.loads(
        run("grid", folder / "tiny.yaml", "--results", folder / "results", "--no-train", "--json").stdout
    )
    assert [cell["experiment"] for cell in found] == ["tiny-width8", "tiny-width16"]
    for cell in found:
        ours, theirs = cell["contrast"], by_cell[cell["experiment"]]["contrasts"][0]
        assert (ours["outcome"], ours["differences"]["test"]["p"]) == (
            theirs["outcome"],
            theirs["differences"]["test"]["p"],
        )
        assert ours["differences"]["test"]["unit"] == "byte"


def test_what_is_finished_is_not_trained_again(run, folder):
    results, arguments = folder / "results", ("--results", folder / "results", "--jobs", "1")
    page = (results / "tiny.md").read_text("utf-8")
    shutil.rmtree(results / "tiny-width16" / "tied" / "seed-2")
    before = read_times(results)
    answer = run("grid", folder / "tiny.yaml", *arguments)
    assert "1 of 2 cells of tiny are there already" in answer.stderr and "cell 1 of 1: tiny-width16" in answer.stderr
    after = read_times(results)
    assert after.items() > before.items() and len(after) == 8
    again = run("grid", folder / "tiny.yaml", *arguments)
    assert "2 of 2 cells of tiny are there already" in again.stderr and read_times(results) == after
    assert (results / "tiny.md").read_text("utf-8").partition("## To make")[0] == page.partition("## To make")[0]


def test_without_training_what_is_missing_is_said(run, folder):
    shutil.rmtree(folder / "results" / "tiny-width16" / "tied")
    answer = run("grid", folder / "tiny.yaml", "--results", folder / "results", "--no-train")
    assert "2 of 4 runs" in answer.stdout and "1 more is not run" in answer.stdout.replace("\n", " ")
    assert "not run" in (folder / "results" / "tiny.svg").read_text("utf-8")
    assert not (folder / "results" / "tiny-width16" / "tied").exists()


def test_a_cell_that_fails_stops_no_other(run, folder):
    """The first cell's loss soon is no number."""
    content = yaml.safe_load((folder / "tiny.yaml").read_text("utf-8"))
    content["grid"] = {"training.optimizer.learning_rate": [1e30, 1.0]}
    content["architecture"]["width"] = 8
    (folder / "rates.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    arguments = ("grid", folder / "rates.yaml", "--results", folder / "results", "--jobs", "1", "--seed", "1")
    answer = run(*arguments, exit_code=1)
    assert "rates-learning_rate1e+30 failed" in answer.stderr and " became " in answer.stderr
    assert "0 of 2 runs" in answer.stdout
    assert len(list((folder / "results" / "rates-learning_rate1.0").glob("*/seed-1/record.json"))) == 2
    assert not (folder / "results" / "rates.md").exists(), "the page is about all seeds of the file"


def test_each_arm_of_each_cell_is_tuned_by_itself(run, folder):
    """The trials may go once it is known what they found."""
    content = yaml.safe_load((folder / "tiny.yaml").read_text("utf-8"))
    del content["training"]["optimizer"]["learning_rate"]
    content["tuning"] = {"grid": {"training.optimizer.learning_rate": [0.01, 1.0]}, "seeds": [9]}
    (folder / "tuned.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    arguments = ("grid", folder / "tuned.yaml", "--results", folder / "results", "--jobs", "1", "--seed", "1")
    found = json.loads(run(*arguments, "--json").stdout)
    for cell in found:
        assert {arm: tuned["seeds"] for arm, tuned in cell["tuned"].items()} == {"untied": [9], "tied": [9]}
        shutil.rmtree(folder / "results" / cell["experiment"] / "tuning")
    records = {each.experiment: each for each in Store(folder / "results").records() if each.tuned}
    for cell in found:
        record = records[cell["experiment"]]
        chosen = cell["tuned"][record.arm]["chosen"]["training.optimizer.learning_rate"]
        assert record.spec.training.optimizer.learning_rate == chosen
    before = read_times(folder / "results")
    text = run(*arguments, "--format", "markdown").stdout
    assert read_times(folder / "results") == before, "nothing is tried or trained again"
    assert "untied learning_rate" in text and "best of 2 trials on the validation split" in text.replace("\n", " ")


def test_text_that_is_not_there_is_said_once_and_before_any_training(run, folder):
    options = ("--results", folder / "other", "--set", "corpus={type: ptb}", "--data-dir", folder)
    answer = run("grid", folder / "tiny.yaml", *options, exit_code=1)
    assert answer.stderr.count("error:") == 1 and "failed:" not in answer.stderr and "cell 1" not in answer.stderr
    assert not (folder / "other").exists()


def test_check_counts_the_cells_and_trains_nothing(run, folder):
    answer = run("check", folder / "tiny.yaml")
    assert answer.stdout.startswith("architecture.width: 8, 16\nAll of it takes, on one core of this machine, about ")
    assert "\n2 cells x 2 arms x 2 seeds. Nothing is wrong with " in answer.stdout
    found = json.loads(run("check", folder / "tiny.yaml", "--json").stdout)
    assert found["cells"] == ["tiny-width8", "tiny-width16"] and found["axes"] == {"architecture.width": ["8", "16"]}
    assert found["time"]["timed"] and found["time"]["seconds"] > 0


def test_check_counts_every_run_and_every_trial_of_a_grid(run, folder, monkeypatch):
    monkeypatch.setattr(forecast, "time_step", lambda cost, **options: cost.flops_per_step)  # a second an operation
    once = json.loads(run("check", folder / "tiny.yaml", "--set", "seeds=[1]", "--json").stdout)["time"]["seconds"]
    twice = json.loads(run("check", folder / "tiny.yaml", "--json").stdout)["time"]["seconds"]
    wide = ("--set", "grid.architecture.width=[16]", "--set", "seeds=[1]")
    one_cell = json.loads(run("check", folder / "tiny.yaml", *wide, "--json").stdout)["time"]["seconds"]
    assert twice == pytest.approx(2 * once) and once / 2 < one_cell < once
    tuning = "tuning={grid: {training.optimizer.learning_rate: [0.5, 1, 2]}, seeds: [9]}"
    tuned = json.loads(run("check", folder / "tiny.yaml", "--set", tuning, "--json").stdout)["time"]["seconds"]
    assert tuned == pytest.approx(5 * once), "three trials for each arm of each cell, as long as a run, and two runs"


def test_check_of_a_grid_whose_text_is_not_there_says_so_and_is_fine(run, folder):
    answer = run("check", folder / "tiny.yaml", "--set", "corpus={type: ptb}", "--data-dir", folder)
    assert "How long it takes cannot be said: " in answer.stdout and "Nothing is wrong with" in answer.stdout
    found = json.loads(run("check", folder / "tiny.yaml", "--set", "corpus=ptb", "--data-dir", folder, "--json").stdout)
    assert found["time"] is None
