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
    assert answer.stderr.startswith(("error: ", "Usage: ")), "errors go to stderr"


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
