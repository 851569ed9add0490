"""Trials choose the values of each arm: equal trials, on the validation split, on seeds of their own."""

import json
import shutil
import signal
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from typer.testing import CliRunner

import tiebench
from tiebench.cli.app import app
from tiebench.comparison.checks import check_comparable
from tiebench.errors import TiebenchError, UsageError
from tiebench.execution.execute import execute
from tiebench.execution.finished import resolve_runs
from tiebench.execution.matching import match_runs
from tiebench.execution.plan import plan_runs
from tiebench.execution.run import execute_run
from tiebench.execution.settings import Settings
from tiebench.execution.tuning import list_trials, tune_arms
from tiebench.experiment.loading import load_experiment
from tiebench.results.record import read_record
from tiebench.results.store import Store
from tiebench.results.trials import read_tuning
from tiebench.training.callbacks import Callback
from tiebench.training.signals import Interrupted

RATE = "training.optimizer.learning_rate"
TOO_LARGE = 1e30  # the loss is no number after a step
TUNING = {"grid": {RATE: [0.5, 2, TOO_LARGE]}, "seeds": [101], "steps": 12}


def make_trials(plan, settings):
    return execute(plan, settings=settings, watch=lambda run, index: Callback(), jobs="1")


def refuse_trials(plan, settings):
    raise AssertionError(f"{len(plan.pending)} trials are made again")


@pytest.fixture
def load(write_experiment):
    """The tiny experiment with `tuning:`; keywords replace parts of that block."""

    def load_tuned(runs_at=(1,), **changes):
        return load_experiment(write_experiment(seeds=list(runs_at), tuning=TUNING | changes))

    return load_tuned


@pytest.fixture
def settings(tmp_path):
    return Settings(store=Store(tmp_path / "results"), device="cpu")


def read_trials(settings):
    files = sorted((settings.store.root / "tiny" / "tuning").glob("*/seed-*/record.json"))
    return {file.parts[-3]: read_record(file.parent) for file in files}


def test_every_arm_gets_the_same_trials_on_the_seeds_of_trials_only(load):
    experiment = load(runs_at=[1, 2], grid={RATE: [0.5, 2], "training.window": [5, 10]}, seeds=[101, 102])
    trials = list_trials(experiment)
    tried = {
        arm: Counter((json.dumps(trial.candidate.values), trial.run.seed) for trial in trials if trial.arm == arm)
        for arm in ("untied", "tied")
    }
    assert tried["untied"] == tried["tied"] and len(tried["tied"]) == 8
    assert {trial.run.seed for trial in trials}.isdisjoint(experiment.seeds)
    assert all(trial.run.spec.training.steps == 12 and trial.run.spec.training.epochs is None for trial in trials)
    assert len({trial.run.name for trial in trials}) == len(trials)
    assert len(list_trials(experiment, arms=["tied"])) == 8


def test_the_choice_is_the_lowest_on_validation_and_the_test_split_is_never_scored(load, settings):
    said = []
    experiment = tune_arms(load(), settings=settings, train=make_trials, say=said.append)
    records = read_trials(settings)
    assert len(records) == 6
    for name, record in records.items():
        assert "test" not in record.evaluations and "train" not in record.evaluations
        beside = {file.name for file in (settings.store.root / "tiny/tuning" / name / "seed-101").iterdir()}
        assert not {"test-nll.npy", "weights.safetensors"} & beside
        assert record.spec.training.optimizer.learning_rate == float(name.split("+steps")[0].partition("rate-")[2])
    for arm in ("untied", "tied"):
        perplexities = {
            rate: records[f"{arm}+learning_rate-{rate}+steps-12"].evaluations["valid"].perplexity
            for rate in ("0.5", "2")
        }
        best = min(perplexities, key=perplexities.__getitem__)
        tuned = experiment.choices[arm]
        assert tuned.chosen == {RATE: float(best)} and tuned.valid_perplexity == pytest.approx(perplexities[best])
        assert experiment.arms[arm].training.optimizer.learning_rate == float(best)
        assert experiment.arms[arm].training.epochs == 2 and tuned.num_trials == 3
        assert (tuned.edges == [RATE]) == (best == "0.5")
        assert any(line.startswith(f"{arm}: learning_rate {best} of 0.5, 2, 1e+30: valid perplexity") for line in said)
    assert settings.store.records() == [], "no table and no comparison takes a trial for a run"


def test_a_trial_that_diverged_counts_as_the_worst_and_is_not_made_again(load, settings):
    experiment = tune_arms(load(), settings=settings, train=make_trials)
    record = read_trials(settings)["tied+learning_rate-1e+30+steps-12"]
    assert record.evaluations == {} and "diverged" in record.warnings[-1]
    result = read_tuning(settings.store.root / "tiny")
    found = {trial.values[RATE]: trial.valid_perplexity for trial in result.arms["tied"].trials}
    assert found[TOO_LARGE] is None and found[0.5] and found[2]
    assert tune_arms(load(), settings=settings, train=refuse_trials).choices == experiment.choices


