import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tiebench.claims.evidence import Evidence, plan_papers
from tiebench.claims.papers import ALL, load_papers, read_claims
from tiebench.claims.verdicts import judge_papers
from tiebench.cli.app import app
from tiebench.errors import UsageError
from tiebench.experiment.bundled import list_claim_files
from tiebench.experiment.loading import load_experiment
from tiebench.reporting.claims_table import claims_table, render_claims
from tiebench.reporting.render import render_table
from tiebench.results.measurements import Measurement, add_measurements, identify_run, read_measurements
from tiebench.results.record import write_record
from tiebench.results.store import Store

EXPERIMENT = """
name: ptb-lstm-small
corpus: ptb
architecture: {type: lstm, layers: 2, width: 200}
training: {epochs: 13, batch_size: 20, window: 20, optimizer: {type: sgd, learning_rate: 1.0}}
arms: {untied: {tie: false}, tied: {tie: true}}
"""
HEAD = """
paper: {title: A Paper, authors: A. Nonymous, venue: Nowhere, year: 2017, arxiv: "1700.00000"}
tolerances: Chosen for the test.
claims:
"""
VALUE = "{{source: table-1, says: So., experiment: {file}, arms: [{arm}], measure: test perplexity, "
ORDER = "{{source: table-2, says: So., experiment: {file}, arms: [untied, tied], measure: {measure}, "


@pytest.fixture
def write_claims(tmp_path):
    """Write an experiment and a file of claims; a claim is a format string with `{file}`, the experiment's path."""

    def write(**claims):
        experiment, file = tmp_path / "experiment.yaml", tmp_path / "a-paper.yaml"
        experiment.write_text(EXPERIMENT)
        lines = [f"  {id}: {claim.format(file=experiment, arm='untied')}\n" for id, claim in claims.items()]
        file.write_text(HEAD + "".join(lines))
        return file

    return write


def value(published, tolerance, arm="untied"):
    return VALUE.replace("{arm}", arm) + f"published: {published}, tolerance: {tolerance}}}}}"


def order(relation, measure="test perplexity"):
    return ORDER.replace("{measure}", measure) + f"relation: {relation}}}}}"


@pytest.fixture
def judge(tmp_path, make_record):
    """Publish runs of the experiment, judge a file of claims by them: id to outcome."""
    store = Store(tmp_path / "results")

    def publish(file, tests, *, signature=None, changes=()):
        planned = load_experiment(file.with_name("experiment.yaml"))
        for (arm, seed), test in tests.items():
            run = planned.list_runs(arms=[arm], seeds=[seed])[0]
            all_changes = [("signature", signature or run.signature), *changes]
            record = make_record(arm, seed, test=test, changes=all_changes)
            write_record(record, store.folder_of(record))

    def judge_file(file, tests=(), *, seeds=(), only=(), overrides=(), **keywords):
        publish(file, dict(tests), **keywords)
        papers = load_papers(str(file))
        plans = plan_papers(papers, only=list(only), seeds=list(seeds), overrides=list(overrides))
        outcomes = judge_papers(papers, evidence=Evidence(store, plans, tuple(seeds)), only=list(only))
        return {outcome.id: outcome for outcome in outcomes}

    judge_file.store = store
    return judge_file


def test_a_value_within_its_tolerance_is_reproduced(write_claims, judge):
    outcome = judge(write_claims(small=value(114.5, 1.0)), {("untied", 1): 115.0, ("untied", 2): 115.6})["small"]
    assert outcome.verdict == "reproduced"
    assert outcome.measured[0].mean == pytest.approx(115.3) and outcome.measured[0].num_seeds == 2
    assert outcome.difference.mean == pytest.approx(0.8)
    assert outcome.difference.deviation == pytest.approx(outcome.measured[0].deviation)


@pytest.mark.parametrize("off", [1.1, -1.1])
def test_a_value_outside_its_tolerance_is_not_reproduced(write_claims, judge, off):
    outcome = judge(write_claims(small=value(114.5, 1.0)), {("untied", 1): 114.5 + off})["small"]
    assert outcome.verdict == "not reproduced" and outcome.difference.mean == pytest.approx(off)


