"""The command line as a user has it: what it prints where, what it leaves behind, and that it is quick and frozen."""

import contextlib
import csv
import io
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

import tiebench
from tiebench.cli.app import app, main
from tiebench.experiment import bundled
from tiebench.experiment.schema import ARCHITECTURES, CORPORA, TIES
from tiebench.reporting.render import format_number
from tiebench.results.record import DIGEST_KEY, read_record, write_record
from tiebench.results.store import Store

RUNNING = {"--set", "--seed", "--device", "--results", "--data-dir", "--jobs", "--json", "--quiet", "-q"}
RUNNING |= {"--wait", "--track", "--engine"}
OPTIONS = {
    "train": RUNNING | {"--arm", "--force"},
    "compare": RUNNING
    | {"--config", "--force", "--format", "--plot", "--no-train", "--allow"}
    | {"--seeds-as", "--margin", "--until-decided", "--max-seeds"},
    "grid": RUNNING | {"--format", "--no-train"},
    "report": {"--output", "-o", "--results"},
    "reproduce": RUNNING | {"--only", "--no-train", "--dry-run", "--format"},
    "check": {"--set", "--arm", "--results", "--data-dir", "--on", "--devices", "--json"},
    "list": {"--results", "--json"},
    "show": {"--json"},
    "bench": {"--seconds", "--threads", "--device", "--data-dir", "--json"},
    "schema": set(),
    "audit": {"--json"},
    "export": {"--format", "--force"},
    "neighbours": {"--top", "--json"},
    "quantise": {"--bits", "--data-dir", "--json", "--quiet", "-q"},
    "inspect": {"--data-dir", "--plot", "--json"},
    "sample": {"--prompt", "--tokens", "--temperature", "--seed", "--json"},
    "translate": {"--json"},
    "watch": {"--once", "--json"},
}


