"""Files of claims: what may stand in one, what the bundled ones say, and how the tables show verdicts."""

import csv
import io
import json
import math
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from sentences import difference, order, value
from typer.testing import CliRunner

from tiebench.claims.claim import UNMEASURED
from tiebench.claims.contrasts import parse_order, parse_sum
from tiebench.claims.evidence import plan_papers
from tiebench.claims.papers import ALL, load_papers, read_claims
from tiebench.cli.app import app
from tiebench.errors import UsageError
from tiebench.experiment.bundled import list_claim_files
from tiebench.experiment.loading import load_experiment
from tiebench.reporting.claims_table import claims_table, count_verdicts, figures_table, render_claims, verdicts_table
from tiebench.reporting.render import render_table
from tiebench.results.record import write_record
from tiebench.results.store import Store


def test_a_claim_that_no_recipe_can_express_is_not_run(write_claims, judge):
    claim = "{{source: t, says: So., measure: test perplexity, of: tied, published: 1, tolerance: 1, notes: No cell.}}"
    assert judge(write_claims(bayes=claim))["bayes"].verdict == "not run"


@pytest.mark.parametrize(("claim", "message"), [
    (value(1.0, 1.0).replace("published", "publishd"), "did you mean 'published'"),
    (value(1.0, 1.0).replace("test perplexity", "tset perplexity"), "test perplexity"),
    (value(1.0, 1.0).replace(", tolerance: 1.0", ""), "a value needs 'published' and 'tolerance'"),
    (order("tied"), "'relation' must order names"),
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


def test_a_margin_wider_than_half_the_claimed_effect_is_refused(write_claims):
    with pytest.raises(UsageError, match="more than half the claimed effect, 1.05") as error:
        read_claims(write_claims(by=difference(-2.1, ", margin: 1.1")))
    assert re.match(r"`tiebench reproduce \S+/a-paper.yaml --dry-run` tries the file", error.value.hint)
    assert read_claims(write_claims(by=difference(-2.1, ", margin: 1.05"))).claims["by"].bound == 1.05
    assert read_claims(write_claims(by=difference(-2.1))).claims["by"].bound == 1.05, "what it is when left out"


def test_equivalence_needs_a_margin_and_a_reason(write_claims):
    with pytest.raises(UsageError, match="a published 0 claims equivalence"):
        read_claims(write_claims(same=difference(0)))
    with pytest.raises(UsageError, match="a published 0 claims equivalence"):
        read_claims(write_claims(same=difference(0, ", margin: 0.5")))
    same = read_claims(write_claims(same=difference(0, ", margin: 0.5, notes: Half a point."))).claims["same"]
    assert same.bound == 0.5


def test_a_repeated_claim_must_name_one_that_is_there(write_claims):
    again = value(1.0, 1.0).replace("published", "same_as: smal, published")
    with pytest.raises(UsageError, match="'smal', unknown") as error:
        read_claims(write_claims(small=value(1.0, 1.0), again=again))
    assert "did you mean 'small'" in error.value.hint


def test_sums_and_orders_are_read_as_they_are_written():
    assert parse_sum("tied-wide - tied - wide + untied") == {"tied-wide": 1, "tied": -1, "wide": -1, "untied": 1}
    assert parse_order("a + b < c > d") == [{"a": 1, "b": 1, "c": -1}, {"d": 1, "c": -1}]
    for wrong in ("tied untied", "tied -", "+ tied", ""):
        with pytest.raises(ValueError, match="is no sum of names"):
            parse_sum(wrong)


@pytest.fixture
def outcomes(write_claims, judge):
    claims = {
        "small": value(115.0, 1.0),
        "again": value(115.0, 1.0).replace("published", "same_as: small, published"),
        "lower": order("tied < untied"),
        "by": difference(-5.0),
        "size": value(4_653_200, 500).replace("test perplexity", "parameters"),
        "never": order("untied < tied", measure="overfitting"),
    }
    file = write_claims(**claims)
    tests = {("untied", 1): 115.0, ("untied", 2): 114.9, ("untied", 3): 115.2, ("tied", 1): 110.0, ("tied", 2): 110.2}
    return load_papers(str(file)), list(judge(file, tests).values())


def test_the_table_shows_published_beside_measured(outcomes):
    papers, found = outcomes
    text = render_table(claims_table(found, papers=papers), width=170)
    small = r"small +reproduced +115.0 ± 0.2 \(3\) +115 ± 1 +\[114.8, 115.3\] +0.\d+ +test perplexity +table-1"
    lower = r"lower +reproduced +110.1 < 115.0 \(2, 3\) +tied < untied +\[-5.\d+, -4.\d+\] +< 0.001 +test perplexity"
    by = r"by +reproduced +-4.933 \(2, 3\) +-5 ± 2.5 +\[-5.\d+, -4.\d+\]"
    assert all(re.search(row, text) for row in (small, lower, by)), text
    assert "never" not in text and "not run: a-paper, table-2: 1 claim" in text, "a line for each table, not each claim"


def test_in_a_narrow_window_the_verdict_stands_beside_the_name(outcomes):
    papers, found = outcomes
    text = render_table(claims_table(found, papers=papers, width=60), width=60)
    rows = [line for line in text.splitlines() if line.startswith("lower")]
    assert len(rows) == 1 and re.match(r"lower +reproduced +110.1 < 115.0 \(2, 3\)", rows[0])
    assert "A wider window shows also: interval, p, measure, source." in " ".join(text.split())


def test_what_was_published_stays_in_a_narrow_window_as_long_as_there_is_room_for_its_figure(outcomes):
    """At 80 columns, with names as long as those of Table 6, once no published figure was shown."""
    papers, found = outcomes
    long = [outcome.model_copy(update={"id": f"{outcome.id}-{'x' * (38 - len(outcome.id))}"}) for outcome in found]
    text = render_table(claims_table(long, papers=papers, width=80), width=80)
    assert re.search(r"small-x+ +reproduced +115.0 ± 0.2 +115\n", text)
    assert re.search(r"lower-x+ +reproduced +110.1 < 115.0 +<\n", text)
    assert re.search(r"by-x+ +reproduced +-4.933 +-5\n", text)
    assert "A wider window shows also: numbers of seeds, margins, interval," in " ".join(text.split())


def test_in_a_narrow_window_claims_of_several_papers_stand_below_the_name_of_each_and_nothing_is_cut(outcomes):
    papers, found = outcomes
    other = [outcome.model_copy(update={"paper": "another-long-paper-2026"}) for outcome in found]
    text = render_table(claims_table([*found, *other], papers=papers, width=60), width=60)
    lines = text.splitlines()
    assert lines.count("a-paper:") == lines.count("another-long-paper-2026:") == 1
    rows = [line for line in lines if re.match(r"lower +reproduced +110.1 <", line)]
    assert len(rows) == 2 and sum(line.startswith("claim") for line in lines) == 1, "one table, in one piece"
    assert lines.index("a-paper:") < lines.index(rows[0]) < lines.index("another-long-paper-2026:")
    folded = render_table(claims_table(found, papers=papers, width=34), width=34)
    assert re.search(r"lower +reproduced +110.1 < 115.0\n +\(2, 3\)\n", folded), "in two lines beside the verdict"
    wide = claims_table([*found, *other], papers=papers)
    assert wide.columns[0].name == "paper" and wide.rows[0][0] == "a-paper", "for programs and pages"


def test_verdicts_are_counted_by_paper_and_kind_each_measurement_once(outcomes):
    _, found = outcomes
    table = verdicts_table(found)
    assert [column.name for column in table.columns][2:] == ["values", "differences", "orders", "checks"]
    assert table.rows == (
        ("a-paper", "reproduced", 1, 1, 1, 0),
        ("a-paper", "holds", 0, 0, 0, 1),
        ("a-paper", "not run", 0, 0, 1, 0),
    )
    assert table.caption == "4 claims: 3 reproduced, 1 not run; 1 check: 1 holds."
    assert table.notes == ("1 claim repeats another's measurement and is not counted.",)


def test_several_checks_hold_and_do_not_hold(outcomes):
    checks = [outcome for outcome in outcomes[1] if outcome.kind == "check"]
    failed = [outcome.model_copy(update={"verdict": "does not hold"}) for outcome in checks]
    assert count_verdicts([*checks, *checks, *failed]) == "3 checks: 2 hold, 1 does not hold."
    assert count_verdicts([*checks, *failed, *failed]) == "3 checks: 1 holds, 2 do not hold."


def test_for_programs_every_claim_has_its_figures_with_every_digit(outcomes):
    _, found = outcomes
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(render_table(figures_table(found), format="csv")))}
    by = next(outcome for outcome in found if outcome.id == "by")
    assert rows.keys() == {outcome.id for outcome in found}
    assert (float(rows["by"]["estimate"]), float(rows["by"]["p"])) == (by.estimate, by.p)
    assert rows["never"]["verdict"] == "not run" and rows["never"]["estimate"] == ""


