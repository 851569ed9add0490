"""`tiebench reproduce` from the command line, on claims about an experiment that trains in a second."""

import json
import re
import sys

import pytest
from typer.testing import CliRunner

import tiebench
from tiebench.cli.app import app
from tiebench.execution import costs
from tiebench.results.measurements import name_sampling_error, read_measurements
from tiebench.results.record import WEIGHTS_FILE
from tiebench.results.store import Store

HEAD = "paper: {title: A Paper, authors: A. Nonymous, venue: Nowhere, year: 2017}\ntolerances: For a test.\nclaims:\n"
CLAIM = (
    "  {id}: {{source: {source}, says: It is so., experiment: {experiment}, "
    "arms: {arms}, measure: {measure}, {rest}}}\n"
)


@pytest.fixture
def write_claims(tmp_path):
    def write(experiment, **claims):
        file = tmp_path / "a-paper.yaml"
        lines = [
            CLAIM.format(id=id, experiment=experiment, source=source, arms=arms, measure=measure, rest=rest)
            for id, (source, arms, measure, rest) in claims.items()
        ]
        file.write_text(HEAD + "".join(lines))
        return file

    return write


@pytest.fixture
def reproduce(tmp_path):
    def run(file, *options, results=tmp_path / "results"):
        return CliRunner().invoke(app, ["reproduce", str(file), "--results", str(results), "--device", "cpu", *options])

    return run


def verdicts(result):
    return {row["id"]: row["verdict"] for row in json.loads(result.stdout)}


SIZE = ("table-1", "[tied]", "parameters", "published: 10000, tolerance: 1000000")
LUCKY = ("table-2", "[tied]", "test perplexity", "published: 1.5, tolerance: 0.1")


def test_a_claim_is_trained_then_reused(write_experiment, write_claims, reproduce, tmp_path):
    file = write_claims(write_experiment(), size=SIZE)
    before = reproduce(file, "--no-train", "--json")
    assert before.exit_code == 0 and verdicts(before) == {"size": "not run"}
    first = reproduce(file, "--json")
    assert first.exit_code == 0 and verdicts(first) == {"size": "holds"}
    assert "1 run to do" in first.stderr and "hours" in first.stderr
    store = Store(tmp_path / "results")
    assert [(record.arm, record.seed) for record in store.records()] == [("tied", 1)], "only what the claim needs"
    finished = store.records()[0].provenance.finished
    again = reproduce(file, "--json")
    assert verdicts(again) == {"size": "holds"} and store.records()[0].provenance.finished == finished


def test_a_claim_that_fails_ends_with_exit_code_3(trained, write_claims, reproduce):
    file = write_claims(trained / "tiny.yaml", size=SIZE, lucky=LUCKY)
    result = reproduce(file, "--no-train", results=trained / "results")
    assert result.exit_code == 3 and "error: contradicted: lucky" in result.stderr
    assert "1 claim: 1 contradicted; 1 check: 1 holds." in result.stdout
    assert reproduce(file, "--no-train", "--only", "table-1", results=trained / "results").exit_code == 0
    assert reproduce(file, "--no-train", "--only", "table-9", results=trained / "results").exit_code == 2


def test_a_check_is_never_called_reproduced(trained, write_claims, reproduce):
    """A count proves little: it holds or it does not, in every format; one that does not hold fails the command."""
    wrong = ("table-1", "[tied]", "parameters", "published: 1, tolerance: 0")
    file = write_claims(trained / "tiny.yaml", size=SIZE, wrong=wrong)
    result = reproduce(file, "--no-train", results=trained / "results")
    assert result.exit_code == 3 and "error: does not hold: wrong" in result.stderr
    for format in ("text", "markdown", "csv", "json"):
        table = reproduce(file, "--no-train", "--format", format, results=trained / "results").stdout
        rows = [line for line in table.splitlines() if re.search(r"\b(size|wrong|verdict)\b", line)]
        assert "holds" in table and "does not hold" in table
        assert not any("reproduced" in row or "contradicted" in row for row in rows), rows