@pytest.fixture
def run(monkeypatch, tmp_path) -> Callable[..., Any]:
    """Run a command line in a folder of the test's own; fails when the command does."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: Any, exit_code: int = 0):
        answer = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert answer.exit_code == exit_code, (answer.output, answer.exception)
        return answer

    return invoke


def read_times(results: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in results.rglob("*") if file.is_file()}


# What there is, and that it is quick


def test_the_options_are_frozen():
    """A new knob is a field in the YAML. An option that is really needed is entered here, after thought."""
    commands = typer.main.get_command(app).commands
    found = {
        name: {option for parameter in command.params for option in parameter.opts if option.startswith("-")}
        for name, command in commands.items()
    }
    assert found == OPTIONS
    program = {option for parameter in typer.main.get_command(app).params for option in parameter.opts}
    assert program == {"--version", "--install-completion", "--show-completion"}


@pytest.mark.parametrize(
    ("command", "jobs"), [("train", "auto"), ("compare", "auto"), ("grid", "auto"), ("reproduce", "auto")]
)
def test_what_needs_many_runs_takes_all_cores_unless_told_otherwise(command, jobs):
    options = typer.main.get_command(app).commands[command].params
    assert next(option.default for option in options if option.name == "jobs") == jobs


def test_both_entry_points_are_the_same_program():
    (script,) = entry_points(group="console_scripts", name="tiebench")
    assert script.load() is main
    answer = subprocess.run([sys.executable, "-m", "tiebench", "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout == f"tiebench {tiebench.__version__}\n" and answer.stderr == ""


@pytest.mark.parametrize(
    ("typed", "proposed"),
    [
        ("list vocab", ["vocabularies"]),
        ("list optimizers ad", ["adamw"]),
        ("train quick", ["quickstart"]),
        ("compare --config quick", ["quickstart"]),
        ("reproduce press", ["press-wolf-2017"]),
        ("compare --until", ["--until-decided"]),
        ("train my-own-fi", []),  # the shell then proposes files
    ],
)
def test_the_shell_completes_names(typed, proposed):
    words = f"tiebench {typed}"
    asked = {"_TIEBENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    answer = CliRunner().invoke(app, env=asked, prog_name="tiebench")
    assert answer.stdout.split() == proposed


def test_help_names_every_command_and_nothing_asked_is_help(run):
    text = run("--help").stdout
    assert all(name in text for name in OPTIONS)
    assert run(exit_code=2).output.strip() == text.strip()
    for name, options in OPTIONS.items():
        lines = run(name, "--help").stdout
        assert all(option in lines for option in options), name


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("train", "--help"),
        ("list",),
        ("compare", "untied", "tied", "--results", "RESULTS"),
        ("compare", "untied", "tied", "--results", "RESULTS", "--config", "CONFIG"),
        ("compare", "--results", "RESULTS", "--config", "CONFIG", "--seed", "1", "--no-train"),
        ("train", "CONFIG", "--results", "RESULTS"),
        ("show", "RESULTS/tiny/tied/seed-1"),
        ("grid", "map", "--results", "RESULTS", "--no-train"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_looking_imports_no_torch(arguments, trained_once):
    program = (
        "import sys; sys.argv = ['tiebench', *sys.argv[1:]]\n"
        "from tiebench.cli.app import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    print([name for name in ('torch', 'matplotlib', 'datasets') if name in sys.modules], file=sys.stderr)\n"
    )
    places = {"CONFIG": trained_once / "tiny.yaml", "RESULTS": trained_once / "results"}
    typed = [str(places.get(argument, argument)).replace("RESULTS", str(places["RESULTS"])) for argument in arguments]
    answer = subprocess.run([sys.executable, "-c", program, *typed], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.endswith("[]\n"), answer.stderr


# train


def test_train_writes_records_and_tables_and_prints_what_it_found(run, write_experiment, tmp_path):
    answer = run("train", write_experiment())
    records = Store(tmp_path / "results").records()
    assert [(record.experiment, record.arm, record.seed) for record in records] == [
        ("tiny", "tied", 1),
        ("tiny", "untied", 1),
    ]
    for record in records:
        folder = tmp_path / "results" / "tiny" / record.arm / "seed-1"
        names = {file.name for file in folder.iterdir()}
        assert {
            "spec.yaml",
            "curve.jsonl",
            "record.json",
            "test-nll.npy",
            "test-decades.npy",
            "weights.safetensors",
        } <= names
        assert not {"checkpoint.pt", ".owner"} & names
        shown = format_number(record.evaluations["test"].perplexity)
        assert shown in answer.stdout
        assert shown in (tmp_path / "results" / "table.md").read_text("utf-8")
    untied, tied = sorted((record.parameters for record in records), key=lambda counts: -counts.total)
    size = records[0].vocabulary.size * 16
    assert (untied.input, untied.output, untied.shared) == (size, size, 0) and tied.shared == size
    assert f"{tied.total:,}" in answer.stdout and "finished" in answer.stderr
    rows = list(csv.DictReader((tmp_path / "results" / "table.csv").read_text("utf-8").splitlines()))
    assert {row["arm"] for row in rows} == {"tied", "untied"}


@pytest.mark.parametrize(("mask", "mode"), [(0o027, 0o640), (0o002, 0o664)])
def test_files_of_a_run_have_the_user_s_rights(run, write_experiment, tmp_path, mask, mode):
    config = write_experiment(arms=None, tie=True)
    before = os.umask(mask)
    try:
        run("train", config, "--quiet")
    finally:
        os.umask(before)
    files = [file for file in (tmp_path / "results").glob("**/*") if file.is_file() and file.name != ".lock"]
    assert {"record.json", "weights.safetensors", "test-nll.npy", "spec.yaml"} <= {file.name for file in files}
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in files} == {file.name: oct(mode) for file in files}


def test_training_twice_trains_once(run, trained):
    run("compare", "untied", "tied", "--config", trained / "tiny.yaml", "--results", trained / "results")
    before = read_times(trained / "results")
    answer = run("train", trained / "tiny.yaml", "--results", trained / "results")
    assert "all 4 runs of tiny are there already" in answer.stderr
    assert read_times(trained / "results") == before
    assert run("train", trained / "tiny.yaml", "--results", trained / "results", "-q").stderr == ""


def test_force_trains_again_and_finds_the_same(run, trained):
    folder = trained / "results" / "tiny" / "tied" / "seed-2"
    before, time = read_record(folder), (folder / "weights.safetensors").stat().st_mtime_ns
    run("train", trained / "tiny.yaml", "--results", trained / "results", "--force", "--arm", "tied", "--seed", "2")
    assert (folder / "weights.safetensors").stat().st_mtime_ns > time
    assert read_record(folder).evaluations == before.evaluations


def test_arms_and_seeds_can_be_chosen_and_naming_one_twice_is_naming_it_once(run, write_experiment, tmp_path):
    config = write_experiment(seeds=[1, 2])
    run("train", config, "--arm", "tied", "--arm", "tied", "--seed", "7", "--seed", "7", "-q")
    assert [(record.arm, record.seed) for record in Store(tmp_path / "results").records()] == [("tied", 7)]


def test_an_override_is_trained_and_written_down(run, write_experiment, tmp_path):
    run(
        "train",
        write_experiment(),
        "--arm",
        "tied",
        "--set",
        "training.epochs=1",
        "--set",
        "arms.tied.embedding.output_bias=true",
    )
    folder = tmp_path / "results" / "tiny" / "tied" / "seed-1"
    record = read_record(folder)
    assert record.spec.training.epochs == 1 and record.spec.embedding.output_bias is True
    assert yaml.safe_load((folder / "spec.yaml").read_text("utf-8"))["altered"] == [
        "training.epochs=1",
        "arms.tied.embedding.output_bias=true",
    ]


def test_train_as_json_prints_the_records_and_nothing_else(run, write_experiment, tmp_path):
    printed = json.loads(run("train", write_experiment(), "--arm", "tied", "--json").stdout)
    assert printed == [read_record(tmp_path / "results" / "tiny" / "tied" / "seed-1").model_dump(mode="json")]


# compare


def test_compare_says_how_far_the_arms_are_apart(run, trained_once):
    answer = run("compare", "untied", "tied", "--results", trained_once / "results")
    assert "untied" in answer.stdout and "tied" in answer.stdout and answer.stderr == ""
    (found,) = json.loads(run("compare", "untied", "tied", "--results", trained_once / "results", "--json").stdout)
    store = Store(trained_once / "results")
    gaps = [
        read_record(store.folder("tiny", "tied", seed)).evaluations["test"].nll_per_token
        - read_record(store.folder("tiny", "untied", seed)).evaluations["test"].nll_per_token
        for seed in (1, 2)
    ]
    (contrast,) = found["contrasts"]
    assert (contrast["arm"], contrast["baseline"]) == ("tied", "untied")
    assert found["seeds"] == {"untied": [1, 2], "tied": [1, 2]}
    assert contrast["differences"]["test"]["ln_ratio"] == pytest.approx(sum(gaps) / 2)
    assert contrast["differences"]["test"]["covers"] == ["seeds"], "a text of one block says nothing of other texts"
    assert contrast["sentence"] + "." in " ".join(answer.stdout.split())
    assert contrast["differences"]["test"]["percent"] == pytest.approx(math.expm1(sum(gaps) / 2) * 100)


def test_one_seed_decides_nothing(run, trained_once):
    arguments = ("compare", "untied", "tied", "--results", trained_once / "results", "--seed", "1", "--json")
    (found,) = json.loads(run(*arguments).stdout)
    assert found["contrasts"][0]["differences"]["test"]["p"] is None
    assert found["contrasts"][0]["outcome"] == "undecided"
    assert "One seed decides nothing" in found["contrasts"][0]["sentence"]


def compare_finished(run, trained_once, *arguments, **keywords):
    return run("compare", *arguments, "--results", trained_once / "results", **keywords)


def test_an_experiment_without_names_is_compared_in_all_its_arms(run, trained_once):
    config = trained_once / "tiny.yaml"
    (found,) = json.loads(compare_finished(run, trained_once, "--config", config, "--json").stdout)
    assert [arm["arm"] for arm in found["arms"]] == ["untied", "tied"]
    answer = compare_finished(run, trained_once, exit_code=2)
    assert "no arm was named" in answer.stderr and "--config CONFIG" in answer.stderr


def test_how_seeds_are_looked_at_is_chosen_before(run, trained_once):
    def find(*arguments):
        (found,) = json.loads(compare_finished(run, trained_once, "untied", "tied", "--json", *arguments).stdout)
        return found["contrasts"][0]

    rules = {rule: find("--seeds-as", rule)["differences"]["test"] for rule in ("welch", "pooled", "paired")}
    assert [found["seed_rule"] for found in rules.values()] == ["welch", "pooled", "paired"]
    assert rules["pooled"]["degrees_of_freedom"] == 2 and rules["paired"]["degrees_of_freedom"] == 1
    assert find("--margin", "60%")["margin"] == 60.0 and find()["within_margin"] is None
    answer = compare_finished(run, trained_once, "untied", "tied", "--seeds-as", "welhc", exit_code=2)
    assert "did you mean 'welch'" in answer.stderr
    assert "--margin 1x" in compare_finished(run, trained_once, "untied", "tied", "--margin", "1x", exit_code=2).stderr


def test_no_train_compares_what_is_there_at_any_seed_and_says_what_is_not(run, trained):
    config, results = trained / "tiny.yaml", trained / "results"
    (results / "tiny" / "tied" / "seed-2" / "record.json").unlink()
    before = read_times(results)
    answer = run("compare", "--config", config, "--results", results, "--no-train", "--json")
    assert json.loads(answer.stdout)[0]["seeds"] == {"untied": [1, 2], "tied": [1]}
    assert "1 of 4 runs of tiny are not finished" in answer.stderr
    assert read_times(results) == before
    run("train", config, "--results", results, "--seed", "7", "-q")
    run("train", config, "--results", results, "-q")
    (found,) = json.loads(run("compare", "--config", config, "--results", results, "--json").stdout)
    assert found["seeds"] == {"untied": [1, 2, 7], "tied": [1, 2, 7]}, "seeds beyond the file's count too"
    assert (
        "no experiment in nowhere"
        in run("compare", "tied", "untied", "--no-train", "--results", "nowhere", exit_code=2).stderr
    )


def test_a_difference_may_be_allowed(run, write_experiment, tmp_path):
    run("train", write_experiment("with.yaml", arms=None, tie=True), "-q")
    longer = {"epochs": 1, "batch_size": 4, "window": 10, "optimizer": {"type": "sgd", "learning_rate": 1.0}}
    longer["optimizer"]["clip_norm"] = 5.0
    run("train", write_experiment("without.yaml", arms=None, tie=False, training=longer), "-q")
    run("compare", "tied", "untied", exit_code=2)
    answer = run("compare", "results/without/untied", "results/with/tied", exit_code=2)
    assert "training.epochs differs" in answer.stderr and "--allow training.epochs" in answer.stderr
    text = " ".join(run("compare", "tied", "untied", "--allow", "training.epochs").stdout.split())
    assert "Compared across training.epochs, which the arms do not declare (--allow)." in text


def test_what_could_not_be_compared_is_not_trained_first(run, write_experiment, tmp_path):
    arms = {"untied": {"tie": False}, "tied": {"tie": True, "evaluation": {"batch_size": 2}}}
    answer = run("compare", "--config", write_experiment(arms=arms), exit_code=2)
    assert "not comparable: evaluations.batch_size differs (untied: 1; tied: 2)" in answer.stderr
    assert "--allow evaluations" in answer.stderr
    assert not (tmp_path / "results").exists()


def test_arms_with_different_vocabularies_are_trained_and_compared_on_bits_per_byte(run, write_experiment):
    arms = {
        "bytes": {"tie": True, "vocabulary": {"type": "bytes"}},
        "bpe": {"tie": True, "vocabulary": {"type": "bpe", "size": 300}},
    }
    config = write_experiment(arms=arms, seeds=[1, 2])
    (found,) = json.loads(run("compare", "--config", config, "--jobs", "1", "--json", "-q").stdout)
    records = {(record.arm, record.seed): record for record in Store(Path("results")).records()}
    tests = {arm: [records[arm, seed].evaluations["test"] for seed in (1, 2)] for arm in arms}
    bits = {arm: sum(test.nll / math.log(2) / test.bytes for test in found) / 2 for arm, found in tests.items()}
    assert found["unit"] == "byte"
    assert found["contrasts"][0]["differences"]["test"]["percent"] == pytest.approx(
        100 * (bits["bpe"] / bits["bytes"] - 1)
    )
    text = run("compare", "--config", config, "-q").stdout
    assert "bits per byte by arm" in text and "test bits/byte" in text


def test_several_experiments_in_csv_have_a_column_that_names_them(run, write_experiment):
    for name in ("one", "two"):
        run("train", write_experiment(f"{name}.yaml"), "-q")
    rows = list(csv.DictReader(io.StringIO(run("compare", "tied", "untied", "--format", "csv").stdout)))
    assert [(row["experiment"], row["arm"]) for row in rows] == [
        (name, arm) for name in ("one", "two") for arm in ("untied", "tied")
    ]


# compare --until-decided


def find_looks(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "tiny" / "comparison-untied-tied.json").read_text("utf-8"))


def test_seeds_are_added_until_it_is_decided_or_there_are_enough(run, write_experiment, tmp_path):
    config = write_experiment(seeds=[4])
    arguments = ("compare", "tied", "untied", "--config", config, "--until-decided", "--jobs", "1", "--max-seeds")
    answer = run(*arguments, 3, "--json")
    (found,) = json.loads(answer.stdout)
    decision = found["contrasts"][0]["decision"]
    looks = find_looks(tmp_path / "results")
    assert looks["arms"] == ["untied", "tied"] and looks["decision"] == decision
    assert looks["seeds"] == [4, 1, 2][: len(decision["looks"]) + 1], "the file's seeds first, then the next free ones"
    assert answer.stderr.count("seeds per arm: change") == len(decision["looks"])
    assert found["contrasts"][0]["outcome"] == decision["outcome"]
    before = read_times(tmp_path / "results")
    again = run(*arguments, 3, "--json")
    assert json.loads(again.stdout) == json.loads(answer.stdout), "asked again it answers the same and trains nothing"
    trained = {file for file, time in read_times(tmp_path / "results").items() if before.get(file) != time}
    assert {file.name for file in trained} <= {"comparison-untied-tied.json"}


def test_looks_go_on_where_they_stopped(run, trained, monkeypatch):
    config, results = trained / "tiny.yaml", trained / "results"
    arguments = ("compare", "tied", "untied", "--config", config, "--results", results, "--until-decided")
    run(*arguments, "--no-train", "-q")
    first = find_looks(results)
    assert first["seeds"] == [1, 2] and first["decision"]["outcome"] == "undecided", "two pairs cannot decide"
    answer = run(*arguments, "--max-seeds", "3", "--jobs", "1")
    then = find_looks(results)
    assert then["seeds"] == [1, 2, 3] and then["runs"][:2] == first["runs"]
    assert then["decision"]["looks"][0] == first["decision"]["looks"][0]
    assert "after 2 seeds per arm" in answer.stderr and "after 3 seeds per arm" in answer.stderr
    sentence = " ".join(answer.stdout.split())
    assert "however often one looks, 3 seeds per arm, on this text" in sentence
    run(*arguments, "--max-seeds", "2", "-q")
    assert find_looks(results) == then, "what was looked at stays looked at"
    plain = run("compare", "tied", "untied", "--results", results, "--json")
    assert json.loads(plain.stdout)[0]["contrasts"][0]["decision"] == then["decision"], "whoever asks, later"


def test_looks_begin_anew_when_runs_were_trained_again(run, trained):
    config, results = trained / "tiny.yaml", trained / "results"
    arguments = ("compare", "tied", "untied", "--config", config, "--results", results, "--until-decided", "--no-train")
    assert "anew" not in run(*arguments).stderr
    file = results / "tiny" / "tied" / "seed-2" / "record.json"
    content = json.loads(file.read_text("utf-8"))
    content["provenance"]["finished"] = "2030-01-01T00:00:00+00:00"
    content["provenance"].pop(DIGEST_KEY)
    file.write_text(json.dumps(content), "utf-8")
    assert "the looks begin anew" in run(*arguments).stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("tied", "untied", "--until-decided"), "no experiment was named"),
        (("--config", "CONFIG", "--until-decided", "--seeds-as", "paired"), "unpaired seeds"),
        (("--config", "CONFIG", "--until-decided", "--seed", "1"), "fewer than two finished pairs"),
        (("--config", "CONFIG", "--no-train", "--force"), "exclude each other"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(run, trained_once, arguments, says):
    typed = [str(trained_once / "tiny.yaml") if part == "CONFIG" else part for part in arguments]
    assert says in compare_finished(run, trained_once, *typed, exit_code=2).stderr


def test_what_was_decided_is_the_last_thing_on_the_screen(run, trained_once):
    shown = run("compare", "untied", "tied", "--results", trained_once / "results").stdout
    *before, answer = shown.strip().split("\n\n")
    assert any(": no change" in part and "tied  " in part for part in before)
    assert answer.startswith("tied") and "of the parameters" in " ".join(answer.split()) and answer.endswith(".")


def test_every_format_is_what_it_is_called(run, trained_once):
    def printed(name: str) -> str:
        return run("compare", "untied", "tied", "--results", trained_once / "results", "--format", name).stdout

    assert "| untied" in printed("markdown")
    assert "\\begin{tabular}" in printed("latex")
    assert printed("html").count("<table") == printed("html").count("</table>") == 2, "the arms, and who gains"
    rows = list(csv.reader(io.StringIO(printed("csv"))))
    assert {"untied", "tied"} <= {row[0] for row in rows if row}
    assert json.loads(printed("json"))[0]["experiment"] == "tiny"


def test_plot_draws_a_picture(run, trained_once, tmp_path):
    run("compare", "untied", "tied", "--results", trained_once / "results", "--plot", tmp_path / "curves.svg")
    assert ElementTree.parse(tmp_path / "curves.svg").getroot().tag.endswith("svg")


def test_compare_says_who_gains_from_what_the_runs_kept_or_from_the_text(run, trained, tiny_corpus, tmp_path):
    typed = ("compare", "untied", "tied", "--results", trained / "results")
    (found,) = json.loads(run(*typed, "--json").stdout)
    (contrast,) = found["contrasts"]
    bins = contrast["by_frequency"]
    assert [each["seen"] for each in bins] == ["1-9", "10-99"]
    whole = contrast["differences"]["test"]["ln_ratio"]
    assert sum(each["part"] for each in bins) == pytest.approx(whole, abs=1e-5)
    assert "who gains" in run(*typed).stdout
    answer = run(*typed, "--plot", tmp_path / "curves.svg")
    assert (tmp_path / "curves-by-frequency.svg").exists() and "curves-by-frequency.svg" in answer.stderr
    file = trained / "results" / "tiny" / "untied" / "seed-1" / "test-decades.npy"
    file.write_bytes(file.read_bytes()[:-1])
    assert "test-decades.npy is damaged" in run(*typed, exit_code=1).stderr
    for file in trained.rglob("test-decades.npy"):
        file.unlink()  # as in older runs
    (again,) = json.loads(run(*typed, "--json").stdout)
    assert again["contrasts"][0]["by_frequency"] == bins
    for folder in (trained / "results" / "tiny").glob("*/seed-*"):  # and without the text
        (folder / "spec.yaml").unlink()
        content = json.loads((folder / "record.json").read_text("utf-8"))
        content["spec"]["corpus"]["train"] = str(tmp_path / "gone.txt")
        content["provenance"].pop(DIGEST_KEY)
        (folder / "record.json").write_text(json.dumps(content), "utf-8")
    answer = run(*typed)
    assert "who gains by training frequency is not known: the train file" in answer.stderr
    assert "who gains" not in answer.stdout


@pytest.mark.parametrize("bare", [True, False])
def test_on_a_terminal_compare_ends_in_what_to_type_next(bare, trained_once, tmp_path):
    """What can be typed next is no result: it stands on stderr, and nowhere but on a terminal."""
    config, results = str(trained_once / "tiny.yaml"), str(trained_once / "results")
    screen, terminal = os.openpty()
    command = [sys.executable, "-m", "tiebench", "compare", "--config", config, "--results", results]
    where = {"stderr": subprocess.PIPE} if bare else {"stderr": terminal}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=os.environ | {"COLUMNS": "300"}, check=True, **where)
    os.close(terminal)
    said = (done.stderr or b"").decode() + read_screen(screen)
    again = f"tiebench compare untied tied --config {config} --until-decided --results {results}"
    assert [f"next: {again}" in said, f"tiebench list runs --results {results}" in said] == [not bare] * 2
    assert b"next:" not in done.stdout and done.stdout.rstrip().endswith(b".")


def test_what_is_missing_is_trained_first(run, write_experiment, tmp_path):
    config = write_experiment()
    run("train", config, "--arm", "tied", "-q")
    kept = (tmp_path / "results" / "tiny" / "tied" / "seed-1" / "record.json").stat().st_mtime_ns
    answer = run("compare", "tied", "untied", "--config", config, "--jobs", "1", "--json")
    (found,) = json.loads(answer.stdout)
    assert found["baseline"] == "untied", "of two arms, the untied one is the baseline"
    assert [record.arm for record in Store(tmp_path / "results").records()] == ["tied", "untied"]
    assert (tmp_path / "results" / "tiny" / "tied" / "seed-1" / "record.json").stat().st_mtime_ns == kept


def test_folders_are_compared_where_there_are_no_results(run, trained_once):
    """The quickstart is for who has nothing to compare yet."""
    folders = [trained_once / "results" / "tiny" / arm for arm in ("untied", "tied")]
    (found,) = json.loads(run("compare", *folders, "--json").stdout)
    assert found["experiment"] == "tiny" and not Path("results").exists()


def test_two_files_with_one_flag_each_are_compared(run, write_experiment, tmp_path):
    """The everyday use: two separate trainings that differ in `tie`, then one comparison, by arms or by folders."""
    run("train", write_experiment("with.yaml", arms=None, tie=True), "-q")
    run("train", write_experiment("without.yaml", arms=None, tie=False), "-q")
    (by_arm,) = json.loads(run("compare", "tied", "untied", "--json").stdout)
    assert [arm["arm"] for arm in by_arm["arms"]] == ["untied", "tied"]
    (by_folder,) = json.loads(run("compare", "results/without/untied", "results/with/tied/seed-1", "--json").stdout)
    assert by_folder["contrasts"] == by_arm["contrasts"]
    run(
        "train",
        write_experiment("without.yaml", arms=None, tie=False, embedding={"init": {"normal": 0.1}}),
        "-q",
        "--force",
    )
    run("compare", "tied", "untied", exit_code=2)
    answer = run("compare", "results/without/untied", "results/with/tied", exit_code=2)
    assert "not comparable: embedding.init" in answer.stderr


@pytest.mark.parametrize("arms", [("tied", "untied"), ()], ids=["named", "not named"])
def test_without_any_run_the_quickstart_answers(arms, run, write_experiment, tmp_path, monkeypatch):
    (tmp_path / "bundled").mkdir()
    write_experiment().rename(tmp_path / "bundled" / "quickstart.yaml")
    monkeypatch.setattr(bundled, "bundled_folder", lambda: tmp_path / "bundled")
    answer = run("compare", *arms, "--jobs", "1", "--format", "markdown")
    assert "no runs yet: training the bundled quickstart first (2 runs" in answer.stderr
    assert "| untied" in answer.stdout
    assert {record.experiment for record in Store(tmp_path / "results").records()} == {"quickstart"}


# check, list, show, sample


def test_check_counts_every_arm_and_trains_nothing(run, write_experiment, tmp_path):
    config = write_experiment(seeds=[1, 2])
    text = run("check", config).stdout
    assert "2 arms x 2 seeds. Nothing is wrong with" in text and "tie.type" in text
    found = json.loads(run("check", config, "--json").stdout)
    untied, tied = (arm["parameters"] for arm in found["arms"])
    assert untied["total"] - tied["total"] == tied["shared"] == untied["output"] > 0
    assert found["differences"] == [{"path": "tie.type", "untied": "untied", "tied": "tied"}]
    assert not (tmp_path / "results").exists()


def test_check_foretells_time_memory_and_what_will_surprise(run, write_experiment, tiny_corpus):
    config = write_experiment(
        arms={"words": {"tie": True}, "pieces": {"tie": True, "vocabulary": {"type": "bpe", "size": 50_000}}},
    )
    same = ("--set", f"corpus.valid={tiny_corpus['train']}")
    answer = run("check", config, *same)
    assert re.search(
        r"on one core of this machine: words about \d+ (second|minute|hour)s?, pieces about \d+", answer.stdout
    )
    assert "memory MiB" in answer.stdout and "2 arms x 1 seed." in answer.stdout
    warnings = [line for line in answer.stdout.splitlines() if line.startswith("warning: ")]
    for fragment in (
        "the validation text is the training text",
        "vocabulary.size is 50,000, but the training text fills a bpe vocabulary of",
        "different vocabularies: they will be compared on bits per byte",
    ):
        assert len([line for line in warnings if fragment in line]) == 1, answer.stdout
    found = json.loads(run("check", config, *same, "--json").stdout)
    assert [f"warning: {line}" for line in found["warnings"]] == warnings
    assert all(arm["time"]["timed"] and arm["time"]["seconds"] > 0 for arm in found["arms"])


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"training.random_offset": "true"}, "other ones at every seed"),
        ({"training.random_offset": "false"}, "always those at its end"),
        ({"architecture": "{type: gpt2, layers: 1, width: 16, heads: 2, positions: 64}"}, "other ones in every epoch"),
    ],
)
def test_check_says_what_an_epoch_leaves_out(run, write_experiment, changes, part):
    options = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    said = " ".join(run("check", write_experiment(), *options).stdout.split())
    found = json.loads(run("check", write_experiment(), *options, "--json").stdout)["arms"][0]
    assert 0 < found["num_left_out"] < found["num_tokens"]
    assert f"Of the training text, an epoch leaves out {found['num_left_out']:,} tokens ({part})." in said


def test_check_has_nothing_to_warn_of_where_nothing_is_odd(run, write_experiment):
    assert "warning" not in run("check", write_experiment()).output


def test_check_says_what_does_not_fit_and_trains_no_step_of_it(run, write_experiment):
    config = write_experiment(architecture={"type": "lstm", "layers": 2, "width": 500_000})
    answer = run("check", config)
    assert "warning: untied needs about" in answer.stdout and "GiB of memory, and there are" in answer.stdout
    assert "untied at least" in answer.stdout


def test_a_run_is_repeated_from_its_record(run, trained, tmp_path):
    folder = trained / "results" / "tiny" / "tied" / "seed-2"
    for place in (folder, folder / "spec.yaml"):
        answer = run("train", place, "--results", trained / "results")
        assert "is there already" in answer.stderr, "the record is found: it is the same run"
    run("train", folder, "--results", tmp_path / "again", "-q")
    (again,) = Store(tmp_path / "again").records()
    record = read_record(folder)
    assert (again.signature, again.evaluations, again.declared) == (
        record.signature,
        record.evaluations,
        record.declared,
    )


def test_one_text_is_split_by_its_lines_and_trained(run, write_experiment, tiny_corpus, tmp_path):
    parts = [Path(tiny_corpus[split]).read_bytes() for split in ("train", "valid", "test")]
    (tmp_path / "all.txt").write_bytes(b"".join(parts))
    config = write_experiment()
    content = yaml.safe_load(config.read_text("utf-8"))
    content["corpus"] = {"type": "text", "file": "all.txt", "split": [0.6, 0.2, 0.2]}
    config.write_text(yaml.safe_dump(content), "utf-8")
    run("train", config, "--arm", "tied", "-q")
    (record,) = Store(tmp_path / "results").records()
    assert record.corpus.facts["split"].startswith("train lines 1 to ")
    assert "is there already" in run("train", config, "--arm", "tied").stderr
    (tmp_path / "all.txt").write_text("another text\n" * 100, "utf-8")
    assert "was trained on other text than all.txt has now" in run("train", config, "--arm", "tied", exit_code=2).output


def test_paths_of_a_file_start_at_its_folder_then_at_the_current_one(run, write_experiment, tiny_corpus, tmp_path):
    (tmp_path / "asked").mkdir()
    (tmp_path / "texts").mkdir()
    config = write_experiment("asked/experiment.yaml")
    for split, text in (("train", "asked/train.txt"), ("valid", "valid.txt")):
        (tmp_path / text).write_bytes(Path(tiny_corpus[split]).read_bytes())
    content = yaml.safe_load(config.read_text("utf-8"))
    content["corpus"] |= {"train": "train.txt", "valid": "valid.txt"}
    config.write_text(yaml.safe_dump(content), "utf-8")
    assert "Nothing is wrong" in run("check", "asked/experiment.yaml").stdout
    (tmp_path / "valid.txt").rename(tmp_path / "texts" / "valid.txt")
    assert "valid file" in run("check", "asked/experiment.yaml", exit_code=1).stderr
    run("check", "asked/experiment.yaml", "--data-dir", "texts")


def test_bench_says_what_it_is_at_before_it_is(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TIEBENCH_CACHE", str(tmp_path / "cache"))
    answer = run("bench", "lstm-200-ptb", "--seconds", "0.1", "--threads", "1", "--json")
    first, second = answer.stderr.splitlines()
    assert first.startswith("[1/2] lstm-200-ptb untied: ") and second.startswith("[2/2] lstm-200-ptb tied: ")
    found = json.loads(answer.stdout)
    untied, tied = found["measurements"]
    assert found["hardware"]["threads"] == untied["num_threads"] == 1
    assert found["versions"]["torch"] == torch.__version__
    assert untied["num_parameters"] - tied["num_parameters"] == 10_000 * 200
    kept = json.loads((tmp_path / "cache" / "bench.json").read_text("utf-8"))
    assert [(each["workload"], each["arm"]) for each in kept] == [("lstm-200-ptb", "untied"), ("lstm-200-ptb", "tied")]
    assert kept[0]["flops_per_second"] == untied["train_tokens_per_second"] * untied["flops_per_token"]


def test_lists_are_complete(run, trained_once):
    listed = json.loads(run("list", "--json", "--results", trained_once / "results").stdout)
    assert list(listed["corpora"]) == list(CORPORA)
    assert list(listed["architectures"]) == list(ARCHITECTURES)
    assert list(listed["ties"]) == list(TIES)
    assert "quickstart" in listed["configs"] and len(listed["claims"]) > 0
    assert len(listed["runs"]) == 4 and all("finished, test perplexity" in text for text in listed["runs"].values())
    for kind, entries in listed.items():
        text = run("list", kind, "--results", trained_once / "results").stdout
        for name, description in entries.items():
            assert name in text and description in text
            assert description, f"{kind}: {name} is not described"


def test_list_of_one_documents_its_keys(run):
    text = run("list", "architectures", "lstm").stdout
    assert "layers" in text and "whole number, from 1 to 1,000 (needed)" in text and "Zaremba et al. 2014" in text
    assert "Numbers in a hidden vector." in text
    found = json.loads(run("list", "ties", "tied", "--json").stdout)
    assert found["keys"] == [{"name": "type", "values": "tied", "default": None, "description": "Names the tie."}]
    assert "arms:" in run("list", "configs", "quickstart").stdout
    assert {"sgd", "adamw"} <= json.loads(run("list", "optimizers", "--json").stdout)["optimizers"].keys()


def test_many_runs_are_a_line_for_each_arm(run, make_record, tmp_path):
    store = Store(tmp_path / "results")
    folders = []
    for seed in range(1, 12):
        for arm in ("tied", "untied"):
            record = make_record(arm, seed)
            folders.append(store.folder_of(record))
            write_record(record, folders[-1])
    (folders[0] / "record.json").write_text("")
    (folders[1] / "record.json").unlink()
    (folders[1] / "checkpoint.pt").touch()
    listed = run("list", "runs", "--results", store.root).stdout.splitlines()
    tied, untied = (next(line for line in listed if line.split()[0].endswith(f"/{arm}")) for arm in ("tied", "untied"))
    assert "1 unreadable, 10 finished, test perplexity" in tied and "1 interrupted, 10 finished" in untied
    assert len(listed) == 4 and "22 runs" in listed[-1] and "--json" in listed[-1]
    assert len(json.loads(run("list", "runs", "--json", "--results", store.root).stdout)["runs"]) == 22


@pytest.mark.parametrize(
    "asked", [("architectures", "gpt2"), ("blocks", "training"), ("corpora",), ("claims",)], ids=" ".join
)
def test_lists_fit_a_narrow_terminal_and_what_goes_on_stands_below_its_column(asked):
    screen, terminal = os.openpty()
    command = [sys.executable, "-m", "tiebench", "list", *asked]
    subprocess.run(command, stdout=terminal, env=os.environ | {"COLUMNS": "80"}, timeout=60, check=True)
    os.close(terminal)
    lines = read_screen(screen).splitlines()
    assert max(map(len, lines)) <= 80
    entries = [line for line in lines if line.startswith("  ")]
    column = len(re.match(r"  \S+ +", entries[0]).group())
    assert len(entries) > 5 and all(line[column] != " " and line[column - 1] == " " for line in entries)


def test_folders_with_long_names_stand_above_what_is_said_of_them(trained_once):
    screen, terminal = os.openpty()
    results = trained_once / "results"  # its path alone takes half of the screen
    command = [sys.executable, "-m", "tiebench", "list", "runs", "--results", str(results)]
    subprocess.run(command, stdout=terminal, env=os.environ | {"COLUMNS": "80"}, timeout=60, check=True)
    os.close(terminal)
    title, *lines = read_screen(screen).splitlines()
    assert title == "runs:" and len(lines) == 8
    assert all(line.startswith(f"  {results}") and "finished" not in line for line in lines[::2])
    assert all(line.startswith("      finished, test perplexity") for line in lines[1::2])


def test_experiments_stand_above_what_is_said_of_them():
    screen, terminal = os.openpty()
    command = [sys.executable, "-m", "tiebench", "list", "configs"]
    subprocess.run(command, stdout=terminal, env=os.environ | {"COLUMNS": "80"}, timeout=60, check=True)
    os.close(terminal)
    lines = read_screen(screen).splitlines()
    place = lines.index("  pytorch-examples-2017-200-40-epochs")
    assert lines[place + 1].startswith("      pytorch/examples in 2017, word_language_model")


def test_help_has_room_for_what_options_are_for():
    """On 80 columns, where a seed's range of 19 digits once took half the screen and was itself broken."""
    command = [sys.executable, "-m", "tiebench", "compare", "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "80"})
    assert re.search(r"--seed +N +Only this seed; may be repeated\. +│", answer.stdout)
    assert "[OPTIONS] [ARM]..." in answer.stdout


@pytest.mark.parametrize("seed", ["-1", str(2**63)])
def test_what_is_no_seed_is_refused(run, seed):
    assert "is no seed" in run("train", "quickstart", "--seed", seed, exit_code=2).stderr


def read_screen(screen: int) -> str:
    """What was written to a terminal that is closed by now."""
    parts = []
    with contextlib.suppress(OSError):  # Linux says the end so
        while part := os.read(screen, 65_536):
            parts.append(part)
    os.close(screen)
    return b"".join(parts).decode()


def test_list_tells_a_run_that_is_not_finished(run, trained):
    folder = trained / "results" / "tiny" / "tied" / "seed-1"
    (folder / "record.json").unlink()
    (folder / "checkpoint.pt").touch()
    listed = json.loads(run("list", "runs", "--json", "--results", trained / "results").stdout)["runs"]
    assert listed[str(folder)] == "interrupted"
    assert run("list", "runs", "--results", "nowhere").stdout == "runs: none\n"


def test_show_tells_all_of_a_run(run, trained_once, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # a narrow terminal cuts digests
    folder = trained_once / "results" / "tiny" / "tied" / "seed-1"
    record = read_record(folder)
    assert json.loads(run("show", folder, "--json").stdout) == record.model_dump(mode="json")
    text = run("show", folder).stdout
    for part in (
        "spec:",
        f"layers: {record.spec.architecture.layers}",
        "evaluations:",
        "checkpoint:",
        "usage:",
        "corpus:",
        "provenance:",
        record.corpus.checksum,
        record.provenance.started,
    ):
        assert part in text


def test_show_fits_a_narrow_terminal(run, trained_once, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folder = trained_once / "results" / "tiny" / "tied" / "seed-1"
    text = run("show", folder).stdout
    assert f"checksum: {read_record(folder).corpus.checksum[:12]}…" in text
    assert [line for line in text.splitlines() if len(line) > 80 and "/" not in line] == [], "paths are not broken"


def test_sample_writes_the_words_of_the_model(run, trained_once, tiny_corpus):
    folder = trained_once / "results" / "tiny" / "tied" / "seed-1"
    known = set(Path(tiny_corpus["train"]).read_text("utf-8").split()) | {"<unk>"}
    first, again, other = (run("sample", folder, "--tokens", "20", "--seed", str(seed)).stdout for seed in (1, 1, 2))
    assert first == again != other
    assert set(first.split()) <= known and len(first.split()) > 5
    word = max(known, key=len)
    found = json.loads(run("sample", folder, "--prompt", word, "--tokens", "3", "--json").stdout)
    assert found["text"].split()[0] == word == found["prompt"]
    likeliest = [run("sample", folder, "--tokens", "5", "--temperature", "0", "--seed", seed).stdout for seed in (1, 2)]
    assert likeliest[0] == likeliest[1]


# neighbours, inspect


def test_neighbours_stand_side_by_side(run, trained_once, tiny_corpus):
    word = Path(tiny_corpus["train"]).read_text("utf-8").split()[0]
    folders = {arm: trained_once / "results" / "tiny" / arm / "seed-1" for arm in ("untied", "tied")}
    (found,) = json.loads(run("neighbours", folders["untied"], word, "--top", "4", "--json").stdout)
    assert found["word"] == word and list(found["nearest"]) == ["input", "output"]
    for nearest in found["nearest"].values():
        cosines = [each["cosine"] for each in nearest]
        assert len(cosines) == 4 and cosines == sorted(cosines, reverse=True)
        assert word not in [each["token"] for each in nearest]
    assert found["nearest"]["input"] != found["nearest"]["output"]
    text = run("neighbours", folders["untied"], word, "<eos>").stdout
    assert f"nearest to {word}" in text and "nearest to <eos>" in text
    (tied,) = json.loads(run("neighbours", folders["tied"], word, "--json").stdout)
    assert list(tied["nearest"]) == ["tied"] and len(tied["nearest"]["tied"]) == 10
    answer = run("neighbours", folders["tied"], f"{word}{word}q", exit_code=2)
    assert "the model has no word" in answer.stderr and "training text" in answer.stderr


def test_inspect_measures_both_embeddings_and_draws_them(run, trained_once, tmp_path):
    folders = {arm: trained_once / "results" / "tiny" / arm / "seed-1" for arm in ("untied", "tied")}
    found = json.loads(run("inspect", folders["untied"], "--json", "--plot", tmp_path / "norms.svg").stdout)
    assert list(found["matrices"]) == ["input", "output"] and 0 < found["alike"]["linear_cka"] < 1
    for table in found["matrices"].values():
        assert 1 < table["effective_rank"] <= table["width"] == 16 and 0 < table["isoscore"] < 1
        assert sum(part["num_rows"] for part in table["norms"]) == table["num_rows"]
    record = read_record(folders["untied"])
    assert found["num_untrained"] + table["num_rows"] == record.vocabulary.size
    assert (tmp_path / "norms.svg").exists()
    text = run("inspect", folders["tied"]).stdout
    assert "tied" in text and "Input beside output" not in text and "in training" in text


def test_inspect_without_the_corpus_says_what_is_missing(run, trained, tmp_path):
    folder = trained / "results" / "tiny" / "tied" / "seed-1"
    content = json.loads((folder / "record.json").read_text("utf-8"))
    content["spec"]["corpus"]["train"] = str(tmp_path / "gone.txt")
    content["provenance"].pop(DIGEST_KEY)
    (folder / "record.json").write_text(json.dumps(content), "utf-8")
    answer = run("inspect", folder)
    assert "is not known: the train file" in answer.stderr
    assert "IsoScore" in answer.stdout and "in training" not in answer.stdout


@pytest.mark.parametrize("command", [("neighbours", "the"), ("inspect",)])
def test_what_needs_weights_says_so(run, trained, command):
    folder = trained / "results" / "tiny" / "tied" / "seed-1"
    (folder / "weights.safetensors").unlink()
    name, *words = command
    words = ["<eos>" for _ in words]
    assert "has no weights" in run(name, folder, *words, exit_code=1).stderr


# quantise


def test_quantise_scores_each_rounding_on_the_validation_split(run, trained_once):
    folders = [trained_once / "results" / "tiny" / arm / "seed-1" for arm in ("untied", "tied")]
    answer = run("quantise", *folders, "--bits", "4", "--json")
    found = json.loads(answer.stdout)
    cases = [(score["arm"], score["embedding"], score["bits"]) for score in found]
    assert cases == [
        *(("untied", name, bits) for name, bits in (("none", None), ("input", 4), ("output", 4), ("both", 4))),
        *(("tied", name, bits) for name, bits in (("none", None), ("tied", 4))),
    ]
    for score, folder in ((found[0], folders[0]), (found[4], folders[1])):
        assert score["perplexity"] == pytest.approx(read_record(folder).evaluations["valid"].perplexity, rel=1e-5)
    assert answer.stderr.startswith("[1/4] untied seed 1: as trained")
    text = run("quantise", folders[1], "--bits", "8", "-q")
    assert text.stderr == "" and "tied/1" in text.stdout and "validation split" in text.stdout
    assert "choose 8, 6, 4" in run("quantise", folders[1], "--bits", "5", exit_code=2).stderr