def test_arms_of_which_every_trial_diverged_are_an_error(load, settings):
    with pytest.raises(TiebenchError, match="with every value of the grid, a trial of 'untied' diverged") as error:
        tune_arms(load(grid={RATE: [1e29, TOO_LARGE]}), settings=settings, train=make_trials)
    assert "smaller values in tuning.grid" in error.value.hint


def test_a_run_that_diverges_is_an_error_as_ever(write_experiment, settings):
    training = {"steps": 12, "batch_size": 4, "window": 10, "optimizer": {"type": "sgd", "learning_rate": TOO_LARGE}}
    (run,) = load_experiment(write_experiment(training=training)).list_runs(arms=["tied"])
    with pytest.raises(TiebenchError, match="became"):
        execute_run(run, settings=settings)


class StopInThird(Callback):
    """A SIGTERM at the first evaluation of the third trial."""

    def __init__(self, index):
        self.index = index

    def report_evaluation(self, point):
        if self.index == 2:
            signal.raise_signal(signal.SIGTERM)


class Listen(Callback):
    def __init__(self, said):
        self.said = said

    def say(self, message):
        self.said.append(message)


def test_tuning_that_is_stopped_goes_on_with_what_is_missing(load, settings):
    def stop_in_third(plan, place):
        return execute(plan, settings=place, watch=lambda run, index: StopInThird(index), jobs="1")

    with pytest.raises(Interrupted):
        tune_arms(load(), settings=settings, train=stop_in_third)
    assert len(read_trials(settings)) == 2 and not (settings.store.root / "tiny" / "tuning.json").exists()
    made, said = [], []

    def go_on(plan, place):
        made.extend(run.arm for run in plan.pending)
        return execute(plan, settings=place, watch=lambda run, index: Listen(said), jobs="1")

    stopped = tune_arms(load(), settings=settings, train=go_on)
    assert len(made) == 4 and made[0] == "untied+learning_rate-2+steps-12"
    assert any("untied+learning_rate-2+steps-12/seed-101: going on from step" in line for line in said)
    apart = Settings(store=Store(settings.store.root.parent / "apart"), device="cpu")
    assert stopped.choices == tune_arms(load(), settings=apart, train=make_trials).choices


def test_a_run_is_the_same_whether_its_value_was_typed_or_tuned(load, settings, write_experiment):
    experiment = tune_arms(load(), settings=settings, train=make_trials)
    rates = {arm: tuned.chosen[RATE] for arm, tuned in experiment.choices.items()}
    training = {"epochs": 2, "batch_size": 4, "window": 10, "optimizer": {"type": "sgd", "clip_norm": 5.0}}
    arms = {
        arm: {"tie": arm == "tied", "training": {"optimizer": {"learning_rate": rate}}} for arm, rate in rates.items()
    }
    typed = load_experiment(write_experiment("typed.yaml", training=training, arms=arms, name="tiny"))
    assert [run.signature for run in experiment.list_runs()] == [run.signature for run in typed.list_runs()]
    (record,) = make_trials(plan_runs(typed.list_runs(arms=["tied"]), settings=settings), settings)
    plan = plan_runs(experiment.list_runs(arms=["tied"]), settings=settings)
    assert plan.pending == [] and list(plan.finished.values()) == [record]


def test_tuning_json_stands_in_for_trials_that_are_gone_and_only_for_these(load, settings):
    before = tune_arms(load(), settings=settings, train=make_trials)
    for file in (settings.store.root / "tiny" / "tuning").rglob("record.json"):
        file.unlink()
    assert tune_arms(load(), settings=settings, train=refuse_trials).choices == before.choices
    wider = load(grid={RATE: [0.25, 0.5, 2, TOO_LARGE]})
    made = []

    def count_trials(plan, place):
        made.extend(run.arm for run in plan.pending)
        return make_trials(plan, place)

    after = tune_arms(wider, settings=settings, train=count_trials)
    assert sorted(made) == ["tied+learning_rate-0.25+steps-12", "untied+learning_rate-0.25+steps-12"]
    assert after.choices["tied"].num_trials == 4
    longer = tune_arms(load(steps=24), settings=settings, arms=["tied"], train=make_trials)
    assert longer.choices["tied"].budget == {"steps": 24}, "other trials need not make way"
    forced = replace(settings, force=True)
    with pytest.raises(AssertionError, match="6 trials are made again"):
        tune_arms(load(), settings=forced, train=refuse_trials)


