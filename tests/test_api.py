"""The Python face does what the commands do, and `import tiebench` costs nothing; the notebook of examples/ runs."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiebench
from tiebench.cli.app import app
from tiebench.errors import UsageError

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_importing_tiebench_imports_nothing_else():
    program = "import sys, tiebench; print([name for name in sys.modules if name.startswith('tiebench.')])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_every_promised_name_is_there_and_others_are_an_error():
    assert sorted(tiebench.__all__) == ["compare", "load_experiment", "reproduce", "train"]
    assert all(callable(getattr(tiebench, name)) and getattr(tiebench, name).__doc__ for name in tiebench.__all__)
    assert set(tiebench.__all__) <= set(dir(tiebench))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        tiebench.trian  # noqa: B018


def test_training_comparing_and_training_again(write_experiment, tmp_path):
    experiment = tiebench.load_experiment(write_experiment(seeds=[1, 2]))
    with pytest.raises(UsageError, match="tiny/untied/seed-1 is not finished"):
        tiebench.compare(experiment, results=tmp_path / "results")
    records = tiebench.train(experiment, results=tmp_path / "results", device="cpu", jobs=1)
    assert [(record.arm, record.seed) for record in records] == [
        ("untied", 1), ("tied", 1), ("untied", 2), ("tied", 2),
    ]  # fmt: skip
    comparison = tiebench.compare(experiment, results=tmp_path / "results")
    assert comparison.baseline == "untied" and [contrast.arm for contrast in comparison.contrasts] == ["tied"]
    assert tiebench.train(experiment, results=str(tmp_path / "results")) == records, "finished runs are read"
    assert (tmp_path / "results" / "table.md").exists()


@pytest.mark.parametrize("jobs", ["many", 0, -2])
def test_a_number_of_jobs_that_means_nothing_is_an_error_with_what_is_allowed(jobs, write_experiment, tmp_path):
    with pytest.raises(UsageError, match="give a number of at least 1, or auto"):
        tiebench.train(write_experiment(), results=tmp_path / "results", jobs=jobs)
    assert not (tmp_path / "results").exists()


def test_tables_that_cannot_be_written_stop_no_training(write_experiment, tmp_path, caplog):
    (tmp_path / "results" / "table.md").mkdir(parents=True)
    records = tiebench.train(write_experiment(), results=tmp_path / "results", device="cpu", jobs=1)
    assert [record.arm for record in records] == ["untied", "tied"]
    assert "could not be written" in caplog.text and "table.md" in caplog.text


def test_runs_are_trained_in_a_thread_that_hears_no_signals(write_experiment, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        train = partial(tiebench.train, results=tmp_path / "results", device="cpu", jobs=1)
        assert len(pool.submit(train, write_experiment()).result()) == 2


def test_one_seed_of_each_arm_is_compared_as_the_command_compares_it(trained):
    results = trained / "results"
    other = tiebench.load_experiment(trained / "tiny.yaml", overrides=["name=other"])
    tiebench.train(other, arms=["tied"], results=results, device="cpu", jobs=1)
    options = ["--seed", "1", "--no-train", "--json", "--results", str(results)]
    shown = CliRunner().invoke(app, ["compare", "--config", str(trained / "tiny.yaml"), *options])
    comparison = tiebench.compare(trained / "tiny.yaml", seeds=[1], results=results)
    assert comparison.model_dump(mode="json") == json.loads(shown.stdout)[0]
    assert "known from 2 other runs of the recipe" in " ".join(comparison.notes)


def test_a_paper_is_judged_by_what_is_there(tmp_path):
    judged = tiebench.reproduce("press-wolf-2017", only=["table-6"], results=tmp_path)
    assert judged and {claim.verdict for claim in judged} == {"not run"}


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda file: file.name)
def test_a_notebook_runs_from_top_to_bottom(notebook, tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    content = nbformat.read(notebook, as_version=4)
    assert not any(cell.get("outputs") for cell in content.cells), "commit it without outputs"
    nbclient.NotebookClient(content, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = str([cell.outputs for cell in content.cells if cell.cell_type == "code"])
    assert "perplexity" in printed and "not run" in printed


def test_there_is_a_notebook():
    assert list(EXAMPLES.glob("*.ipynb"))
