"""What a user can get wrong, on purpose: the exit code, what is said, and what is suggested. Never a traceback."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tiebench import cli

SGD = {"type": "sgd", "learning_rate": 1.0}
GPT2 = {"type": "gpt2", "layers": 1, "width": 16, "heads": 2, "positions": 16}


@dataclass(frozen=True)
class Mistake:
    """Values by dotted path laid into a sound experiment (None removes), or another text; and what must be said."""

    says: tuple[str, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ("check", "CONFIG")
    text: Callable[[str], str] | str | None = None
    exit_code: int = 2


def edit(**changes: Any) -> dict[str, Any]:
    """`training__steps=1` as `{"training.steps": 1}`."""
    return {path.replace("__", "."): value for path, value in changes.items()}


IN_FILES = {
    # keys
    "unknown key at the top": Mistake(("tiny.yaml:", "traning", "unknown key", "did you mean 'training'"), {"traning": {}}),
    "unknown key in training": Mistake(("training.windows", "did you mean 'window'"), {"training.windows": 3}),
    "unknown key in the optimizer": Mistake(("training.optimizer.lr", "unknown key", "learning_rate"), {"training.optimizer.lr": 3}),
    "unknown key in the schedule": Mistake(("training.schedule.factors", "did you mean 'factor'"), {"training.schedule": {"type": "plateau", "factors": 0.5}}),
    "unknown key in the lexicon": Mistake(("lexicon.output_bia", "did you mean 'output_bias'"), {"lexicon.output_bia": True}),
    "unknown key in an init": Mistake(("lexicon.init.unifrm", "did you mean 'uniform'"), {"lexicon.init": {"unifrm": 0.1}}),
    "unknown key in the projection": Mistake(("lexicon.projection.penality", "did you mean 'penalty'"), {"lexicon.projection": {"penality": 0.1}}),
    "unknown key in the architecture": Mistake(("architecture.hidden", "unknown key", "width"), {"architecture.hidden": 3}),
    "unknown key in the tie": Mistake(("tie.strength", "unknown key"), {"arms": None, "tie": {"type": "tied", "strength": 1}}),
    "unknown key in the corpus": Mistake(("corpus.tests", "did you mean 'test'"), {"corpus.tests": "x"}),
    "unknown key in the evaluation": Mistake(("evaluation.contxt", "did you mean 'context'"), {"evaluation.contxt": 3}),
    "unknown key in an arm": Mistake(("arms.tied.lexicn", "did you mean 'lexicon'"), {"arms.tied.lexicn": {}}),
    "unknown key in a block of an arm": Mistake(("tiny.yaml:", "arms.tied.lexicon.widht", "did you mean 'width'"), {"arms.tied.lexicon": {"widht": 3}}),
    "missing key": Mistake(("training.batch_size", "this key is needed"), {"training.batch_size": None}),
    "missing block": Mistake(("training", "this key is needed"), {"training": None}),
    "missing corpus": Mistake(("corpus", "this key is needed", "ptb"), {"corpus": None}),
    "missing tie": Mistake(("tie", "this key is needed"), {"arms": None}),
    "key twice": Mistake(("tiny.yaml:", "tie stands twice", "first on line", "keep one"), text=lambda text: f"tie: true\n{text}tie: false\n"),
    # values
    "text for a number": Mistake(("training.window", "found 'ten'", "a whole number"), {"training.window": "ten"}),
    "fraction for a count": Mistake(("training.window", "found 2.5", "a whole number"), {"training.window": 2.5}),
    "negative count": Mistake(("training.batch_size", "found -4", "greater than 0"), {"training.batch_size": -4}),
    "word for a switch": Mistake(("lexicon.output_bias", "found 'yes'", "true or false"), {"lexicon.output_bias": "yes"}),
    "boolean for a number": Mistake(("training.optimizer.learning_rate", "found True"), {"training.optimizer.learning_rate": True}),
    "number for a block": Mistake(("training.optimizer", "found 3", "a block of"), {"training.optimizer": 3}),
    "dropout of one": Mistake(("architecture.dropout", "found 1.0", "less than 1"), {"architecture.dropout": 1.0}),
    "two budgets": Mistake(("training", "exactly one budget", "epochs and steps"), {"training.steps": 3}),
    "no budget": Mistake(("training", "exactly one budget", "found none"), {"training.epochs": None}),
    "two inits": Mistake(("lexicon.init", "exactly one of 'uniform' and 'normal'"), {"lexicon.init": {"uniform": 0.1, "normal": 0.1}}),
    "micro-batches that do not fit": Mistake(("accumulate (3) must divide batch_size (4)",), {"training.accumulate": 3}),
    "seeds that are no list": Mistake(("seeds", "found 3", "a list of whole numbers"), {"seeds": 3}),
    "a seed twice": Mistake(("seeds", "each seed once"), {"seeds": [1, 1]}),
    "no arms": Mistake(("arms", "at least one arm"), {"arms": {}}),
    "an arm that is no block": Mistake(("arms.tied", "found True", "what differs"), {"arms.tied": True}),
    "an arm that cannot be a folder": Mistake(("arms", "My Arm", "as it becomes a folder"), {"arms": {"My Arm": {"tie": True}}}),
    "a name that cannot be a folder": Mistake(("name", "a/b", "as it becomes a folder"), {"name": "a/b"}),
    # names
    "unknown tie": Mistake(("tie.type", "found 'tide'", "did you mean 'tied'"), {"arms": None, "tie": {"type": "tide"}}),
    "tie that is a word": Mistake(("tie", "did you mean 'untied'"), {"arms": None, "tie": "unted"}),
    "unknown architecture": Mistake(("architecture.type", "did you mean 'lstm'"), {"architecture.type": "lstms"}),
    "unknown corpus": Mistake(("corpus", "did you mean 'ptb'"), {"corpus": "pbt"}),
    "unknown optimizer": Mistake(("training.optimizer", "found 'adam'", "did you mean 'adamw'"), {"training.optimizer.type": "adam"}),
    "unknown schedule": Mistake(("training.schedule", "did you mean 'cosine'"), {"training.schedule": {"type": "cosin"}}),
    "optimizer without a type": Mistake(("training.optimizer", "needs a `type`"), {"training.optimizer": {"learning_rate": 1.0}}),
    "unknown vocabulary": Mistake(("vocabulary", "did you mean 'words'"), {"vocabulary": "word"}),
    # what only the parts together make wrong
    "heads that do not divide the width": Mistake(("heads (3) must divide width (16)",), {"architecture": GPT2 | {"heads": 3}}),
    "window beyond the positions": Mistake(("training.window is 17", "at most 16", "lower training.window"), {"architecture": GPT2, "training.window": 17}),
    "context beyond the positions": Mistake(("evaluation.context is 17", "at most 16"), {"architecture": GPT2, "evaluation.context": 17}),
    "context for an lstm": Mistake(("evaluation.context has no meaning", "state is carried", "remove"), {"evaluation.context": 5}),
    "stride beyond the context": Mistake(("stride (9) must not exceed context (5)",), {"architecture": GPT2, "evaluation": {"context": 5, "stride": 9}}),
    "stride beyond the window": Mistake(("stride", "12", "10"), {"architecture": GPT2, "evaluation": {"stride": 12}}),
    "output_init of a tied arm": Mistake(("output_init", "no output table of its own", "untied"), {"lexicon.output_init": {"normal": 0.1}}),
    "batches larger than the text": Mistake(("too few for one batch of 4000 x 10", "lower training.batch_size"), {"training.batch_size": 4000}, exit_code=1),
    # files
    "no mapping": Mistake(("is not an experiment",), text="- a\n- b\n"),
    "an empty file": Mistake(("is not an experiment",), text=""),
    "bad YAML": Mistake(("is not YAML", "line 2", "indentation"), text="training: {a: 1\nseeds: [1]\n"),
    "a tab": Mistake(("is not YAML", "line 2", "tab"), text="training:\n\tepochs: 1\n"),
    "missing file": Mistake(("no such file: nowhere.yaml", "quickstart"), arguments=("check", "nowhere.yaml")),
    "unknown bundled name": Mistake(("no file and no bundled experiment is called 'quikstart'", "did you mean 'quickstart'"), arguments=("check", "quikstart")),
    "missing corpus file": Mistake(("train file", "not found", "nowhere.txt", "corpus.train"), {"corpus.train": "nowhere.txt"}, exit_code=1),
    "missing data folder": Mistake(("nowhere does not exist", "--data-dir"), arguments=("check", "CONFIG", "--data-dir", "nowhere")),
}


@pytest.fixture
def run(monkeypatch, tmp_path) -> Callable[..., Any]:
    """Run a command line in the test's folder; the answer's `output` has both streams."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str):
        return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])

    return invoke


