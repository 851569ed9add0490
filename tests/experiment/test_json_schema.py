"""What an editor is told about an experiment file is what `check` says about it."""

import copy
from pathlib import Path

import pytest
import yaml

from tiebench.experiment.json_schema import build_json_schema

jsonschema = pytest.importorskip("jsonschema")
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


class _Loader(yaml.SafeLoader):
    """As tiebench reads it: `1e-3` is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", __import__("re").compile(r"^[-+]?[0-9.]+[eE][-+]?[0-9]+$"), list("+-0123456789.")
)


@pytest.fixture(scope="module")
def validator():
    schema = build_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_bundled_experiment_is_valid(file, validator):
    assert [error.message for error in validator.iter_errors(yaml.load(file.read_text("utf-8"), _Loader))] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("traning",), {}),
        (("training", "windw"), 20),
        (("training", "window"), "ten"),
        (("training", "window"), 0),
        (("training", "optimizer", "learning_rte"), 1.0),
        (("architecture", "layers"), 100_000),
        (("architecture", "dropout"), 1.0),
        (("embedding", "init", "unifrm"), 0.1),
        (("arms", "tied", "embeding"), {}),
        (("arms", "Not A Folder"), {}),
        (("corpus",), "pdocs"),
        (("tie",), "tide"),
        (("seeds",), [-1]),
        (("seeds",), [1, 1]),
        (("name",), "Not A Folder"),
        (("grid",), {"architecture.width": []}),
        (("grid",), {"architecture.width": [{"small": 16}]}),
        (("grid",), {"architecture.width": 16}),
    ],
)
def test_a_typo_is_not(path, value, validator):
    content = copy.deepcopy(yaml.load((CONFIGS[0].parent / "quickstart.yaml").read_text("utf-8"), _Loader))
    block = content
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    assert list(validator.iter_errors(content))


def test_shorthands_are_offered(validator):
    content = {"corpus": "ptb", "architecture": "lstm", "vocabulary": "bytes", "arms": {"a": {"tie": True}, "b": None}}
    assert list(validator.iter_errors(content)) == []


def test_blocks_are_called_as_in_the_file_and_described():
    schema = build_json_schema()
    titles = [block["title"] for block in schema["$defs"].values()]
    assert "LSTM" in titles and not [title for title in titles if title.endswith("Config")]
    assert all(block["description"] for block in (*schema["$defs"].values(), *schema["properties"].values()))