def test_the_page_opens_with_the_verdicts_by_paper(outcomes):
    papers, found = outcomes
    page = render_claims(found, papers=papers)
    opening = "4 claims: 3 reproduced, 1 not run; 1 check: 1 holds."
    assert page.startswith(f"## Published claims, reproduced\n\n{opening}")
    assert page.index("| a-paper | not run") < page.index("| small") and "Chosen for the test." in page


@pytest.mark.parametrize("file", list_claim_files().values(), ids=list(list_claim_files()))
def test_a_bundled_file_says_what_it_claims_and_where_it_stands(file):
    paper = read_claims(file)
    assert paper.paper.title and paper.tolerances
    for id, claim in paper.claims.items():
        assert claim.source and claim.says.endswith("."), id
        if claim.published is not None and claim.measure != "parameters":
            figure = re.escape(f"{abs(claim.published):g}")
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


def test_less_data_is_what_makes_the_augmented_loss_gain():
    """The order that is claimed holds in the figures that are published beside it."""
    claims = load_papers("inan-2017")[0].claims
    whole = {arm: claims[f"wikitext-2-small-{arm}-test"].published for arm in ("vd-lstm", "al")}
    for half in ("half-1", "half-2"):
        part = {arm: claims[f"wikitext-2-{half}-{arm}-test"].published for arm in ("vd-lstm", "al")}
        assert part["al"] / part["vd-lstm"] < whole["al"] / whole["vd-lstm"]
        assert claims[f"wikitext-2-{half}-loss-gains-more"].relation.startswith(f"{half}-al + vd-lstm < ")