def test_an_override_is_altered_and_fails_nothing(write_experiment, write_claims, reproduce):
    file = write_claims(write_experiment(), lucky=LUCKY)
    result = reproduce(file, "--json", "--set", "training.epochs=1", "--quiet")
    assert result.exit_code == 0 and verdicts(result) == {"lucky": "altered"}
    later = reproduce(file, "--no-train", "--json")
    assert verdicts(later) == {"lucky": "altered"}, "the run that lies there is another than the claim's"


def test_runs_of_another_recipe_than_the_override_s_are_said(trained, write_claims, reproduce):
    file = write_claims(trained / "tiny.yaml", lucky=LUCKY)
    answer = reproduce(file, "--no-train", "--set", "training.epochs=1", results=trained / "results")
    assert "another recipe than --set asks for: 2" in answer.stderr and answer.exit_code == 0
    assert "--set" not in reproduce(file, "--no-train", results=trained / "results").stderr


def test_a_dry_run_trains_nothing(write_experiment, write_claims, reproduce, tmp_path):
    result = reproduce(write_claims(write_experiment(), size=SIZE), "--dry-run")
    assert result.exit_code == 0 and "TFLOP a run" in result.stdout and "1 run to do" in result.stdout
    assert not (tmp_path / "results").exists()


def test_what_was_not_run_is_a_line_for_each_table_and_no_empty_one(write_experiment, write_claims, reproduce):
    other = ("table-1", "[untied]", "parameters", "published: 10000, tolerance: 1000000")
    text = reproduce(write_claims(write_experiment(), size=SIZE, other=other, lucky=LUCKY), "--no-train").stdout
    assert [line for line in text.splitlines() if line.startswith("not run:")] == [
        "not run: a-paper, table-1: 2 claims",
        "not run: a-paper, table-2: 1 claim",
    ]
    assert "claim  verdict" not in text and text.startswith("Published claims, reproduced: a-paper\n")


def test_quiet_times_nothing(write_experiment, write_claims, reproduce, monkeypatch):
    timed = []
    monkeypatch.setattr(costs, "time_step", lambda cost, **options: timed.append(cost.run.arm) or 1.0)
    file = write_claims(write_experiment(), size=SIZE)
    quiet = reproduce(file, "--json", "--quiet")
    assert verdicts(quiet) == {"size": "holds"} and quiet.stderr == "" and timed == []
    reproduce(file, "--dry-run", "--seed", "7", "--quiet")
    assert timed == ["tied"], "an answer that is about time is not given without it"


def test_what_is_measured_on_tables_outlives_the_weights(trained, write_claims, reproduce):
    ranks = ("table-4", "[untied, tied]", "rank correlation", "of: in-out, published: 0.0, tolerance: 2")
    mapped = ("table-5", "[untied, tied]", "aligned cosine", "relation: in-out < out-tied < in-out")
    file, results = write_claims(trained / "tiny.yaml", ranks=ranks, mapped=mapped), trained / "results"
    first = reproduce(file, "--no-train", "--json", results=results)
    assert verdicts(first)["ranks"] == "reproduced" and verdicts(first)["mapped"] != "reproduced"
    found = read_measurements(results / "tiny")
    assert {(measurement.measure, measurement.of) for measurement in found} == {
        (measure, of) for measure in ("rank correlation", "aligned cosine") for of in ("in-out", "in-tied", "out-tied")
    }
    assert {measurement.seed for measurement in found} == {1, 2} and all(
        measurement.provenance.command for measurement in found
    )
    for measurement in found:
        others = {"in-out", "in-tied", "out-tied"} - {measurement.of}
        errors = {name_sampling_error(), *(name_sampling_error(other) for other in others)}
        assert errors <= set(measurement.facts) and all(measurement.facts[error] > 0 for error in errors)
    for weights in results.glob(f"**/{WEIGHTS_FILE}"):
        weights.unlink()
    without = reproduce(file, "--no-train", "--json", results=results)
    assert without.stdout == first.stdout


