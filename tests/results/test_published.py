"""The published records are still the runs that their specs and our experiment files describe."""

from pathlib import Path

import pytest
import yaml

from tiebench.execution.settings import Settings
from tiebench.execution.tuning import tune_arms
from tiebench.experiment.grid import list_bundled_grids
from tiebench.experiment.loading import load_experiment
from tiebench.experiment.run_spec import RunSpec
from tiebench.results.record import read_record
from tiebench.results.store import Store

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(file.parent for file in (ROOT / "results").glob("*/*/*/record.json"))
CELLS = {cell.experiment.name: cell.experiment for grid in list_bundled_grids().values() for cell in grid.cells}
EXPERIMENTS = sorted({folder.parents[1].name for folder in FOLDERS} - CELLS.keys())


def name_run(folder: Path) -> str:
    return "/".join(folder.parts[-3:])


def test_there_are_published_records():
    assert len(FOLDERS) >= 10


@pytest.mark.parametrize("folder", FOLDERS, ids=name_run)
def test_a_record_lies_where_it_says_and_its_spec_has_its_signature(folder):
    """A new switch that is not off as null or false would make every published run a stranger."""
    record = read_record(folder)
    run = RunSpec(record.experiment, record.arm, record.seed, record.spec)
    assert run.name == name_run(folder)
    assert run.signature == record.signature
    spec = yaml.safe_load((folder / "spec.yaml").read_text("utf-8"))
    written = {key: spec[key] for key in ("experiment", "arm", "seed", "signature")}
    assert written == {key: getattr(record, key) for key in written}


@pytest.mark.parametrize("folder", FOLDERS, ids=name_run)
def test_the_experiment_file_asks_for_this_very_run(folder):
    record = read_record(folder)
    experiment = CELLS.get(record.experiment) or load_experiment(ROOT / "configs" / f"{record.experiment}.yaml")
    experiment = tune_arms(experiment, settings=Settings(store=Store(ROOT / "results"), device="cpu"))
    (run,) = experiment.list_runs(arms=[record.arm], seeds=[record.seed])
    assert run.signature == record.signature, f"{record.experiment}.yaml has another recipe for {record.arm} now"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_recipes_of_papers_had_no_offset(name):
    for spec in load_experiment(ROOT / "configs" / f"{name}.yaml").arms.values():
        assert spec.architecture.type != "lstm" or spec.training.random_offset is False