def test_without_training_an_arm_with_missing_trials_stays_untuned(load, settings):
    tune_arms(load(), settings=settings, arms=["tied"], train=make_trials)
    said = []
    experiment = tune_arms(load(), settings=settings, say=said.append)
    assert experiment.untuned == ["untied"] and list(experiment.choices) == ["tied"]
    assert "untied has 0 of its 3 trials, so nothing was chosen" in said
    (run,) = experiment.list_runs(arms=["untied"])
    with pytest.raises(UsageError, match="still to be tuned"):
        execute_run(run, settings=settings)


def test_a_matched_arm_is_tried_at_the_width_it_will_have(write_experiment):
    arms = {"untied": {"tie": False}, "tied": {"tie": True, "match": {"parameters": "untied"}}}
    experiment = load_experiment(write_experiment(arms=arms, tuning=TUNING))
    (run,) = match_runs(experiment.list_runs(arms=["tied"]))
    tried = resolve_runs([trial.run for trial in list_trials(experiment, arms=["tied"])])
    assert run.spec.architecture.width > 16
    assert {trial.spec.architecture.width for trial in tried} == {run.spec.architecture.width}


def test_a_seed_of_the_trials_is_no_seed_of_a_run(load):
    with pytest.raises(UsageError, match=r"seed 101 is one of the trials of tiny \(tuning.seeds\)"):
        load().list_runs(seeds=[101])


def test_training_in_python_tunes_first_and_tuned_values_may_be_compared(load, settings):
    experiment = load(grid={RATE: [0.5, 2]})
    results = settings.store.root
    with pytest.raises(UsageError, match="still to be tuned"):
        tiebench.compare(experiment, results=results)
    records = tiebench.train(experiment, results=results, device="cpu", jobs=1)
    assert (results / "tiny" / "tuning.svg").exists()
    assert all(record.tuned and record.tuned.num_trials == 2 for record in records)
    assert RATE in records[0].declared
    tied = records[1].spec.model_copy(deep=True)
    optimizer = tied.training.optimizer.model_copy(update={"learning_rate": 0.125})
    tied = tied.model_copy(update={"training": tied.training.model_copy(update={"optimizer": optimizer})})
    check_comparable({"untied": records[:1], "tied": [records[1].model_copy(update={"spec": tied})]})
    notes = " ".join(tiebench.compare(experiment, results=results).notes)
    assert "Tuned by 2 trials for each arm on the validation split, at seed 101 for 12 steps" in notes
    assert "untied: learning_rate" in notes and "tied: learning_rate" in notes and "unequal" not in notes


def test_the_commands_tune_first_say_what_was_chosen_and_show_it(write_experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write_experiment(tuning={"grid": {RATE: [0.5, 2]}, "seeds": [101], "steps": 12})
    invoke = partial(CliRunner().invoke, app)
    cost = invoke(["check", str(file)])
    assert "4 trials come first, 2 for each of untied, tied: about" in cost.stdout.replace("\n", " ")
    assert json.loads(invoke(["check", str(file), "--json"]).stdout)["tuning"]["trials"] == 4
    invoke(["train", str(file), "--arm", "tied", "--jobs", "1"])
    half = invoke(["check", str(file)]).stdout.replace("\n", " ")
    assert "2 trials come first (the other 2 of 4 are finished): about" in half
    shutil.rmtree(tmp_path / "results")
    nothing = invoke(["compare", "--config", str(file), "--no-train"])
    assert nothing.exit_code == 2 and "tied has 0 of its 2 trials, so nothing was chosen" in nothing.stderr
    done = invoke(["compare", "--config", str(file), "--jobs", "1"])
    assert done.exit_code == 0, done.output
    assert "tiny: 4 trials first" in done.stderr and "tied: learning_rate" in done.stderr
    assert "at the edge of its grid: widen it" in done.stderr and "Tuned by 2 trials for each arm" in done.stdout
    assert "All 4 trials of tuning are finished." in invoke(["check", str(file)]).stdout
    counted = json.loads(invoke(["check", str(file), "--json"]).stdout)["tuning"]
    assert counted == {"trials": 4, "finished": 4, "time": None}
    shown = invoke(["show", "results/tiny/tied/seed-1"]).stdout
    assert "tuned by 2 trials for each arm" in shown and "tied: learning_rate" in shown
    listed = invoke(["list", "runs"]).stdout
    assert "tiny/tied/seed-1" in listed and "tuning" not in listed
    assert (tmp_path / "results" / "table.csv").read_text().count("\n") == 3, "a heading and two runs"
    (tmp_path / "results/tiny/tuning.json").unlink()
    for trial in (tmp_path / "results/tiny/tuning").rglob("record.json"):
        trial.unlink()
    again = invoke(["compare", "--config", str(file), "--no-train"])
    assert again.exit_code == 0 and "its runs were trained with what was chosen before" in again.stderr