def test_only_the_direction_holds(write_claims, judge):
    file = write_claims(small=value(90.0, 1.0), tied=value(80.0, 1.0, arm="tied"), lower=order("tied < untied"))
    found = judge(file, {("untied", 1): 115.0, ("tied", 1): 110.0})
    assert {id: outcome.verdict for id, outcome in found.items()} == {
        "small": "direction only",
        "tied": "direction only",
        "lower": "reproduced",
    }
    assert judge(file, only=["small"])["small"].verdict == "direction only", "the sibling need not be chosen"


def test_a_direction_that_fails_saves_no_value(write_claims, judge):
    file = write_claims(small=value(90.0, 1.0), lower=order("tied < untied"))
    found = judge(file, {("untied", 1): 115.0, ("tied", 1): 120.0})
    assert [outcome.verdict for outcome in found.values()] == ["not reproduced", "not reproduced"]


def test_a_direction_of_another_measure_saves_no_value(write_claims, judge):
    file = write_claims(small=value(90.0, 1.0), fewer=order("tied < untied", measure="parameters"))
    found = judge(file, {("untied", 1): 115.0, ("tied", 1): 110.0})
    assert (found["small"].verdict, found["fewer"].verdict) == ("not reproduced", "reproduced")


def test_nothing_there_is_not_run(write_claims, judge):
    found = judge(write_claims(small=value(114.5, 1.0), lower=order("tied < untied")), {("untied", 1): 114.5})
    assert (found["small"].verdict, found["lower"].verdict) == ("reproduced", "not run")
    assert found["lower"].measured == [] and found["lower"].difference is None


def test_an_order_is_that_of_the_seeds_that_all_arms_have(write_claims, judge):
    tests = {("untied", 1): 115.0, ("tied", 1): 110.0, ("tied", 2): 200.0}
    outcome = judge(write_claims(lower=order("tied < untied")), tests)["lower"]
    assert outcome.verdict == "reproduced" and outcome.measured[0].mean == pytest.approx(110.0)
    assert outcome.difference.mean == pytest.approx(-5.0), "the first named minus the second"


def test_only_the_seeds_asked_for_count(write_claims, judge):
    file, tests = write_claims(small=value(114.5, 1.0)), {("untied", 1): 114.5, ("untied", 2): 200.0}
    assert judge(file, tests)["small"].verdict == "not reproduced"
    assert judge(file, seeds=[1])["small"].verdict == "reproduced"


def test_a_run_of_another_spec_is_altered(write_claims, judge):
    outcome = judge(write_claims(small=value(114.5, 1.0)), {("untied", 1): 114.5}, signature="0badcafe")["small"]
    assert outcome.verdict == "altered" and outcome.measured, "the figure is shown nevertheless"


def test_an_override_alters(write_claims, judge):
    file = write_claims(small=value(114.5, 1.0))
    assert judge(file, {("untied", 1): 114.5}, overrides=["training.epochs=1"])["small"].verdict == "altered"


def test_train_perplexity_is_the_full_pass_where_there_was_one(write_claims, judge):
    claim = value(38.0, 0.5).replace("test perplexity", "train perplexity")
    file = write_claims(train=claim, running=claim.replace("train perplexity", "running train perplexity"))
    full = {"split": "train", "nll": 1000.0, "tokens": 300, "words": 1, "bytes": 1, "unknown": 0}
    found = judge(file, {("untied", 1): 114.5}, changes=[("evaluations.train", full)])
    assert found["train"].measured[0].mean == pytest.approx(28.03, abs=0.01)
    assert found["running"].measured[0].mean == 38.0
    without = judge(file, {("untied", 1): 114.5})
    assert without["train"].measured[0].mean == 38.0


def test_overfitting_is_the_gap_in_nats(write_claims, judge, make_record):
    file = write_claims(gap=order("tied < untied", measure="overfitting"))
    found = judge(file, {("untied", 1): 1.0, ("tied", 1): 1.0}, changes=[("training_perplexity", 60.35)])
    assert found["gap"].measured[0].mean == pytest.approx(0.6931, abs=1e-3), "ln(120.7 / 60.35)"


