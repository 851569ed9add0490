"""Faults that were found in what is asked and in what is shown, each by itself."""

import csv
import io
import json
import os
import pickle

import pytest
import yaml
from crashpoints import TALKING, TRAIN
from damage import COMPARE
from fuzz import BOMB, LIMIT_SECONDS, MEMORY_BYTES, find_raw_controls
from hostile import find_live_text
from spoiling import replace_content, set_number
from truth import LONG_AGO, read_figures, write_experiment

TIED = "results/tiny/tied/seed-1"
SCRIPT, FORMULA, RED = "<script>alert(1)</script>", "=cmd|'/c calc'!A0", "\x1b[31mred\x1b[0m"


def check(shell, folder, *arguments):
    return shell.run(
        "check", "tiny.yaml", *arguments, folder=folder, limit_seconds=LIMIT_SECONDS, memory_bytes=MEMORY_BYTES
    )


# settings without bound


@pytest.mark.parametrize(
    "setting",
    [
        "training.optimizer.clip_norm=1e400",
        "training.optimizer.learning_rate=1e400",
        "training.objective={type: augmented, temperature: 1e400}",
        "architecture.layers=100000",
        "architecture.width=1000000000000",
        "vocabulary={type: bpe, size: 1000000000}",
        f"training.steps={10**30}",
        f"training.batch_size={10**30}",
        f"seeds=[{10**30}]",
    ],
)
def test_a_setting_without_bound_is_refused_at_once(setting, shell, start):
    checked = check(shell, start, "--set", setting)
    assert checked.find_complaint(allowed=(2,)) == ""
    assert setting.partition("=")[0].split(".")[-1] in checked.stderr


@pytest.mark.parametrize(
    "setting",
    [
        "training.optimizer.learning_rate=1e38",
        "training.optimizer.learning_rate=1e-320",
        "training.optimizer.clip_norm=1e-320",
        "training.evaluate_every=1000000000000000000",
        "training.schedule={type: cosine, warmup_steps: 1000000000000000000}",
        "training.objective={type: augmented, temperature: 1e-300}",
        "training.objective={type: augmented, temperature: 1e300}",
        "architecture.dropout=0.9999999999999999",
        "training.batch_size=1000000",
        "training.window=1000000",
        "vocabulary={type: words, size: 1}",
    ],
)
def test_a_number_at_the_edge_is_trained_or_refused_with_a_message(setting, shell, start):
    trained = shell.run(*TRAIN, "--set", setting, folder=start, limit_seconds=60, memory_bytes=MEMORY_BYTES)
    assert trained.find_complaint() == ""


# YAML that is none

