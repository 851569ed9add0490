"""`tiebench translate` on a run that was trained for a second: files, standard input, JSON, and what it refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tiebench.analysis.inspection import count_training
from tiebench.cli.app import app
from tiebench.results.record import read_record

pytest.importorskip("sacrebleu", reason="needs the extra: pip install 'tiebench[translation]'")
BLOCKS = {
    "vocabulary": {"type": "bpe", "size": 300},
    "architecture": {"type": "encoder_decoder", "layers": 1, "width": 16, "heads": 2},
    "arms": {"untied": {"tie": "untied"}, "three-way": {"tie": "three-way"}},
    "training": {
        "epochs": 1,
        "batch_size": 8,
        "window": 80,
        "optimizer": {"type": "adamw", "learning_rate": 0.01},
    },
    "evaluation": {"beam": 2},
}


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments, stdin: bytes | None = None, exit_code: int = 0):
        answer = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        assert answer.exit_code == exit_code, answer.output
        return answer

    return invoke


@pytest.fixture
def folder(run, write_experiment, parallel_corpus, tmp_path) -> Path:
    run("train", write_experiment(corpus=parallel_corpus, **BLOCKS), "--jobs", "1", "--device", "cpu")
    return tmp_path / "results" / "tiny" / "three-way" / "seed-1"


def test_it_translates_a_file_and_standard_input_line_by_line(run, folder, parallel_corpus, tmp_path):
    source = Path(parallel_corpus["source"]["test"])
    kept = (folder / "test-translations.txt").read_text("utf-8")
    assert run("translate", folder, source).stdout == kept, "as the run itself did"
    assert run("translate", folder, stdin=source.read_bytes()).stdout == kept
    found = json.loads(run("translate", folder, source, "--json").stdout)["translations"]
    assert [pair["source"] for pair in found] == source.read_text("utf-8").splitlines()
    assert [pair["translation"] for pair in found] == kept.splitlines()
    (tmp_path / "odd.txt").write_text("\n\x1b[31mred ünseen\n", "utf-8")
    assert "\x1b" not in run("translate", folder, "odd.txt").stdout


def test_it_refuses_what_is_no_text_and_a_model_that_does_not_translate(run, folder, tmp_path):
    assert "no such file: nothing.txt" in run("translate", folder, "nothing.txt", exit_code=2).output
    assert "not UTF-8" in run("translate", folder, stdin=b"caf\xe9\n", exit_code=2).output
    assert "writes no text of its own" in run("sample", folder, exit_code=2).output
    (folder / "weights.safetensors").unlink()
    assert "has no weights" in run("translate", folder, stdin=b"a\n", exit_code=1).output


def test_the_other_commands_know_what_to_do_with_a_translating_run(run, folder, parallel_corpus, tmp_path):
    assert "tiny" in run("list", "runs").stdout
    shown = run("show", folder).stdout
    assert "translation:" in shown and "nrefs:1" in shown and "beam: 2" in shown
    compared = run("compare", "untied", "three-way", "--no-train").stdout
    assert "three-way" in compared
    assert "encoder_decoder" in run("export", folder, "hf", exit_code=2).output
    run("inspect", folder, "--data-dir", tmp_path)


def test_a_row_of_both_languages_is_counted_in_both(folder):
    counted = {}
    for arm in ("untied", "three-way"):
        place = folder.parents[1] / arm / folder.name
        counts, reason = count_training(read_record(place), place, data_dir=None)
        assert counts is not None, reason
        counted[arm] = counts.sum()
    assert counted["untied"] == read_record(folder).corpus.splits["train"].tokens
    assert counted["three-way"] > 1.9 * counted["untied"], "the source has as many words as the target here"