def test_findings_are_read_without_weights_and_die_with_their_runs(write_claims, judge, make_record):
    claim = order("in-out < out-tied", measure="rank correlation")
    file, tests = write_claims(ranks=claim), {("untied", 1): 115.0, ("tied", 1): 110.0}
    assert judge(file, tests)["ranks"].verdict == "not run"
    records = judge.store.records()
    runs = {record.arm: identify_run(record) for record in records}
    folder = judge.store.root / "ptb-lstm-small"
    for of, rho in (("in-out", 0.13), ("out-tied", 0.65)):
        add_measurements([Measurement(measure="rank correlation", of=of, seed=1, value=rho, runs=runs)], folder)
    assert len(read_measurements(folder)) == 2
    assert judge(file)["ranks"].verdict == "reproduced"
    stale = {**runs, "tied": "0badcafe 2020-01-01T00:00:00Z"}
    add_measurements([Measurement(measure="rank correlation", of="out-tied", seed=1, value=0.65, runs=stale)], folder)
    assert judge(file)["ranks"].verdict == "not run", "these tables are of a run that is no longer there"


def test_a_claim_that_no_recipe_can_express_is_not_run(write_claims, judge):
    claim = "{{source: t, says: So., measure: test perplexity, of: tied, published: 1, tolerance: 1, notes: No cell.}}"
    assert judge(write_claims(bayes=claim))["bayes"].verdict == "not run"


@pytest.mark.parametrize(("claim", "message"), [
    (value(1.0, 1.0).replace("published", "publishd"), "did you mean 'published'"),
    (value(1.0, 1.0).replace("test perplexity", "tset perplexity"), "test perplexity"),
    (value(1.0, 1.0).replace(", tolerance: 1.0", ""), "'published' and 'tolerance' go together"),
    (order("tied"), "'relation' orders names"),
    (order("tied < unteid"), "'unteid' is not among untied, tied"),
    (order("in < output", measure="simlex-999"), "'output' is not among in, out, tied"),
    (order("tied < untied").replace("relation", "published: 1.0, relation"), "exactly one of 'published'"),
])  # fmt: skip
def test_what_is_wrong_with_a_claim_is_said_with_its_line(write_claims, claim, message):
    file = write_claims(small=claim)
    with pytest.raises(UsageError) as error:
        read_claims(file)
    assert message in str(error.value) and f"{file}:5" in str(error.value)


def test_an_unknown_paper_and_an_unknown_claim_are_named(write_claims):
    with pytest.raises(UsageError, match="press-wolf-2017"):
        load_papers("press-wolf-2016")
    with pytest.raises(UsageError, match="did you mean 'small'"):
        load_papers(str(write_claims(small=value(1.0, 1.0))), only=["smal"])


def test_only_takes_an_id_or_a_table(write_claims, judge):
    file = write_claims(small=value(114.5, 1.0), lower=order("tied < untied"))
    assert list(judge(file, only=["table-2"])) == ["lower"]
    assert list(judge(file, only=["small"])) == ["small"]


def test_the_table_shows_published_beside_measured(write_claims, judge):
    never = order("untied < tied", measure="overfitting")
    file = write_claims(small=value(114.5, 1.0), lower=order("tied < untied"), never=never)
    found = list(judge(file, {("untied", 1): 115.0, ("untied", 2): 114.6, ("tied", 1): 110.0}).values())
    papers = load_papers(str(file))
    text = render_table(claims_table(found, papers=papers), width=150)
    assert re.search(r"small +table-1 +test perplexity +114.5 ± 1 +114.8 ± 0.3 \(2\) +0.300 ± 0.283 ", text)
    assert re.search(r"lower +table-2 +test perplexity +tied < untied +110.0 < 115.0 \(1\) +-5.000 +reproduced", text)
    page = render_claims([*found], papers=papers)
    assert page.startswith("## Published claims, reproduced\n\n3 claims: 2 reproduced, 1 not reproduced.")
    assert "Chosen for the test." in page