def check_answer(answer, *, exit_code: int, says: tuple[str, ...]) -> None:
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


@pytest.mark.parametrize("name", IN_FILES)
def test_mistakes_in_files(name, run, write_experiment):
    mistake, config = IN_FILES[name], write_experiment()
    content = yaml.safe_load(config.read_text("utf-8"))
    lay_into(content, mistake.changes)
    text = yaml.safe_dump(content, sort_keys=False)
    if mistake.text is not None:
        text = mistake.text if isinstance(mistake.text, str) else mistake.text(text)
    config.write_text(text, "utf-8")
    arguments = [str(config) if argument == "CONFIG" else argument for argument in mistake.arguments]
    check_answer(run(*arguments), exit_code=mistake.exit_code, says=mistake.says)


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
    lay_into(content, {"training.window": "x", "lexicon.unknown": 1, "training.optimizer.type": "adam"})
    config.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    answer = run("check", config)
    fragments = ("5 problems", "seeds:", "tie.type", "training.window", "lexicon.unknown", "training.optimizer.type")
    check_answer(answer, exit_code=2, says=fragments)
    lines = config.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip() == "window: x":
            assert f"{config}:{number}: training.window" in answer.output


IN_COMMANDS = {
    "unknown command": (("trian",), 2, ("No such command 'trian'",)),
    "unknown option": (("train", "CONFIG", "--epochs", "3"), 2, ("No such option", "--epochs")),
    "no config": (("train",), 2, ("Missing argument 'config'",)),
    "set without a value": (("check", "CONFIG", "--set", "training.epochs"), 2, ("expected dotted.key=value", "--set training.epochs=1")),
    "set without a key": (("check", "CONFIG", "--set", "=3"), 2, ("expected dotted.key=value",)),
    "set of an unknown key": (("check", "CONFIG", "--set", "training.epoch=3"), 2, ("--set training.epoch=3: training.epoch", "did you mean 'epochs'")),
    "set of a wrong value": (("check", "CONFIG", "--set", "training.epochs=many"), 2, ("--set training.epochs=many", "found 'many'")),
    "set of what an arm sets": (("check", "CONFIG", "--set", "tie=true"), 2, ("arm 'untied' sets tie itself", "--set arms.untied.tie=...")),
    "set through a value": (("check", "CONFIG", "--set", "training.epochs.more=3"), 2, ("training.epochs",)),
    "unknown arm": (("train", "CONFIG", "--arm", "teid"), 2, ("has no arm 'teid'", "did you mean 'tied'")),
    "a seed that is no number": (("train", "CONFIG", "--seed", "one"), 2, ("'--seed'", "a valid integer")),
    "a negative seed": (("train", "CONFIG", "--seed", "-1"), 2, ("'--seed'", "greater than or equal to 0")),
    "no jobs": (("train", "CONFIG", "--jobs", "0"), 2, ("--jobs 0", "at least 1")),
    "jobs that are no number": (("train", "CONFIG", "--jobs", "two"), 2, ("--jobs two", "or auto")),
    "no such device": (("train", "CONFIG", "--device", "tpu"), 2, ("no device 'tpu'", "allowed here: auto")),
    "results that are a file": (("train", "CONFIG", "--results", "CONFIG"), 2, ("is a file", "name a folder")),
    "compare one arm": (("compare", "tied"), 2, ("only 'tied' was named", "tiebench compare tied untied")),
    "compare an unknown arm": (("compare", "tied", "unteid", "--results", "RESULTS"), 2, ("no finished run of arm 'unteid'", "did you mean 'untied'")),
    "compare an arm the config has not": (("compare", "tied", "other", "--config", "CONFIG"), 2, ("has no arm 'other'",)),
    "compare an arm with itself": (("compare", "tied", "tied", "--results", "RESULTS"), 2, ("a comparison needs two arms", "tiebench compare untied tied")),
    "compare folders without runs": (("compare", "nowhere/tied", "nowhere/untied", "--results", "RESULTS"), 2, ("no finished run in nowhere/tied",)),
    "compare at a seed that is not there": (("compare", "tied", "untied", "--seed", "9", "--results", "RESULTS"), 2, ("no finished run at seed 9", "there are 1, 2")),
    "force without a config": (("compare", "tied", "untied", "--force", "--results", "RESULTS"), 2, ("--config",)),
    "unknown format": (("compare", "tied", "untied", "--results", "RESULTS", "--format", "markdwn"), 2, ("markdwn", "did you mean 'markdown'")),
    "bad suffix of a plot": (("compare", "tied", "untied", "--results", "RESULTS", "--plot", "curves.gif"), 2, ("curves.gif", "svg")),
    "unknown list": (("list", "corpuses"), 2, ("no list of 'corpuses'", "did you mean 'corpora'")),
    "show nothing": (("show", "nowhere"), 2, ("nowhere is not a finished run", "tiebench list runs")),
    "show a folder of many": (("show", "RESULTS"), 2, ("is not a finished run", "did you mean", "seed-1")),
    "sample from nothing": (("sample", "nowhere"), 2, ("nowhere is not a finished run",)),
    "sample no tokens": (("sample", "RUN", "--tokens", "0"), 2, ("--tokens",)),
    "sample after unknown words": (("sample", "RUN", "--prompt", "qqqq zzzz"), 2, ("knows no word of 'qqqq zzzz'",)),
}


