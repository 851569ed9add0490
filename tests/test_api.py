"""The Python face does what the commands do, and `import tiebench` costs nothing; the notebook of examples/ runs."""

import subprocess
import sys
from pathlib import Path

import pytest

import tiebench
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