@pytest.mark.parametrize("file", list_claim_files().values(), ids=list(list_claim_files()))
def test_a_bundled_file_says_what_it_claims_and_where_it_stands(file):
    paper = read_claims(file)
    assert paper.paper.title and paper.tolerances
    for id, claim in paper.claims.items():
        assert claim.source and claim.says.endswith("."), id
        if claim.published is not None and claim.measure != "parameters":
            figure = re.escape(f"{claim.published:g}")
            assert re.search(rf"\b{figure}0?(?!\d)", claim.says), f"{id}: the sentence has the figure"
    plans = plan_papers([paper], only=[], seeds=[], overrides=[])
    assert all(plan.runs for plan in plans.values()), "every experiment and every arm exists"


def test_the_published_table_6_is_complete():
    claims = load_papers("press-wolf-2017")[0].choose(["table-6"])
    published = {id: claim.published for id, claim in claims.items() if claim.published}
    assert [published[f"small-{arm}-test"] for arm in ("untied", "tied", "untied-projected", "tied-projected")] == [
        114.5,
        112.4,
        111.7,
        100.9,
    ]
    parameters = [value for id, value in published.items() if id.endswith("parameters")]
    assert parameters == [4_650_000, 2_650_000, 4_690_000, 2_690_000]


def test_the_bayesian_rows_of_table_5_are_complete():
    claims = load_papers("press-wolf-2017")[0].choose(["table-5"])
    rows = {
        arm: [claims[f"large-bayesian-{arm}-{key}"].published for key in ("parameters", "train", "valid", "test")]
        for arm in ("untied", "tied")
    }
    assert rows == {"untied": [66_000_000, 24.3, 78.1, 75.2], "tied": [51_000_000, 28.2, 75.8, 73.2]}
    experiment = load_experiment("press-wolf-2017-large-bayesian")
    decays = {arm: spec.training.optimizer.weight_decay for arm, spec in experiment.arms.items()}
    assert decays == {"untied-decay": 1e-7, "tied": 0.0, "untied": 0.0}, "the two rows differ in two things"


def test_every_experiment_of_a_paper_has_the_claim_that_tying_regularises():
    claims = [claim for paper in load_papers(ALL) for claim in paper.claims.values() if claim.experiment]
    judged = {claim.experiment for claim in claims if claim.measure == "overfitting" and claim.relation}
    assert judged == {claim.experiment for claim in claims}


def test_the_page_on_results_opens_with_the_claims(tmp_path, make_record):
    run = load_experiment("press-wolf-2017-small").list_runs(arms=["tied"], seeds=[1])[0]
    changes = [("experiment", run.experiment), ("signature", run.signature)]
    record = make_record("tied", 1, test=112.0, valid=117.0, training=36.0, changes=changes)
    write_record(record, Store(tmp_path).folder_of(record))
    page = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "refresh_pages.py"))["render_results"](tmp_path)
    assert page.index("## Published claims, reproduced") < page.index("## press-wolf-2017-small")
    row = next(line for line in page.splitlines() if "small-tied-test" in line)
    assert "112.4 ± 3" in row and "112.0 (1)" in row and row.endswith("| reproduced |")
    assert "- not run: press-wolf-2017, table-5: 23 claims" in page


def test_claims_are_listed_and_judged_without_torch(tmp_path):
    listed = CliRunner().invoke(app, ["list", "claims", "--json"])
    assert listed.exit_code == 0 and "press-wolf-2017" in json.loads(listed.stdout)["claims"]
    arguments = ["reproduce", ALL, "--no-train", "--json", "--results", str(tmp_path)]
    judged = CliRunner().invoke(app, arguments)  # the first reading of a file may import torch, to decode its blocks
    assert judged.exit_code == 0 and {row["verdict"] for row in json.loads(judged.stdout)} == {"not run"}
    start = f"import sys; from tiebench.cli.app import app; app({arguments}, standalone_mode=False)"
    script = f"{start}; assert 'torch' not in sys.modules"
    again = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stdout == judged.stdout
    assert not list(tmp_path.iterdir()), "judging writes nothing where nothing was run"