@pytest.mark.parametrize("name", IN_COMMANDS)
def test_mistakes_in_commands(name, run, trained_once):
    arguments, exit_code, says = IN_COMMANDS[name]
    places = {
        "CONFIG": trained_once / "tiny.yaml",
        "RESULTS": trained_once / "results",
        "RUN": trained_once / "results" / "tiny" / "tied" / "seed-1",
    }
    answer = run(*(str(places.get(argument, argument)) for argument in arguments))
    check_answer(answer, exit_code=exit_code, says=says)
    assert not Path("results").exists(), "a mistake left a folder behind"


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
    answer = run("train", trained / "tiny.yaml", "--results", trained / "results", "--set", f"corpus.train={tmp_path}/grown.txt")
    check_answer(answer, exit_code=2, says=("was trained on other text", "--force"))


def test_arms_that_differ_in_more_than_they_declare(run, trained):
    file = find_run(trained).parent / "seed-2" / "record.json"
    for file in find_run(trained).parent.glob("seed-*/record.json"):
        record = json.loads(file.read_text("utf-8"))
        record["spec"]["training"]["window"] = 11
        file.write_text(json.dumps(record), "utf-8")
    answer = run("compare", "untied", "tied", "--results", trained / "results")
    check_answer(answer, exit_code=2, says=("not comparable: training.window differs", "untied: 10", "tied: 11", "arms:"))