def test_no_measurement_is_claimed_twice_unnoticed():
    """Two claims about the same sum of the same runs with the same figure are one; the second says so."""
    papers, seen = load_papers(ALL), {}
    claims = {f"{paper.name}/{id}": claim for paper in papers for id, claim in paper.claims.items()}

    def describe(claim):
        tables = tuple(claim.arms) if claim.is_about_embeddings else ()
        return str(sorted(claim.needs) or claim.says), tables, claim.measure, str(claim.contrasts), claim.published

    for name, claim in claims.items():
        if claim.same_as is None:
            assert describe(claim) not in seen, f"{name} repeats {seen.get(describe(claim))}: give it same_as"
            seen[describe(claim)] = name
        else:
            original = claims[claim.same_as if "/" in claim.same_as else f"{name.split('/')[0]}/{claim.same_as}"]
            assert original.same_as is None, name
            assert describe(claim)[1:] == describe(original)[1:] and claim.needs == original.needs, name


@pytest.mark.parametrize("file", list_claim_files().values(), ids=list(list_claim_files()))
def test_a_published_difference_is_that_of_the_published_values(file):
    """Of the two figures that its sentence names, and of the claims about its arms in the same table."""
    claims = read_claims(file).claims.values()
    values = {
        (claim.experiment, claim.source, claim.measure, claim.subjects[0]): claim.published
        for claim in claims
        if claim.kind == "value" and claim.experiment
    }
    for claim in (claim for claim in claims if claim.difference is not None and claim.published):
        named = re.search(r"\(([\d.]+) against ([\d.]+)\)", claim.says)
        if named:
            # gaps between logarithms are subtracted before they are rounded, to three digits
            rounded = 0.001 if claim.measure == "overfitting" else 0.0
            difference = float(named[1]) - float(named[2])
            assert difference == pytest.approx(claim.published, abs=rounded + 1e-9), claim.says
        known = {name: values.get((claim.experiment, claim.source, claim.measure, name)) for name in claim.subjects}
        if None not in known.values():
            total = sum(weight * known[name] for name, weight in claim.contrasts[0].items())
            assert total == pytest.approx(claim.published, abs=1e-9), claim.says


def test_what_nothing_here_measures_names_no_recipe():
    for paper in load_papers(ALL):
        for id, claim in paper.claims.items():
            assert claim.measure not in UNMEASURED or (claim.notes and not claim.needs), id


def test_less_overfitting_is_claimed_only_where_a_table_says_so():
    """By Table 6 of Press & Wolf the tied small model has the larger gap; ln(117.5 / 36.4) > ln(120.7 / 38.0)."""
    claims = load_papers("press-wolf-2017")[0].claims
    rows = {
        (arm, split): claims[f"small-{arm}-{split}"].published
        for arm in ("tied", "untied")
        for split in ("train", "valid")
    }
    gaps = {arm: math.log(rows[arm, "valid"] / rows[arm, "train"]) for arm in ("tied", "untied")}
    assert claims["small-tied-overfits-more"].relation == "tied > untied" and gaps["tied"] > gaps["untied"]
    published = claims["small-tied-minus-untied-overfitting"].published
    assert published == pytest.approx(gaps["tied"] - gaps["untied"], abs=5e-4)


def test_the_page_on_results_opens_with_the_claims(tmp_path, make_record):
    run = load_experiment("press-wolf-2017-small").list_runs(arms=["tied"], seeds=[1])[0]
    changes = [("experiment", run.experiment), ("signature", run.signature)]
    record = make_record("tied", 1, test=112.0, valid=117.0, training=36.0, changes=changes)
    write_record(record, Store(tmp_path).folder_of(record))
    page = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "refresh_pages.py"))["render_results"](tmp_path)
    assert page.index("## Published claims, reproduced") < page.index("## press-wolf-2017-small")
    row = next(line for line in page.splitlines() if "small-tied-test" in line)
    assert re.search(r"\| inconclusive +\| 112.0 \(1\) +\| 112.4 ± 3 ", row), row
    assert "- not run: press-wolf-2017, table-5: " in page


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