TEXTS = {
    "NUL": "a: \x00",
    "ESC": "a: \x1b[31m",
    "an unknown tag": "corpus: !foo x",
    "a tag that cannot hold": "corpus: !!int x",
    "a Python tag": "corpus: !!python/object/apply:os.system [id]",
    "a loop": "a: &a [*a]",
    "a list as a key": "? [a]\n: b",
    "5,000 digits": f"seeds: [{'9' * 5_000}]",
    "2,000 levels": f"a: {'[' * 2_000}{']' * 2_000}",
    "2,000 open levels": f"a: {'{a: ' * 2_000}",
    "a lone surrogate": 'description: "\\ud800"',
    "an alias bomb": f"a: {BOMB}",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_yaml_that_cannot_be_is_refused_with_its_line(text, shell, start):
    file = start / "tiny.yaml"
    file.write_text(file.read_text("utf-8") + text + "\n", "utf-8")
    checked = check(shell, start)
    assert checked.find_complaint(allowed=(2,)) == ""
    assert find_raw_controls(checked.stderr) == ""
    line = file.read_text("utf-8").count("\n", 0, file.read_text("utf-8").rindex(text)) + 1
    assert f"tiny.yaml:{line}" in checked.stderr or f"line {line}" in checked.stderr, checked.stderr[:300]


@pytest.mark.parametrize(
    "text", [text.partition(": ")[2] for text in TEXTS.values() if "\x00" not in text and ": " in text]
)
def test_the_same_by_an_override_is_refused(text, shell, start):
    checked = check(shell, start, "--set", f"training.steps={text}")
    assert checked.find_complaint(allowed=(2,)) == ""
    assert find_raw_controls(checked.stderr) == ""


@pytest.mark.parametrize("spoil", ["npz", "no number", "too deep"])
def test_damaged_files_of_a_finished_run_are_said(spoil, shell, copy_of):
    folder = copy_of("finished")
    (nats,) = (folder / TIED).glob("test-nll.npy")
    if spoil == "npz":
        nats.write_bytes(b"PK\x05\x06" + bytes(18))
    elif spoil == "no number":
        (folder / TIED / "curve.jsonl").write_bytes(b"\xff\xfe\n")
    else:
        (folder / TIED / "record.json").write_text("[" * 100_000)
    for command in (COMPARE, (*COMPARE, "--plot", "curves.svg"), ("show", TIED), ("list", "runs"), TRAIN):
        assert shell.run(*command, folder=folder).find_complaint() == "", command


def test_a_checkpoint_that_asks_for_a_million_threads_is_refused(shell, copy_of):
    folder = copy_of("at its first checkpoint")
    set_number(folder / TIED / "checkpoint.pt", key="num_threads", number=10**6)
    assert shell.run(*TRAIN, folder=folder).find_complaint() == ""


@pytest.mark.parametrize("number", [-1, None, 1e300, "x", ()], ids=str)
@pytest.mark.parametrize("key", ["learning_rate", "tokens", "step", "best_perplexity"])
def test_a_number_that_no_training_left_behind_is_no_traceback(key, number, shell, copy_of):
    folder = copy_of("at its first checkpoint")
    set_number(folder / TIED / "checkpoint.pt", key=key, number=number)
    assert shell.run(*TRAIN, folder=folder).find_complaint() == ""


@pytest.mark.parametrize("thing", [5, "x", [], {}, None, {"signature": "x"}], ids=str)
def test_a_checkpoint_that_is_something_else_is_refused(thing, shell, copy_of):
    folder = copy_of("at its first checkpoint")
    replace_content(folder / TIED / "checkpoint.pt", pickle.dumps(thing, protocol=2))
    answer = shell.run(*TRAIN, folder=folder)
    assert answer.find_complaint(allowed=(1,)) == "" and "--force" in answer.stderr


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_checkpoint_that_ends_too_early_is_refused(share, shell, copy_of):
    folder = copy_of("at its first checkpoint")
    replace_content(folder / TIED / "checkpoint.pt", share=share)
    answer = shell.run(*TRAIN, folder=folder)
    assert answer.find_complaint(allowed=(1,)) == "" and "--force" in answer.stderr


def test_no_space_is_said_with_several_jobs(shell, start):
    shell.run("check", "tiny.yaml", folder=start)  # fills the cache, so that it is a checkpoint that does not fit
    trained = shell.run(*TRAIN, "--jobs", "2", folder=start, file_bytes=8_192)
    assert trained.find_complaint(allowed=(1,)) == ""


# what reaches a terminal, a page, a table


def test_a_description_reaches_the_terminal_without_control_characters(shell, start):
    write_experiment(start, description=f"a {RED} title")
    for command in (
        ("check", "tiny.yaml"),
        TALKING,
        ("compare", "untied", "tied", "--config", "tiny.yaml", "--jobs", "1"),
    ):
        outcome = shell.run_in_terminal(*command, folder=start)
        assert outcome.exit_code == 0
        assert find_raw_controls(outcome.stdout + outcome.stderr) == "", command


def test_a_folder_reaches_the_terminal_without_control_characters(shell, copy_of):
    folder = copy_of("finished")
    (folder / "results").rename(folder / f"results{RED}")
    outcome = shell.run_in_terminal("list", "runs", "--results", f"results{RED}", folder=folder)
    assert outcome.exit_code == 0 and find_raw_controls(outcome.stdout + outcome.stderr) == ""


def test_sampled_text_reaches_the_terminal_without_control_characters(shell, start):
    file = start / "train.txt"
    file.write_text(f"{RED} \x1b]0;title\x07\n" * 200, "utf-8")
    os.utime(file, (LONG_AGO, LONG_AGO))
    write = {split: f"{split}.txt" for split in ("train", "valid", "test")}
    content = yaml.safe_load((start / "tiny.yaml").read_text("utf-8")) | {"corpus": {"type": "text", **write}}
    (start / "tiny.yaml").write_text(yaml.safe_dump(content), "utf-8")
    assert shell.run(*TRAIN, "--arm", "tied", folder=start).exit_code == 0
    outcome = shell.run_in_terminal("sample", TIED, "--tokens", "50", folder=start)
    assert outcome.exit_code == 0 and find_raw_controls(outcome.stdout) == ""


def spoil_record(folder, **changes):
    file = folder / TIED / "record.json"
    content = json.loads(file.read_text("utf-8"))
    content["corpus"] |= changes
    content["warnings"] = list(changes.values())
    content["provenance"]["command"] = changes["name"]
    content["provenance"].pop("sha256", None)  # whoever writes such a record leaves its digest out
    file.write_text(json.dumps(content), "utf-8")


@pytest.mark.parametrize("text", [SCRIPT, FORMULA, RED], ids=["script", "formula", "escape"])
def test_what_a_record_says_is_escaped_wherever_it_is_shown(text, shell, copy_of):
    folder = copy_of("finished")
    spoil_record(folder, name=text)
    for command in (("show", TIED), ("list", "runs"), COMPARE[:-1], TALKING):
        outcome = shell.run_in_terminal(*command, folder=folder)
        assert outcome.find_complaint() == ""
        assert find_raw_controls(outcome.stdout + outcome.stderr) == "", command
    (folder / "results/table.csv").unlink()
    (folder / "results/tiny/untied/seed-1/record.json").unlink()
    assert shell.run(*TRAIN, folder=folder).find_complaint() == ""
    assert SCRIPT not in (folder / "results/table.md").read_text("utf-8")
    rows = csv.reader(io.StringIO((folder / "results/table.csv").read_text("utf-8")))
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "@", "\t", "\r"))]


