"""What a user can get wrong, on purpose: the exit code, what is said, and what is suggested. Never a traceback.

The mistakes themselves stand in `mistakes.yaml`.
"""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tiebench.cli.app import app
from tiebench.results.record import DIGEST_KEY, read_record

MISTAKES = yaml.safe_load(Path(__file__).with_name("mistakes.yaml").read_text("utf-8"))


@pytest.fixture
def run(monkeypatch, tmp_path) -> Callable[..., Any]:
    """Run a command line in the test's folder; the answer's `output` has both streams."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


def check_answer(answer, *, exit_code: int, says: list[str] | tuple[str, ...]) -> None:
    assert answer.exception is None or isinstance(answer.exception, SystemExit), repr(answer.exception)
    for fragment in says:
        assert fragment in answer.output
    assert answer.exit_code == exit_code, answer.output
    assert "Traceback" not in answer.output
    last = [line for line in answer.stderr.splitlines() if line.startswith(("error: ", "Usage: "))]
    assert len(last) == 1, "an error is said once, on stderr"


def lay_into(content: dict[str, Any], changes: dict[str, Any]) -> None:
    for dotted, value in changes.items():
        *path, last = dotted.split(".")
        block = content
        for key in path:
            block = block.setdefault(key, {})
        if value is None:
            del block[last]
        else:
            block[last] = value


def test_there_are_mistakes():
    assert len(MISTAKES["files"]) > 50 and len(MISTAKES["commands"]) > 25


@pytest.mark.parametrize("name", MISTAKES["files"])
def test_mistakes_in_files(name, run, write_experiment):
    mistake, config = MISTAKES["files"][name], write_experiment()
    content = yaml.safe_load(config.read_text("utf-8"))
    lay_into(content, mistake.get("set", {}))
    config.write_text(mistake.get("text", yaml.safe_dump(content, sort_keys=False)), "utf-8")
    typed = shlex.split(mistake.get("typed", "check CONFIG").replace("CONFIG", str(config)))
    check_answer(run(*typed), exit_code=mistake.get("exit", 2), says=mistake["say"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", ("the valid split has no words",)),
        (b"\n \n", ("the valid split has no words",)),
        (b"good\nbad \xff\n", ("line 2", "not UTF-8", "0xff", "iconv")),
    ],
    ids=["empty", "blank", "not UTF-8"],
)
def test_text_that_cannot_be_used(content, says, run, write_experiment, tmp_path):
    (tmp_path / "odd.txt").write_bytes(content)
    answer = run("check", write_experiment(), "--set", f"corpus.valid={tmp_path / 'odd.txt'}")
    check_answer(answer, exit_code=1, says=(*says, "odd.txt"))


def test_everything_that_is_wrong_is_said_at_once(run, write_experiment):
    config = write_experiment(seeds=[-1], tie="tide", arms=None)
    content = yaml.safe_load(config.read_text("utf-8"))
    lay_into(content, {"training.window": "x", "embedding.unknown": 1, "training.optimizer.type": "adam"})
    config.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    answer = run("check", config)
    fragments = ("5 problems", "seeds:", "tie.type", "training.window", "embedding.unknown", "training.optimizer.type")
    check_answer(answer, exit_code=2, says=fragments)
    lines = config.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip() == "window: x":
            assert f"{config}:{number}: training.window" in answer.output


@pytest.mark.parametrize("name", MISTAKES["commands"])
def test_mistakes_in_commands(name, run, trained_once):
    mistake, results = MISTAKES["commands"][name], trained_once / "results"
    places = {"CONFIG": trained_once / "tiny.yaml", "RESULTS": results, "RUN": results / "tiny" / "tied" / "seed-1"}
    typed = [str(places.get(word, word)) for word in shlex.split(mistake["typed"])]
    check_answer(run(*typed), exit_code=2, says=mistake["say"])
    assert not Path("results").exists(), "a mistake left a folder behind"


@pytest.mark.parametrize("target", ["nowhere", "results"], ids=["to nothing", "to itself"])
def test_results_that_are_a_link_to_nothing(target, run, tmp_path):
    (tmp_path / "results").symlink_to(target)
    check_answer(run("list", "runs"), exit_code=2, says=("results is a link to nothing", "name a folder"))


def find_run(trained: Path) -> Path:
    return trained / "results" / "tiny" / "tied" / "seed-1"


def test_a_folder_with_the_runs_of_another_spec(run, trained):
    arguments = ("train", trained / "tiny.yaml", "--results", trained / "results")
    answer = run(*arguments, "--set", "training.epochs=1")
    says = ("holds another run", "training.epochs is 2 there and 1 here", "--results", "--set name=", "--force")
    check_answer(answer, exit_code=2, says=says)
    assert run(*arguments, "--set", "training.epochs=1", "--set", "name=other").exit_code == 0


def test_runs_on_a_text_that_has_changed(run, trained, tmp_path):
    config = yaml.safe_load((trained / "tiny.yaml").read_text("utf-8"))
    (tmp_path / "grown.txt").write_text(Path(config["corpus"]["train"]).read_text("utf-8") + "more\n", "utf-8")
    answer = run(
        "train", trained / "tiny.yaml", "--results", trained / "results", "--set", f"corpus.train={tmp_path}/grown.txt"
    )
    check_answer(answer, exit_code=2, says=("was trained on other text", "--force"))


def test_arms_that_differ_in_more_than_they_declare(run, trained):
    file = find_run(trained).parent / "seed-2" / "record.json"
    for file in find_run(trained).parent.glob("seed-*/record.json"):
        record = json.loads(file.read_text("utf-8"))
        record["spec"]["training"]["window"] = 11
        record["provenance"].pop(DIGEST_KEY)
        file.write_text(json.dumps(record), "utf-8")
    answer = run("compare", "untied", "tied", "--results", trained / "results")
    check_answer(
        answer, exit_code=2, says=("not comparable: training.window differs", "untied: 10", "tied: 11", "arms:")
    )


@pytest.mark.parametrize("command", ["show", "train", "compare", "list"])
@pytest.mark.parametrize(
    "content", ["{", "{}", '{"schema_version": 99}'], ids=["no JSON", "no record", "a later version"]
)
def test_a_damaged_record(command, content, run, trained):
    (find_run(trained) / "record.json").write_text(content, "utf-8")
    results = ("--results", trained / "results")
    arguments = {
        "show": ("show", find_run(trained)),
        "train": ("train", trained / "tiny.yaml", *results),
        "compare": ("compare", "tied", "untied", *results),
        "list": ("list", "runs", *results),
    }[command]
    says = ("unknown schema version 99",) if "99" in content else ("record.json is damaged",)
    answer = run(*arguments)
    if command == "show":
        check_answer(answer, exit_code=1, says=(*says, "train"))
    else:
        assert answer.exit_code == 0 and all(part in answer.stderr for part in ("warning: ", *says, "train"))
        assert (read_record(find_run(trained)).arm == "tied") if command == "train" else "untied" in answer.stdout


def test_a_damaged_checkpoint(run, trained):
    (find_run(trained) / "record.json").unlink()
    (find_run(trained) / "checkpoint.pt").write_bytes(b"half a checkpoint")
    answer = run("train", trained / "tiny.yaml", "--results", trained / "results")
    check_answer(answer, exit_code=1, says=("checkpoint.pt is damaged", "--force"))
    assert run("train", trained / "tiny.yaml", "--results", trained / "results", "--force").exit_code == 0


@pytest.mark.parametrize("damage", ["missing", "damaged", "of the other tie"])
def test_sampling_needs_the_run_s_own_weights(damage, run, trained):
    weights = find_run(trained) / "weights.safetensors"
    says = {
        "missing": ("has no weights",),
        "damaged": ("is damaged",),
        "of the other tie": ("is damaged, or of another run",),
    }[damage]
    if damage == "missing":
        weights.unlink()
    elif damage == "damaged":
        weights.write_bytes(weights.read_bytes()[:100])
    else:
        weights.write_bytes((trained / "results" / "tiny" / "untied" / "seed-1" / weights.name).read_bytes())
    check_answer(run("sample", find_run(trained)), exit_code=1, says=(*says, "train"))


def test_test_nats_of_another_run_are_not_compared(run, trained):
    nats = find_run(trained) / "test-nll.npy"
    nats.write_bytes((trained / "results" / "tiny" / "untied" / "seed-1" / nats.name).read_bytes())
    answer = run("compare", "tied", "untied", "--seed", "1", "--results", trained / "results")
    check_answer(answer, exit_code=1, says=("test-nll.npy is damaged", "SHA-256 is not the one in the record"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("embedding.init.uniform=1e38", ("the loss became", "at step 1 ", "there is no checkpoint yet")),
        ("training.optimizer.learning_rate=1e6", ("the validation perplexity became inf", "at step 24 ")),
    ],
)
def test_numbers_that_run_away(change, says, run, write_experiment):
    config = write_experiment(embedding={"init": {"uniform": 0.1}, "output_bias": True})
    answer = run("train", config, "--arm", "untied", "--set", change, "--quiet")
    check_answer(
        answer,
        exit_code=1,
        says=(*says, "tiny/untied/seed-1", "results/tiny/untied/seed-1", "learning_rate", "--force"),
    )
    assert not Path("results/tiny/untied/seed-1/record.json").exists()