@pytest.mark.parametrize("command", ["show", "train", "compare", "list"])
@pytest.mark.parametrize("content", ["{", "{}", '{"schema_version": 99}'], ids=["no JSON", "no record", "a later version"])
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
    check_answer(run(*arguments), exit_code=1, says=(*says, "train"))


def test_a_damaged_checkpoint(run, trained):
    (find_run(trained) / "record.json").unlink()
    (find_run(trained) / "checkpoint.pt").write_bytes(b"half a checkpoint")
    answer = run("train", trained / "tiny.yaml", "--results", trained / "results")
    check_answer(answer, exit_code=1, says=("checkpoint.pt is damaged", "--force"))
    assert run("train", trained / "tiny.yaml", "--results", trained / "results", "--force").exit_code == 0


@pytest.mark.parametrize("damage", ["missing", "damaged", "of the other tie"])
def test_sampling_needs_the_run_s_own_weights(damage, run, trained):
    weights = find_run(trained) / "weights.safetensors"
    says = {"missing": ("has no weights",), "damaged": ("is damaged",), "of the other tie": ("belongs to another model",)}[damage]
    if damage == "missing":
        weights.unlink()
    elif damage == "damaged":
        weights.write_bytes(weights.read_bytes()[:100])
    else:
        weights.write_bytes((trained / "results" / "tiny" / "untied" / "seed-1" / weights.name).read_bytes())
    check_answer(run("sample", find_run(trained)), exit_code=1, says=(*says, "train"))


def test_test_nats_of_another_run_are_not_compared(run, trained):
    nats = find_run(trained) / "test-nats.npy"
    nats.write_bytes((trained / "results" / "tiny" / "untied" / "seed-1" / nats.name).read_bytes())
    answer = run("compare", "tied", "untied", "--seed", "1", "--results", trained / "results")
    check_answer(answer, exit_code=1, says=("test-nats.npy is damaged", "nats, but the record says"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("lexicon.init.uniform=1e38", ("the loss became", "at step 1 ", "there is no checkpoint yet")),
        ("training.optimizer.learning_rate=1e6", ("the validation perplexity became inf", "at step 24 ")),
    ],
)
def test_numbers_that_run_away(change, says, run, write_experiment):
    config = write_experiment(lexicon={"init": {"uniform": 0.1}, "output_bias": True})
    answer = run("train", config, "--arm", "untied", "--set", change, "--quiet")
    check_answer(
        answer,
        exit_code=1,
        says=(*says, "tiny/untied/seed-1", "results/tiny/untied/seed-1", "learning_rate", "--force"),
    )
    assert not Path("results/tiny/untied/seed-1/record.json").exists()