def test_what_was_measured_on_two_arms_says_nothing_of_two_others(write_experiment, write_claims, reproduce, tmp_path):
    other = {"tie": False, "embedding": {"output_init": {"normal": 1.0}}}
    arms = {"untied": {"tie": False}, "tied": {"tie": True}, "other": other}
    experiment = write_experiment(arms=arms)
    rest = "of: in-out, published: 0.0, tolerance: 2"
    first = {"first": ("table-1", "[untied, tied]", "rank correlation", rest)}
    second = {"second": ("table-2", "[other, tied]", "rank correlation", rest)}
    file = write_claims(experiment, **first, **second)
    assert verdicts(reproduce(file, "--json", "--only", "first")) == {"first": "inconclusive"}, "one seed"
    assert verdicts(reproduce(file, "--json", "--no-train", "--only", "second")) == {"second": "not run"}
    both = json.loads(reproduce(file, "--json").stdout)
    assert [row["verdict"] for row in both] == ["inconclusive", "inconclusive"]
    assert both[0]["measured"][0]["mean"] != both[1]["measured"][0]["mean"]
    assert len(read_measurements(tmp_path / "results" / "tiny")) == 6


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (("t", "[untied, tied]", "rank correlation", "relation: in < out"), "is of a pair of embeddings"),
        (("t", "[untied, tied]", "simlex-999", "relation: in-out < out-tied"), "is of one embedding"),
        (("t", "[untied]", "subspace distance", "published: 1.0, tolerance: 0.1"), "leave 'experiment' out"),
    ],
)
def test_a_claim_that_nothing_could_answer_is_refused(claim, message, trained, write_claims, reproduce):
    result = reproduce(write_claims(trained / "tiny.yaml", odd=claim), "--no-train")
    assert result.exit_code == 2 and message in result.stderr


def test_without_gensim_word_similarity_is_not_run_and_says_so(trained, write_claims, reproduce, monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim.test.utils", None)
    similar = ("table-3", "[untied, tied]", "simlex-999", "relation: in < out")
    file = write_claims(trained / "tiny.yaml", similar=similar)
    result = reproduce(file, "--no-train", "--json", results=trained / "results")
    assert result.exit_code == 0 and verdicts(result) == {"similar": "not run"}
    assert "simlex-999 is not measured" in result.stderr and "tiebench[similarity]" in result.stderr


def test_the_in_table_is_the_one_that_embeds(trained):
    """in, out and tied, against the weights as they are written."""
    from safetensors.numpy import load_file

    from tiebench.analysis.measuring import read_embeddings

    store = Store(trained / "results")
    records = {record.arm: record for record in store.records() if record.seed == 1}
    tables = read_embeddings(records["untied"], records["tied"], store=store)
    written = {arm: load_file(store.folder_of(record) / WEIGHTS_FILE) for arm, record in records.items()}
    assert (tables["in"] == written["untied"]["embedding.input"]).all()
    assert (tables["out"] == written["untied"]["embedding.output"]).all()
    assert (tables["tied"] == written["tied"]["embedding.shared"]).all()


def test_arms_are_tuned_first_where_their_experiment_says_so(write_experiment, write_claims, reproduce, tmp_path):
    tuning = {"grid": {"training.optimizer.learning_rate": [0.5, 2]}, "seeds": [101], "steps": 12}
    file = write_claims(write_experiment(tuning=tuning), size=SIZE)
    priced = reproduce(file, "--dry-run")
    assert priced.exit_code == 0 and "3 runs to do" in priced.stdout
    assert "tied, trials" in priced.stdout and "untied" not in priced.stdout
    early = reproduce(file, "--no-train", "--json")
    assert verdicts(early) == {"size": "not run"} and "nothing was chosen" in early.stderr
    done = reproduce(file, "--json", "--jobs", "1")
    assert done.exit_code == 0, done.output
    assert verdicts(done) == {"size": "holds"} and "tiny: 2 trials first" in done.stderr
    (record,) = Store(tmp_path / "results").records()
    assert record.tuned is not None and record.tuned.num_trials == 2
    later = reproduce(file, "--no-train", "--json")
    assert verdicts(later) == {"size": "holds"}, "the run of the chosen value is the claim's"
    (outcome,) = tiebench.reproduce(str(file), results=tmp_path / "results")
    assert outcome.verdict == "holds"
