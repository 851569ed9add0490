"""A grid is many experiments in one file, each of them what the file written by hand would be."""

import dataclasses
import itertools
from pathlib import Path

import pytest
import yaml

from tiebench.errors import UsageError
from tiebench.experiment.grid import is_grid, list_bundled_grids, load_grid
from tiebench.experiment.loading import load_experiment
from tiebench.experiment.yaml_file import read_document

TEXT = """\
name: sound
description: A small one.
corpus: pydocs
vocabulary: {type: bpe}
architecture: {layers: 1}
embedding: {init: {uniform: 0.1}}
training:
  epochs: 2
  batch_size: 4
  window: 10
  optimizer: {type: sgd, learning_rate: 3e-1}
seeds: [3, 1]
arms:
  untied: {tie: false}
  tied: {tie: true}
grid:
  architecture.width: [16, 32]
  architecture:
    gpt2: {type: gpt2, heads: 2}
    deep: {type: lstm, layers: 2}
  training.tokens: [5_000, 10_000]
  training.optimizer.learning_rate: [0.5]
"""


@pytest.fixture
def load(tmp_path):
    """The grid of `TEXT` with one part of it replaced."""

    def load(old: str = "", new: str = "", *, overrides: tuple[str, ...] = ()):
        assert old in TEXT
        (tmp_path / "sound.yaml").write_text(TEXT.replace(old, new, 1) if old else TEXT, "utf-8")
        return load_grid(tmp_path / "sound.yaml", overrides=overrides)

    return load