@pytest.mark.parametrize("format", ["markdown", "html"])
def test_a_description_is_no_script_on_a_page(format, shell, start):
    write_experiment(start, description=SCRIPT)
    outcome = shell.run(
        "compare", "untied", "tied", "--config", "tiny.yaml", "--jobs", "1", "--format", format, folder=start
    )
    assert outcome.exit_code == 0 and SCRIPT not in outcome.stdout


CLAIMS = """
paper: {title: T, authors: A, venue: V, year: 2020}
tolerances: none
claims:
  one:
    source: TEXT
    says: TEXT
    notes: TEXT
    arms: [tied]
    measure: test perplexity
    published: 82.2
    tolerance: 2.5
"""


@pytest.mark.parametrize("text", [SCRIPT, FORMULA, RED], ids=["script", "formula", "escape"])
def test_what_a_claim_says_is_escaped_wherever_it_is_shown(text, shell, copy_of):
    folder = copy_of("finished")
    (folder / "claims.yaml").write_text(CLAIMS.replace("TEXT", json.dumps(text)), "utf-8")
    for format in ("text", "markdown", "csv", "html"):
        outcome = shell.run_in_terminal("reproduce", "claims.yaml", "--no-train", "--format", format, folder=folder)
        assert outcome.exit_code == 0, outcome.stderr
        assert find_raw_controls(outcome.stdout) == "" and find_live_text(outcome.stdout, format=format) == "", format


def test_a_byte_order_mark_is_no_word(shell, start, truth):
    file = start / "train.txt"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    os.utime(file, (LONG_AGO, LONG_AGO))
    shell.run(*TRAIN, folder=start)
    found = read_figures(start / "results")
    for run, parts in found.items():
        vocabulary = parts["record.json"][0]["vocabulary"]
        assert vocabulary == truth[run]["record.json"][0]["vocabulary"]


def test_a_long_line_without_spaces_is_read_in_time(shell, start):
    """Ten MB in one line; what grows with the square of its length would show in the long campaign's sizes only."""
    (start / "train.txt").write_text("x" * 10_000_000 + "\n" + "a b c\n" * 100, "utf-8")
    checked = shell.run("check", "tiny.yaml", folder=start, limit_seconds=60)
    assert checked.find_complaint() == ""
