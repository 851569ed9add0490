import pytest

from tiebench.analysis.subspace_study import count_study
from tiebench.claims.evidence import ClaimRuns, plan_papers
from tiebench.claims.papers import load_papers
from tiebench.cli.costs_table import costs_table
from tiebench.execution import costs as costs_module
from tiebench.execution.costs import estimate_costs, list_uncountable, read_counts
from tiebench.execution.counting import count_arms
from tiebench.execution.settings import Settings
from tiebench.experiment.loading import load_experiment
from tiebench.reporting.render import render_table
from tiebench.results.store import Store


@pytest.fixture
def settings(tmp_path):
    return Settings(store=Store(tmp_path / "results"), device="cpu")


def test_counts_of_the_catalogue_need_no_corpus(settings):
    run = load_experiment("press-wolf-2017-small").list_runs()[0]
    counts = read_counts(run)
    assert counts.tokens == {"train": 929_589, "valid": 73_760, "test": 82_430} and counts.vocabulary_size == 10_000


def test_the_declared_counts_agree_with_the_text(data_dir):
    plan = ClaimRuns(load_experiment("pytorch-examples-2017-200"), ("tied",), (1,))
    measurement = count_arms(plan.runs, data_dir=data_dir)[0]
    found = costs_module.estimate_arm(plan.runs, settings=Settings(store=Store(data_dir / "none")))
    assert (found.tokens, found.vocabulary_size) == (measurement.num_tokens, 10_000)
    assert found.flops > found.tokens * measurement.flops_per_token, "scoring costs too"


def test_a_budget_of_epochs_is_that_many_times_what_an_epoch_reads(write_experiment, settings):
    """20 rows of 46,479 tokens: the last window of each is one of 19, and nobody trains on a twentieth token there."""
    run = load_experiment("press-wolf-2017-small").list_runs()[0]
    found = costs_module.estimate_arm([run], settings=settings)
    assert found.tokens == 13 * 20 * (929_589 // 20)


def test_every_arm_is_timed_or_scaled_from_one_of_its_kind(write_experiment, settings, monkeypatch):
    small = ClaimRuns(load_experiment(write_experiment()), ("untied", "tied"))
    wide = {"type": "lstm", "layers": 1, "width": 512}
    large = ClaimRuns(load_experiment(write_experiment("large.yaml", name="large", architecture=wide)), ("tied",))
    timed = []

    def time_step(found, *, device):
        timed.append(found.run.name)
        return found.flops_per_step / 1e9

    monkeypatch.setattr(costs_module, "time_step", time_step)
    costs = estimate_costs([*large.runs, *small.runs], settings=settings)
    assert timed == ["tiny/untied/seed-1", "large/tied/seed-1"], "smallest first; the tie does not change the speed"
    assert all(found.timed for found in costs)
    assert costs[1].seconds == pytest.approx(costs[1].flops / 1e9)
    monkeypatch.setattr(costs_module, "TIMING_SECONDS", 0.0)
    timed.clear()
    scaled = estimate_costs([*large.runs, *small.runs], settings=settings)
    assert timed == ["tiny/untied/seed-1"], "without time, one of each kind"
    assert scaled[0].seconds / scaled[1].seconds == pytest.approx(scaled[0].flops / scaled[1].flops)
    assert [found.timed for found in scaled] == [False, True, True]


def test_a_real_step_is_timed(write_experiment, settings):
    plan = ClaimRuns(load_experiment(write_experiment()), ("tied",))
    found = estimate_costs(plan.runs, settings=settings)[0]
    assert found.timed and 0 < found.seconds < 60
    assert not list(settings.store.root.glob("*")), "timing leaves nothing behind"


def test_a_study_has_its_cost(settings, monkeypatch):
    monkeypatch.setattr(costs_module, "time_step", lambda found, *, device: 1.0)
    found = estimate_costs([], settings=settings, others=[count_study("beta-1", seed=1)])[0]
    assert (found.run.name, found.num_runs) == ("subspace-alignment/beta-1/seed-1", 1)
    assert found.tokens == 120 * 20_000 and found.seconds == pytest.approx(6000)


def test_finished_runs_cost_nothing(trained):
    plan = ClaimRuns(load_experiment(trained / "tiny.yaml"), ("untied", "tied"), (1, 2, 3))
    costs = estimate_costs(plan.runs, settings=Settings(store=Store(trained / "results"), device="cpu"))
    assert [found.num_runs for found in costs] == [1, 1]
    assert "2 runs to do" in costs_table(costs, device="cpu").caption


def test_text_that_is_not_there_is_left_out_and_said(settings, monkeypatch):
    monkeypatch.setattr(costs_module, "time_step", lambda found, *, device: 1.0)
    papers = load_papers("press-wolf-2017", only=["bbc-tied-test", "small-tied-test"])
    only = ["bbc-tied-test", "small-tied-test"]
    plans = list(plan_papers(papers, only=only, seeds=[1], overrides=[]).values())
    costs = estimate_costs([run for plan in plans for run in plan.runs], settings=settings)
    by_name = {found.run.experiment: found for found in costs}
    assert by_name["press-wolf-2017-bbc"].seconds is None and by_name["press-wolf-2017-small"].seconds > 1e4
    assert list_uncountable(costs) == ["press-wolf-2017-bbc"]
    assert "press-wolf-2017-bbc: its text is not here" in render_table(costs_table(costs, device="cpu"))