def explain(load, old: str, new: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load(old, new)
    lines = [line.strip() for line in caught.value.message.splitlines()[1:]]
    return [line.partition("sound.yaml:")[2] for line in lines]


def test_cells_are_the_product_in_the_order_of_the_file(load):
    grid = load()
    assert [axis.key for axis in grid.axes] == list(yaml.safe_load(TEXT)["grid"])
    assert [[value.shown for value in cell.values] for cell in grid.cells] == [
        [width, body, tokens, "0.5"]
        for width, body, tokens in itertools.product(["16", "32"], ["gpt2", "deep"], ["5,000", "10,000"])
    ]
    names = [cell.experiment.name for cell in grid.cells]
    assert names[0] == "sound-width16-gpt2-tokens5000-learning_rate0.5" and len(set(names)) == 8


def test_a_cell_is_the_file_written_by_hand(load, tmp_path):
    bodies = {"gpt2": {"type": "gpt2", "heads": 2, "layers": 1}, "deep": {"type": "lstm", "layers": 2}}
    grid = load()
    for cell, (width, body, tokens) in zip(
        grid.cells, itertools.product((16, 32), bodies, (5_000, 10_000)), strict=True
    ):
        content = read_document(tmp_path / "sound.yaml").data
        del content["grid"], content["training"]["epochs"]
        content["name"] = f"sound-width{width}-{body}-tokens{tokens}-learning_rate0.5"
        content["architecture"] = {**bodies[body], "width": width}
        content["training"] |= {"tokens": tokens, "optimizer": {"type": "sgd", "learning_rate": 0.5}}
        file = tmp_path / "by-hand.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
        by_hand = dataclasses.replace(load_experiment(file), source=grid.source)
        assert cell.experiment == by_hand
        assert [run.signature for run in cell.experiment.list_runs()] == [run.signature for run in by_hand.list_runs()]


def test_overrides_hold_in_every_cell_and_are_told(load):
    grid = load(overrides=("training.window=7", "seeds=[5]"))
    for cell in grid.cells:
        assert cell.experiment.arms["tied"].training.window == 7
        assert cell.experiment.altered == ("training.window=7", "seeds=[5]") and cell.experiment.seeds == (5,)


def test_other_values_of_an_axis_alter_no_cell(load):
    grid = load(overrides=("grid.training.tokens=[10_000]",))
    asked = [cell.experiment for cell in grid.cells]
    assert asked == [cell.experiment for cell in load().cells if cell.values[2].value == 10_000]
    assert len(asked) == 4 and asked[0].altered == ()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("training.tokens=3", "the grid sets training.tokens itself"),
        ("architecture.type=llama", "the grid sets architecture.type itself"),
        ("grid.training.tokns=[3]", "--set grid.training.tokns=.*unknown key; did you mean 'tokens'"),
        ("grid.training.tokens=[-3]", "--set grid.training.tokens=.*must be greater than 0"),
    ],
)
def test_an_override_that_the_grid_undoes_or_that_cannot_be_is_refused(load, override, says):
    with pytest.raises(UsageError, match=says):
        load(overrides=(override,))


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("training.tokens:", "training.tokns:", ["21: training.tokns: found 5000", "21: training.tokns: found 10000"]),
        ("training.tokens:", "trainin.tokens:", ["21: grid.trainin.tokens: no key of an arm; did you mean 'training'"]),
        ("training.tokens:", "seeds:", ["21: grid.seeds: no key of an arm"]),
        (
            "seeds: [3, 1]",
            "tuning: {grid: {training.optimizer.learning_rate: [1.0]}, seeds: [9]}",
            ["22: grid.training.optimizer.learning_rate: tuning.grid chooses it for every arm"],
        ),
        ("training.tokens:", "tie:", ["21: grid.tie: arm 'untied' sets it by itself, so it would not change"]),
        ("[5_000, 10_000]", "[]", ["21: grid.training.tokens: found []; a list of values"]),
        ("[5_000, 10_000]", "5_000", ["21: grid.training.tokens: found 5000; a list of values"]),
        ("[5_000, 10_000]", "[{a: 1}]", ["21: grid.training.tokens.0: a number or a word; give blocks a label each"]),
        ("[5_000, 10_000]", "[5_000, 5000]", ["21: grid.training.tokens.1: found '5,000'; each value once"]),
        ("gpt2: {", "GPT 2: {", ["19: grid.architecture.GPT 2: found 'GPT 2'; a label of small letters"]),
        ("heads: 2", "heads: 2, width: 8", ["19: grid.architecture.gpt2: sets architecture.width too"]),
        # found in some cells only, and all at once
        ("heads: 2", "hads: 2", ["19: architecture.heads: this key is needed", "19: architecture.hads: found 2; unkn"]),
        ("[16, 32]", "[16, 33, none]", ["17: architecture.width: found 'none'", "19: architecture: heads (2) must"]),
    ],
)
def test_what_is_wrong_is_said_with_its_line(load, old, new, lines):
    found = explain(load, old, new)
    assert len(found) == len(lines), found
    for line in lines:
        assert any(each.startswith(line) for each in found), (line, found)


def test_a_grid_has_two_arms_and_at_least_one_key(load):
    with pytest.raises(UsageError, match="a grid compares two arms, and there are 1"):
        load("  untied: {tie: false}\n", "")
    with pytest.raises(UsageError, match="keys and their values"):
        load(TEXT[TEXT.index("  architecture.width: [16") :], "")


def test_two_cells_of_one_name_are_refused(load):
    with pytest.raises(UsageError, match="two cells are called sound-a-b-c-"):
        load(
            TEXT[TEXT.index("  architecture.width: [16") : TEXT.index("  training.tokens")],
            "  architecture:\n    a: &lstm {type: lstm, width: 8}\n    a-b: *lstm\n"
            "  embedding.init: {b-c: {uniform: 0.1}, c: {uniform: 0.2}}\n",
        )


def test_other_files_say_what_they_are(load, tmp_path):
    load()
    with pytest.raises(UsageError, match="is a grid of experiments") as caught:
        load_experiment(tmp_path / "sound.yaml")
    assert "tiebench grid" in caught.value.hint
    with pytest.raises(UsageError, match="has no `grid:` block"):
        load_grid("quickstart")
    assert not is_grid("quickstart")


def test_bundled_grids_go_by_the_names_of_their_files():
    grids = list_bundled_grids()
    assert "map" in grids and len(grids["map"].cells) == 54
    assert all(grid.name == name and Path(grid.source).stem == name for name, grid in grids.items())
